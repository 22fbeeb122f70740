//! Merges that are cut off, by a crash or by a reboot: whoever meets the image is told so, and one
//! command finishes them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::harness::{Instance as Other, SOON, can_mount};
use crate::places::{Default, Unmount};

const CHUNK: u64 = 4096;
const MIB: u64 = 1 << 20;

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Takes a snapshot of `data`, so many MiB on two images, and changes every other chunk of it, so that
/// a merge takes its time. Returns what the snapshot holds.
fn much_to_merge(instance: &Default, mib: u64) -> Vec<u8> {
    let (root, half) = (instance.0.path(), mib * MIB / 2);
    for (name, byte) in [("a.img", 7), ("b.img", 8)] {
        fs::write(root.join(name), vec![byte; half as usize]).unwrap();
    }
    instance.ok(&["attach", "a.img", "--as", "/dev/sda"]);
    let half = half / 512;
    let table = format!("0 {half} linear /dev/sda 0\n{half} {half} linear b.img 0");
    instance.ok(&["create", "data", "--table", &table]);
    instance.ok(&["snapshot", "data", "snap", "--chunk", "4K"]);
    let snapshot = instance.run_dir().join("mapper/snap");
    let file = File::options().write(true).open(&snapshot).unwrap();
    const WRITERS: u64 = 32;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = &file;
            scope.spawn(move || {
                for chunk in (2 * writer..mib * MIB / CHUNK).step_by(2 * WRITERS as usize) {
                    let data = chunk.to_le_bytes().repeat(CHUNK as usize / 8);
                    file.write_all_at(&data, chunk * CHUNK).unwrap();
                }
            });
        }
    });
    file.sync_all().unwrap();
    drop(file);
    fs::read(snapshot).unwrap()
}

fn mark(image: &Path) -> Option<String> {
    let mut text = vec![0; 4096];
    let len = getxattr(image, "user.dmsim.merging", &mut *text).ok()?;
    Some(String::from_utf8(text[..len].to_vec()).unwrap())
}

/// Begins a merge, and cuts it off in the middle by what a reboot does.
fn cut_off(instance: &Default) {
    instance.ok(&["merge", "snap", "--no-wait"]);
    // The last changes are merged first: this is one of them.
    let image = File::open(instance.0.path().join("b.img")).unwrap();
    let at = image.metadata().unwrap().len() * 3 / 4;
    let deadline = Instant::now() + SOON;
    loop {
        let mut now = [0];
        image.read_exact_at(&mut now, at).unwrap();
        if now != [8] {
            break;
        }
        assert!(Instant::now() < deadline, "nothing is merged");
    }
    instance.reboot();
    let store = instance.state_dir().join("cow/snap.cow");
    let dump = instance.ok(&["dump", "--json", store.to_str().unwrap()]).0;
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    assert_ne!(dump["exceptions"], 0, "it was too fast to be cut off");
}

/// What is true when all is merged and put away.
fn is_finished(instance: &Default, wanted: &[u8]) {
    assert!(fs::read(instance.run_dir().join("mapper/data")).unwrap() == wanted);
    let (table, _) = instance.ok(&["table"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.starts_with("data: 0 ") && table.contains("linear"), "{table}");
    assert_eq!(fs::read_dir(instance.state_dir().join("cow")).unwrap().count(), 0);
    for name in ["a.img", "b.img"] {
        let image = instance.0.path().join(name);
        assert_eq!(mark(&image), None);
        let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
        assert!(!told.contains("merge"), "{told}");
    }
}

#[test]
fn a_merge_cut_off_by_a_reboot_is_shown_and_finished_by_one_command() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    let wanted = much_to_merge(&instance, 48);
    let images: Vec<PathBuf> =
        ["a.img", "b.img"].iter().map(|name| instance.0.path().join(name)).collect();
    assert!(images.iter().all(|image| mark(image).is_none()), "nothing is merged yet");
    cut_off(&instance);
    let store = instance.state_dir().join("cow/snap.cow");
    for image in &images {
        let mark = mark(image).unwrap();
        assert!(mark.contains(store.to_str().unwrap()) && mark.contains("UTC"), "{mark}");
        let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
        for words in [image.to_str().unwrap(), store.to_str().unwrap(), "UTC", "is not finished"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(told.contains("`dmsim merge data` finishes it"), "{told}");
    }
    // Whoever else meets one is told which instance it is a matter of.
    let other = Other::new();
    let told = stderr(&other.run(&["attach", images[0].to_str().unwrap()]));
    assert!(told.contains("`env -u DMSIM_DIR dmsim merge data` finishes it"), "{told}");
    let key = other.root().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let open = ["open", "7:0", "plain", "--type", "plain", "--read-only", "--key-file"];
    let image = images[0].to_str().unwrap();
    let open: Vec<&str> =
        open.iter().map(|word| if *word == "7:0" { image } else { word }).collect();
    let output = other.run(&[&open[..], &[key.to_str().unwrap()]].concat());
    assert!(stderr(&output).contains("is not finished"), "{output:?}");
    other.ok(&["stop", "--force"]);
    instance.ok(&["start"]);
    let told = instance.fails(&["restore", "--forget"]);
    assert!(told.contains("`dmsim merge data` first") && told.contains("snap.merging"), "{told}");
    let (_, told) = instance.ok(&["restore"]);
    for image in &images {
        let words = format!("warning: {}: a merge of the store", image.display());
        assert!(told.contains(&words), "{told}");
    }
    assert!(fs::read(instance.run_dir().join("mapper/data")).unwrap() == wanted, "it can be used");
    instance.ok(&["merge", "data"]);
    is_finished(&instance, &wanted);
}

#[test]
fn a_merge_cut_off_by_a_reboot_is_finished_by_its_command_alone() {
    if !can_mount() {
        return;
    }
    for name in ["snap", "data"] {
        let instance = Default::new();
        let wanted = much_to_merge(&instance, 48);
        cut_off(&instance);
        let told = instance.fails(&["merge", "other"]);
        assert!(told.contains("no daemon runs here"), "{told}");
        instance.ok(&["merge", name]);
        is_finished(&instance, &wanted);
    }
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_merge_leaves_what_one_command_finishes() {
    if !can_mount() {
        return;
    }
    for delay in [0, 2, 4, 6, 8, 12, 20, 40, 100, 106, 112, 118, 124, 130, 140] {
        let instance = Default::new();
        let wanted = much_to_merge(&instance, 2);
        let mut merge = instance.command(&["merge", "snap"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        instance.reboot();
        let ended = merge.wait().unwrap();
        let marks = ["a.img", "b.img"].map(|name| mark(&instance.0.path().join(name)).is_some());
        let now = ["a.img", "b.img"].map(|name| fs::read(instance.0.path().join(name)).unwrap());
        let is_old = now[0].iter().all(|byte| *byte == 7) && now[1].iter().all(|byte| *byte == 8);
        let is_half = !is_old && now.concat() != wanted;
        assert!(!is_half || marks == [true; 2], "{delay} ms: half old, half new, and no mark");
        instance.ok(&["start"]);
        let (_, told) = instance.ok(&["restore"]);
        let is_noted = instance.state_dir().join("cow/snap.merging").exists();
        assert!(is_noted || marks == [false; 2], "{delay} ms: a mark without a note");
        // Also where all is copied, and not put away.
        let shown = told.matches("dmsim merge data` finishes it").count();
        assert_eq!(shown, if is_noted { 2 } else { 0 }, "{delay} ms: {told}");
        // Before it was noted all is as it was, and when it was done there is nothing to do.
        let again = if is_noted { "data" } else { "snap" };
        let output = instance.run(&["merge", again]);
        assert!(output.status.success() || ended.success(), "{delay} ms: {output:?}");
        is_finished(&instance, &wanted);
    }
}

#[test]
fn an_image_that_cannot_be_marked_is_told_of_once_and_noted_on_record() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let instance = Default::new();
    let dir = instance.0.path().join("ramfs");
    fs::create_dir(&dir).unwrap();
    let mounted = Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&dir).status().unwrap();
    assert!(mounted.success());
    let _mounted = Unmount(&dir);
    let image = dir.join("a.img");
    fs::write(&image, vec![7; MIB as usize]).unwrap();
    instance.ok(&["attach", image.to_str().unwrap(), "--as", "/dev/sda"]);
    instance.ok(&["create", "data", "--table", "0 2048 linear /dev/sda 0"]);
    instance.ok(&["snapshot", "data", "snap"]);
    fs::write(instance.run_dir().join("mapper/snap"), vec![9; 65536]).unwrap();
    let (_, told) = instance.ok(&["merge", "snap", "--no-wait"]);
    assert_eq!(told.matches("cannot be marked as being merged").count(), 1, "{told}");
    assert!(told.contains(image.to_str().unwrap()), "{told}");
    instance.reboot();
    let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
    assert!(told.contains("`dmsim merge data` finishes it"), "{told}");
    let (_, told) = instance.ok(&["merge", "data"]);
    assert_eq!(told, "");
    assert_eq!(fs::read(&image).unwrap()[..65536], [9; 65536]);
    let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
    assert!(!told.contains("merge"), "{told}");
    instance.ok(&["stop", "--force"]);
}

#[test]
fn what_a_merge_is_finished_by_and_is_gone_is_told_of() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    let _wanted = much_to_merge(&instance, 48);
    cut_off(&instance);
    let image = instance.0.path().join("a.img");
    let image = image.to_str().unwrap();
    let (cow, away) = (instance.state_dir().join("cow"), instance.0.path().join("away"));
    fs::rename(cow.join("snap.cow"), &away).unwrap();
    let told = stderr(&instance.run(&["dump", image]));
    assert!(told.contains("the store is not there"), "{told}");
    let told = instance.fails(&["merge", "data"]);
    assert!(told.contains("could not be brought back"), "{told}");
    instance.ok(&["stop", "--force"]);
    fs::rename(instance.state_dir(), instance.0.path().join("gone")).unwrap();
    let told = stderr(&instance.run(&["dump", image]));
    assert!(told.contains("the record of it") && told.contains("setfattr -x"), "{told}");
}

#[test]
fn a_merge_whose_record_is_gone_is_finished_by_its_mark_and_its_store() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    let wanted = much_to_merge(&instance, 48);
    cut_off(&instance);
    // All but what the mark names.
    let state = instance.state_dir();
    fs::remove_file(state.join("record.log")).unwrap();
    fs::remove_file(state.join("cow/snap.merging")).unwrap();
    let image = instance.0.path().join("b.img");
    let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
    let command = format!("`dmsim merge {}` finishes it", image.display());
    assert!(told.contains(&command), "{told}");
    let merge = ["merge", image.to_str().unwrap()];
    let store = stderr(&instance.run(&["dump", state.join("cow/snap.cow").to_str().unwrap()]));
    assert!(store.contains("what is not merged lies here alone"), "{store}");
    // An image that comes from elsewhere names no file that has no mark of its own.
    let (foreign, victim) = (instance.0.path().join("foreign"), instance.0.path().join("victim"));
    fs::copy(instance.0.path().join("a.img"), &foreign).unwrap();
    fs::copy(instance.0.path().join("a.img"), &victim).unwrap();
    let mark = mark(&image).unwrap().replace("a.img", "victim");
    setxattr(&foreign, "user.dmsim.merging", mark.as_bytes(), XattrFlags::empty()).unwrap();
    let told = instance.fails(&["merge", foreign.to_str().unwrap()]);
    assert!(told.contains("victim") && told.contains("has no mark of the merge"), "{told}");
    assert_eq!(instance.ok(&["ls"]).0.trim(), "No devices found");
    // A name that is taken is told of, and nothing is changed.
    instance.ok(&["create", "data", "--table", "0 8 zero"]);
    let told = instance.fails(&merge);
    assert!(told.contains("a device of that name is there"), "{told}");
    instance.ok(&["remove", "data"]);
    instance.ok(&["merge", image.to_str().unwrap(), "--no-wait"]);
    // And once more it is cut off.
    instance.reboot();
    let told = stderr(&instance.run(&["dump", image.to_str().unwrap()]));
    assert!(told.contains("`dmsim merge data` finishes it"), "{told}");
    instance.ok(&["merge", "data"]);
    is_finished(&instance, &wanted);
}

#[test]
fn a_merge_that_is_noted_and_on_no_record_is_finished_by_its_mark_and_its_store() {
    if !can_mount() {
        return;
    }
    for by_image in [false, true] {
        let instance = Default::new();
        let wanted = much_to_merge(&instance, 48);
        cut_off(&instance);
        fs::remove_file(instance.state_dir().join("record.log")).unwrap();
        assert!(instance.state_dir().join("cow/snap.merging").exists());
        let image = instance.0.path().join("b.img");
        let named = if by_image { image.to_str().unwrap() } else { "data" };
        instance.ok(&["merge", named]);
        is_finished(&instance, &wanted);
        // What has no mark is no merge.
        let told = instance.fails(&["merge", image.to_str().unwrap()]);
        assert!(told.contains("b.img: has no mark of a merge"), "{told}");
    }
}
