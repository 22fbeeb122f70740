//! Arrays of Linux MD, as mdadm makes them: their superblocks, how one starts from what its members
//! say, and the tables of those that need no target of their own.
//!
//! The target `md` is the engine of `raid` over members whose superblocks and bitmaps are md's:
//! `raid::set` has it.

pub mod assembly;
pub mod superblock;
pub mod tables;
#[cfg(test)]
mod tests;
