//! Another way to the kernel for a FUSE mount that is served already.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_CLONE` of `linux/fuse.h`, which reads a `u32`.
const CLONE: Opcode = opcode::read::<u32>(229, 0);

/// Opens `/dev/fuse` once more, and joins it to the connection of `device`: requests of the mount
/// then come by either. An answer goes back by the one that its request came by. No process that is
/// started inherits it.
pub fn clone_fuse_device(device: &impl AsFd) -> io::Result<OwnedFd> {
    let clone = File::options().read(true).write(true).open("/dev/fuse")?;
    let connection = device.as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: the kernel's FUSE device takes this number, and reads a `u32` where the argument
    // points, which any other driver would not know and refuse.
    let join = unsafe { Setter::<CLONE, u32>::new(connection) };
    // SAFETY: as above; nothing but the kernel's own state is changed.
    unsafe { ioctl(&clone, join) }?;
    Ok(clone.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_connection_is_not_joined() {
        let file = File::open("/dev/null").unwrap();
        let error = clone_fuse_device(&file).unwrap_err();
        let known =
            [io::ErrorKind::InvalidInput, io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
        assert!(known.contains(&error.kind()), "{error}");
    }
}
