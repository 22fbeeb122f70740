//! Sets with a journal: an image that is of one set, and given to no other.

use std::fs::File;

use testkit::write_md_images;

use super::{comes_back_after_a_crash, is_right, json};
use crate::harness::{Instance, bytes, read_at, sh, text, wait_until, write_at};

const LEGS: [&str; 3] = ["0.img", "1.img", "2.img"];

fn sparse(instance: &Instance, name: &str, mib: u64) {
    let file = File::create(instance.path(name)).expect("a new file");
    file.set_len(mib << 20).expect("it is sparse");
}

/// Makes a raid5 with a journal.
fn with_journal(instance: &Instance, name: &str, images: &[&str], journal: &str) {
    sparse(instance, journal, 16);
    let args =
        [&["raid", "create", "raid5"], images, &[name, "--size", "12M", "--journal", journal]];
    instance.dmsim(&args.concat());
}

fn assemble<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["raid", "assemble"], &LEGS[..], &["--name", "r"], more].concat()
}

#[test]
fn a_set_comes_back_with_its_journal_after_a_crash_and_from_its_images_alone() {
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    assert_eq!(json(&instance)["journal"]["file"], text(&instance.path("j.img")));
    comes_back_after_a_crash(instance, "a raid5 with a journal");
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    let data = bytes(3, 2 << 20);
    write_at(&instance.device("r"), 0, &data).expect("room for it");
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    let told = instance.refused(&assemble(&[]));
    assert!(told.contains("--journal names its image"), "{told}");
    let told = instance.refused(&assemble(&["j.img"]));
    assert!(told.contains("j.img: is the journal of a set, and no leg"), "{told}");
    instance.dmsim(&assemble(&["--journal", "j.img"]));
    assert!(read_at(&instance.device("r"), 0, data.len()).expect("a read") == data);
    is_right(&instance);
    instance.dmsim(&["raid", "remove", "r"]);
    assert_eq!(instance.dmsim(&["ls"]), "No devices found\n");
}

#[test]
fn a_journal_of_another_set_is_refused() {
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    instance.dmsim(&["raid", "remove", "r"]);
    with_journal(&instance, "other", &["a.img", "b.img", "c.img"], "other.img");
    instance.dmsim(&["raid", "remove", "other"]);
    let others = instance.path("other.img");
    let before = std::fs::read(&others).expect("an image");
    let make =
        ["raid", "create", "raid5", "x.img", "y.img", "z.img", "n", "--size", "12M", "--journal"];
    for journal in ["j.img", "other.img"] {
        let told = instance.refused(&[&make[..], &[journal]].concat());
        assert!(told.contains("is the journal of a set, and is left alone: --force"), "{told}");
    }
    let told = instance.refused(&assemble(&["--journal", "other.img"]));
    assert!(told.contains("other.img: is not the journal of this set"), "{told}");
    assert!(std::fs::read(&others).expect("an image") == before);
    // One that a table was given as a whole is known by how md's log begins.
    write_at(&others, 0, &[0x09, 0xc5, 0x33, 0x64]).expect("room for it");
    let told = instance.refused(&[&make[..], &["other.img"]].concat());
    assert!(told.contains("is a journal in md's format, of a set or an array"), "{told}");
    sparse(&instance, "small", 4);
    let told = instance.refused(&[&make[..], &["small"]].concat());
    assert!(told.contains("small: is too small: a journal needs 5 MiB at least"), "{told}");
    // No leg is taken for one, whatever is asked for.
    let told = instance.refused(&assemble(&["--journal", "gone.img"]));
    assert!(told.contains("gone.img: no such file") && !told.contains("truncate"), "{told}");
    let without =
        ["raid", "assemble", "0.img", "1.img", "--name", "r", "--journal", "2.img", "--force"];
    let told = instance.refused(&without);
    assert!(told.contains("2.img: is a leg of this set: name it with the others"), "{told}");
    // The lost one is replaced where that is asked for.
    sparse(&instance, "new.img", 16);
    let told = instance.refused(&assemble(&["--journal", "new.img"]));
    assert!(told.contains("where that is lost, --force takes this one"), "{told}");
    instance.dmsim(&assemble(&["--journal", "new.img", "--force"]));
    is_right(&instance);
    // The lost one has what is older, should it turn up again.
    instance.dmsim(&["raid", "remove", "r"]);
    let told = instance.refused(&assemble(&["--journal", "j.img"]));
    assert!(told.contains("j.img: is not the journal of this set"), "{told}");
    instance.dmsim(&assemble(&["--journal", "new.img"]));
    is_right(&instance);
}

#[test]
fn no_image_that_holds_something_becomes_a_journal_by_force() {
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    instance.dmsim(&["raid", "remove", "r"]);
    with_journal(&instance, "other", &["a.img", "b.img", "c.img"], "other.img");
    instance.dmsim(&["raid", "remove", "other"]);
    let md = write_md_images("raid5-1.2", &instance.path("")).expect("room for them").remove(0);
    let put = |name: &str, at: u64, bytes: &[u8]| {
        sparse(&instance, name, 16);
        write_at(&instance.path(name), at, bytes).expect("room for it");
    };
    put("ext4.img", 0x438, &[0x53, 0xef]);
    put("data.img", 70_000, b"x");
    for (image, is) in [
        ("a.img", "it is leg 0 of a raid5 of 3 legs, and is left alone, with --force too"),
        ("other.img", "it is that of another set, or was this one's before another took"),
        (text(&md), "it is a member of an array of md (raid5 "),
        ("ext4.img", "it holds an ext2, ext3 or ext4 file system, "),
        ("data.img", "it is not empty, with something at byte 70000, "),
    ] {
        let path = instance.path(image);
        let before = std::fs::read(&path).expect("an image");
        for force in [&["--journal", image][..], &["--journal", image, "--force"]] {
            let told = instance.refused(&assemble(force));
            assert!(
                told.contains(&format!("{image}: is not the journal of this set: {is}")),
                "{told}"
            );
            let empties = format!("`truncate -s 0 {0}` and `truncate -s ", text(&path));
            assert!(told.contains(&empties), "{told}");
        }
        assert!(std::fs::read(&path).expect("an image") == before, "{image}");
    }
    // What it says to do helps.
    let told = instance.refused(&assemble(&["--journal", "other.img", "--force"]));
    for command in told.split('`').skip(1).step_by(2) {
        sh("sh", &["-c", command]);
    }
    instance.dmsim(&assemble(&["--journal", "other.img", "--force"]));
    is_right(&instance);
}

#[test]
fn a_journal_that_has_failed_is_shown_and_taken_up_again_or_replaced() {
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    instance.dmsim(&["wait", "--sync", "r"]);
    let device = instance.device("r");
    let data = bytes(5, 1 << 20);
    write_at(&device, 0, &data).expect("room for it");
    sh("sync", &[text(&device)]);
    let journal = File::options().write(true).open(instance.path("j.img")).expect("a file");
    let fails = |len: u64| {
        journal.set_len(len).expect("it is cut");
        write_at(&device, 8 << 20, &bytes(9, 8 << 20)).expect_err("nothing can be written");
        assert_eq!(json(&instance)["health"], "journal failed");
        let told = instance.dmsim(&["raid", "status", "r"]);
        assert!(
            told.contains(": journal failed: nothing can be written before `dmsim heal r`"),
            "{told}"
        );
        let told = instance.refused(&["heal", "r"]);
        assert!(told.contains("nothing could be healed: its journal has failed"), "{told}");
        assert!(told.contains("j.img: image was truncated"), "{told}");
        journal.set_len(16 << 20).expect("it is sparse");
        instance.dmsim(&["resize", "j.img"]);
        told
    };
    // Its log is there.
    fails(4 << 20);
    assert_eq!(instance.dmsim(&["heal", "r"]), "r: its journal is used again\n");
    assert_eq!(json(&instance)["health"], "in sync");
    write_at(&device, 8 << 20, &data).expect("room for it");
    is_right(&instance);
    // It is not.
    let told = fails(0);
    let again = instance.refused(&["heal", "r"]);
    assert!(again.contains("j.img: does not begin as a journal of this set"), "{again}");
    sparse(&instance, "IMAGE", 16);
    let commands = told.split('`').skip(1).step_by(2);
    for command in commands.filter(|command| command.starts_with("dmsim raid")) {
        instance.dmsim(&command.split(' ').skip(1).collect::<Vec<_>>());
    }
    assert_eq!(json(&instance)["health"], "in sync");
    assert!(read_at(&device, 0, data.len()).expect("a read") == data);
    is_right(&instance);
}

#[test]
fn a_journal_that_writes_ended_in_is_not_taken_up_again() {
    let instance = Instance::start();
    with_journal(&instance, "r", &LEGS, "j.img");
    instance.dmsim(&["wait", "--sync", "r"]);
    let table = instance.dmsim(&["table", "r"]);
    let writeback = table
        .replace(" 3 128 journal_dev 253:6 ", " 5 128 journal_dev 253:6 journal_mode writeback ");
    assert_ne!(table, writeback);
    instance.dmsim(&["load", "r", "--table", &writeback]);
    instance.dmsim(&["resume", "r"]);
    assert_eq!(json(&instance)["journal"]["state"], "writeback");
    let journal = File::options().write(true).open(instance.path("j.img")).expect("a file");
    journal.set_len(4 << 20).expect("it is cut");
    wait_until("it has failed", || {
        let _ = write_at(&instance.device("r"), 0, &bytes(9, 8 << 20));
        json(&instance)["journal"]["state"] == "failed"
    });
    journal.set_len(16 << 20).expect("it is sparse");
    instance.dmsim(&["resize", "j.img"]);
    let told = instance.refused(&["heal", "r"]);
    assert!(
        told.contains("it may be older than the legs. Instead of it, `dmsim raid remove r`"),
        "{told}"
    );
    assert_eq!(json(&instance)["health"], "journal failed");
    let kmsg = std::fs::read_to_string(instance.path("run/kmsg")).expect("a log");
    assert!(kmsg.contains("md/raid:mdX: Disk failure on dm-6, disabling device.\n"), "{kmsg}");
}

#[test]
fn a_set_that_is_given_a_journal_does_not_start_without_it() {
    let instance = Instance::start();
    instance.dmsim(&[&["raid", "create", "raid5"], &LEGS[..], &["r", "--size", "12M"]].concat());
    let data = bytes(5, 2 << 20);
    write_at(&instance.device("r"), 0, &data).expect("room for it");
    instance.dmsim(&["wait", "--sync", "r"]);
    instance.dmsim(&["raid", "remove", "r"]);
    sparse(&instance, "j.img", 16);
    instance.dmsim(&assemble(&["--journal", "j.img", "--force"]));
    instance.dmsim(&["raid", "remove", "r"]);
    let told = instance.refused(&assemble(&[]));
    assert!(told.contains("--journal names its image"), "{told}");
    instance.dmsim(&assemble(&["--journal", "j.img"]));
    assert!(read_at(&instance.device("r"), 0, data.len()).expect("a read") == data);
    is_right(&instance);
}
