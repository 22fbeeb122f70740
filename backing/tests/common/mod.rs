//! What the tests of this crate share: images on real file systems.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backing::{Attach, Images, block_on};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sim_core::{Backing, Bio, BlkError, BlkResult, BlockDevice, Sector, Sectors};

/// Asks for an existing file, read-write, with 512-byte sectors.
pub(crate) fn ask(path: &Path) -> Attach {
    Attach::as_it_is(path)
}

/// Writes a file whose every sector holds its own number, and returns its path.
pub(crate) fn numbered(dir: &Path, name: &str, sectors: u64) -> PathBuf {
    let path = dir.join(name);
    let bytes: Vec<u8> = (0..sectors).flat_map(sector).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Returns what [`numbered`] writes into a sector.
pub(crate) fn sector(number: u64) -> Vec<u8> {
    (number + 1).to_le_bytes().repeat(64)
}

pub(crate) fn truncate(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Attaches and returns the device.
pub(crate) fn attach(images: &Arc<Images>, ask: &Attach) -> Arc<dyn BlockDevice> {
    let attached = images.attach(ask).unwrap();
    images.by_number(attached.number).unwrap()
}

pub(crate) fn read(device: &dyn BlockDevice, at: u64, sectors: u64) -> Result<Vec<u8>, BlkError> {
    let mut buffer = vec![0x11; Sectors(sectors).bytes() as usize];
    let result = device.try_now(Bio::read(Sector(at), &mut buffer));
    result.expect("a read is ready at once").map(|()| buffer)
}

pub(crate) fn write(device: &dyn BlockDevice, at: u64, data: &[u8]) -> BlkResult {
    device.try_now(Bio::write(Sector(at), data)).expect("a write is ready at once")
}

pub(crate) fn submit(device: &dyn BlockDevice, bio: Bio<'_>) -> BlkResult {
    block_on(device.submit(bio))
}

/// Says that a test cannot run here; where it must (CI is set), fails it.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be skipped: {why}");
    println!("skipped: {why}");
}

/// A tmpfs of a given size, unmounted when dropped.
pub(crate) struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts it, or says why the test is skipped.
    pub(crate) fn new(kib: u64) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={kib}k")).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        match mount("tmpfs", dir.path(), "tmpfs", flags, Some(&*options)) {
            Ok(()) => Some(Tmpfs { dir }),
            Err(error) => {
                skip(&format!("mount a tmpfs: {error}"));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn remount_read_only(&self) {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount_remount(self.dir.path(), flags, "").unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A failed test may have files open there still.
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}
