//! The block node of a loop device, in a directory of its own.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::{NamedTempFile, TempDir};

use super::Place;
use super::common::mounted::skip;

pub(crate) struct Node {
    /// The device as everybody has it, `/dev/loopN`.
    device: PathBuf,
    // In /dev, where nodes work.
    dir: TempDir,
    _image: NamedTempFile,
}

impl Node {
    /// Makes one of `size` bytes, or says why there is none.
    pub(crate) fn new(size: u64) -> Option<Node> {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let mut losetup = Command::new("losetup");
        let output = match losetup.args(["--find", "--show"]).arg(image.path()).output() {
            Ok(output) if output.status.success() => output,
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                return skip(&format!("no loop device: {why}"));
            }
            Err(error) => return skip(&format!("no losetup: {error}")),
        };
        let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let dir = tempfile::tempdir_in("/dev").unwrap();
        Some(Node { device, dir, _image: image })
    }

    /// Returns the node, made anew where a program has put a file in its place.
    pub(crate) fn place(&self) -> Place {
        let path = self.dir.path().join("d");
        let file = OpenOptions::new().read(true).write(true).open(&self.device).unwrap();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_block_device() => return Place { path, file },
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        let number = file.metadata().unwrap().rdev();
        mknodat(CWD, &path, FileType::BlockDevice, Mode::from_bits_retain(0o600), number).unwrap();
        Place { path, file }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Goes at the last close: a test that fails has it open still.
        let detached = Command::new("losetup").arg("--detach").arg(&self.device).status();
        assert!(detached.is_ok_and(|status| status.success()), "{}", self.device.display());
    }
}
