//! What the machine has to mount with, and what this user may do.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where root's programs are, which an ordinary user's path may lack.
const ROOTS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Finds a program.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ROOTS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Tells whether this is root, if only of a user namespace.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Writes this user's numbers into options.
pub(super) fn with_numbers(options: &str) -> String {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    options.replace("UID", &user.to_string()).replace("GID", &group.to_string())
}

/// Tells whether this is root of the machine, and has loop devices. Root of a user namespace may not mount them.
pub(super) fn may_loop() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_root() && is_whole && Path::new("/dev/loop-control").exists()
}

/// Tells whether `mount -t` can mount a file system of this type: by the kernel, or a program that it runs.
pub(super) fn mounts(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_built_in = known.lines().any(|line| line.strip_prefix('\t') == Some(kind));
    is_built_in || program(&format!("mount.{kind}")).is_some() || is_module(kind)
}

fn is_module(kind: &str) -> bool {
    let Some(modprobe) = program("modprobe") else { return false };
    let mut command = Command::new(modprobe);
    command.args(["-n", "-q"]).arg(format!("fs-{kind}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns the program that unmounts for an ordinary user.
pub(super) fn fusermount() -> Option<PathBuf> {
    ["fusermount3", "fusermount"].into_iter().find_map(program)
}

/// Says why no program could serve a file system by FUSE.
pub(super) fn refuse_without_fuse() -> Result<(), String> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        return Err(format!("/dev/fuse: {error}: {}", daemon::NO_FUSE));
    }
    match is_root() || fusermount().is_some() {
        true => Ok(()),
        false => Err(daemon::NO_FUSERMOUNT.to_owned()),
    }
}
