//! A block device node as an image.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use backing::{Attach, AttachError, Images, block_on};
use common::{ask, attach, numbered, sector, skip, submit};
use sim_core::{Access, Backing, Bio, BlkError, BlkResult, BlockDevice, Errno, Sector, Sectors};

/// Reads; whoever asks is not the one who waits for the disk.
fn read(device: &dyn BlockDevice, at: u64, sectors: u64) -> Result<Vec<u8>, BlkError> {
    let mut buffer = vec![0x11; Sectors(sectors).bytes() as usize];
    assert!(device.try_now(Bio::read(Sector(at), &mut buffer)).is_err(), "it may wait for us");
    let result = block_on(device.submit(Bio::read(Sector(at), &mut buffer)));
    result.map(|()| buffer)
}

fn write(device: &dyn BlockDevice, at: u64, data: &[u8]) -> BlkResult {
    assert!(device.try_now(Bio::write(Sector(at), data)).is_err(), "it may wait for us");
    block_on(device.submit(Bio::write(Sector(at), data)))
}

/// A loop device of the kernel's, detached when dropped.
struct Loop {
    node: String,
}

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        match made {
            Ok(made) if made.status.success() => {
                Some(Loop { node: String::from_utf8(made.stdout).unwrap().trim().to_owned() })
            }
            Ok(made) => {
                skip(&format!("losetup: {}", String::from_utf8_lossy(&made.stderr).trim()));
                None
            }
            Err(error) => {
                skip(&format!("losetup: {error}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
    }
}

#[test]
fn a_block_device_node_is_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 2048);
    let Some(kernel) = Loop::over(&path) else { return };
    let images = Images::new();
    let node = ask(Path::new(&kernel.node));
    // Neither a table nor an attach takes it unasked.
    let Err(refused) = block_on(images.look_up(&kernel.node, "/")) else { panic!("it is there") };
    assert_eq!(refused.errno, Errno::ACCES);
    let hint = format!("`dmsim attach --host-device {}`", kernel.node);
    assert!(refused.to_string().ends_with(&hint), "{refused}");
    assert!(matches!(images.attach(&node), Err(AttachError::HostDevice { .. })));
    let node = Attach { host_device: true, ..node };
    // Nobody else has it meanwhile, whichever way.
    let held = File::options().read(true).custom_flags(libc::O_EXCL).open(&kernel.node).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let told = images.attach(&Attach { access, ..node.clone() });
        assert!(matches!(told, Err(AttachError::HostDeviceBusy { .. })), "{told:?}");
    }
    drop(held);
    let device = attach(&images, &node);
    let other = File::options().read(true).custom_flags(libc::O_EXCL).open(&kernel.node);
    assert_eq!(other.unwrap_err().raw_os_error(), Some(libc::EBUSY));
    assert!(images.list()[0].host_device);
    assert_eq!(device.size(), Sectors(2048));
    for at in [0, 100, 2047] {
        assert_eq!(read(&*device, at, 1).unwrap(), sector(at));
        assert_eq!(write(&*device, at, &[6; 512]), Ok(()));
        assert_eq!(read(&*device, at, 1).unwrap(), [6; 512]);
    }
    assert_eq!(read(&*device, 2048, 1), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::write_zeroes(Sector(8), Sectors(8))), Ok(()));
    assert_eq!(submit(&*device, Bio::discard(Sector(1024), Sectors(64))), Ok(()));
    assert_eq!(submit(&*device, Bio::flush()), Ok(()));
    assert_eq!(read(&*device, 8, 8).unwrap(), [0; 4096]);
    assert_eq!(read(&*device, 1024, 1).unwrap(), [0; 512]);
    let file = std::fs::read(&path).unwrap();
    assert_eq!((file[0], file[2047 * 512]), (6, 6));
    // A table that names the node means this device.
    assert_eq!(block_on(images.by_word(&kernel.node, "/")).unwrap().number(), device.number());
    drop(device);
    images.detach(&kernel.node).unwrap();
}
