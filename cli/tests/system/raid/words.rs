//! What the verbs on sets say where there is little that they can do.

use std::path::PathBuf;

use testkit::write_md_images;

use super::{checked, create, json, states};
use crate::harness::{Instance, can_mount, read_at, sh, text, umount, wait_until, write_at};

/// Has a leg fail, and the set notice it.
fn lose(instance: &Instance, leg: &str) {
    instance.dmsim(&["fail", "r", leg]);
    // A superblock is written, and that fails.
    let device = instance.device("r");
    std::fs::File::options()
        .write(true)
        .open(&device)
        .and_then(|file| {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&[7; 256 << 10], 0).and_then(|()| file.sync_all())
        })
        .expect("the other leg takes it");
    assert_eq!(read_at(&device, 0, 4096).expect("a read"), vec![7; 4096]);
}

#[test]
fn a_check_of_one_leg_says_that_nothing_was_compared() {
    for (level, legs, lost, is_compared) in [
        ("raid1", 2, &["1"][..], false),
        ("raid1", 3, &["1"][..], true),
        // One pair is whole.
        ("raid10", 4, &["1"][..], true),
        ("raid10", 4, &["1", "2"][..], false),
    ] {
        let instance = Instance::start();
        create(&instance, level, legs, "9M");
        for leg in lost {
            lose(&instance, leg);
        }
        for verb in ["check", "repair"] {
            let (status, told) = checked(&instance.run(&["raid", verb, "r"]));
            assert_eq!(status, Some(if is_compared { 0 } else { 1 }), "{level} {verb}: {told}");
            let none = told.starts_with("r: nothing was compared: no other leg in sync has what");
            assert_eq!(none, !is_compared, "{level} {verb}: {told}");
            let (_, told) = checked(&instance.run(&["raid", verb, "r", "--json"]));
            let found: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!(found["compared"], is_compared, "{found}");
        }
        let (status, told) = checked(&instance.run(&["raid", "check", "r", "--no-wait"]));
        assert_eq!(told.is_empty(), is_compared, "{told}");
        assert_eq!(status == Some(0), is_compared, "{told}");
        assert_eq!(json(&instance)["health"], "degraded");
    }
}

#[test]
fn a_heal_says_what_it_did_or_what_would_help() {
    let instance = Instance::start();
    create(&instance, "raid1", 3, "9M");
    assert_eq!(
        instance.dmsim(&["heal", "r"]),
        "r: all legs are in sync: there is nothing to heal\n"
    );
    instance.dmsim(&["fail", "r", "2"]);
    assert_eq!(instance.dmsim(&["heal", "r"]), "r: leg 2 does not fail any more\n");
    lose(&instance, "1");
    instance.dmsim(&["fail", "r", "2"]);
    let told = instance.dmsim(&["heal", "r", "1"]);
    assert!(told.starts_with("r: leg 1 is in sync again\n"), "{told}");
    instance.dmsim(&["heal", "r"]);
    assert_eq!(states(&instance), ["in_sync"; 3]);
    instance.dmsim(&["raid", "remove", "r"]);
    instance.dmsim(&["raid", "assemble", "0.img", "--name", "r"]);
    for leg in [&[][..], &["1"]] {
        let told = instance.refused(&[&["heal", "r"], leg].concat());
        let words = "nothing could be healed: leg 1 is missing: `dmsim raid replace r 1 IMAGE` puts \
                     one in its place; leg 2 is missing: ";
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn the_kernels_log_says_which_leg_has_failed() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    lose(&instance, "1");
    let kmsg = |instance: &Instance| {
        let kmsg = std::fs::read_to_string(instance.path("run/kmsg")).expect("a log");
        let of_md = kmsg.lines().filter(|line| line.starts_with("md/"));
        of_md.map(|line| format!("{line}\n")).collect::<String>()
    };
    let one = "md/raid1:mdX: Disk failure on dm-3, disabling device.\n\
               md/raid1:mdX: Operation continuing on 1 devices.\n";
    assert_eq!(kmsg(&instance), one);
    instance.dmsim(&["heal", "r"]);
    lose(&instance, "1");
    assert_eq!(kmsg(&instance), one.repeat(2));
    let instance = Instance::start();
    create(&instance, "raid5", 3, "9M");
    for leg in ["1", "0"] {
        instance.dmsim(&["fail", "r", leg, "--writes"]);
        wait_until("it is lost", || {
            let _ = write_at(&instance.device("r"), 0, &[7; 1 << 20]);
            states(&instance)[usize::from(leg == "1")] == "failed"
        });
    }
    // As Linux 6.12 has it.
    let both = "md/raid:mdX: Disk failure on dm-3, disabling device.\n\
                md/raid:mdX: Operation continuing on 2 devices.\n\
                md/raid:mdX: Disk failure on dm-1, disabling device.\n\
                md/raid:mdX: Cannot continue operation (2/3 failed).\n";
    assert_eq!(kmsg(&instance), both);
}

#[test]
fn no_image_is_asked_for_where_too_much_is_lost_for_it() {
    let instance = Instance::start();
    create(&instance, "raid5", 3, "9M");
    for leg in ["0", "1"] {
        instance.dmsim(&["fail", "r", leg, "--writes"]);
    }
    wait_until("both are lost", || {
        let written = write_at(&instance.device("r"), 0, &[7; 1 << 20]);
        written.is_err() && states(&instance)[..2] == ["failed"; 2]
    });
    let new = std::fs::File::create(instance.path("new.img")).expect("a new file");
    new.set_len(9 << 20).expect("it is sparse");
    for args in [
        &["raid", "replace", "r", "0", "new.img"][..],
        &["raid", "replace", "r", "1", "new.img"],
        &["raid", "check", "r"],
        &["wait", "--sync", "r"],
    ] {
        let told = instance.refused(args);
        assert!(
            told.contains("has failed: `dmsim heal r` tries again; where that is no help,"),
            "{told}"
        );
        assert!(!told.contains("raid replace"), "{told}");
    }
    assert_eq!(
        instance.dmsim(&["heal", "r"]),
        "r: leg 0 is in sync again\nr: leg 1 is in sync again\n"
    );
}

#[test]
fn a_verb_that_is_looked_for_at_the_wrong_place_and_a_name_that_is_none_are_told_of() {
    let instance = Instance::start();
    for (typed, own) in [
        (&["raid", "heal", "r", "1"][..], "`dmsim heal r 1`"),
        (&["raid", "fail", "r", "1", "--writes"], "`dmsim fail r 1 --writes`"),
        (&["raid", "wait", "r"], "`dmsim wait --sync r`"),
    ] {
        let output = instance.run(typed);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("is no verb of `raid`, but one of its own") && told.contains(own),
            "{told}"
        );
    }
    for args in [&["heal", "r"][..], &["fail", "r", "1"], &["wait", "--sync", "r"], &["check", "r"]]
    {
        let told = instance.refused(args);
        assert!(told.contains("r: no such device: `dmsim ls` shows"), "{told}");
    }
}

#[test]
fn a_leg_that_is_to_fail_and_parity_that_is_wrong_are_told_of_with_what_helps() {
    let instance = Instance::start();
    create(&instance, "raid5", 3, "9M");
    instance.dmsim(&["wait", "--sync", "r"]);
    instance.dmsim(&["fail", "r", "1", "--writes"]);
    let told = instance.dmsim(&["raid", "status", "r"]);
    assert!(
        told.contains("leg 1: writes fail, on purpose: `dmsim heal r 1` ends that\n"),
        "{told}"
    );
    assert_eq!(json(&instance)["legs"][1]["fails"], "writes");
    assert_eq!(json(&instance)["legs"][0]["fails"], serde_json::Value::Null);
    instance.dmsim(&["heal", "r", "1"]);
    assert!(!instance.dmsim(&["raid", "status", "r"]).contains("on purpose"));
    write_at(&instance.path("0.img"), 2 << 20, &[7; 4096]).expect("room for it");
    let told = instance.refused(&["raid", "check", "r"]);
    assert!(told.contains("`dmsim raid repair r` computes parity anew from the data"), "{told}");
    assert_eq!(said(&instance, &["raid", "repair", "r"]), "");
    assert_eq!(said(&instance, &["raid", "check", "r"]), "");
}

#[test]
fn what_helps_an_array_of_md_alone_is_said_of_one() {
    let instance = Instance::start();
    let images = write_md_images("raid5-1.2", &instance.path("")).expect("room for them");
    let all: Vec<&str> = images.iter().map(|image| text(image)).collect();
    let assemble = |images: &[&str]| {
        instance.dmsim(&[&["raid", "assemble"], images, &["--name", "r"]].concat())
    };
    assemble(&[all[0], all[1], all[3]]);
    let is_so = |told: &str| {
        let helps = "where its image is there, `dmsim raid remove r` and `dmsim raid \
                     assemble` with all images; an array of md gets a new member from mdadm alone";
        assert!(told.contains(helps), "{told}");
        assert!(!told.contains("heal r") && !told.contains("raid replace"), "{told}");
    };
    for verb in [&["heal", "r"][..], &["raid", "check", "r"], &["raid", "repair", "r"]] {
        is_so(&instance.refused(verb));
    }
    is_so(&instance.refused(&["wait", "--sync", "r"]));
    is_so(&instance.refused(&["fail", "r", "2"]));
    // It is so: with all images it is whole, and a member that fails is healed.
    instance.dmsim(&["raid", "remove", "r"]);
    assemble(&all);
    instance.dmsim(&["wait", "--sync", "r"]);
    lose(&instance, "1");
    let told = instance.refused(&["raid", "check", "r"]);
    assert!(told.contains("leg 1 has failed: `dmsim heal r` tries again"), "{told}");
    assert_eq!(instance.dmsim(&["heal", "r"]), "r: leg 1 is in sync again\n");
    instance.dmsim(&["raid", "check", "r"]);
}

fn said(instance: &Instance, args: &[&str]) -> String {
    let output = instance.run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_stays_of_a_set_that_was_removed_is_named_with_how_to_take_it_away() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    let told = said(&instance, &["remove", "r"]);
    let command = told.split('`').nth(1).expect("a command");
    assert_eq!(command, "dmsim remove r_rmeta_0 r_rimage_0 r_rmeta_1 r_rimage_1", "{told}");
    let told = instance.refused(&["raid", "create", "raid1", "0.img", "1.img", "r", "--force"]);
    assert!(told.contains("is left from a set that was removed, or"), "{told}");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    assert_eq!(said(&instance, &words), "");
    assert_eq!(instance.dmsim(&["ls"]), "No devices found\n");
    assert_eq!(instance.dmsim(&["images"]).lines().count(), 1);
    // All at once, or by the set's own verb, nothing stays; of what a restore attached something does.
    let assemble = ["raid", "assemble", "0.img", "1.img", "--name", "r"];
    instance.dmsim(&assemble);
    let all: Vec<&str> = ["remove", "r"].into_iter().chain(words[1..].iter().copied()).collect();
    assert_eq!(said(&instance, &all), "");
    instance.dmsim(&assemble);
    assert_eq!(said(&instance, &["raid", "remove", "r"]), "");
    instance.dmsim(&assemble);
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    let told = said(&instance, &["raid", "remove", "r"]);
    let (a, b) = (instance.path("0.img"), instance.path("1.img"));
    let stay = format!("r: its images stay attached: {}, {}: `dmsim detach", text(&a), text(&b));
    assert!(told.contains(&stay), "{told}");
    instance.dmsim(&["detach", "0.img"]);
}

#[test]
fn a_leg_whose_file_was_deleted_or_replaced_is_shown_while_it_is_in_use() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    assert_eq!(json(&instance)["legs"][0]["file_lost"], serde_json::Value::Null);
    std::fs::remove_file(instance.path("1.img")).expect("a file");
    std::fs::rename(instance.path("0.img"), instance.path("aside.img")).expect("a file");
    std::fs::write(instance.path("0.img"), "another").expect("room for it");
    let told = instance.dmsim(&["raid", "status", "r"]);
    for words in [
        "leg 0: another file is at its path by now, which is not the one in use: `dmsim raid replace r 0 IMAGE` puts",
        "leg 1: its file was deleted, and is there only as long as it is attached: `dmsim raid replace r 1 IMAGE` puts",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(json(&instance)["legs"][0]["file_lost"], "replaced");
    assert_eq!(json(&instance)["legs"][1]["file_lost"], "deleted");
    assert!(instance.dmsim(&["images"]).contains("1.img  its file was deleted, "));
    assert!(instance.dmsim(&["images", "--json"]).contains(r#""file_lost": "deleted""#));
    assert!(instance.dmsim(&["tree"]).contains("1.img, its file was deleted, "));
    let log = std::fs::read_to_string(instance.path("daemon.log")).expect("a log");
    assert_eq!(log.matches("its file was deleted").count(), 1, "{log}");
    // What is said to help does.
    let new = std::fs::File::create(instance.path("new.img")).expect("a new file");
    new.set_len(9 << 20).expect("it is sparse");
    instance.dmsim(&["raid", "replace", "r", "1", "new.img"]);
    assert_eq!(json(&instance)["legs"][1]["file_lost"], serde_json::Value::Null);
}

#[test]
fn a_set_whose_image_is_gone_at_a_restore_is_put_together_by_what_that_says() {
    let instance = Instance::start();
    create(&instance, "raid5", 4, "9M");
    write_at(&instance.device("r"), 0, &[5; 1 << 20]).expect("room for it");
    instance.dmsim(&["wait", "--sync", "r"]);
    let instance = Instance::start_in(instance.crash(), &[]);
    std::fs::remove_file(instance.path("1.img")).expect("a file");
    let told = instance.refused(&["restore"]);
    assert!(told.contains("1.img: open: no such file or directory"), "{told}");
    assert!(
        told.contains("these of its devices are not: r_rmeta_1, r_rimage_1 (device `"),
        "{told}"
    );
    assert_eq!(told.matches("Device lookup failed").count(), 1, "{told}");
    let commands = told.split('`').filter(|command| command.starts_with("dmsim "));
    for command in commands {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        said(&instance, &words);
    }
    assert_eq!(states(&instance), ["in_sync", "missing", "in_sync", "in_sync"]);
    assert!(read_at(&instance.device("r"), 0, 1 << 20).expect("a read") == vec![5; 1 << 20]);
    assert!(said(&instance, &["restore"]).contains("nothing is left to bring back"));
    // An image that is gone is known by its path from here, too.
    let instance = Instance::start_in(instance.crash(), &[]);
    std::fs::remove_file(instance.path("2.img")).expect("a file");
    instance.refused(&["restore"]);
    said(&instance, &["restore", "--forget", "./2.img"]);
    let told = instance.refused(&["restore"]);
    assert!(!told.contains("2.img: open"), "{told}");
    assert!(
        told.contains("these of its devices are not: r_rmeta_2, r_rimage_2 (device `"),
        "{told}"
    );
}

#[test]
fn a_set_that_is_put_together_over_a_record_of_it_is_told_of_that() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    let instance = Instance::start_in(instance.crash(), &[]);
    let assemble = |name| said(&instance, &["raid", "assemble", "0.img", "1.img", "--name", name]);
    let told = assemble("other");
    assert!(
        told.contains(
            "other: images of it are on record from before, where these RAID sets are: r. "
        ),
        "{told}"
    );
    instance.dmsim(&["raid", "remove", "other"]);
    let told = assemble("r");
    let forget = "`dmsim restore --forget r` drops";
    assert!(
        told.contains("r: is on record from before as well, and `dmsim restore` cannot bring"),
        "{told}"
    );
    assert!(told.contains(forget), "{told}");
    let told = instance.refused(&["restore"]);
    assert!(
        told.starts_with("dmsim: restore: r: is there already, put together by another"),
        "{told}"
    );
    assert!(told.contains(forget) && !told.contains("raid remove"), "{told}");
    assert_eq!(said(&instance, &["restore", "--forget", "r"]), "");
    assert!(said(&instance, &["restore"]).contains("nothing is left to bring back"));
    assert_eq!(states(&instance), ["in_sync"; 2]);
}

#[test]
fn what_a_command_has_left_that_was_cut_off_goes_with_the_set() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    instance.dmsim(&["remove", "r"]);
    // As if `create` had been killed: of `r` nothing else is there.
    instance.dmsim(&["remove", "r_rimage_1"]);
    instance.create("r_rimage_7", "0 8 zero");
    let told = instance.refused(&["raid", "create", "raid1", "0.img", "1.img", "r", "--force"]);
    assert!(told.contains("and in no set: `dmsim raid remove r` first"), "{told}");
    assert_eq!(said(&instance, &["raid", "remove", "r"]), "");
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1, "what was not made for it stays");
    assert!(instance.refused(&["raid", "remove", "r"]).contains("r: no such device"));
    assert_eq!(instance.dmsim(&["images"]).lines().count(), 1);
}

/// A file system that is mounted read-only; unmounted when dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    /// Copies images into one.
    fn of(dir: PathBuf, images: &[PathBuf]) -> ReadOnly {
        std::fs::create_dir(&dir).expect("a new folder");
        sh("mount", &["-t", "tmpfs", "none", text(&dir)]);
        for image in images {
            let name = image.file_name().expect("a name");
            std::fs::copy(image, dir.join(name)).expect("room for it");
        }
        sh("mount", &["-o", "remount,ro", text(&dir)]);
        ReadOnly(dir)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        umount(&self.0);
    }
}

#[test]
fn a_leg_that_cannot_be_written_is_named_and_an_array_of_md_is_opened_read_only() {
    if !can_mount() {
        return;
    }
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    instance.dmsim(&["raid", "remove", "r"]);
    let mounted = ReadOnly::of(instance.path("ro"), &[instance.path("1.img")]);
    let told = instance.refused(&["raid", "assemble", "0.img", "ro/1.img", "--name", "r"]);
    assert!(told.contains("ro/1.img: cannot be written: Read-only file system"), "{told}");
    drop(mounted);
    let images = write_md_images("raid5-1.2", &instance.path("")).expect("room for them");
    let mounted = ReadOnly::of(instance.path("md"), &images);
    let images = images.iter().map(|image| mounted.0.join(image.file_name().expect("a name")));
    let images: Vec<PathBuf> = images.collect();
    let all: Vec<&str> = images.iter().map(|image| text(image)).collect();
    let told = said(&instance, &[&["raid", "assemble"], &all[..], &["--name", "r"]].concat());
    assert!(told.contains("cannot be written: Read-only file system"), "{told}");
    assert!(told.contains("all is opened read-only"), "{told}");
    assert_eq!(states(&instance), ["in_sync"; 4]);
    assert!(read_at(&instance.device("r"), 0, 4096).is_ok());
    instance.dmsim(&["raid", "remove", "r"]);
}

/// Loads the table again with other parameters, and puts it in.
fn with_params(instance: &Instance, more: &[&str]) {
    let table = instance.dmsim(&["table", "r"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    let params: usize = words[4].parse().expect("a number of parameters");
    let (old, legs) = words[5..].split_at(params);
    let count = (params + more.len()).to_string();
    let table = [&words[..4], &[&count], old, more, legs].concat().join(" ");
    instance.dmsim(&["load", "r", "--table", &table]);
    instance.dmsim(&["suspend", "r"]);
    instance.dmsim(&["resume", "r"]);
}

#[test]
fn a_journal_and_legs_that_are_written_mostly_are_shown() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "9M");
    with_params(&instance, &["write_mostly", "1"]);
    assert!(instance.dmsim(&["raid", "status", "r"]).ends_with("write-mostly: leg 1\n"));
    assert_eq!(json(&instance)["legs"][1]["write_mostly"], true);
    assert_eq!(json(&instance)["legs"][0]["write_mostly"], false);
    assert_eq!(json(&instance)["journal"], serde_json::Value::Null);
    instance.dmsim(&["raid", "remove", "r"]);
    let instance = Instance::start();
    create(&instance, "raid5", 3, "9M");
    let journal = instance.image("j.img", "/dev/sdj", 8 << 20);
    with_params(&instance, &["journal_dev", "/dev/sdj"]);
    let told = instance.dmsim(&["raid", "status", "r"]);
    assert!(told.contains(&format!("journal: writethrough, {}\n", text(&journal))), "{told}");
    let shown = &json(&instance)["journal"];
    assert_eq!((&shown["state"], &shown["file"]), (&"writethrough".into(), &text(&journal).into()));
}
