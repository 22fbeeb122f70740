//! Snapshots of devices in use: taken, looked at, merged back, and put back where they fail.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use sha2::{Digest, Sha256};

use crate::harness::{
    Instance, Mounted, bytes, can_mount, has, read_at, sh, text, tool, wait_until, write_at,
};

const MIB: u64 = 1 << 20;

pub(crate) fn digest(path: &Path) -> String {
    let (mut file, mut hash) = (File::open(path).expect("a file"), Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).expect("it can be read") {
            0 => break,
            len => hash.update(&piece[..len]),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes, renames, deletes and syncs files, until it is stopped.
pub(crate) fn busy(dir: &Path, seed: u64, stop: &AtomicBool) {
    let dir = dir.join(format!("busy{seed}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    for step in 0u64.. {
        if stop.load(SeqCst) {
            return;
        }
        let (file, other) = (format!("f{}", step % 17), format!("f{}", step * 7 % 17));
        let (file, other) = (dir.join(file), dir.join(other));
        let len = ((step * 7919) % 200_000) as usize;
        match step % 5 {
            0 | 1 => std::fs::write(&file, bytes(seed << 32 | step, len)).expect("room for it"),
            2 => {
                let mut to = File::options().create(true).append(true).open(&file).expect("a file");
                to.write_all(&bytes(step, 4096)).expect("room for it");
                to.sync_all().expect("a sync");
            }
            // What is not there cannot be renamed or removed.
            3 => drop(std::fs::rename(&file, &other)),
            _ => drop(std::fs::remove_file(&other)),
        }
    }
}

pub(crate) fn durable(path: &Path, text: &str) {
    let mut file = File::create(path).expect("a new file");
    file.write_all(text.as_bytes()).expect("room for it");
    file.sync_all().expect("a sync");
    let folder = File::open(path.parent().expect("a folder")).expect("a folder");
    folder.sync_all().expect("a sync");
}

#[test]
fn a_busy_ext4_is_snapshotted_looked_at_and_brought_back() {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", 96 * MIB);
    let half = 48 * MIB / 512;
    let lines = [format!("0 {half} linear 8:0 0"), format!("{half} {half} linear 8:0 {half}")];
    let device = instance.create("data", &lines.join("\n"));
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let table = instance.dmsim(&["table"]);
    for round in 0..3 {
        let snapshot = instance.device("snap");
        {
            let mounted = Mounted::over(&device, round % 2 == 1);
            let dir = mounted.dir.path();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for seed in 0..3 {
                    let stop = &stop;
                    scope.spawn(move || busy(dir, seed, stop));
                }
                std::thread::sleep(std::time::Duration::from_millis(500));
                durable(&dir.join("before"), &format!("round {round}"));
                let made = instance.run(&["snapshot", "data", "snap"]);
                if made.status.success() {
                    durable(&dir.join("after"), "too late");
                    std::thread::sleep(std::time::Duration::from_millis(500));
                }
                stop.store(true, SeqCst);
                assert!(made.status.success(), "{made:?}");
                assert_eq!(String::from_utf8_lossy(&made.stdout).trim_end(), text(&snapshot));
            });
            // The snapshot's journal is replayed while the origin is mounted still.
            {
                let then = Mounted::over(&snapshot, false);
                let before = std::fs::read_to_string(then.dir.path().join("before"));
                assert_eq!(before.expect("it was durable"), format!("round {round}"));
                assert!(!then.dir.path().join("after").exists(), "it was written later");
            }
            sh("e2fsck", &["-f", "-n", text(&snapshot)]);
            assert!(dir.join("after").exists());
        }
        let wanted = digest(&snapshot);
        assert_ne!(digest(&device), wanted);
        let merged = instance.run(&["merge", "snap"]);
        assert!(merged.status.success(), "{merged:?}");
        assert!(merged.stderr.is_empty(), "no bar in a pipe: {merged:?}");
        assert_eq!(digest(&device), wanted, "round {round}");
        sh("e2fsck", &["-f", "-n", text(&device)]);
        assert_eq!(instance.dmsim(&["table"]), table, "round {round}");
        let left: Vec<_> =
            std::fs::read_dir(instance.path("run/cow")).expect("it is there").collect();
        assert!(left.is_empty(), "round {round} leaves {left:?}");
    }
}

#[test]
fn keys_move_with_the_table_and_are_shown_nowhere() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    let key = "5a".repeat(32);
    instance.create("data", &format!("0 2048 crypt aes-xts-plain64 {key} 0 /dev/sda 0"));
    let keys = |name| instance.dmsim(&["table", "--showkeys", name]);
    let table = keys("data");
    let device = instance.device("data");
    write_at(&device, 0, &bytes(1, 65536)).expect("room for it");
    instance.dmsim(&["snapshot", "data", "snap"]);
    assert_eq!(keys("data-real"), table);
    write_at(&device, 0, &bytes(2, 4096)).expect("room for it");
    assert!(read_at(&instance.device("snap"), 0, 65536).expect("a read") == bytes(1, 65536));
    let state = std::fs::read_to_string(instance.path("run/record.log")).expect("a record");
    assert!(!state.contains(&key[..32]), "{state}");
    instance.dmsim(&["merge", "snap"]);
    assert_eq!(keys("data"), table);
    assert!(read_at(&device, 0, 65536).expect("a read") == bytes(1, 65536));
}

#[test]
fn a_snapshot_that_is_dropped_leaves_nothing() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    instance.create("data", "0 2048 linear /dev/sda 0");
    let (table, device) = (instance.dmsim(&["table"]), instance.device("data"));
    // Open all the time, as if it were mounted.
    let file = File::options().write(true).open(&device).expect("a device");
    instance.dmsim(&["snapshot", "data", "snap"]);
    file.write_all_at(&bytes(2, 65536), 0).expect("room for it");
    let held = File::open(instance.device("snap")).expect("a device");
    let refused = instance.run(&["drop", "snap"]);
    assert!(!refused.status.success(), "{refused:?}");
    drop(held);
    instance.dmsim(&["drop", "snap"]);
    assert_eq!(instance.dmsim(&["table"]), table);
    assert!(read_at(&device, 0, 65536).expect("a read") == bytes(2, 65536));
    file.write_all_at(&bytes(3, 4096), 0).expect("it is used on");
    assert_eq!(std::fs::read_dir(instance.path("run/cow")).expect("it is there").count(), 0);
    instance.dmsim(&["snapshot", "data", "snap"]);
    instance.dmsim(&["drop", "snap"]);
}

/// Takes a snapshot of `data`, 64 MiB, and changes so much of it in so small pieces that a merge
/// takes its time.
fn much_to_merge(instance: &Instance) -> std::path::PathBuf {
    const SIZE: u64 = 64 * MIB;
    // Written from end to end: sparse ones would have thousands of pieces, and take some file
    // systems a minute to remove.
    let (disk, cow) = (instance.path("disk"), instance.path("run/cow/snap.cow"));
    std::fs::create_dir(instance.path("run/cow")).expect("a folder");
    std::fs::write(&disk, vec![7; SIZE as usize]).expect("room for it");
    std::fs::write(&cow, vec![0; (SIZE + SIZE / 16) as usize]).expect("room for it");
    instance.dmsim(&["attach", text(&disk), "--as", "/dev/sda"]);
    let device = instance.create("data", &format!("0 {} linear /dev/sda 0", SIZE / 512));
    instance.dmsim(&["snapshot", "data", "snap", "--chunk", "4K"]);
    let snapshot = File::options().write(true).open(instance.device("snap")).expect("it is there");
    let data = bytes(9, 4096);
    // Writes that come together are recorded in the store together.
    const WRITERS: u64 = 64;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (snapshot, data) = (&snapshot, &data);
            scope.spawn(move || {
                for chunk in (2 * writer..SIZE / 4096).step_by(2 * WRITERS as usize) {
                    snapshot.write_all_at(data, chunk * 4096).expect("room for it");
                }
            });
        }
    });
    device
}

/// Returns the sectors that are left to merge into `data`.
fn left(instance: &Instance) -> u64 {
    let status = instance.dmsim(&["status", "data"]);
    let words: Vec<&str> = status.split_whitespace().collect();
    let (allocated, _) = words[3].split_once('/').expect("a merge");
    let number = |word: &str| word.parse::<u64>().expect("a number");
    number(allocated) - number(words[4])
}

#[test]
fn a_merge_cut_off_by_a_crash_is_finished_by_the_same_command() {
    let mut instance = Instance::start();
    let device = much_to_merge(&instance);
    let wanted = digest(&instance.device("snap"));
    let all = {
        let status = instance.dmsim(&["status", "snap"]);
        status.split(['/', ' ']).nth(4).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    instance.dmsim(&["merge", "snap", "--no-wait"]);
    wait_until("some is merged", || left(&instance) < all * 9 / 10);
    let now = left(&instance);
    assert!(now > 0, "it was too fast to be cut off");
    let dir = instance.crash();
    instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    instance.dmsim(&["merge", "snap"]);
    assert_eq!(digest(&device), wanted);
    assert_eq!(instance.dmsim(&["table"]), "data: 0 131072 linear 8:0 0\n");
    assert!(!instance.path("run/cow/snap.cow").exists(), "the store is of no use any more");
    let told = instance.refused(&["merge", "snap"]);
    assert!(told.contains("no such device"), "{told}");
}

#[test]
fn a_merge_is_waited_for_and_interrupted_and_finished() {
    let instance = Instance::start();
    let device = much_to_merge(&instance);
    let told = instance.refused(&["wait", "--merge", "data"]);
    assert!(told.contains("nothing is being merged"), "{told}");
    let wanted = digest(&instance.device("snap"));
    let mut merge = instance.command(&["merge", "snap"]).spawn().expect("dmsim runs");
    wait_until("it is begun", || instance.dmsim(&["table", "data"]).contains("snapshot-merge"));
    let pid = rustix::process::Pid::from_child(&merge);
    let interrupted = left(&instance) > 0;
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    let ended = merge.wait().expect("it ends");
    if interrupted && ended.code() == Some(130) {
        // Written to while it is merged.
        write_at(&device, 4096, &bytes(4, 4096)).expect("it is in use");
        instance.dmsim(&["wait", "--merge", "snap"]);
        assert_eq!(left(&instance), 0);
        instance.dmsim(&["wait", "--merge", "data"]);
        assert!(read_at(&device, 4096, 4096).expect("a read") == bytes(4, 4096));
        write_at(&device, 4096, &[7; 4096]).expect("as it was");
        instance.dmsim(&["merge", "data"]);
    }
    assert_eq!(digest(&device), wanted);
    assert!(instance.dmsim(&["table", "data"]).contains("linear"));
    // dmsetup's verb is still there.
    assert_eq!(instance.run(&["wait"]).status.code(), Some(1));
}

#[test]
fn what_cannot_be_merged_is_told_of_and_stays() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    let device = instance.create("data", "0 2048 linear /dev/sda 0");
    instance.dmsim(&["snapshot", "data", "gone", "--transient"]);
    instance.dmsim(&["snapshot", "data", "full", "--size", "48K"]);
    instance.dmsim(&["snapshot", "data", "snap"]);
    let refused = |name: &str, words: &str| {
        let told = instance.refused(&["merge", name]);
        assert!(told.contains(words), "{told}");
    };
    write_at(&device, 0, &bytes(1, 65536)).expect("room for it");
    refused("gone", "is transient");
    refused("full", "is invalid");
    refused("data", "its snapshots: `full`, `gone`, `snap`");
    refused("nothing", "no such device");
    let open = File::open(instance.device("snap")).expect("it is there");
    refused("snap", "is in use by");
    drop(open);
    instance.create("above", "0 8 linear /dev/mapper/snap 0");
    refused("snap", "the table of `above`");
    instance.dmsim(&["remove", "above"]);
    instance.create("second", "0 2048 snapshot-origin /dev/mapper/data-real");
    refused("snap", "are origins on");
    instance.dmsim(&["remove", "second"]);
    let table = instance.dmsim(&["table"]);
    assert!(table.contains("snap: 0 2048 snapshot"), "{table}");
    instance.dmsim(&["merge", "snap"]);
    assert!(read_at(&device, 0, 65536).expect("a read") == [0; 65536]);
    // Others need the device below still.
    assert!(instance.dmsim(&["table", "data"]).contains("snapshot-origin"));
}

#[test]
fn a_merge_whose_device_fails_says_so_and_leaves_the_device() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    instance.create("below", "0 2048 linear /dev/sda 0");
    let device = instance.create("data", "0 2048 linear /dev/mapper/below 0");
    instance.dmsim(&["snapshot", "data", "snap", "--chunk", "4K"]);
    write_at(&instance.device("snap"), 0, &bytes(1, 65536)).expect("room for it");
    instance.dmsim(&["load", "below", "--table", "0 64 error\n64 1984 linear /dev/sda 64"]);
    instance.dmsim(&["resume", "below"]);
    let told = instance.refused(&["merge", "snap"]);
    assert!(told.contains("the merge failed") && told.contains("can be used"), "{told}");
    // What is not merged is read from the store.
    assert!(read_at(&device, 0, 65536).expect("a read") == bytes(1, 65536));
    let told = instance.refused(&["merge", "data"]);
    assert!(told.contains("the merge failed"), "{told}");
    instance.dmsim(&["load", "below", "--table", "0 2048 linear /dev/sda 0"]);
    instance.dmsim(&["resume", "below"]);
    instance.dmsim(&["suspend", "data"]);
    instance.dmsim(&["resume", "data"]);
    wait_until("it is merged after all", || instance.run(&["merge", "data"]).status.success());
    assert!(read_at(&device, 0, 65536).expect("a read") == bytes(1, 65536));
    assert!(instance.dmsim(&["table", "data"]).contains("linear"));
}

#[test]
fn a_merge_under_a_mounted_file_system_is_refused_or_waits_for_its_end() {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", 32 * MIB);
    let device = instance.create("data", "0 65536 linear /dev/sda 0");
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let mounted = Mounted::over(&device, false);
    durable(&mounted.dir.path().join("before"), "old");
    instance.dmsim(&["snapshot", "data", "snap"]);
    durable(&mounted.dir.path().join("after"), "new");
    let table = instance.dmsim(&["table"]);
    let told = instance.refused(&["merge", "snap"]);
    let place = format!("(mounted at {})", text(mounted.dir.path()));
    for words in [place.as_str(), "`data` is in use by /dev/loop", "--when-closed", "--in-use"] {
        assert!(told.contains(words), "{told}");
    }
    // Whoever asks is told the same.
    for asks in [&["remove", "data"][..], &["stop"]] {
        let told = instance.refused(asks);
        assert!(told.contains("in use by /dev/loop") && told.contains(&place), "{asks:?}: {told}");
    }
    assert_eq!(instance.dmsim(&["table"]), table, "nothing is merged");
    let mut waits = instance.command(&["merge", "snap", "--when-closed"]).spawn().expect("it runs");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(instance.dmsim(&["table"]), table, "it waits");
    durable(&mounted.dir.path().join("later"), "new");
    drop(mounted);
    assert!(waits.wait().expect("it ends").success());
    // The journal of the moment when the snapshot was taken.
    let fixed = std::process::Command::new(tool("e2fsck").expect("it is there"))
        .args(["-p", text(&device)])
        .status();
    assert!(fixed.is_ok_and(|status| status.code() <= Some(1)));
    sh("e2fsck", &["-f", "-n", text(&device)]);
    let then = Mounted::over(&device, false);
    assert!(then.dir.path().join("before").exists());
    assert!(!then.dir.path().join("after").exists() && !then.dir.path().join("later").exists());
}

#[test]
fn a_merge_into_an_open_device_begins_where_it_is_asked_for() {
    let instance = Instance::start();
    instance.image("disk", "/dev/sda", MIB);
    let device = instance.create("data", "0 2048 linear /dev/sda 0");
    write_at(&device, 0, &bytes(1, 65536)).expect("room for it");
    instance.dmsim(&["snapshot", "data", "snap"]);
    write_at(&device, 0, &bytes(2, 65536)).expect("room for it");
    let open = File::open(&device).expect("it is there");
    let told = instance.refused(&["merge", "snap"]);
    assert!(told.contains(&format!("(pid {})", std::process::id())), "{told}");
    assert_eq!(
        instance.run(&["merge", "snap", "--in-use", "--when-closed"]).status.code(),
        Some(2)
    );
    instance.dmsim(&["merge", "snap", "--in-use"]);
    let mut now = vec![0; 65536];
    open.read_exact_at(&mut now, 0).expect("a read");
    assert!(now == bytes(1, 65536));
}
