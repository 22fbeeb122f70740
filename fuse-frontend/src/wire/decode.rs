//! What the kernel asks, out of its bytes.
//!
//! Whatever the bytes are, this ends in a message or in the error that answers them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::WriteFlags;
use sim_core::{Access, Errno};
use zerocopy::FromBytes;

use super::protocol::{
    Dirent, FallocateIn, FlushIn, FsyncIn, InHeader, InitIn, InterruptIn, IoctlIn, LseekIn,
    MAX_WRITE, OpenIn, PollIn, ReadIn, ReleaseIn, SetattrIn, WriteIn, opcode, valid,
};
use crate::files::request::{Durability, Units};
use crate::files::{Caller, Ioctl, Operation, Origin, SetAttributes};

/// The bits of open flags that say whether it is for reading or writing: `O_ACCMODE`.
const ACCESS_MODE: u32 = 3;

// open(2), on every architecture that this runs on. O_SYNC includes the bit of O_DSYNC.
const O_RDONLY: u32 = 0;
const O_APPEND: u32 = 0o2000;
const O_DSYNC: u32 = 0o10000;

/// open(2), which differs with the architecture.
const O_DIRECT: u32 = rustix::fs::OFlags::DIRECT.bits();

/// A poll is to be told when something has come: `FUSE_POLL_SCHEDULE_NOTIFY`.
const SCHEDULE_NOTIFY: u32 = 1;

/// The least that one name of a directory takes: a byte of it is filled up to eight.
const SHORTEST_NAME: usize = size_of::<Dirent>() + 8;

/// Who asks, and which request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for, by the protocol's numbers.
    pub opcode: u32,
    /// The request's identity, which its answer names.
    pub unique: u64,
    /// The inode.
    pub inode: u64,
    /// Who asks.
    pub caller: Caller,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message: what the kernel can do.
    Init {
        /// The protocol's major version.
        major: u32,
        /// The protocol's minor version.
        minor: u32,
        /// How far it reads ahead at most.
        max_readahead: u32,
        /// What it can do: the bits of `InitFlags`.
        flags: u64,
    },
    /// The caller of a request got a signal.
    Interrupt {
        /// The request.
        unique: u64,
    },
    /// The kernel forgets an inode. It gets no answer.
    Forget,
    /// The mount ends.
    Destroy,
    /// Something is asked of the files.
    Operation(Operation<'a>),
}

impl Header {
    /// Splits a message into its header and what follows; nothing where there is no whole header.
    pub fn split(message: &[u8]) -> Option<(Header, &[u8])> {
        let (header, body) = InHeader::read_from_prefix(message).ok()?;
        let InHeader { opcode, unique, node, uid, gid, pid, .. } = header;
        Some((Header { opcode, unique, inode: node, caller: Caller { pid, uid, gid } }, body))
    }
}

/// Reads a message of this kind. An error is the one to answer with: [`Errno::NOSYS`] for what is
/// not known here, after which the kernel does without, and [`Errno::IO`] for what is cut off.
pub fn decode(code: u32, body: &[u8]) -> Result<Message<'_>, Errno> {
    let operation = match code {
        opcode::INIT => return init(body),
        opcode::INTERRUPT => {
            let InterruptIn { unique } = read(body)?;
            return Ok(Message::Interrupt { unique });
        }
        opcode::FORGET | opcode::BATCH_FORGET => return Ok(Message::Forget),
        opcode::DESTROY => return Ok(Message::Destroy),
        opcode::LOOKUP => Operation::LookUp { name: name(body)? },
        opcode::GETATTR => Operation::Attributes,
        opcode::SETATTR => Operation::SetAttributes(set_attributes(&read(body)?)),
        opcode::READLINK => Operation::ReadLink,
        opcode::OPEN => Operation::Open { access: access(read::<OpenIn>(body)?.flags) },
        opcode::OPENDIR => Operation::OpenDirectory,
        opcode::READ => {
            let ReadIn { fh, offset, size, flags, .. } = read(body)?;
            // No more is asked for than was agreed on; nobody's word sizes a buffer here.
            let len = size.min(MAX_WRITE);
            Operation::Read { handle: fh, at: offset, len, units: units(flags) }
        }
        opcode::WRITE => write(body)?,
        opcode::FSYNC => Operation::Flush { handle: read::<FsyncIn>(body)?.fh },
        opcode::FLUSH => Operation::Close { handle: read::<FlushIn>(body)?.fh },
        opcode::FALLOCATE => {
            let FallocateIn { fh, offset, length, mode, .. } = read(body)?;
            Operation::Allocate { handle: fh, mode, at: offset, len: length }
        }
        opcode::LSEEK => {
            let LseekIn { fh, offset, whence, .. } = read(body)?;
            Operation::Seek { handle: fh, at: offset, whence }
        }
        opcode::IOCTL => ioctl(body)?,
        opcode::POLL => {
            let PollIn { fh, kh, flags, .. } = read(body)?;
            Operation::Poll { handle: fh, wakes: (flags & SCHEDULE_NOTIFY != 0).then_some(kh) }
        }
        opcode::RELEASE => Operation::Release { handle: read::<ReleaseIn>(body)?.fh },
        opcode::RELEASEDIR => Operation::ReleaseDirectory,
        opcode::READDIR => {
            let ReadIn { offset, size, .. } = read(body)?;
            let room = size.min(MAX_WRITE) as usize;
            Operation::List { after: offset, most: room / SHORTEST_NAME }
        }
        opcode::FSYNCDIR => Operation::FlushDirectory,
        opcode::STATFS => Operation::Statistics,
        opcode::CREATE
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::SYMLINK
        | opcode::LINK
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::RENAME2 => Operation::Rearrange,
        // Extended attributes are among them: the kernel asks for one at each write until it is
        // told that there are none at all.
        _ => return Err(Errno::NOSYS),
    };
    Ok(Message::Operation(operation))
}

/// Returns how many bytes of names a READDIR takes, 0 for anything else.
pub(crate) fn room(code: u32, body: &[u8]) -> usize {
    match (code, read::<ReadIn>(body)) {
        (opcode::READDIR, Ok(asked)) => asked.size as usize,
        _ => 0,
    }
}

/// Tells whether a message gets no answer at all, not even an error.
pub(crate) fn is_silent(code: u32) -> bool {
    matches!(code, opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT)
}

fn read<T: FromBytes>(body: &[u8]) -> Result<T, Errno> {
    T::read_from_prefix(body).map(|(value, _)| value).map_err(|_| Errno::IO)
}

fn init(body: &[u8]) -> Result<Message<'_>, Errno> {
    let (known, more) = InitIn::read_from_prefix(body).map_err(|_| Errno::IO)?;
    // Kernels before 5.17 know no second word of flags.
    let flags2 = u32::read_from_prefix(more).map_or(0, |(flags, _)| flags);
    Ok(Message::Init {
        major: known.major,
        minor: known.minor,
        max_readahead: known.max_readahead,
        flags: u64::from(known.flags) | u64::from(flags2) << 32,
    })
}

/// Reads the name at the beginning, which ends with a zero byte.
fn name(body: &[u8]) -> Result<&OsStr, Errno> {
    let name = body.split(|byte| *byte == 0).next().filter(|name| name.len() < body.len());
    name.map(OsStr::from_bytes).ok_or(Errno::IO)
}

fn set_attributes(asked: &SetattrIn) -> SetAttributes {
    let has = |bit| asked.valid & bit != 0;
    SetAttributes {
        mode: has(valid::MODE).then_some(asked.mode),
        uid: has(valid::UID).then_some(asked.uid),
        gid: has(valid::GID).then_some(asked.gid),
        size: has(valid::SIZE).then_some(asked.size),
        handle: has(valid::HANDLE).then_some(asked.fh),
    }
}

fn access(flags: u32) -> Access {
    if flags & ACCESS_MODE == O_RDONLY { Access::ReadOnly } else { Access::ReadWrite }
}

/// Returns what an open file with these flags is read and written in. They are those that it has at
/// the moment: `fcntl` turns direct I/O on and off.
fn units(flags: u32) -> Units {
    if flags & O_DIRECT == 0 { Units::Bytes } else { Units::Sectors }
}

fn write(body: &[u8]) -> Result<Operation<'_>, Errno> {
    let (asked, data) = WriteIn::read_from_prefix(body).map_err(|_| Errno::IO)?;
    let at_once = asked.flags & O_DSYNC != 0;
    let from_cache = asked.write_flags & WriteFlags::FUSE_WRITE_CACHE.bits() != 0;
    Ok(Operation::Write {
        handle: asked.fh,
        at: asked.offset,
        data: data.get(..asked.size as usize).ok_or(Errno::IO)?,
        durability: if at_once { Durability::AtOnce } else { Durability::AtFlush },
        origin: match asked.flags & O_APPEND != 0 {
            _ if from_cache => Origin::Cache,
            true => Origin::Append,
            false => Origin::Program,
        },
        units: if from_cache { Units::Bytes } else { units(asked.flags) },
    })
}

fn ioctl(body: &[u8]) -> Result<Operation<'_>, Errno> {
    let (asked, input) = IoctlIn::read_from_prefix(body).map_err(|_| Errno::IO)?;
    Ok(Operation::Ioctl(Ioctl {
        handle: asked.fh,
        command: asked.cmd,
        argument: asked.arg,
        flags: asked.flags,
        input: input.get(..asked.in_size as usize).ok_or(Errno::IO)?,
        room: asked.out_size,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WRITE_AHEAD;
    use zerocopy::IntoBytes;

    fn message<'a>(code: u32, body: &'a [u8]) -> Result<Message<'a>, Errno> {
        decode(code, body)
    }

    #[test]
    fn each_request_is_understood_whole_and_refused_cut_off() {
        let ioctl =
            IoctlIn { fh: 3, cmd: 7, arg: 0x7f00_dead_beef, in_size: 4, ..IoctlIn::default() };
        let write = WriteIn { fh: 3, size: 4, flags: O_DSYNC, ..WriteIn::default() };
        let requests: [(u32, Vec<u8>); 14] = [
            (opcode::INIT, InitIn::default().as_bytes().to_vec()),
            (opcode::INTERRUPT, InterruptIn { unique: 8 }.as_bytes().to_vec()),
            (opcode::LOOKUP, b"a\0".to_vec()),
            (opcode::SETATTR, SetattrIn::default().as_bytes().to_vec()),
            (opcode::OPEN, OpenIn::default().as_bytes().to_vec()),
            (opcode::READ, ReadIn::default().as_bytes().to_vec()),
            (opcode::WRITE, [write.as_bytes(), b"data"].concat()),
            (opcode::FSYNC, FsyncIn::default().as_bytes().to_vec()),
            (opcode::FLUSH, FlushIn::default().as_bytes().to_vec()),
            (opcode::FALLOCATE, FallocateIn::default().as_bytes().to_vec()),
            (opcode::LSEEK, LseekIn::default().as_bytes().to_vec()),
            (opcode::IOCTL, [ioctl.as_bytes(), b"data"].concat()),
            (opcode::POLL, PollIn::default().as_bytes().to_vec()),
            (opcode::RELEASE, ReleaseIn::default().as_bytes().to_vec()),
        ];
        for (code, body) in &requests {
            assert!(message(*code, body).is_ok(), "{code}");
            for len in 0..body.len() {
                assert_eq!(message(*code, &body[..len]), Err(Errno::IO), "{code}: {len} bytes");
            }
        }
        let Ok(Message::Operation(Operation::Ioctl(ioctl))) = message(39, &requests[11].1) else {
            panic!("an ioctl")
        };
        assert_eq!((ioctl.argument, ioctl.input), (0x7f00_dead_beef, &b"data"[..]));
        assert_eq!(WRITE_AHEAD, 80);
    }

    #[test]
    fn what_is_not_known_is_left_to_the_kernel() {
        for code in [0, 22, 23, 47, 50, 52, 4096, u32::MAX] {
            assert_eq!(message(code, &[0; 200]), Err(Errno::NOSYS), "{code}");
        }
    }

    #[test]
    fn every_flag_of_a_new_kernel_is_seen() {
        let old = InitIn { major: 7, minor: 31, max_readahead: 1, flags: 5 };
        let new = [old.as_bytes(), 16u32.as_bytes(), &[0; 44]].concat();
        let flags = |body| match message(opcode::INIT, body) {
            Ok(Message::Init { flags, .. }) => flags,
            other => panic!("{other:?}"),
        };
        assert_eq!((flags(old.as_bytes()), flags(&new)), (5, 5 | 16 << 32));
    }
}
