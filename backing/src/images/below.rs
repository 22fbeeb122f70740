//! What lies below block devices and FUSE file systems, by what sysfs and proc say: nothing of it is
//! opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mounts::Connection;

/// Lists the files that the loop devices below a block device lie in, and what the program of a
/// network block device has open.
pub(super) fn device_files(major: u32, minor: u32) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut next = vec![PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))];
    while let Some(device) = next.pop() {
        // A partition has its disk above it.
        for disk in [device.clone(), device.join("..")] {
            if let Ok(file) = std::fs::read(disk.join("loop/backing_file")) {
                let file = file.strip_suffix(b"\n").unwrap_or(&file);
                files.push(PathBuf::from(OsStr::from_bytes(file)));
            }
            if let Ok(program) = std::fs::read_to_string(disk.join("pid")) {
                files.extend(open_files(&Path::new("/proc").join(program.trim())));
            }
        }
        let below = std::fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        next.extend(below.map(|entry| entry.path()));
    }
    files
}

/// Lists what the programs have open that serve a FUSE file system. Those of other users are not
/// shown to an ordinary one, and can have none of their files open either.
pub(super) fn served_files(connection: &Connection) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_bytes().iter().all(u8::is_ascii_digit)
    });
    let paths = processes.map(|entry| entry.path());
    paths
        .filter(|process| serves(process, connection))
        .flat_map(|process| open_files(&process))
        .collect()
}

/// Tells whether a process serves a connection. Linux before 6.10 does not say which a process has;
/// there one will do that has any, and was given a path that ends like the mount's.
fn serves(process: &Path, connection: &Connection) -> bool {
    let Ok(handles) = std::fs::read_dir(process.join("fd")) else { return false };
    let fuse = handles.flatten().filter(|handle| {
        std::fs::read_link(handle.path()).is_ok_and(|file| file == Path::new("/dev/fuse"))
    });
    for handle in fuse {
        let about = process.join("fdinfo").join(handle.file_name());
        let about = std::fs::read_to_string(about).unwrap_or_default();
        let number = about.lines().find_map(|line| line.strip_prefix("fuse_connection:"));
        let so = match number {
            Some(number) => number.trim().parse() == Ok(connection.number),
            None => names(process, &connection.at),
        };
        if so {
            return true;
        }
    }
    false
}

/// Tells whether a process was given a path that ends like this one.
fn names(process: &Path, path: &Path) -> bool {
    let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let name = path.file_name();
    words
        .split(|byte| *byte == 0)
        .any(|word| Path::new(OsStr::from_bytes(word)).file_name() == name)
}

/// Lists the files that a process has open.
fn open_files(process: &Path) -> Vec<PathBuf> {
    let handles = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    handles
        .filter_map(|handle| std::fs::read_link(handle.path()).ok())
        .filter(|file| file.is_absolute())
        .collect()
}
