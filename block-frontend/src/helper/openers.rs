//! Who has a node open.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use sim_core::DevNumber;

/// Counts how often a node is open in other processes than this one, and in how many mount
/// namespaces it is mounted.
///
/// To open it with O_EXCL would tell of a mount at once, but for that moment nobody could mount it.
pub(super) fn count(dev: DevNumber) -> io::Result<u32> {
    let mut namespaces = BTreeSet::new();
    let mut count = 0;
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if pid.is_none_or(|pid| pid == std::process::id()) {
            continue;
        }
        // It may have ended meanwhile, or be none of ours to look at.
        let process = process.path();
        for file in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            count += u32::from(is_node(&file.path(), dev));
        }
        let namespace = fs::read_link(process.join("ns/mnt"));
        if namespace.is_ok_and(|namespace| namespaces.insert(namespace)) {
            let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            count += u32::from(is_mounted(&mounts, dev));
        }
    }
    Ok(count)
}

/// Tells whether an open file is this block device, without a word to its file system: a mount that
/// does not answer may have others.
fn is_node(file: &Path, dev: DevNumber) -> bool {
    let Ok(found) = statx(CWD, file, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) else {
        return false;
    };
    FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice
        && (found.stx_rdev_major, found.stx_rdev_minor) == (dev.major, dev.minor)
}

/// Tells whether a device is mounted. proc_pid_mountinfo(5) has: id, parent, major:minor, and so on.
fn is_mounted(mounts: &str, dev: DevNumber) -> bool {
    let dev = dev.to_string();
    mounts.lines().any(|line| line.split(' ').nth(2) == Some(&dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_the_number_of_its_device() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 21 259:3 / /mnt rw shared:1 - ext4 /dev/mapper/a rw\n";
        assert!(is_mounted(mounts, DevNumber { major: 259, minor: 3 }));
        assert!(!is_mounted(mounts, DevNumber { major: 259, minor: 1 }));
    }
}
