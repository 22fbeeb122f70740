//! The FUSE protocol of Linux as bytes: what the kernel asks and how it is answered, by whatever
//! way the messages travel.
//!
//! The structures are those of `linux/fuse.h`, protocol 7.40, of which a file system of regular
//! files needs a part. Their fields are native-endian, as both ends are one machine. Flags that
//! have names in `fuser` are taken from there.

mod decode;
mod encode;
mod protocol;

pub use decode::{Header, Message, decode};
pub(crate) use decode::{is_silent, room};
pub use encode::{Negotiated, attributes, entry, init, listing, opened, output, statistics};
pub use protocol::{INTERRUPT_BIT, VERSION, WRITE_AHEAD, invalidation, poll_wakeup};
#[cfg(test)]
pub(crate) use protocol::{InHeader, InitIn, InitOut, InterruptIn, OutHeader, ReadIn, opcode};
pub(crate) use protocol::{LseekOut, MAX_WRITE, PAGE, PollOut, WriteOut, header};
