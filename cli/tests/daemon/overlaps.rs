//! Devices that write to one place: the second is made, and told of once.

use std::os::unix::process::CommandExt;

use crate::harness::{Instance, can_mount};

/// Runs a command, by the name of a program, that must succeed; returns what it said besides.
fn told(instance: &Instance, program: &str, args: &[&str]) -> String {
    let output = instance.command(args).arg0(program).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_device_that_writes_where_another_one_does_is_told_of_once() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    let told = |program: &str, args: &[&str]| told(&instance, program, args);
    let linear = |start: u32| format!("0 64 linear /dev/sda {start}");
    assert_eq!(told("dmsim", &["create", "one", "--table", &linear(0)]), "");
    assert_eq!(told("dmsim", &["create", "beside", "--table", &linear(64)]), "");
    let image = instance.root().join("a.img");
    let warning = format!(
        "dmsim: warning: `my disk` and `one` both write to the image {}, sectors 32 to 63\n",
        image.display()
    );
    assert_eq!(
        told("dmsim", &["create", "my disk", "--table", "0 32 linear /dev/sda 32"]),
        warning
    );
    // What only asks, and what changes nothing of it, says nothing.
    for args in [&["ls"][..], &["table"], &["resume", "my disk"], &["suspend", "one"]] {
        assert_eq!(told("dmsim", args), "", "{args:?}");
    }
    assert_eq!(told("dmsim", &["resume", "one"]), "", "that is known");
    // As dmsetup, which has no such word; and where nobody wants to know.
    assert_eq!(told("dmsetup", &["create", "two", "--table", &linear(8)]), "");
    assert_eq!(told("dmsim", &["create", "three", "--quiet", "--table", &linear(8)]), "");
    assert_eq!(told("dmsim", &["create", "ro", "--readonly", "--table", &linear(8)]), "");
    // By a load and a resume.
    assert_eq!(told("dmsim", &["create", "later", "--table", &linear(200)]), "");
    assert_eq!(told("dmsim", &["load", "later", "--table", &linear(100)]), "");
    let said = told("dmsim", &["resume", "later"]);
    assert!(
        said.contains("`later` and `beside` both write") && said.contains("100 to 127"),
        "{said}"
    );
    assert_eq!(told("dmsim", &["resume", "later"]), "");
    // Of many at once, once.
    let many: Vec<String> = (0..50).map(|nr| format!("n{nr},,,,0 8 linear /dev/sda 8")).collect();
    let said = told("dmsim", &["create", "--concise", &many.join(";")]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("`n0` and `one`") && said.contains("49 more devices"), "{said}");
}

#[test]
fn the_arrangements_of_our_own_are_not_told_of() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M", "--as", "/dev/sdb"]);
    std::fs::write(instance.root().join("new.img"), vec![0; 2 << 20]).unwrap();
    for line in [
        "create data --table 0!2048!linear!/dev/sda!0",
        "snapshot data one",
        "snapshot data two --transient",
        "merge one",
        "drop two",
        "mirror data --add /dev/sdb",
        "wait --sync data",
        "snapshot data three",
        "merge three",
        "mirror data --drop 0",
        "raid create raid1 0.img 1.img 2.img r --size 2M",
        "raid replace r 1 new.img",
        "raid remove r",
        "raid assemble 2.img new.img --name r",
    ] {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('!', " ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = told(&instance, "dmsim", &words);
        assert!(!said.contains("both write"), "{line}: {said}");
    }
}

#[test]
fn a_container_that_is_opened_beside_another_device_is_told_of() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["create", "one", "--table", "0 64 linear /dev/sda 0"]);
    let key = instance.root().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let key = key.to_str().unwrap();
    let plain = ["--type", "plain", "--cipher", "aes-xts-plain64", "--key-size", "256"];
    let open = [&["open", "/dev/sda", "--key-file", key, "--shared"][..], &plain].concat();
    let said = told(&instance, "dmsim", &[&open[..], &["p"]].concat());
    assert!(said.contains("`p` and `one` both write") && said.contains("0 to 63"), "{said}");
    let said = told(&instance, "dmsim", &[&open[..], &["q", "--quiet"]].concat());
    assert!(!said.contains("both write"), "{said}");
}
