//! The ioctls of loop devices and partitions, as `linux/loop.h`, `linux/blkpg.h` and `linux/fs.h`
//! have them.
//!
//! Each function is for the file of the kind that its comment names. On another one the kernel
//! answers ENOTTY or EINVAL: no argument here makes a driver write to our memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, ioctl};
use sim_core::DevNumber;

const LOOP_SET_STATUS64: Opcode = 0x4c04;
const LOOP_GET_STATUS64: Opcode = 0x4c05;
const LOOP_SET_CAPACITY: Opcode = 0x4c07;
const LOOP_SET_BLOCK_SIZE: Opcode = 0x4c09;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_ADD: Opcode = 0x4c80;
const LOOP_CTL_REMOVE: Opcode = 0x4c81;
const BLKROSET: Opcode = 0x125d;
const BLKFLSBUF: Opcode = 0x1261;
const BLKRASET: Opcode = 0x1262;
const BLKPG: Opcode = 0x1269;

/// `LO_FLAGS_READ_ONLY`.
pub(crate) const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the last close lets go of the file.
pub(crate) const AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_PARTSCAN`.
const PARTSCAN: u32 = 8;
/// `LO_FLAGS_DIRECT_IO`.
pub(crate) const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<Info>() == 232);

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

const _: () = assert!(size_of::<Partition>() == 152);

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct PartitionCall<'a> {
    operation: i32,
    flags: i32,
    data_length: i32,
    data: &'a Partition,
}

#[derive(Clone, Copy)]
enum PartitionOperation {
    Add = 1,
    Delete = 2,
    Resize = 3,
}

fn info(flags: u32) -> Info {
    Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}

/// Makes the loop device with this number; `control` is `/dev/loop-control`.
pub(crate) fn add_disk(control: &File, number: u32) -> io::Result<()> {
    with_number::<LOOP_CTL_ADD>(control, number)
}

/// Takes a loop device away, which nobody has open, and which has no file; `control` is
/// `/dev/loop-control`.
pub(crate) fn remove_disk(control: &File, number: u32) -> io::Result<()> {
    with_number::<LOOP_CTL_REMOVE>(control, number)
}

/// Puts a loop device that has no file over `file`, with logical blocks of `block` bytes. Either
/// one opened for reading makes it read-only.
pub(crate) fn configure(disk: &File, file: &File, block: u32, flags: u32) -> io::Result<()> {
    let fd = file.as_raw_fd().cast_unsigned();
    let config = Config { fd, block_size: block, info: info(flags), reserved: [0; 8] };
    with_value::<LOOP_CONFIGURE, Config>(disk, config)
}

/// Makes the last close of a loop device or its partition drop the partition too.
pub(crate) fn clear_at_last_close(disk: &File) -> io::Result<()> {
    with_value::<LOOP_SET_STATUS64, Info>(disk, info(AUTOCLEAR | PARTSCAN))
}

/// Returns the number of the block device that a loop device lies over; nothing where it is over a file.
pub(crate) fn below_loop(disk: &File) -> io::Result<Option<DevNumber>> {
    // SAFETY: this ioctl writes an `Info`, which is laid out as the kernel's, and any bytes are one.
    let call = unsafe { Getter::<LOOP_GET_STATUS64, Info>::new() };
    // SAFETY: as above; it reads nothing.
    let info = unsafe { ioctl(disk, call) }?;
    Ok((info.rdevice != 0).then(|| number(info.rdevice)))
}

/// Decodes a number as `new_encode_dev` of the kernel writes it.
fn number(code: u64) -> DevNumber {
    let (major, minor) = ((code >> 8) & 0xfff, (code & 0xff) | ((code >> 12) & 0x000f_ff00));
    DevNumber { major: major as u32, minor: minor as u32 }
}

/// Gives a loop device the size that its file has now.
pub(crate) fn set_capacity(disk: &File) -> io::Result<()> {
    with_number::<LOOP_SET_CAPACITY>(disk, 0)
}

/// Changes the logical block size of a loop device, in bytes.
pub(crate) fn set_block_size(disk: &File, block: u32) -> io::Result<()> {
    with_number::<LOOP_SET_BLOCK_SIZE>(disk, block)
}

/// Adds a partition that begins where the disk begins.
pub(crate) fn add_partition(disk: &File, number: u32, bytes: u64) -> io::Result<()> {
    partition(disk, PartitionOperation::Add, number, bytes)
}

/// Gives such a partition another size, in use or not.
pub(crate) fn resize_partition(disk: &File, number: u32, bytes: u64) -> io::Result<()> {
    partition(disk, PartitionOperation::Resize, number, bytes)
}

/// Takes a partition away, or fails with EBUSY where anybody has it open.
pub(crate) fn delete_partition(disk: &File, number: u32) -> io::Result<()> {
    partition(disk, PartitionOperation::Delete, number, 0)
}

/// Makes a block device read-only or writable, whoever has it open.
pub(crate) fn set_read_only(device: &File, read_only: bool) -> io::Result<()> {
    with_value::<BLKROSET, i32>(device, i32::from(read_only))
}

/// Sets how far a block device reads ahead, in sectors.
pub(crate) fn set_read_ahead(device: &File, sectors: u32) -> io::Result<()> {
    with_number::<BLKRASET>(device, sectors)
}

/// Writes out what the kernel holds of a block device, and of a file system on it (since Linux
/// 6.7, before that of the device alone).
pub(crate) fn flush(device: &File) -> io::Result<()> {
    with_number::<BLKFLSBUF>(device, 0)
}

fn partition(disk: &File, call: PartitionOperation, number: u32, bytes: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let data = Partition {
        start: 0,
        length: i64::try_from(bytes).map_err(too_large)?,
        number: i32::try_from(number).map_err(too_large)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let data_length = 152;
    let call = PartitionCall { operation: call as i32, flags: 0, data_length, data: &data };
    with_value::<BLKPG, PartitionCall<'_>>(disk, call)
}

/// Calls an ioctl whose argument is a number.
fn with_number<const CALL: Opcode>(file: &File, number: u32) -> io::Result<()> {
    let number = usize::try_from(number).expect("Linux has addresses of 32 bits at least");
    // SAFETY: those that the functions above name take a number, and no pointer.
    let call = unsafe { IntegerSetter::<CALL>::new_usize(number) };
    // SAFETY: as above; nothing but the kernel's own state is changed.
    unsafe { ioctl(file, call) }?;
    Ok(())
}

/// Calls an ioctl that reads a `T` where its argument points.
fn with_value<const CALL: Opcode, T>(file: &File, value: T) -> io::Result<()> {
    // SAFETY: those that the functions above name read this `T`, which is laid out as the
    // kernel's, and write nothing.
    let call = unsafe { Setter::<CALL, T>::new(value) };
    // SAFETY: as above; what a value points to lives until the call returns.
    unsafe { ioctl(file, call) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_decoded_as_the_kernel_writes_it() {
        // 259:0x12345
        assert_eq!(number(0x1231_0345), DevNumber { major: 259, minor: 0x12345 });
        assert_eq!(number(0x0000_0801), DevNumber { major: 8, minor: 1 });
    }

    #[test]
    fn what_is_no_block_device_refuses() {
        let null = File::open("/dev/null").unwrap();
        let results = [
            add_disk(&null, 1),
            configure(&null, &null, 512, 0),
            clear_at_last_close(&null),
            below_loop(&null).map(drop),
            add_partition(&null, 1, 512),
            set_read_only(&null, true),
        ];
        for result in results {
            let code = result.unwrap_err().raw_os_error();
            // ENOTTY, but EINVAL for what some drivers take for theirs.
            assert!([Some(25), Some(22)].contains(&code), "{code:?}");
        }
    }
}
