//! `where`: through all layers, and back.

use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::harness::{Instance, can_mount, wait_until};

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

/// Runs a command, and writes the branches that it draws as those of a locale without them.
fn drawn(instance: &Instance, args: &[&str]) -> String {
    instance.ok(args).replace('├', "|").replace('└', "`").replace('│', "|").replace('─', "-")
}

#[test]
fn where_a_sector_lies_is_told_down_to_the_bytes_of_images() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let root = instance.root().canonicalize().unwrap();
    let told = drawn(&instance, &["where", "high", "10"]);
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
    assert_eq!(drawn(&instance, &["where", path.to_str().unwrap(), "5120b"]), expected);
    instance.ok(&["resume", "m"]);
    let zero = drawn(&instance, &["where", "my disk", "3"]);
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
    assert_eq!(drawn(&instance, &["where", "--image", "b.img", "622"]), expected);
    assert_eq!(drawn(&instance, &["where", "/dev/sdb", "622", "--image"]), expected);
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

#[test]
fn a_stack_is_drawn_for_graphviz_and_as_svg() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    instance.ok(&["fail", "m", "/dev/sdb"]);
    let dot = instance.ok(&["graph"]);
    assert_eq!(dot, instance.ok(&["graph", "--dot"]));
    assert!(dot.starts_with("digraph dmsim {\n"), "{dot}");
    for line in [
        "  \"253:3\" -> \"253:2\";\n",
        "  \"253:0\" -> \"8:0\";\n",
        "  \"253:0\" -> \"8:16\" [style=dashed, color=red];\n",
        "label=\"my disk\\n253:3 36 KiB, zero linear\"];\n",
    ] {
        assert!(dot.contains(line), "{line}: {dot}");
    }
    let svg = instance.ok(&["graph", "--svg"]);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<title>").count(), 6);
    assert_eq!(instance.run(&["graph", "--svg", "--dot"]).status.code(), Some(2));
}

#[test]
fn what_is_written_where_is_counted_and_the_region_goes() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    let heat = |args: &[&str]| {
        let args = [&["heat", "m"], args].concat();
        let child = instance.command(&args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        wait_until("it counts", || {
            instance.ok(&["message", "m", "0", "@stats_list"]).contains("dmsim-heat")
        });
        child
    };
    let child = heat(&["--for", "2s", "--areas", "4", "--json"]);
    let file = std::fs::File::options().write(true).open(instance.path("mapper/m")).unwrap();
    file.write_all_at(&[1; 4096], 600 * 512).unwrap();
    file.sync_all().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let areas = told["areas"].as_array().unwrap();
    let written: Vec<u64> =
        areas.iter().map(|area| area["written_bytes"].as_u64().unwrap()).collect();
    assert_eq!(written, [0, 0, 4096, 0]);
    assert_eq!((&areas[2]["start"], &areas[2]["len"]), (&512.into(), &256.into()));
    // A signal ends it, and nothing is left.
    let child = heat(&["--for", "1m"]);
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() == 3, "{text}");
    assert!(text.starts_with("m (253:0): "), "{text}");
    assert_eq!(instance.ok(&["message", "m", "0", "@stats_list"]).trim(), "");
    let svg = instance.ok(&["heat", "m", "--for", "100ms", "--svg"]);
    assert_eq!(svg.matches("<title>").count(), 128, "{svg}");
    instance.ok(&["create", "none", "--notable"]);
    assert!(instance.fails(&["heat", "none"]).contains("has no table in use"));
}
