//! Commands that run beside one another.

use std::process::{Child, Stdio};

use super::{MIB, disk};
use crate::harness::{Instance, can_mount, has, sh, text};

/// How often two are run beside one another.
const ROUNDS: usize = 8;

fn spawn(instance: &Instance, words: &[&str]) -> Child {
    let mut command = instance.command(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("dmsim runs")
}

#[test]
fn of_two_that_open_one_image_one_does() {
    let instance = Instance::start();
    let image = instance.path("disk.img");
    disk(&image, 4 * MIB, &[(2048, 2048), (4096, 4096)]);
    for round in 0..ROUNDS {
        let both = ["one", "other"]
            .map(|name| (name, spawn(&instance, &["open", "--name", name, text(&image)])));
        let ended = both.map(|(name, child)| (name, child.wait_with_output().expect("it ends")));
        let opened: Vec<&str> =
            ended.iter().filter(|(_, it)| it.status.success()).map(|(name, _)| *name).collect();
        let [name] = opened[..] else { panic!("round {round}: {opened:?}: {ended:?}") };
        instance.dmsim(&["close", name]);
    }
}

#[test]
fn of_two_that_mount_one_device_one_does() {
    if !can_mount() || !has(&["mkfs.ext4"]) {
        return;
    }
    let instance = Instance::start();
    let image = instance.path("disk.img");
    std::fs::File::create(&image).and_then(|file| file.set_len(8 * MIB)).expect("room for it");
    sh("mkfs.ext4", &["-q", text(&image)]);
    instance.dmsim(&["open", text(&image)]);
    let dirs = ["one", "other"].map(|name| instance.path(name));
    dirs.iter().for_each(|dir| std::fs::create_dir(dir).expect("a new folder"));
    for round in 0..ROUNDS {
        let both = dirs.each_ref().map(|dir| spawn(&instance, &["mount", "disk", text(dir)]));
        let ended = both.map(|child| child.wait_with_output().expect("it ends"));
        let mounted = ended.iter().filter(|it| it.status.success()).count();
        instance.dmsim(&["umount", "disk"]);
        assert_eq!(mounted, 1, "round {round}: {ended:?}");
        let told = ended.iter().find(|it| !it.status.success()).expect("one of them");
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("is mounted at"), "{told}");
    }
}
