//! Who has files of the mount open: loop devices, and where they are mounted; processes that have
//! inherited them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

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
