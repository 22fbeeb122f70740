//! What the verbs on sets say where there is little that they can do.

use super::{checked, create, json};
use crate::harness::{Instance, read_at};

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
