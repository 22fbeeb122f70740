//! `where`: through all layers, and back.

use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::harness::{Instance, can_mount};

/// A mirror of two images, the second of which begins later; two halves of it, and a name for one.
fn stack() -> Instance {
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M", "--as", "/dev/sdb"]);
    let mirror = "0 1024 mirror core 2 64 nosync 2 /dev/sda 0 /dev/sdb 100";
    instance.ok(&["create", "m", "--table", mirror]);
    instance.ok(&["create", "low", "--table", "0 512 linear m 0"]);
    instance.ok(&["create", "high", "--table", "0 512 linear m 512"]);
    instance.ok(&["create", "my disk", "--table", "0 8 zero\n8 64 linear high 8"]);
    instance
}

#[test]
fn where_a_sector_lies_is_told_down_to_the_bytes_of_images() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let root = instance.root().canonicalize().unwrap();
    let told = instance.ok(&["where", "high", "10"]);
    let expected = format!(
        "\
high (253:2) sector 10: linear
`- data: m (253:0) sector 522: mirror
   |- leg 0: /dev/sda (8:0) sector 522: {0}/a.img, byte 267264
   `- leg 1: /dev/sdb (8:16) sector 622: {0}/b.img, byte 318464
",
        root.display()
    );
    assert_eq!(told, expected);
    // What is written there is found there.
    let file = std::fs::File::options().write(true).open(instance.path("mapper/high")).unwrap();
    file.write_all_at(&[7; 512], 10 * 512).unwrap();
    file.sync_all().unwrap();
    for (image, byte) in [("a.img", 267_264), ("b.img", 318_464)] {
        let content = std::fs::read(instance.root().join(image)).unwrap();
        assert_eq!(content[byte..byte + 512], [7; 512], "{image}");
        assert_eq!(content.iter().filter(|byte| **byte == 7).count(), 512, "{image}");
    }
    // A suspended device answers, and so does one that is called by its file.
    instance.ok(&["suspend", "m"]);
    let path = instance.path("mapper/high");
    assert_eq!(instance.ok(&["where", path.to_str().unwrap(), "5120b"]), expected);
    instance.ok(&["resume", "m"]);
    let zero = instance.ok(&["where", "my disk", "3"]);
    assert_eq!(zero, "my disk (253:3) sector 3: zero; reads give zeros, and writes are dropped\n");
}

#[test]
fn what_lies_at_a_sector_of_an_image_is_told_up_to_the_last_device() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let root = instance.root().canonicalize().unwrap();
    let expected = format!(
        "\
/dev/sdb (8:16) sector 622: {}/b.img, byte 318464
`- leg 1: m (253:0) sector 522: mirror
   `- data: high (253:2) sector 10: linear
      `- data: my disk (253:3) sector 10: linear
",
        root.display()
    );
    assert_eq!(instance.ok(&["where", "--image", "b.img", "622"]), expected);
    assert_eq!(instance.ok(&["where", "/dev/sdb", "622", "--image"]), expected);
    let told: Value = instance.json(&["where", "--image", "/dev/sdb", "3", "--json"]);
    assert_eq!(told["above"], Value::Array(Vec::new()));
    let note = "m maps onto it and has no sector there: metadata of its own, or unused";
    assert_eq!(told["notes"], serde_json::json!([note]));
}

#[test]
fn what_cannot_be_told_is_refused_with_a_reason() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    instance.ok(&["create", "none", "--notable"]);
    let cases: &[(&[&str], &str)] = &[
        (&["where", "low", "512"], "low: sector 512 is past its end: it has 512 sectors"),
        (&["where", "low", "18446744073709551615"], "is past its end"),
        (&["where", "nobody", "0"], "no such device"),
        (&["where", "none", "0"], "none: has no live table"),
        (&["where", "--image", "nobody.img", "0"], "`dmsim images` lists them"),
        (
            &["where", "--image", "a.img", "2048"],
            "sector 2048 is past its end: it has 2048 sectors",
        ),
    ];
    for (args, why) in cases {
        let complaint = instance.fails(args);
        assert!(complaint.contains(why), "{args:?}: {complaint}");
    }
    assert_eq!(instance.run(&["where", "low", "x"]).status.code(), Some(2));
    assert!(instance.pid().is_some());
}
