//! The ioctl interface of device-mapper in bytes, version 4.48: what `/dev/mapper/control` takes
//! and answers, as Linux 6.12 does.
//!
//! Nothing here opens, waits or carries anything out. For the side that serves calls:
//!
//! 1. [`Call::read`] looks at the code and the first [`FIELDS_LEN`] bytes, and says how much of the
//!    caller's buffer is wanted ([`Call::reads`]).
//! 2. [`Call::decode`] takes that much and gives a [`Request`]: the [`Command`] to carry out, and
//!    perhaps another that asks for what its answer lacks ([`Request::also`]).
//! 3. [`Request::reply`] takes what came of them and gives a [`Reply`]: what the ioctl returns,
//!    what is written to the caller's buffer, and lines for the kernel's log.
//!
//! What [`Command::ArmPoll`] answers is for whoever serves the call to keep
//! with the caller's open file: from then on that polls as readable once another event came.
//!
//! A refusal on the way is a [`Reply`] too. [`Control::ioctl`] does the second and the third step
//! together.
//!
//! For the side that calls, [`client`] writes commands and reads answers.
//!
//! Integers are in the machine's own order, offsets and sizes in bytes.
//!
//! What the kernel does and this does not: names, uuids, parameters and messages have to be UTF-8;
//! of a table whose list of targets breaks off, the targets
//! before the break are not built, so that their errors do not come first; file systems are not
//! frozen by a suspend; and nobody is told that a uevent was made, as none was.

pub mod client;
mod flags;
mod header;
mod kind;
mod lists;
mod reply;
mod request;
mod specs;

use header::VERSION_LEN;
pub use header::{FIELDS_LEN, HEADER_LEN, Header};
use kind::Kind;
pub use reply::Reply;
pub use request::{Request, When};
use zeroize::Zeroizing;

use super::{Answer, Command, Control, INTERFACE_VERSION};
use crate::Errno;

/// The largest buffer that a call can have, in bytes: the most targets with the longest
/// parameters that the kernel reckons with.
pub const MAX_DATA_SIZE: u32 = 1 << 30;

/// A call of which the header was looked at.
#[derive(Debug)]
pub struct Call {
    kind: Kind,
    header: Header,
}

impl Call {
    /// Looks at an ioctl's code and the start of the caller's buffer, of which the first
    /// [`FIELDS_LEN`] bytes are wanted.
    ///
    /// # Errors
    /// - `ENOTTY`: not an ioctl of device-mapper, or an unknown one.
    /// - `EINVAL`: another version of the interface, or a `data_size` out of range.
    /// - `EFAULT`: too few bytes.
    pub fn read(code: u32, head: &[u8]) -> Result<Call, Reply> {
        // The size and the direction in the code count for nothing.
        let (type_byte, nr) = (code >> 8 & 0xff, code & 0xff);
        if type_byte != kind::TYPE {
            return Err(Reply::untouched(Errno::NOTTY));
        }
        let word = |at| header::u32_at(head, at);
        let (Some(major), Some(minor), Some(patch)) = (word(0), word(4), word(8)) else {
            return Err(Reply::untouched(Errno::FAULT));
        };
        let [ours, newest, level] = INTERFACE_VERSION;
        if major != ours || minor > newest {
            return Err(Reply::refused(Errno::INVAL).log(format!(
                "ioctl interface mismatch: kernel({ours}.{newest}.{level}), \
                 user({major}.{minor}.{patch}), cmd({nr})"
            )));
        }
        let Some(kind) = Kind::from_nr(nr) else {
            let why = format!("dm_ctl_ioctl: unknown command 0x{code:x}");
            return Err(Reply::refused(Errno::NOTTY).log(why));
        };
        if kind == Kind::Version {
            return Ok(Call { kind, header: Header::default() });
        }
        let header = Header::read(head).ok_or_else(Reply::bad_address)?;
        let size = header.data_size;
        if (size as usize) < FIELDS_LEN || size > MAX_DATA_SIZE {
            let why = format!("Invalid data size in the ioctl structure: {size}");
            return Err(Reply::refused(Errno::INVAL).log(why));
        }
        Ok(Call { kind, header })
    }

    /// Tells whether it may wait in the kernel in a way that any signal ends, and not only one that
    /// kills: for an event, or for what a suspend lets end.
    pub fn is_interruptible(&self) -> bool {
        matches!(self.kind, Kind::DevWait | Kind::DevSuspend)
    }

    /// Tells whether it waits for an event, which may never come.
    pub fn waits_for_event(&self) -> bool {
        self.kind == Kind::DevWait
    }

    /// How much of the caller's buffer [`decode`](Self::decode) wants, from its start, in bytes: all
    /// of it where there is a payload, else the header's fields.
    pub fn reads(&self) -> usize {
        match self.kind {
            Kind::Version => VERSION_LEN,
            _ if self.kind.has_payload() => self.header.data_size as usize,
            _ => FIELDS_LEN,
        }
    }
}

/// Reads a whole call: [`Call::read`] and [`Call::decode`] in one, for a buffer that is at hand.
///
/// # Errors
/// As those of both.
pub fn decode(code: u32, buffer: Vec<u8>) -> Result<Request, Reply> {
    let buffer = Zeroizing::new(buffer);
    Call::read(code, &buffer)?.decode(buffer)
}

impl Control {
    /// Carries out a call, as [`perform`](Self::perform) does a command: whoever calls this makes
    /// durable what it changed.
    pub async fn ioctl(&self, request: Request) -> Reply {
        carry_out(request, async |command| {
            self.perform(command).await.map_err(|failure| failure.errno)
        })
        .await
    }
}

/// Carries out a call by commands, of which `perform` does one at a time.
pub async fn carry_out(
    request: Request,
    mut perform: impl AsyncFnMut(Command) -> Result<Answer, Errno>,
) -> Reply {
    let (before, after) = match request.also().cloned() {
        Some((When::Before, command)) => (Some(command), None),
        Some((When::After, command)) => (None, Some(command)),
        None => (None, None),
    };
    let before = match before {
        Some(command) => perform(command).await.ok(),
        None => None,
    };
    let result = perform(request.command().clone()).await;
    let after = match after {
        Some(command) if result.is_ok() => perform(command).await.ok(),
        _ => None,
    };
    request.reply(result, before.or(after))
}
