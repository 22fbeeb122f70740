//! Lines of targets that do no more than to send bios on.

pub mod linear;
pub mod striped;
pub mod switch;
pub mod unstriped;
