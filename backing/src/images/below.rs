//! What lies below block devices and FUSE file systems, by what sysfs and proc say: nothing of it is
//! opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mounts::Connection;

/// What lies below a block device.
#[derive(Default)]
pub(super) struct Below {
    /// The files that loop devices lie in, and what the programs of network block devices and of ublk disks
    /// have open.
    pub(super) files: Vec<PathBuf>,
    /// A ublk disk that this very process serves, by the kernel's name.
    pub(super) served_here: Option<String>,
}

/// Looks at what lies below a block device.
pub(super) fn below(major: u32, minor: u32) -> Below {
    let mut files = Vec::new();
    let mut served_here = None;
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
            if let Some(number) = ublk_number(&disk) {
                let name = format!("ublkc{number}");
                match serves_disk(Path::new("/proc/self"), &name) {
                    true => served_here = Some(format!("ublkb{number}")),
                    false => {
                        let servers = processes().filter(|process| serves_disk(process, &name));
                        files.extend(servers.flat_map(|process| open_files(&process)));
                    }
                }
            }
        }
        let below = std::fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        next.extend(below.map(|entry| entry.path()));
    }
    Below { files, served_here }
}

/// Returns `N` where a folder of sysfs is that of `ublkbN`.
fn ublk_number(device: &Path) -> Option<u32> {
    let real = device.canonicalize().ok()?;
    real.file_name()?.to_str()?.strip_prefix("ublkb")?.parse().ok()
}

/// Tells whether a process has a disk's character device open, which its server alone can: under that name,
/// or one of dmsim's that ends so and is deleted. No file is asked itself, as it may not answer.
fn serves_disk(process: &Path, name: &str) -> bool {
    open_files(process).iter().any(|file| {
        let file = file.file_name().map(OsStr::as_bytes).unwrap_or_default();
        let file = file.strip_suffix(b" (deleted)").unwrap_or(file);
        let before = file.strip_suffix(name.as_bytes());
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"-"))
    })
}

/// Lists what the programs have open that serve a FUSE file system. Those of other users are not
/// shown to an ordinary one, and can have none of their files open either.
pub(super) fn served_files(connection: &Connection) -> Vec<PathBuf> {
    processes()
        .filter(|process| serves(process, connection))
        .flat_map(|process| open_files(&process))
        .collect()
}

/// Lists the folders of all processes.
fn processes() -> impl Iterator<Item = PathBuf> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_bytes().iter().all(u8::is_ascii_digit)
    });
    processes.map(|entry| entry.path())
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::File;

    #[test]
    fn a_server_is_known_by_the_name_of_its_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".dmsim-1-2-ublkc7");
        let file = File::create(&path).unwrap();
        let process = Path::new("/proc/self");
        assert!(serves_disk(process, "ublkc7"));
        std::fs::remove_file(&path).unwrap();
        assert!(serves_disk(process, "ublkc7"), "it is deleted");
        assert!(!serves_disk(process, "ublkc77") && !serves_disk(process, "blkc7"));
        drop(file);
        assert!(!serves_disk(process, "ublkc7"));
    }
}
