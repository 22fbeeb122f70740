//! What the kernel itself has block devices open for, which no process shows: file systems, those too that were
//! unmounted while a file in them was open; loop devices over them; swap; what is made of them, as an array.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sim_core::{DevNumber, LOOP_MAJOR};

use crate::special::Special;
use crate::{FIRST_DISK, ioctls};

/// Where file systems that are in use have a folder by the name of their device.
const BY_DEVICE: [&str; 3] = ["/sys/fs/ext4", "/sys/fs/xfs", "/sys/fs/f2fs"];

/// Where each btrfs that is in use has a folder, with links to its devices.
const BTRFS: &str = "/sys/fs/btrfs";

/// Lists the devices of file systems that are in use.
pub(super) fn file_systems() -> BTreeSet<DevNumber> {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    let btrfs = names(Path::new(BTRFS)).into_iter();
    let btrfs = btrfs.map(|uuid| Path::new(BTRFS).join(uuid).join("devices"));
    let folders = BY_DEVICE.into_iter().map(PathBuf::from).chain(btrfs);
    let devices = folders.flat_map(|folder| names(&folder));
    devices.filter_map(|name| number(&Path::new("/sys/class/block").join(name))).collect()
}

/// Lists what loop devices lie over, other than those of nodes, once for each. Those whose file lies elsewhere than
/// in a `/dev` are not asked, as their file systems would be, and may not answer.
pub(super) fn below_loops() -> Vec<DevNumber> {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks
        .filter_map(|disk| {
            let minor: u32 = disk.file_name().to_str()?.strip_prefix("loop")?.parse().ok()?;
            let file = fs::read_to_string(disk.path().join("loop/backing_file")).ok()?;
            if minor >= FIRST_DISK || !file.starts_with("/dev/") {
                return None;
            }
            let disk = DevNumber { major: LOOP_MAJOR, minor };
            // One that has been let go of meanwhile says so.
            ioctls::below_loop(&Special::block(disk).ok()?.read().ok()?).ok()
        })
        .flatten()
        .collect()
}

/// Counts what is made of a device: arrays, and mapped devices of the machine's own.
pub(super) fn above(dev: DevNumber) -> u32 {
    let holders = fs::read_dir(format!("/sys/dev/block/{dev}/holders"));
    let count = holders.into_iter().flatten().flatten().count();
    count.try_into().unwrap_or(u32::MAX)
}

/// Lists the paths of what is swapped to, as far as they can be told: in another mount namespace, from where its
/// file system is mounted.
pub(super) fn swap() -> Vec<PathBuf> {
    swap_of(&fs::read_to_string("/proc/swaps").unwrap_or_default())
}

/// proc(5): a line of headings, then a path and more on each; what would part the words is in octal.
fn swap_of(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().skip(1);
    let words = lines.filter_map(|line| line.split_ascii_whitespace().next());
    words.map(|word| PathBuf::from(without_octal(word))).collect()
}

fn without_octal(word: &str) -> String {
    let mut parts = word.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => text.extend([&char::from(code).to_string(), &part[3..]]),
            None => text.extend(["\\", part]),
        }
    }
    text
}

/// The number of a device, by its folder in sysfs.
fn number(device: &Path) -> Option<DevNumber> {
    fs::read_to_string(device.join("dev")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_found_by_its_path() {
        let text = "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n\
                    /mapper/vg-l                            partition\t8188\t0\t-2\n\
                    /with\\040space\\134                      file\t8188\t0\t-3\n";
        assert_eq!(swap_of(text), [Path::new("/mapper/vg-l"), Path::new("/with space\\")]);
        assert_eq!(swap_of(""), [] as [&Path; 0]);
        assert_eq!(without_octal("a\\9b\\04"), "a\\9b\\04");
    }
}
