//! Lines of targets that are made for tests.

pub mod delay;
pub mod dust;
pub mod ebs;
pub mod flakey;
pub mod log_writes;
