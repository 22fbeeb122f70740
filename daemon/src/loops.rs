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

/// The loop devices of the machine, looked at once: there may be thousands, and hundreds of files to ask about.
pub(crate) struct Loops {
    mounts: String,
    /// By the file that each is over: its name and its number.
    by_file: HashMap<PathBuf, Vec<(String, String)>>,
}

impl Loops {
    pub(crate) fn find() -> Loops {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut by_file: HashMap<PathBuf, Vec<(String, String)>> = HashMap::new();
        for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let Ok(backing) = fs::read_to_string(device.path().join("loop/backing_file")) else {
                continue;
            };
            let number = fs::read_to_string(device.path().join("dev")).unwrap_or_default();
            let name = device.file_name().to_string_lossy().into_owned();
            let file = PathBuf::from(backing.trim_end_matches('\n'));
            by_file.entry(file).or_default().push((name, number.trim_end().to_owned()));
        }
        Loops { mounts, by_file }
    }

    /// Names the loop devices over a file, and where each is mounted.
    pub(crate) fn over(&self, file: &Path) -> Vec<String> {
        let told = |(name, number): &(String, String)| match mounted_at(&self.mounts, number) {
            Some(at) => format!("/dev/{name} (mounted at {at})"),
            None => format!("/dev/{name}"),
        };
        self.by_file.get(file).into_iter().flatten().map(told).collect()
    }
}

/// How long it may take to look at an image, and at the files of loop devices.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refuses an image that a loop device of the machine writes to: the machine keeps in memory what it has read and will
/// write, so each of the two would spoil what the other has written.
///
/// # Errors
/// Where there is such a loop device.
pub fn refuse_looped(image: &Path, way_out: &str) -> Result<(), Fault> {
    let loops = writing_loops();
    if loops.is_empty() {
        return Ok(());
    }
    let (told, wait) = mpsc::channel();
    let path = image.to_owned();
    // Even to look at a file may hang, on a network or in another daemon: who opens it says so.
    std::thread::spawn(move || told.send(writers_of(&path, &loops)));
    let writers = wait.recv_timeout(PATIENCE).unwrap_or_default();
    let Some(name) = writers.into_iter().next() else { return Ok(()) };
    let node = name.split(' ').next().unwrap_or_default().to_owned();
    let first = if name == node { String::new() } else { "`umount` it and ".to_owned() };
    let why = format!(
        "is in use by the machine's {name}, which may write to it: {first}`losetup -d {node}` ends that, {way_out}"
    );
    Err(Fault::new(image.display(), why))
}

/// A loop device of the machine that may write to its file.
struct Writing {
    node: PathBuf,
    number: String,
    /// The path by which it knows the file.
    file: PathBuf,
}

/// Lists those; the disks of nodes are none.
fn writing_loops() -> Vec<Writing> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let writing = devices.filter_map(|device| {
        let name = device.file_name();
        let minor: u32 = name.to_str()?.strip_prefix("loop")?.parse().ok()?;
        let text = |name: &str| fs::read_to_string(device.path().join(name)).unwrap_or_default();
        let file = fs::read(device.path().join("loop/backing_file")).ok()?;
        if minor >= FIRST_DISK || text("ro").trim_end() == "1" {
            return None;
        }
        let file = PathBuf::from(OsStr::from_bytes(file.strip_suffix(b"\n").unwrap_or(&file)));
        let number = text("dev").trim_end().to_owned();
        Some(Writing { node: Path::new("/dev").join(&name), number, file })
    });
    writing.collect()
}

/// Names the loop devices that may write to a file, whatever path they know it by, and where each is mounted.
fn writers_of(image: &Path, loops: &[Writing]) -> Vec<String> {
    let Ok(image) = image.metadata() else { return Vec::new() };
    let image = (image.dev(), image.ino());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_over = |writing: &&Writing| {
        // Of a file that was deleted no path is left, though a link to it may be.
        let file = writing.file.metadata().ok().map(|file| (file.dev(), file.ino()));
        file.or_else(|| backing_inode(&writing.node)) == Some(image)
    };
    let told = |Writing { node, number, .. }: &Writing| match mounted_at(&mounts, number) {
        Some(at) => format!("{} (mounted at {at})", node.display()),
        None => node.display().to_string(),
    };
    loops.iter().filter(is_over).map(told).collect()
}

/// Asks which file a loop device has open; nothing where there is no program that tells.
fn backing_inode(node: &Path) -> Option<(u64, u64)> {
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
