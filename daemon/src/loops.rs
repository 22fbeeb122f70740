//! Who has files of the mount open: loop devices, and where they are mounted; processes that have
//! inherited them.

use std::fs;
use std::path::Path;

/// Names the loop devices over a file, and where each is mounted.
pub(crate) fn loops_over(file: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut loops = Vec::new();
    for device in devices {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        if !backing.is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == file) {
            continue;
        }
        let number = fs::read_to_string(device.path().join("dev")).unwrap_or_default();
        let name = device.file_name();
        let name = name.to_string_lossy();
        loops.push(match mounted_at(&mounts, number.trim_end()) {
            Some(at) => format!("/dev/{name} (mounted at {at})"),
            None => format!("/dev/{name}"),
        });
    }
    loops
}

/// Finds a process that has a file open, of those that may be looked at: one whose opener has ended
/// is another's, as a program that goes to the background leaves it to its child.
pub(crate) fn holder_of(file: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        handles.filter_map(|handle| fs::read_link(handle.path()).ok()).any(|open| open == file)
    })
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
