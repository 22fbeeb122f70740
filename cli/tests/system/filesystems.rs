//! Real file systems on exposed files, mounted through loop devices.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::harness::{Instance, Mounted, bytes, can_mount, has, sh, text, wait_until};

const MIB: u64 = 1 << 20;

struct FileSystem {
    /// Makes one.
    mkfs: &'static [&'static str],
    /// Checks it and changes nothing.
    check: &'static [&'static str],
    size: u64,
}

const EXT4: FileSystem = FileSystem {
    mkfs: &["mkfs.ext4", "-q", "-F"],
    check: &["e2fsck", "-f", "-n"],
    size: 128 * MIB,
};
const XFS: FileSystem =
    FileSystem { mkfs: &["mkfs.xfs", "-q", "-f"], check: &["xfs_repair", "-n"], size: 320 * MIB };
const BTRFS: FileSystem = FileSystem {
    mkfs: &["mkfs.btrfs", "-q", "-f"],
    check: &["btrfs", "check", "--readonly"],
    size: 256 * MIB,
};

#[test]
fn ext4_lives_on_a_striped_device() {
    round_trip(&EXT4, false);
}

#[test]
fn ext4_lives_on_a_striped_device_with_direct_io() {
    round_trip(&EXT4, true);
}

#[test]
fn xfs_lives_on_a_striped_device() {
    round_trip(&XFS, false);
}

#[test]
fn xfs_lives_on_a_striped_device_with_direct_io() {
    round_trip(&XFS, true);
}

#[test]
fn btrfs_lives_on_a_striped_device() {
    round_trip(&BTRFS, false);
}

#[test]
fn btrfs_lives_on_a_striped_device_with_direct_io() {
    round_trip(&BTRFS, true);
}

/// Makes a file system, fills it, trims it, checks it, and finds every file again.
fn round_trip(fs: &FileSystem, direct: bool) {
    if !can_mount() || !has(&[fs.mkfs[0], fs.check[0], "fstrim"]) {
        return;
    }
    let instance = Instance::start();
    let images =
        ["a", "b"].map(|name| instance.image(name, &format!("/dev/sd{name}"), fs.size / 2));
    let sectors = fs.size / 512;
    let table = format!("0 {sectors} striped 2 128 /dev/sda 0 /dev/sdb 0");
    let device = instance.create("disk", &table);
    run(fs.mkfs, &device);

    let written = {
        let mounted = Mounted::over(&device, direct);
        fill(mounted.dir.path(), fs.size / 4);
        // A file that comes and goes: what it took is given back by the trim.
        let ballast = mounted.dir.path().join("ballast");
        std::fs::write(&ballast, bytes(9, (fs.size / 4) as usize)).expect("room for it");
        sh("sync", &["-f", text(&ballast)]);
        let room = || images.iter().map(|i| i.metadata().expect("an image").blocks()).sum::<u64>();
        let before = room();
        std::fs::remove_file(&ballast).expect("it is there");
        sh("sync", &["-f", text(mounted.dir.path())]);
        // xfs frees what a file took some time after the file is gone.
        wait_until("a trim reaches the images", || {
            sh("fstrim", &[text(mounted.dir.path())]);
            room() + fs.size / 4 / 512 / 2 < before
        });
        digests(mounted.dir.path())
    };
    run(fs.check, &device);
    let mounted = Mounted::over(&device, direct);
    assert_eq!(digests(mounted.dir.path()), written);
}

fn run(program: &[&str], device: &Path) {
    let mut args = program[1..].to_vec();
    args.push(text(device));
    sh(program[0], &args);
}

/// Writes files of many sizes, some in folders, until they come to `total` bytes.
pub(crate) fn fill(dir: &Path, total: u64) {
    let (mut done, mut seed) = (0, 0u64);
    while done < total {
        seed += 1;
        let len = (seed * seed * 7919) % (256 << 10) + seed % 2;
        let folder = dir.join(format!("folder{}", seed % 7));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(format!("file{seed}"));
        std::fs::write(file, bytes(seed, len as usize)).expect("room for it");
        done += len;
    }
}

/// The digest of every file of a tree, by its path in it.
pub(crate) fn digests(dir: &Path) -> BTreeMap<String, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let digest = Sha256::digest(std::fs::read(&path).expect("a file"));
            let name = path.strip_prefix(dir).expect("below it");
            let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            found.insert(text(name).to_owned(), hex);
        }
    }
    assert!(found.len() > 20, "a tree worth the name: {} files", found.len());
    found
}
