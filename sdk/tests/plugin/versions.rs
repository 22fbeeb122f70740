//! Which libraries are loaded, and what is said of those that are not.

use std::path::Path;

use sdk::sim_core::Registry;
use sdk::sim_core::control::Report;

use crate::machine::{Machine, compile, have_cc, load, load_with};

#[test]
fn a_plug_in_of_an_older_minor_version_keeps_working() {
    if !have_cc() {
        return;
    }
    // The members past the end of the struct are traps.
    let old = "whole.abi_minor = 0, type.size = SIZE_1_0, type.preresume = plain_code";
    let machine = Machine::with(old, &["-DCODE=-5"]);
    assert_eq!(machine.read("d", 0, 1), Ok(vec![0xff; 512]));
    assert_eq!(machine.text("d", Report::Status), "1 reads 0 writes");
}

#[test]
fn callbacks_past_the_end_of_a_short_struct_are_absent() {
    if !have_cc() {
        return;
    }
    for minor in [0, 1, 2] {
        let short = format!("whole.abi_minor = {minor}, type.size = SIZE_MIN");
        let machine = Machine::with(&short, &[]);
        assert_eq!(machine.read("d", 0, 1), Ok(vec![0xff; 512]));
        assert_eq!(machine.text("d", Report::Status), "");
        // The words that it was made from.
        assert_eq!(machine.text("d", Report::Table), "7:4096 0");
        let failure = machine.message("d", "reset").unwrap_err();
        assert_eq!(failure.why.as_deref(), Some("Target type does not support messages"));
    }
}

#[test]
fn a_library_that_cannot_be_used_is_refused_with_words() {
    if !have_cc() {
        return;
    }
    let cases = [
        ("whole.abi_major = 2", "for version 2.2 of the interface, and this dmsim has 1.2"),
        ("whole.abi_minor = 3", "needs version 1.3 of the interface, and this dmsim has 1.2"),
        ("whole.size = 8", "struct dmsim_plugin: expected 24 bytes, found 8"),
        ("whole.target_count = 0", "expected 1 to 64 target types, found 0"),
        ("whole.target_count = 65", "expected 1 to 64 target types, found 65"),
        ("whole.targets = 0", "expected 1 to 64 target types"),
        ("list[0] = 0", "target type 0: a null pointer"),
        (
            "type.size = SIZE_MIN - 8",
            "struct dmsim_target_type: expected 64 to 120 bytes, found 56",
        ),
        ("type.size = 132", "expected 64 to 120 bytes, found 132"),
        ("type.size = 68", "expected 64 to 120 bytes, found 68"),
        ("whole.abi_minor = 0", "expected 64 to 104 bytes, found 120"),
        ("type.name = 0", "it has no name"),
        ("type.name = \"\"", "its name is empty"),
        ("type.name = \"sixteen-letters-\"", "expected a name of 1 to 15 visible characters"),
        ("type.name = \"in vert\"", "expected a name of 1 to 15 visible characters"),
        ("type.ctr = 0", "`invert` has no ctr"),
        ("type.read = 0", "`invert` has no read"),
        ("type.write = 0", "`invert` has no write"),
        ("type.features = 8", "unknown features 0x8"),
        ("type.reserved = 8", "reserved: expected 0, found 8"),
        ("return 0", "the plug-in refuses to be loaded"),
    ];
    for (what, why) in cases {
        let refused = load_with(what, &[]).map(drop).unwrap_err();
        assert!(refused.contains(why) && refused.contains("plugin.so: "), "{what}: {refused}");
    }
}

#[test]
fn what_is_no_plug_in_is_refused_with_the_loaders_words() {
    let refused = load(Path::new("no/such.so")).map(drop).unwrap_err();
    assert!(refused.starts_with('/') && refused.contains("No such file"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    let refused = load(&text).map(drop).unwrap_err();
    assert!(refused.contains("text.so"), "{refused}");
    if have_cc() {
        let empty = compile(dir.path(), "tests/c/empty.c", &[]);
        let refused = load(&empty).map(drop).unwrap_err();
        assert!(
            refused.contains("exports neither dmsim_plugin nor dmsim_rust_plugin"),
            "{refused}"
        );
    }
}

#[test]
fn a_rust_library_of_another_making_is_refused() {
    if !have_cc() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let library = compile(dir.path(), "tests/c/empty.c", &["-DRUST_STAMP"]);
    let refused = load(&library).map(drop).unwrap_err();
    assert!(refused.contains("it was not built with this dmsim: expected sim-core "), "{refused}");
    assert!(refused.contains("found sim-core 9, rustc"), "{refused}");
}

#[test]
fn a_type_whose_name_is_taken_is_refused_and_nothing_is_added() {
    if !have_cc() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let what = "type.name = \"fresh\", list[0] = &invert, list[1] = &type, whole.target_count = 2";
    let what = format!("-DWHAT={what}");
    let library = compile(dir.path(), "tests/c/nonsense.c", &[&what]);
    let mut registry = Registry::new();
    sdk::load(&library, &mut registry).unwrap();
    assert!(registry.find("invert").is_some() && registry.find("fresh").is_some());
    let error = sdk::load(&library, &mut registry).unwrap_err();
    assert_eq!(error.why, "target type `invert` is there already");
    assert_eq!(registry.iter().count(), 2);
}
