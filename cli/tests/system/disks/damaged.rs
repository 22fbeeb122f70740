//! Every file system that people have, on a disk one of whose partition tables is gone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{MIB, empty};
use crate::harness::{Instance, can_mount, has, read_at, sh, text, write_at};

/// What puts a file into a file system, and gets it out again.
enum Way {
    /// `dmsim mount`.
    Mount,
    /// mtools.
    Mtools,
    /// ntfscp and ntfscat.
    Ntfs,
}

/// A file system in a partition.
struct Kind {
    /// As `blkid` calls it.
    name: &'static str,
    /// Its size in MiB.
    size: u64,
    /// Makes it, with its name as its label.
    mkfs: &'static [&'static str],
    /// Checks it, each command by itself, and changes nothing.
    checks: &'static [&'static [&'static str]],
    way: Way,
}

/// In the order of the partitions.
const KINDS: [Kind; 6] = [
    Kind {
        name: "ext4",
        size: 16,
        mkfs: &["mkfs.ext4", "-q", "-F", "-L", "ext4"],
        checks: &[&["e2fsck", "-f", "-n"]],
        way: Way::Mount,
    },
    Kind {
        name: "xfs",
        size: 320,
        mkfs: &["mkfs.xfs", "-q", "-f", "-L", "xfs"],
        checks: &[&["xfs_repair", "-n"]],
        way: Way::Mount,
    },
    Kind {
        name: "btrfs",
        size: 128,
        mkfs: &["mkfs.btrfs", "-q", "-f", "-L", "btrfs"],
        checks: &[&["btrfs", "check", "--readonly"]],
        way: Way::Mount,
    },
    Kind {
        name: "vfat",
        size: 16,
        mkfs: &["mkfs.vfat", "-n", "vfat"],
        checks: &[&["fsck.vfat", "-n"]],
        way: Way::Mtools,
    },
    Kind {
        name: "ntfs",
        size: 8,
        mkfs: &["mkfs.ntfs", "-q", "-F", "-L", "ntfs"],
        checks: &[&["ntfsfix", "-n"], &["ntfsresize", "--check"]],
        way: Way::Ntfs,
    },
    Kind {
        name: "exfat",
        size: 8,
        mkfs: &["mkfs.exfat", "-L", "exfat"],
        checks: &[&["fsck.exfat", "-n"]],
        way: Way::Mount,
    },
];

/// The length of the disk.
const DISK: u64 = 512 * MIB;

/// Where the copies of the table lie, header and array, and what is said of one that is gone.
const COPIES: [(&str, u64); 2] = [
    ("the GPT in sector 1 is not there: its backup, in sector 1048575, counts", 512),
    ("the backup of the GPT, in sector 1048575, is not there", DISK - 33 * 512),
];

fn run(words: &[&str], file: &Path) {
    sh(words[0], &[&words[1..], &[text(file)]].concat());
}

/// Puts a file into a file system.
fn put(instance: &Instance, kind: &Kind, device: &Path, name: &str) {
    let file = instance.path(name);
    fs::write(&file, kind.name).expect("room for it");
    let (device, from) = (text(device), text(&file));
    match kind.way {
        Way::Mount => {
            let dir = instance.path("mnt");
            instance.dmsim(&["mount", device, text(&dir)]);
            fs::write(dir.join(name), kind.name).expect("room for it");
            instance.dmsim(&["umount", device]);
        }
        Way::Mtools => drop(sh("mcopy", &["-i", device, from, &format!("::{name}")])),
        Way::Ntfs => drop(sh("ntfscp", &["-q", device, from, name])),
    }
}

/// Reads a file out of a file system.
fn get(instance: &Instance, kind: &Kind, device: &Path, name: &str) -> String {
    let device = text(device);
    match kind.way {
        Way::Mount => {
            let dir = instance.path("mnt");
            instance.dmsim(&["mount", device, text(&dir), "--read-only"]);
            let found = fs::read_to_string(dir.join(name)).expect("it was put there");
            instance.dmsim(&["umount", device]);
            found
        }
        Way::Mtools => sh("mtype", &["-i", device, &format!("::{name}")]),
        Way::Ntfs => sh("ntfscat", &[device, name]),
    }
}

/// Makes the disk, with a table that has a partition for each.
fn disk(instance: &Instance) -> PathBuf {
    let [disk, table] = ["disk.img", "table"].map(|name| instance.path(name));
    empty(&disk, DISK);
    let sizes = KINDS.iter().map(|kind| format!("size={}M\n", kind.size));
    fs::write(&table, format!("label: gpt\n{}", sizes.collect::<String>())).expect("room for it");
    sh("sh", &["-ec", &format!("sfdisk -q {} <{}", text(&disk), text(&table))]);
    disk
}

#[test]
fn each_file_system_of_a_disk_with_half_a_table_is_told_written_and_clean() {
    let tools = KINDS.iter().flat_map(|kind| kind.checks.iter().chain([&kind.mkfs]));
    let tools: Vec<&str> = tools.map(|words| words[0]).collect();
    let more = ["sfdisk", "mcopy", "mtype", "ntfscp", "ntfscat", "mount.exfat-fuse"];
    if !can_mount() || !has(&[&tools[..], &more].concat()) {
        return;
    }
    let instance = Instance::start();
    fs::create_dir(instance.path("mnt")).expect("a new folder");
    let disk = disk(&instance);
    let image = text(&disk);
    let device = |nr: usize| instance.device(&format!("disk{}", nr + 1));
    instance.dmsim(&["open", image]);
    for (nr, kind) in KINDS.iter().enumerate() {
        run(kind.mkfs, &device(nr));
    }
    instance.dmsim(&["close", "disk"]);
    for (round, (what, at)) in COPIES.into_iter().enumerate() {
        let copy = read_at(&disk, at, 33 * 512).expect("a copy of the table");
        write_at(&disk, at, &vec![0xa5; 33 * 512]).expect("room for it");
        let output = instance.run(&["open", "--json", image]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains(what), "{what}: {told}");
        let opened: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for (nr, kind) in KINDS.iter().enumerate() {
            let found = &opened["devices"][nr];
            let words = (&found["name"], &found["type"], &found["size_bytes"]);
            assert_eq!(words.0, &format!("disk{}", nr + 1));
            assert_eq!((words.1, words.2), (&kind.name.into(), &(kind.size * MIB).into()));
            // FAT has it in capitals.
            let label = found["label"].as_str().expect("a label").to_lowercase();
            assert_eq!(label, kind.name);
            for earlier in 0..round {
                let name = format!("file{earlier}");
                assert_eq!(get(&instance, kind, &device(nr), &name), kind.name);
            }
            put(&instance, kind, &device(nr), &format!("file{round}"));
            assert_eq!(get(&instance, kind, &device(nr), &format!("file{round}")), kind.name);
            kind.checks.iter().for_each(|check| run(check, &device(nr)));
        }
        instance.dmsim(&["close", "disk"]);
        write_at(&disk, at, &copy).expect("room for it");
    }
}
