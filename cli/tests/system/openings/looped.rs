//! Images that loop devices of the machine write to.

use std::process::Command;

use super::{MIB, disk};
use crate::harness::{Instance, can_mount, has, text};

/// A loop device over a file, until it is dropped.
struct Loop(String);

impl Loop {
    fn over(file: &str) -> Loop {
        let output = Command::new("losetup").args(["--find", "--show", file]).output();
        let output = output.expect("losetup runs");
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).expect("text").trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _best_effort = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

#[test]
fn an_image_that_a_loop_device_writes_to_is_not_written() {
    if !can_mount() || !has(&["losetup"]) {
        return;
    }
    let instance = Instance::start();
    let (image, link) = (instance.path("disk.img"), instance.path("link.img"));
    disk(&image, 4 * MIB, &[(2048, 2048), (4096, 4096)]);
    std::fs::hard_link(&image, &link).expect("a link");
    let looped = Loop::over(text(&image));
    let way_out = format!("`losetup -d {}`", looped.0);
    // By any of its names, and by one that is left when the others are gone.
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&image).expect("it is there");
        }
        for words in [&["open", text(&link)][..], &["attach", text(&link)]] {
            let told = instance.refused(words);
            assert!(told.contains(&way_out) && told.contains("--read-only"), "{told}");
        }
        instance.dmsim(&["open", "--read-only", text(&link)]);
        instance.dmsim(&["close", "link"]);
        instance.dmsim(&["open", "--shared", text(&link)]);
        instance.dmsim(&["close", "link"]);
    }
    drop(looped);
    instance.dmsim(&["open", text(&link)]);
}
