//! Settings for LVM where the instance's own are not seen.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use daemon::protocol::Private;
use daemon::{About, Fault};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// LVM does not look at what is mounted below /dev unless it is told to.
const SCAN: &str = "devices {\n    scan = [ \"/dev\", \"/dev/mapper\" ]\n}\n";

/// Puts a copy of the settings for LVM into the tree, as their own place is not seen from everywhere.
pub(super) fn settings_for_lvm(private: &Private) -> Result<PathBuf, Fault> {
    let (from, to) = (private.lvm.join("lvm.conf"), private.dir.join("lvm"));
    let settings = fs::read_to_string(&from).about(from.display())?;
    put_settings(&private.dir, &(settings + SCAN)).about(to.display())?;
    Ok(to)
}

/// Writes them anew. Containers have the tree, and may write there: no link is followed that they have made.
fn put_settings(tree: &Path, settings: &str) -> io::Result<()> {
    const NEW: &str = "lvm.conf.new";
    let directory = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = openat(CWD, tree, directory, Mode::empty())?;
    match mkdirat(&tree, "lvm", Mode::RWXU) {
        Err(Errno::EXIST) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let lvm = openat(&tree, "lvm", directory, Mode::empty())?;
    match unlinkat(&lvm, NEW, AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&lvm, NEW, new, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(settings.as_bytes())?;
    Ok(renameat(&lvm, NEW, &lvm, "lvm.conf")?)
}
