//! Who has files of the mount open: loop devices, and where they are mounted; processes that have
//! inherited them. And which loop devices write to an image.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use block_frontend::FIRST_DISK;

use crate::fault::Fault;

/// A loop device that has a file.
#[derive(Clone, Debug)]
pub struct LoopDevice {
    /// Its node in `/dev`.
    pub node: PathBuf,
    /// Its number, as major:minor.
    pub number: String,
    /// The path by which it knows the file: where that was deleted, or renamed, another one lies there or none.
    pub file: PathBuf,
    minor: u32,
}

impl LoopDevice {
    /// Lists those that the machine has.
    pub fn all() -> Vec<LoopDevice> {
        let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let with_file = devices.filter_map(|device| {
            let name = device.file_name();
            let minor = name.to_str()?.strip_prefix("loop")?.parse().ok()?;
            let file = fs::read(device.path().join("loop/backing_file")).ok()?;
            let file = OsStr::from_bytes(file.strip_suffix(b"\n").unwrap_or(&file)).into();
            let number = fs::read_to_string(device.path().join("dev")).ok()?.trim_end().to_owned();
            Some(LoopDevice { node: Path::new("/dev").join(name), number, file, minor })
        });
        with_file.collect()
    }

    /// Tells whether it lies below the block node of a mapped device, of which the daemon knows who uses it.
    pub fn is_of_node(&self) -> bool {
        self.minor >= FIRST_DISK
    }

    fn is_read_only(&self) -> bool {
        let says = fs::read_to_string(format!("/sys/dev/block/{}/ro", self.number));
        says.is_ok_and(|says| says.trim_end() == "1")
    }

    /// Names it, and where it is mounted.
    fn told(&self, mounts: &str) -> String {
        let node = self.node.display();
        match mounted_at(mounts, &self.number) {
            Some(at) => format!("{node} (mounted at {at})"),
            None => node.to_string(),
        }
    }
}

/// The loop devices of the machine, looked at once: there may be thousands, and hundreds of files to ask about.
pub(crate) struct Loops {
    mounts: String,
    by_file: HashMap<PathBuf, Vec<LoopDevice>>,
}

impl Loops {
    pub(crate) fn find() -> Loops {
        let mut by_file: HashMap<PathBuf, Vec<LoopDevice>> = HashMap::new();
        for device in LoopDevice::all() {
            by_file.entry(device.file.clone()).or_default().push(device);
        }
        Loops { mounts: mounts(), by_file }
    }

    /// Names the loop devices over a file, and where each is mounted.
    pub(crate) fn over(&self, file: &Path) -> Vec<String> {
        let devices = self.by_file.get(file).into_iter().flatten();
        devices.map(|device| device.told(&self.mounts)).collect()
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// How long it may take to look at an image, and at the files of loop devices.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refuses an image that a loop device of the machine writes to: the machine keeps in memory what it has read and will
/// write, so each of the two would spoil what the other has written.
///
/// # Errors
/// Where there is such a loop device.
pub fn refuse_looped(image: &Path, way_out: &str) -> Result<(), Fault> {
    let mut loops = LoopDevice::all();
    loops.retain(|device| !device.is_of_node() && !device.is_read_only());
    if loops.is_empty() {
        return Ok(());
    }
    let (told, wait) = mpsc::channel();
    let path = image.to_owned();
    // Even to look at a file may hang, on a network or in another daemon: who opens it says so.
    std::thread::spawn(move || told.send(first_over(&path, loops)));
    let Some(device) = wait.recv_timeout(PATIENCE).unwrap_or_default() else { return Ok(()) };
    let (name, node) = (device.told(&mounts()), device.node.display());
    let first = if name == node.to_string() { "" } else { "`umount` it and " };
    let why = format!(
        "is in use by the machine's {name}, which may write to it: {first}`losetup -d {node}` ends that, {way_out}"
    );
    Err(Fault::new(image.display(), why))
}

/// Finds the first of some loop devices that is over a file, whatever path it knows it by.
fn first_over(image: &Path, loops: Vec<LoopDevice>) -> Option<LoopDevice> {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let image = identity(image)?;
    // Of a file that was deleted no path is left, though a link to it may be.
    let file = |device: &LoopDevice| identity(&device.file).or_else(|| inode_below(&device.node));
    loops.into_iter().find(|device| file(device) == Some(image))
}

/// Asks which file a loop device has open; nothing where there is no program that tells.
fn inode_below(node: &Path) -> Option<(u64, u64)> {
    let mut command = Command::new("losetup");
    command.args(["--list", "--noheadings", "--output", "BACK-MAJ:MIN,BACK-INO"]);
    let output = command.arg(node).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.split_ascii_whitespace();
    let ((major, minor), inode) = (words.next()?.split_once(':')?, words.next()?);
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some((device, inode.parse().ok()?))
}

/// Finds processes that have files below a folder open, of those that may be looked at: one whose opener has
/// ended is another's, as a program that goes to the background leaves it to its child.
pub(crate) fn holders_below(folder: &Path) -> HashMap<PathBuf, u32> {
    let mut holders = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let files = handles.filter_map(|handle| fs::read_link(handle.path()).ok());
        for file in files.filter(|file| file.starts_with(folder)) {
            holders.entry(file).or_insert(pid);
        }
    }
    holders
}

/// Finds the first place where the block device with this number is mounted.
fn mounted_at<'a>(mounts: &'a str, number: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        // As proc_pid_mountinfo(5) has them: id, parent, major:minor, root, place.
        let mut words = line.split(' ').skip(2);
        (words.next()? == number).then(|| words.nth(1))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_the_number_of_its_device() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 21 7:3 / /mnt/data rw,relatime shared:1 - ext4 /dev/loop3 rw\n";
        assert_eq!(mounted_at(mounts, "7:3"), Some("/mnt/data"));
        assert_eq!(mounted_at(mounts, "7:4"), None);
    }
}
