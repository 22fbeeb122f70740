//! What runs a device: tasks and time, waiting, and what keeps a panic where it happened.

pub(crate) mod barrier;
pub(crate) mod event;
pub(crate) mod gate;
pub(crate) mod panic;
pub(crate) mod primitives;
pub(crate) mod runtime;
pub(crate) mod signal;
