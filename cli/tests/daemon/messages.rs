//! What a person reads when something cannot be done: the cause, by the names that they gave, and what
//! helps.

use std::fs::File;

use crate::harness::{Instance, can_mount};

/// An instance with `low`, over an image, and `top`, over `low`.
fn stack() -> Instance {
    let instance = Instance::new();
    let image = instance.root().join("disk.img");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    instance.ok(&["attach", "disk.img", "--as", "/dev/sda"]);
    instance.ok(&["create", "low", "--uuid", "LOW", "--table", "0 2048 linear /dev/sda 0"]);
    instance.ok(&["create", "top", "--table", "0 1024 linear /dev/mapper/low 0"]);
    instance
}

#[test]
fn what_is_in_use_names_who_uses_it() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let file = File::open(instance.path("mapper/top")).unwrap();
    let me = format!("(pid {})", std::process::id());
    for (args, who) in [
        (&["remove", "top"][..], &*me),
        (&["remove", "low"], "in use by the table of `top`"),
        (&["detach", "/dev/sda"], "in use by the table of `low`"),
        (&["stop"], &me),
    ] {
        let told = instance.fails(args);
        assert!(told.contains(who), "{args:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    drop(file);
    // Names are told as they were typed.
    instance.ok(&["rename", "top", "a top"]);
    assert!(instance.fails(&["remove", "low"]).contains("the table of `a top`"));
    assert!(instance.ok(&["tree"]).starts_with("a top (253:1)"), "{}", instance.ok(&["tree"]));
    instance.ok(&["rename", "a top", "top"]);
    instance.ok(&["remove", "top"]);
    instance.ok(&["remove", "low"]);
    instance.ok(&["detach", "/dev/sda"]);
}

#[test]
fn what_is_taken_says_by_whom() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    for (args, what) in [
        (&["create", "low", "--notable"][..], "this name is there already: `low` (253:0)"),
        (&["create", "new", "--uuid", "LOW", "--notable"], "this uuid is there already: `low`"),
        (
            &["create", "new", "-j", "253", "-m", "1", "--notable"],
            "this number is there already: `top`",
        ),
        (&["rename", "top", "low"], "unable to change name"),
    ] {
        let told = instance.fails(args);
        assert!(told.to_lowercase().contains(what), "{args:?}: {told}");
    }
    assert_eq!(instance.ok(&["ls"]).lines().count(), 2);
}

#[test]
fn what_is_too_small_is_named_by_its_path() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let told = instance.fails(&["create", "new", "--table", "0 4096 linear /dev/sda 0"]);
    assert!(told.contains("sda too small for target: start=0, len=4096, dev_size=2048"), "{told}");
    assert!(told.contains("sda is the image ") && told.contains("/disk.img"), "{told}");
    let told = instance.fails(&["create", "new", "--table", "0 4096 linear /dev/mapper/low 0"]);
    assert!(told.contains("dm-0 is the device `low`"), "{told}");
}

#[test]
fn a_resume_that_fails_says_why_and_how_the_device_is_then() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let table = format!("0 1024 crypt aes-xts-plain64 {} 0 /dev/mapper/low 1024", "ab".repeat(32));
    instance.ok(&["create", "secret", "--table", &table]);
    instance.ok(&["suspend", "secret"]);
    instance.ok(&["message", "secret", "0", "key", "wipe"]);
    let told = instance.fails(&["resume", "secret"]);
    assert!(told.contains("crypt key is not set"), "{told}");
    assert!(told.contains("`secret` is still suspended"), "{told}");
    assert!(instance.ok(&["info", "secret"]).contains("SUSPENDED"));
}

#[test]
fn an_image_that_was_cut_is_told_of_wherever_one_looks_and_taken_up_again() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let image = File::options().write(true).open(instance.root().join("disk.img")).unwrap();
    let read = || std::fs::read(instance.path("mapper/low"));
    assert!(read().is_ok());
    image.set_len(4096).unwrap();
    assert!(read().is_err());
    let log = std::fs::read_to_string(instance.path("log")).unwrap();
    assert_eq!(log.matches("an image fails").count(), 1, "{log}");
    for asks in [&["images"][..], &["tree"]] {
        let told = instance.ok(asks);
        assert!(told.contains("was truncated") && told.contains("`dmsim resize`"), "{told}");
    }
    let told = instance.fails(&["stop"]);
    assert!(told.contains("disk.img: image was truncated"), "{told}");
    assert!(told.contains("`dmsim stop --force`"), "{told}");
    image.set_len(1 << 20).unwrap();
    assert!(read().is_err(), "nobody has said that it may be used again");
    instance.ok(&["resize", "/dev/sda"]);
    assert!(read().is_ok());
    instance.ok(&["stop"]);
}

#[test]
fn the_instances_own_files_are_no_images() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    std::os::unix::fs::symlink(instance.path("record.log"), instance.root().join("link")).unwrap();
    for file in ["run/record.log", "run/log", "run/kmsg", "link"] {
        let told = instance.fails(&["attach", file]);
        assert!(told.contains("one of the instance's own files"), "{file}: {told}");
        let table = format!("0 1 linear {file} 0");
        let told = instance.fails(&["create", "own", "--table", &table]);
        assert!(told.contains("one of the instance's own files"), "{file}: {told}");
    }
    // What only has such a name is an image like any other.
    File::create(instance.path("log.img")).unwrap().set_len(4096).unwrap();
    instance.ok(&["attach", "run/log.img"]);
}

#[test]
fn a_pipe_is_no_image_of_any_verb_and_holds_none_up() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let pipe = instance.root().join("pipe");
    File::create(instance.root().join("leg.img")).unwrap().set_len(1 << 20).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let table = "0 8 linear pipe 0";
    for args in [
        &["attach", "pipe"][..],
        &["create", "new", "--table", table],
        &["dump", "pipe"],
        &["dump", "--header", "pipe", "disk.img"],
        &["open", "--type", "luks", "pipe", "new"],
        &["snapshot", "top", "new", "--cow", "pipe"],
        &["mirror", "top", "--add", "pipe"],
        &["mirror", "top", "--add", "leg.img", "--log", "pipe"],
    ] {
        let told = instance.fails(args);
        assert!(told.contains("pipe"), "{args:?}: {told}");
    }
}

#[test]
fn whoever_has_inherited_an_open_device_is_named() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    // As a program that goes to the background does.
    let script = "exec 3<\"$0\"; sleep 20 & echo $!";
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", script]).arg(instance.path("mapper/top"));
    let mut shell = output.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let stdout = shell.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
    shell.wait().unwrap();
    let told = instance.fails(&["remove", "top"]);
    let kill = std::process::Command::new("kill").arg(said.trim()).status();
    assert!(told.contains(&format!("sleep (pid {})", said.trim())), "{told}");
    assert!(kill.unwrap().success());
}

#[test]
fn a_mapped_device_is_no_image_to_be_resized_and_odd_names_are_none() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    for word in ["low", "run/mapper/low"] {
        let told = instance.fails(&["resize", word]);
        assert!(told.contains("whose size is its table's"), "{word}: {told}");
    }
    for name in ["../x", "/dev/../dev/sdk", "/dev/./x", "a b", &"n".repeat(256)] {
        let told = instance.fails(&["attach", "other.img", "--create", "4K", "--as", name]);
        assert!(told.contains("expected one word of 255 bytes at most"), "{name}: {told}");
    }
}

#[test]
fn every_verb_has_its_help() {
    let instance = Instance::new();
    assert_eq!(instance.ok(&[]), instance.ok(&["help"]));
    assert!(instance.ok(&["help", "create"]).contains("\n  dmsim create <dev_name>"));
    assert!(instance.ok(&["help", "attach"]).contains("Usage: dmsim attach"));
    let output = instance.run(&["help", "nosuch"]);
    assert_eq!(output.status.code(), Some(2));
}
