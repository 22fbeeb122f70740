//! Arrays that mdadm made, opened as they are.

use std::path::PathBuf;

use testkit::{md_arrays, write_md_images};

use super::{TOOLS, comes_back_after_a_crash, is_right, json, states};
use crate::filesystems::{digests, fill};
use crate::harness::{Instance, Mounted, can_mount, has, sh, text};

/// Writes the images of a recorded array.
fn images(instance: &Instance, name: &str) -> Vec<PathBuf> {
    write_md_images(name, &instance.path("")).expect("room for them")
}

fn assemble(instance: &Instance, images: &[PathBuf]) -> PathBuf {
    let images = images.iter().map(|image| text(image));
    let args: Vec<&str> =
        ["raid", "assemble"].into_iter().chain(images).chain(["--name", "r"]).collect();
    let told = instance.dmsim(&args);
    let file = told.lines().last().expect("a file");
    assert_eq!(PathBuf::from(file), instance.device("r"), "{told}");
    PathBuf::from(file)
}

/// Fails where copies differ, or parity is wrong.
#[track_caller]
/// Those that are whole.
fn whole() -> impl Iterator<Item = &'static str> {
    let states = ["stale", "dirty", "rebuild", "resync", "ppl", "spare", "raid5miss"];
    md_arrays().into_iter().filter(move |name| !states.iter().any(|state| name.starts_with(state)))
}

#[test]
fn every_level_and_version_holds_a_file_system_without_a_member_too() {
    if !can_mount() || !has(&TOOLS) {
        return;
    }
    for name in whole() {
        let instance = Instance::start();
        let images = images(&instance, name);
        let device = assemble(&instance, &images);
        sh("mkfs.ext4", &["-q", "-F", text(&device)]);
        let written = {
            let mounted = Mounted::over(&device, false);
            let kept = mounted.dir.path().join("kept");
            std::fs::create_dir(&kept).expect("a folder");
            fill(&kept, 4 << 20);
            digests(&kept)
        };
        sh("e2fsck", &["-f", "-n", text(&device)]);
        let is_flat = name.starts_with("linear") || name.starts_with("raid0");
        if is_flat {
            instance.dmsim(&["remove", "r"]);
        } else {
            is_right(&instance);
            assert_eq!(states(&instance), vec!["in_sync"; images.len()], "{name}");
            assert_eq!(json(&instance)["legs"][1]["file"], text(&images[1]));
            instance.dmsim(&["raid", "remove", "r"]);
        }
        let left = if is_flat { &images[..] } else { &images[1..] };
        let device = assemble(&instance, left);
        let mounted = Mounted::over(&device, false);
        assert_eq!(digests(&mounted.dir.path().join("kept")), written, "{name}");
    }
}

#[test]
fn what_is_the_matter_with_members_is_told() {
    let instance = Instance::start();
    let stale = images(&instance, "stale-5-1.2");
    let all: Vec<&str> = stale.iter().map(|image| text(image)).collect();
    let output = instance.run(&["raid", "assemble", all[0], all[1], all[2], "--name", "r"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("member 2 is missing"), "{told}");
    assert!(told.contains("stale-5-1.2.2 is out of date, at event 0, and is left out"), "{told}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.starts_with("raid5 `h:t` of 3 members, superblocks 1.2, without a bitmap\n"),
        "{told}"
    );
    assert_eq!(json(&instance)["health"], "degraded");
    let told = instance.refused(&["raid", "replace", "r", "2", all[2]]);
    assert!(told.contains("is an array of md"), "{told}");
    instance.dmsim(&["raid", "remove", "r"]);
    let told = instance.refused(&["raid", "assemble", all[0], all[2], "--name", "r"]);
    assert!(told.contains("--force takes those that are out of date"), "{told}");
    instance.dmsim(&["raid", "assemble", all[0], all[2], "--name", "r", "--force"]);
    assert_eq!(states(&instance), ["in_sync", "missing", "in_sync"]);
    instance.dmsim(&["raid", "remove", "r"]);
    let dirty = images(&instance, "dirty-5-0.90");
    let told =
        instance.refused(&["raid", "assemble", text(&dirty[0]), text(&dirty[1]), "--name", "r"]);
    assert!(told.contains("while not clean"), "{told}");
    let told = instance.refused(&["raid", "assemble", text(&dirty[0]), all[1], "--name", "r"]);
    assert!(told.contains("is of another array"), "{told}");
}

#[test]
fn an_array_comes_back_after_a_crash() {
    for name in ["raid5-1.2", "raid6-0.90", "raid1b-1.0", "raid10-1.1"] {
        let instance = Instance::start();
        let images = images(&instance, name);
        assemble(&instance, &images);
        comes_back_after_a_crash(instance, name);
    }
}
