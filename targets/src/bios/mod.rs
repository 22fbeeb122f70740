//! Sets that the BIOS of a computer or a RAID controller makes, and mdadm takes: Intel's (IMSM) and those in
//! the SNIA's Disk Data Format (DDF). Here is what lies on their disks, how a volume of a set starts from
//! what they say, and what is written to them; and by what the sets of others are known.
//!
//! Nothing here reads: what is asked for is a piece that the caller has not given yet ([`Stop::Needs`]).

pub mod assembly;
pub mod ddf;
pub mod imsm;
mod member;
mod pieces;
mod set;
#[cfg(test)]
mod tests;
pub mod vendors;

pub use member::{Fault, Member, read};
pub use pieces::{Pieces, Stop, read_whole};
pub use set::{Hindrance, Set, Slot, Stage, Volume, Writer};
