//! What goes between the ublk driver and us, as `linux/ublk_cmd.h` has it since Linux 6.9.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Data is copied by reading and writing the character device: no request has memory of its own while
/// nothing is asked.
pub(super) const USER_COPY: u64 = 1 << 7;
/// The disk stays when its server is gone, and what is asked of it waits for the next one.
pub(super) const USER_RECOVERY: u64 = 1 << 3;
/// What the server that is gone had been asked, and had not answered, is asked again.
pub(super) const USER_RECOVERY_REISSUE: u64 = 1 << 4;
/// Commands are numbered as ioctls.
pub(super) const IOCTL_NUMBERS: u64 = 1 << 6;

/// What a disk of ours is made with, and a driver must have.
pub(super) const FEATURES: u64 = USER_COPY | USER_RECOVERY | USER_RECOVERY_REISSUE | IOCTL_NUMBERS;

/// [`DeviceInfo::state`]: the server is gone, and all that it had been asked waits.
pub(super) const QUIESCED: u16 = 2;
/// [`DeviceInfo::state`]: it is served.
pub(super) const LIVE: u16 = 1;

/// The commands of `/dev/ublk-control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    Add = both(0x04),
    Start = both(0x06),
    Stop = both(0x07),
    SetParameters = both(0x08),
    StartRecovery = both(0x10),
    EndRecovery = both(0x11),
    Information = read(0x02),
    Features = read(0x13),
    /// Returns before whoever has the disk open has closed it.
    DeleteLater = read(0x14),
}

/// The commands of a character device.
pub(super) const FETCH: u32 = number(3, 16, 0x20);
pub(super) const COMMIT_AND_FETCH: u32 = number(3, 16, 0x21);

/// `_IOWR('u', nr, struct ublksrv_ctrl_cmd)`.
const fn both(nr: u32) -> u32 {
    number(3, 32, nr)
}

/// `_IOR('u', nr, struct ublksrv_ctrl_cmd)`.
const fn read(nr: u32) -> u32 {
    number(2, 32, nr)
}

const fn number(direction: u32, bytes: u32, nr: u32) -> u32 {
    direction << 30 | bytes << 16 | (b'u' as u32) << 8 | nr
}

/// `struct ublksrv_ctrl_cmd`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ControlCommand {
    pub(super) id: u32,
    /// All ones, but where a queue is asked for.
    pub(super) queue: u16,
    pub(super) len: u16,
    pub(super) addr: u64,
    pub(super) data: u64,
    pub(super) path_len: u16,
    pub(super) pad: u16,
    pub(super) reserved: u32,
}

const _: () = assert!(size_of::<ControlCommand>() == 32);

/// `struct ublksrv_ctrl_dev_info`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(super) struct DeviceInfo {
    pub(super) queues: u16,
    pub(super) depth: u16,
    pub(super) state: u16,
    pub(super) pad0: u16,
    pub(super) max_io_bytes: u32,
    pub(super) id: u32,
    pub(super) server: i32,
    pub(super) pad1: u32,
    pub(super) flags: u64,
    /// The server's own: the driver keeps it, and looks at it nowhere.
    pub(super) own: u64,
    pub(super) owner_uid: u32,
    pub(super) owner_gid: u32,
    pub(super) reserved: [u64; 2],
}

const _: () = assert!(size_of::<DeviceInfo>() == 64);

/// `struct ublk_params`, as far as it is used: the driver takes as much as `len` says.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Parameters {
    pub(super) len: u32,
    pub(super) types: u32,
    pub(super) basic: Basic,
    pub(super) discard: Discard,
    pub(super) pad: u32,
}

const _: () = assert!(size_of::<Parameters>() == 64);

/// [`Parameters::types`]: `basic` and `discard` are there.
pub(super) const BASIC_AND_DISCARD: u32 = 1 << 0 | 1 << 1;

/// [`Basic::attributes`]: what was written is volatile until a flush, and a write may ask not to be.
pub(super) const CACHE_AND_FUA: u32 = 1 << 2 | 1 << 3;

/// `struct ublk_param_basic`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Basic {
    pub(super) attributes: u32,
    /// Sizes as powers of two.
    pub(super) logical_block: u8,
    pub(super) physical_block: u8,
    pub(super) best_io: u8,
    pub(super) least_io: u8,
    pub(super) max_sectors: u32,
    pub(super) chunk_sectors: u32,
    pub(super) sectors: u64,
    pub(super) virtual_boundary: u64,
}

/// `struct ublk_param_discard`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Discard {
    pub(super) alignment: u32,
    pub(super) granularity: u32,
    pub(super) max_sectors: u32,
    pub(super) max_write_zeroes_sectors: u32,
    pub(super) max_segments: u16,
    pub(super) reserved: u16,
}

/// `struct ublksrv_io_desc`: what is asked, by the tag of the request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(super) struct Descriptor {
    /// The operation in the lowest byte, and flags.
    pub(super) op_flags: u32,
    pub(super) sectors: u32,
    pub(super) start: u64,
    pub(super) addr: u64,
}

const _: () = assert!(size_of::<Descriptor>() == 24);

/// `UBLK_IO_F_FUA`.
const FUA: u32 = 1 << 13;

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write { fua: bool },
    Flush,
    Discard,
    WriteZeroes,
}

impl Descriptor {
    /// Returns the operation; nothing for one that was not offered.
    pub(super) fn operation(&self) -> Option<Operation> {
        Some(match self.op_flags & 0xff {
            0 => Operation::Read,
            1 => Operation::Write { fua: self.op_flags & FUA != 0 },
            2 => Operation::Flush,
            3 => Operation::Discard,
            5 => Operation::WriteZeroes,
            _ => return None,
        })
    }
}

/// `struct ublksrv_io_cmd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct IoCommand {
    pub(super) queue: u16,
    pub(super) tag: u16,
    /// How the request ended that had this tag: the bytes, or an errno below zero.
    pub(super) result: i32,
    pub(super) addr: u64,
}

const _: () = assert!(size_of::<IoCommand>() == 16);

/// Where in the character device the data of a request lies: 25 bits within it, then 16 of the tag, then
/// those of the queue.
pub(super) fn data_at(queue: u16, tag: u16) -> u64 {
    0x8000_0000 + (u64::from(queue) << 41 | u64::from(tag) << 25)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a C compiler has them, of Linux 6.12's header.
    #[test]
    fn commands_are_numbered_as_the_header_does() {
        for (code, expected) in [
            (Code::Add as u32, 0xc020_7504),
            (Code::Start as u32, 0xc020_7506),
            (Code::Stop as u32, 0xc020_7507),
            (Code::SetParameters as u32, 0xc020_7508),
            (Code::StartRecovery as u32, 0xc020_7510),
            (Code::EndRecovery as u32, 0xc020_7511),
            (Code::Information as u32, 0x8020_7502),
            (Code::Features as u32, 0x8020_7513),
            (Code::DeleteLater as u32, 0x8020_7514),
            (FETCH, 0xc010_7520),
            (COMMIT_AND_FETCH, 0xc010_7521),
        ] {
            assert_eq!(code, expected, "{code:#x}");
        }
    }

    #[test]
    fn fields_lie_where_the_header_has_them() {
        let command = ControlCommand {
            id: 0x0101_0101,
            queue: 0x0202,
            len: 0x0303,
            addr: 0x0404_0404_0404_0404,
            data: 0x0505_0505_0505_0505,
            path_len: 0x0606,
            pad: 0,
            reserved: 0,
        };
        let mut expected = vec![1; 4];
        for (byte, times) in [(2, 2), (3, 2), (4, 8), (5, 8), (6, 2), (0, 6)] {
            expected.extend([byte].repeat(times));
        }
        assert_eq!(command.as_bytes(), expected);
        // The offsets of these in the structures of 6.12.
        assert_eq!(std::mem::offset_of!(DeviceInfo, id), 12);
        assert_eq!(std::mem::offset_of!(DeviceInfo, flags), 24);
        assert_eq!(std::mem::offset_of!(DeviceInfo, own), 32);
        assert_eq!(std::mem::offset_of!(Parameters, discard), 40);
        assert_eq!(std::mem::offset_of!(Basic, sectors), 16);
        assert_eq!(std::mem::offset_of!(Discard, max_segments), 16);
        assert_eq!(std::mem::offset_of!(IoCommand, result), 4);
    }

    #[test]
    fn what_is_asked_is_told_apart() {
        let asked = |op_flags| Descriptor { op_flags, ..Descriptor::default() }.operation();
        assert_eq!(asked(0), Some(Operation::Read));
        assert_eq!(asked(1), Some(Operation::Write { fua: false }));
        // With REQ_META and REQ_FAILFAST_DEV, and with all that and FUA.
        assert_eq!(asked(1 | 1 << 11 | 1 << 8), Some(Operation::Write { fua: false }));
        assert_eq!(asked(1 | 1 << 11 | 1 << 8 | 1 << 13), Some(Operation::Write { fua: true }));
        assert_eq!(asked(2), Some(Operation::Flush));
        assert_eq!(asked(3), Some(Operation::Discard));
        // With REQ_NOUNMAP.
        assert_eq!(asked(5 | 1 << 15), Some(Operation::WriteZeroes));
        assert_eq!(asked(4), None, "a write of the same");
        assert_eq!(asked(13), None, "a zone append");
    }

    #[test]
    fn the_data_of_requests_lie_apart() {
        assert_eq!(data_at(0, 0), 0x8000_0000);
        assert_eq!(data_at(0, 1) - data_at(0, 0), 32 << 20);
        assert_eq!(data_at(1, 0) - data_at(0, 0), 1 << 41);
    }
}
