//! Sectors, bios, and the devices that take them.

pub(crate) mod area;
pub(crate) mod bio;
pub(crate) mod buffer;
pub(crate) mod device;
pub(crate) mod limits;
pub(crate) mod open;
pub(crate) mod sector;
