//! What is the host's: copied once, and looked at again where it may change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, major, minor};
use sim_core::{DevNumber, LOOP_MAJOR, MAX_TABLE_LEN};

use super::place::{Owner, Place, Special};
use crate::FIRST_DISK;

/// What is mounted in a `/dev`: an empty folder each, also where it is a plain folder of the host.
const MOUNT_POINTS: [&str; 4] = ["pts", "shm", "mqueue", "hugepages"];

/// How many loop devices have nodes and links after the last that is in use, there or not: nobody
/// tells us of a new one. They are few, as whoever opens such a node (LVM2 opens all) makes the
/// kernel make the device.
const SPARE_LOOPS: u32 = 16;

/// The folder where the kernel has all block devices by their numbers.
const BY_NUMBER: &str = "/sys/dev/block";

/// The folder where the kernel has all disks by their names.
const BY_NAME: &str = "/sys/block";

/// The major number of partitions, and the name that it has in `/proc/devices`.
const PARTITIONS: (&str, &str) = ("259", "blkext");

/// The block devices of the host that are shown.
#[derive(Debug)]
pub(super) struct Host {
    devices: BTreeMap<DevNumber, Device>,
    /// What the links in `/sys/dev/block` say of disks of instances, and of their partitions: there may be a
    /// thousand, and to find out takes a read each.
    ours: BTreeMap<DevNumber, PathBuf>,
    /// Who owns disks.
    disk_group: Owner,
}

/// A block device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// What its link in `/sys/dev/block` says.
    pub(super) by_number: PathBuf,
    /// What its link in `/sys/block` says, where it is a disk.
    pub(super) by_name: Option<PathBuf>,
    /// Its folder.
    pub(super) real: PathBuf,
}

impl Host {
    pub(super) fn new() -> Host {
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let disk_group = (0, group(&groups, "disk").unwrap_or(0));
        Host { devices: BTreeMap::new(), ours: BTreeMap::new(), disk_group }
    }

    /// Root, and the group of disks.
    pub(super) fn disk_group(&self) -> Owner {
        self.disk_group
    }

    pub(super) fn device(&self, dev: DevNumber) -> Option<&Device> {
        self.devices.get(&dev)
    }

    /// Shows what is new, and takes away what has gone.
    pub(super) fn refresh(&mut self, place: &Place) -> io::Result<()> {
        let (now, ours) = there(&self.devices, &self.ours)?;
        self.ours = ours;
        let before: BTreeSet<_> = self.devices.keys().copied().collect();
        for (dev, device) in &now {
            if self.devices.get(dev) != Some(device) {
                self.show(place, *dev, device)?;
            }
        }
        for dev in before.iter().filter(|dev| !now.contains_key(dev)) {
            if let Some(device) = self.devices.get(dev) {
                self.hide(place, *dev, device)?;
            }
        }
        let loops = now.iter().filter(|(dev, _)| dev.major == LOOP_MAJOR);
        let used = loops.filter(|(_, device)| device.real.join("loop").exists());
        let end = used.map(|(dev, _)| dev.minor + 1).max().unwrap_or(0) + SPARE_LOOPS;
        let missing = |minor: &u32| {
            let dev = DevNumber { major: LOOP_MAJOR, minor: *minor };
            !now.contains_key(&dev)
        };
        for minor in (0..end).filter(missing) {
            self.announce(place, minor)?;
        }
        self.devices = now;
        Ok(())
    }

    /// Makes again what somebody has taken away or changed; the links of those that have a shadow lead there.
    pub(super) fn mend(
        &mut self,
        place: &Place,
        has_shadow: impl Fn(DevNumber) -> bool,
    ) -> io::Result<()> {
        self.refresh(place)?;
        for (dev, device) in &self.devices {
            match has_shadow(*dev) {
                true => self.show_node(place, *dev, device)?,
                false => self.show(place, *dev, device)?,
            }
        }
        Ok(())
    }

    fn show(&self, place: &Place, dev: DevNumber, device: &Device) -> io::Result<()> {
        place.link(&by_number(dev), &device.by_number)?;
        if let (Some(name), Some(target)) = (device.real.file_name(), &device.by_name) {
            place.link(&Path::new("sys-block").join(name), target)?;
        }
        self.show_node(place, dev, device)
    }

    fn show_node(&self, place: &Place, dev: DevNumber, device: &Device) -> io::Result<()> {
        let Some(name) = device.real.file_name() else { return Ok(()) };
        place.node(&Path::new("dev").join(name), disk(dev), self.disk_group)
    }

    fn hide(&self, place: &Place, dev: DevNumber, device: &Device) -> io::Result<()> {
        place.remove(&by_number(dev))?;
        let Some(name) = device.real.file_name() else { return Ok(()) };
        if device.by_name.is_some() {
            place.remove(&Path::new("sys-block").join(name))?;
        }
        place.remove_node(&Path::new("dev").join(name), disk(dev))
    }

    /// Makes what a loop device needs that is not there yet.
    fn announce(&self, place: &Place, minor: u32) -> io::Result<()> {
        let dev = DevNumber { major: LOOP_MAJOR, minor };
        let name = format!("loop{minor}");
        let target = format!("../../devices/virtual/block/{name}");
        place.link(&by_number(dev), Path::new(&target))?;
        place.node(&Path::new("dev").join(name), disk(dev), self.disk_group)
    }
}

fn by_number(dev: DevNumber) -> PathBuf {
    Path::new("sys-dev-block").join(dev.to_string())
}

fn disk(dev: DevNumber) -> Special {
    Special { kind: FileType::BlockDevice, dev, mode: 0o660 }
}

/// The block devices that the host has, but ours and mapped ones; and ours. Those that are as they were
/// known are looked at no further.
#[allow(clippy::type_complexity, reason = "they are what the two arguments are")]
fn there(
    known: &BTreeMap<DevNumber, Device>,
    known_ours: &BTreeMap<DevNumber, PathBuf>,
) -> io::Result<(BTreeMap<DevNumber, Device>, BTreeMap<DevNumber, PathBuf>)> {
    let (mut devices, mut ours) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(BY_NUMBER)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<DevNumber>().ok());
        let (Some(dev), Ok(by_number)) = (number, fs::read_link(&path)) else { continue };
        let Some(name) = by_number.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(device) = known.get(&dev).filter(|device| device.by_number == by_number) {
            devices.insert(dev, device.clone());
            continue;
        }
        if known_ours.get(&dev) == Some(&by_number) || is_ours(name) {
            ours.insert(dev, by_number);
            continue;
        }
        if is_mapped(name) {
            continue;
        }
        // It may have gone meanwhile.
        let Ok(real) = path.canonicalize() else { continue };
        let by_name = fs::read_link(Path::new(BY_NAME).join(name)).ok();
        devices.insert(dev, Device { by_number, by_name, real });
    }
    Ok((devices, ours))
}

/// Refuses a folder that would be copied into itself.
pub(super) fn refuse_place_in_dev(dir: &Path) -> io::Result<()> {
    let is_in_dev = dir.canonicalize()?.starts_with("/dev");
    match is_in_dev && fs::metadata(dir)?.dev() == fs::metadata("/dev")?.dev() {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "the tree would lie in /dev")),
        false => Ok(()),
    }
}

/// Copies a folder of devices: nodes, links and folders, of what is mounted in it only the place.
pub(super) fn copy_dev(place: &Place, from: &Path, to: &Path) -> io::Result<()> {
    let folder = fs::metadata(from)?;
    make_folder(place, to, &folder)?;
    copy_entries(place, from, to, folder.dev(), &MOUNT_POINTS)
}

fn copy_entries(
    place: &Place,
    from: &Path,
    to: &Path,
    device: u64,
    kept_empty: &[&str],
) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let name_text = name.to_string_lossy();
        // Something may go while it is looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        let (path, to) = (entry.path(), to.join(&name));
        // What begins with a dot is of somebody who makes nodes for a moment, as we do.
        if is_ours(&name_text) || is_mapped(&name_text) || name_text.starts_with('.') {
            continue;
        }
        if let Some(kind) = kind(&metadata) {
            let mode = metadata.mode() & 0o7777;
            let node = Special { kind, dev: number(&metadata), mode };
            place.node(&to, node, (metadata.uid(), metadata.gid()))?;
        } else if metadata.is_symlink() {
            let Ok(target) = fs::read_link(&path) else { continue };
            let last = target.file_name().unwrap_or_default().to_string_lossy();
            if !is_mapped(&last) && !is_ours(&last) {
                place.link(&to, &target)?;
            }
        } else if metadata.is_dir() && !(from == Path::new("/dev") && name == "mapper") {
            make_folder(place, &to, &metadata)?;
            if metadata.dev() == device && !kept_empty.contains(&&*name_text) {
                copy_entries(place, &path, &to, device, &[])?;
            }
        }
    }
    Ok(())
}

fn make_folder(place: &Place, path: &Path, like: &fs::Metadata) -> io::Result<()> {
    place.folder_of(path, (like.uid(), like.gid()), like.mode() & 0o7777)
}

/// The kind of a device node.
fn kind(metadata: &fs::Metadata) -> Option<FileType> {
    let file_type = metadata.file_type();
    match (file_type.is_block_device(), file_type.is_char_device()) {
        (true, _) => Some(FileType::BlockDevice),
        (false, true) => Some(FileType::CharacterDevice),
        (false, false) => None,
    }
}

/// The number that a device node has.
fn number(metadata: &fs::Metadata) -> DevNumber {
    DevNumber { major: major(metadata.rdev()), minor: minor(metadata.rdev()) }
}

/// Writes `/proc/devices` anew: partitions are mapped devices. They cannot be loop devices instead,
/// as LVM2 then takes no loop device for a physical volume.
///
/// A device-mapper of the host's own loses its line, as there can be one alone.
pub(super) fn devices(text: &str) -> String {
    let mut out = String::new();
    let mut block = false;
    let ours = format!("{:>3} device-mapper\n", PARTITIONS.0);
    for line in text.lines() {
        block |= line.starts_with("Block devices");
        let mut words = line.split_whitespace();
        match (block, words.next(), words.next()) {
            (true, Some(_), Some("device-mapper")) => continue,
            (true, Some(major), Some(name)) if (major, name) == PARTITIONS => {
                out.push_str(&ours);
            }
            (true | false, _, _) => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    // Block devices are last.
    if !out.contains(&ours) {
        out.push_str(&ours);
    }
    out
}

/// Tells whether this is a disk that an instance has made, or its partition.
fn is_ours(name: &str) -> bool {
    let ublk = name.strip_prefix("ublkb").or_else(|| name.strip_prefix("ublkc"));
    if let Some(number) = ublk.and_then(|rest| rest.split('p').next()) {
        let size = fs::read_to_string(format!("/sys/block/ublkb{number}/size"));
        // No other program's is as long.
        return size.is_ok_and(|size| size.trim().parse() == Ok(MAX_TABLE_LEN.0));
    }
    let number = name.strip_prefix("loop").and_then(|rest| rest.split('p').next());
    number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| number >= FIRST_DISK)
}

/// Tells whether this is how the kernel calls a mapped device.
fn is_mapped(name: &str) -> bool {
    let number = name.strip_prefix("dm-");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Finds a group's number in `/etc/group`.
fn group(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split(':');
        (words.next() == Some(name)).then(|| words.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_mapped_devices_and_the_hosts_own_are_not() {
        let text = "Character devices:\n  1 mem\n259 blkext\n\nBlock devices:\n  7 loop\n\
                    253 device-mapper\n259 blkext\n";
        let expected = "Character devices:\n  1 mem\n259 blkext\n\nBlock devices:\n  7 loop\n\
                        259 device-mapper\n";
        assert_eq!(devices(text), expected);
        let without = "Block devices:\n  7 loop\n";
        assert_eq!(devices(without), "Block devices:\n  7 loop\n259 device-mapper\n");
    }

    #[test]
    fn names_tell_whose_a_device_is() {
        assert!(is_ours("loop65536") && is_ours("loop70000p1"));
        assert!(!is_ours("loop0") && !is_ours("loop0p4096") && !is_ours("loop-control"));
        assert!(is_mapped("dm-0") && is_mapped("dm-12"));
        assert!(!is_mapped("dm-") && !is_mapped("dm-uuid") && !is_mapped("sda"));
    }

    #[test]
    fn a_group_is_found_by_its_name() {
        let text = "root:x:0:\nadisk:x:7:\ndisk:x:6:user\n";
        assert_eq!(group(text, "disk"), Some(6));
        assert_eq!(group(text, "none"), None);
    }
}
