//! Who has block devices open.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use sim_core::DevNumber;

use super::kernel_uses;

/// How often block devices are open in other processes than this one.
pub(super) struct Openers {
    counts: HashMap<DevNumber, u32>,
}

impl Openers {
    /// Looks at all processes, and at what the kernel does itself. A file system that is mounted from a device has
    /// it open once, in however many places and mount namespaces.
    ///
    /// To open one with O_EXCL would tell of a mount at once, but for that moment nobody could mount it.
    pub(super) fn look() -> io::Result<Openers> {
        let mut counts = HashMap::new();
        let (mut namespaces, mut mounted) = (BTreeSet::new(), kernel_uses::file_systems());
        let mut swap = kernel_uses::swap();
        let mut used = kernel_uses::below_loops();
        for process in processes()? {
            // It may have ended meanwhile, or be none of ours to look at.
            let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            for dev in files.filter_map(|file| node(&file.path())) {
                *counts.entry(dev).or_default() += 1;
            }
            if is_new(&process, &mut namespaces) {
                mounted.extend(mounted_in(&process));
                swap.retain(|path| match swapped_to(&process, path) {
                    Some(dev) => {
                        used.push(dev);
                        false
                    }
                    None => true,
                });
            }
        }
        for dev in mounted.into_iter().chain(used) {
            *counts.entry(dev).or_default() += 1;
        }
        Ok(Openers { counts })
    }

    /// Returns how often a device is open.
    pub(super) fn of(&self, dev: DevNumber) -> u32 {
        self.counts.get(&dev).copied().unwrap_or(0) + kernel_uses::above(dev)
    }
}

/// Tells whether a file system is mounted from a device.
pub(super) fn is_mounted(dev: DevNumber) -> io::Result<bool> {
    let mut namespaces = BTreeSet::new();
    let mut is_in =
        |process: &PathBuf| is_new(process, &mut namespaces) && mounted_in(process).contains(&dev);
    Ok(kernel_uses::file_systems().contains(&dev) || processes()?.any(|process| is_in(&process)))
}

/// Lists all processes but this one, by their folders.
fn processes() -> io::Result<impl Iterator<Item = PathBuf>> {
    let is_other = |process: &PathBuf| {
        let pid = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        pid.is_some_and(|pid| pid != std::process::id())
    };
    Ok(fs::read_dir("/proc")?.flatten().map(|process| process.path()).filter(is_other))
}

/// Tells whether nothing of a process's mount namespace was looked at yet.
fn is_new(process: &Path, namespaces: &mut BTreeSet<PathBuf>) -> bool {
    let namespace = fs::read_link(process.join("ns/mnt"));
    namespace.is_ok_and(|namespace| namespaces.insert(namespace))
}

/// Lists what is mounted where a process is.
fn mounted_in(process: &Path) -> Vec<DevNumber> {
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    mounted_devices(&mounts, |name| node(&process.join("root").join(name))).collect()
}

/// Finds the node that is swapped to, where a process is. Of another mount namespace's `/dev`, the kernel says the
/// path from where that is mounted.
fn swapped_to(process: &Path, path: &Path) -> Option<DevNumber> {
    let path = path.strip_prefix("/").ok()?;
    let root = process.join("root");
    node(&root.join(path)).or_else(|| node(&root.join("dev").join(path)))
}

/// Returns the number of the block device that an open file is, without a word to its file system: a
/// mount that does not answer may have others.
fn node(file: &Path) -> Option<DevNumber> {
    let found = statx(CWD, file, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    let is_node = FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice;
    is_node.then_some(DevNumber { major: found.stx_rdev_major, minor: found.stx_rdev_minor })
}

/// Lists what is mounted. proc_pid_mountinfo(5) has: id, parent, major:minor, and so on; behind a hyphen,
/// the type, and the source by a name. A file system that has a number of its own, as btrfs, is known by
/// that name.
fn mounted_devices(
    mounts: &str,
    find: impl Fn(&str) -> Option<DevNumber>,
) -> impl Iterator<Item = DevNumber> {
    mounts.lines().filter_map(move |line| {
        let dev: DevNumber = line.split(' ').nth(2)?.parse().ok()?;
        if dev.major != 0 {
            return Some(dev);
        }
        let source = line.split(" - ").nth(1)?.split(' ').nth(1)?;
        find(source.strip_prefix('/').filter(|source| source.starts_with("dev/"))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_the_number_of_its_device() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 21 259:3 / /mnt rw shared:1 - ext4 /dev/mapper/a rw\n\
                      41 21 0:50 / /mnt rw shared:1 - btrfs /dev/mapper/b rw\n\
                      42 21 0:51 / /tmp rw - tmpfs tmpfs rw\n";
        let find = |name: &str| (name == "dev/mapper/b").then(|| "259:4".parse().unwrap());
        let devices: Vec<_> = mounted_devices(mounts, find).map(|dev| dev.to_string()).collect();
        assert_eq!(devices, ["8:1", "259:3", "259:4"]);
    }
}
