//! What of an instance's devices is mounted, and where, as the mount table has it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use daemon::LoopDevice;

/// A file system on a device, mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The device's name, as the kernel has it.
    pub(crate) device: String,
    /// The directory.
    pub(crate) at: PathBuf,
    pub(super) way: Way,
}

/// How a file system came to be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the kernel, over a loop device.
    Loop,
    /// By a program, which has the device's file open.
    Fuse,
}

/// A loop device over a device's file.
struct Loop {
    /// Its number, as major:minor.
    number: String,
    node: PathBuf,
    device: String,
}

/// Lists what is mounted of the devices that a folder shows, in the order in which that was done.
pub(crate) fn places(mapper: &Path) -> Vec<Place> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mapper = Mapper::new(mapper);
    let loops = mapper.loops();
    table.split(|byte| *byte == b'\n').filter_map(|line| mapper.place(line, &loops)).collect()
}

/// Returns a loop device of the machine over a device's file, which is not that of its block node.
pub(super) fn loop_over(mapper: &Path, device: &str) -> Option<PathBuf> {
    let mapper = Mapper::new(mapper);
    let shows = |it: &LoopDevice| mapper.device(&it.file).is_some_and(|shown| shown == device);
    let found = LoopDevice::all().into_iter().find(|it| !it.is_of_node() && shows(it));
    found.map(|it| it.node)
}

/// Tells whether something is mounted on a directory, by its path without links.
pub(super) fn is_mounted(at: &Path) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|byte| *byte == b'\n').any(|line| field(line, 4).is_some_and(|place| place == at))
}

/// The folder in which devices are shown, by each of the paths that it may be named with.
struct Mapper([PathBuf; 2]);

impl Mapper {
    fn new(mapper: &Path) -> Mapper {
        let real = mapper.canonicalize().unwrap_or_else(|_| mapper.to_owned());
        Mapper([mapper.to_owned(), real])
    }

    /// Names the device that a file shows.
    fn device(&self, file: &Path) -> Option<String> {
        let is_ours = self.0.iter().any(|mapper| file.parent() == Some(mapper));
        is_ours.then(|| file.file_name()?.to_str().map(str::to_owned)).flatten()
    }

    fn loops(&self) -> Vec<Loop> {
        let of_ours = |LoopDevice { node, number, file, .. }: LoopDevice| {
            self.device(&file).map(|device| Loop { number, node, device })
        };
        LoopDevice::all().into_iter().filter_map(of_ours).collect()
    }

    /// Reads a line as proc_pid_mountinfo(5) describes it: id, parent, major:minor, root, place, options;
    /// behind a hyphen, type and source.
    fn place(&self, line: &[u8], loops: &[Loop]) -> Option<Place> {
        let at = field(line, 4)?;
        let number = field(line, 2)?;
        let hyphen = line.windows(3).position(|word| word == b" - ")?;
        let (kind, source) = (field(&line[hyphen + 3..], 0)?, field(&line[hyphen + 3..], 1)?);
        // Btrfs has numbers of its own: there, the source tells.
        let on = |it: &&Loop| Path::new(&it.number) == number || it.node == source;
        if let Some(on) = loops.iter().find(on) {
            return Some(Place { device: on.device.clone(), at, way: Way::Loop });
        }
        let is_fuse = kind.as_os_str().as_bytes().starts_with(b"fuse");
        let device = self.device(&source).filter(|_| is_fuse)?;
        Some(Place { device, at, way: Way::Fuse })
    }
}

/// Returns a word of a line of the table, in which the kernel writes spaces, tabs, ends of lines and
/// backslashes as `\` and three octal digits.
fn field(line: &[u8], number: usize) -> Option<PathBuf> {
    let mut left = line.split(|byte| *byte == b' ').nth(number)?;
    let mut plain = Vec::with_capacity(left.len());
    while let [byte, rest @ ..] = left {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit);
        left = match rest {
            [a, b, c, rest @ ..] if *byte == b'\\' && [a, b, c].into_iter().all(octal) => {
                let value =
                    [a, b, c].iter().fold(0u32, |sum, digit| sum * 8 + u32::from(**digit - b'0'));
                plain.push(value as u8);
                rest
            }
            rest => {
                plain.push(*byte);
                rest
            }
        };
    }
    Some(OsString::from_vec(plain).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: &str) -> Option<(String, String, Way)> {
        let mapper = Mapper::new(Path::new("/run/dmsim/mapper"));
        let loops = [Loop {
            number: "7:3".to_owned(),
            node: PathBuf::from("/dev/loop3"),
            device: "looped".to_owned(),
        }];
        let Place { device, at, way } = mapper.place(line.as_bytes(), &loops)?;
        Some((device, at.display().to_string(), way))
    }

    #[test]
    fn mounts_are_found_by_loop_device_and_by_source() {
        let found = |device: &str, at: &str, way| Some((device.to_owned(), at.to_owned(), way));
        let check = |line: &str, expected| assert_eq!(place(line), expected, "{line}");
        check(
            "40 21 7:3 / /mnt rw shared:1 - ext4 /dev/loop3 rw",
            found("looped", "/mnt", Way::Loop),
        );
        check("40 21 0:9 / /mnt rw - btrfs /dev/loop3 rw", found("looped", "/mnt", Way::Loop));
        check("40 21 7:30 / /mnt rw - ext4 /dev/loop30 rw", None);
        check(
            r"41 21 0:39 / /a\040b rw,nosuid - fuse.ext4 /run/dmsim/mapper/with\134x20space rw",
            found(r"with\x20space", "/a b", Way::Fuse),
        );
        check("42 21 0:39 / /mnt rw - fuse /run/dmsim/mapper/d rw", found("d", "/mnt", Way::Fuse));
        // Neither another instance's, nor what only bears the name.
        check("42 21 0:39 / /mnt rw - fuse /run/other/mapper/d rw", None);
        check("42 21 0:39 / /mnt rw - tmpfs /run/dmsim/mapper/d rw", None);
        check("21 1 0:40 / /run/dmsim/mapper rw - fuse.dmsim dmsim rw", None);
        check("", None);
    }
}
