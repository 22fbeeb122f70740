//! What several target types are made of.

pub(crate) mod background;
pub(crate) mod bits;
pub mod bytes;
pub(crate) mod copying;
pub(crate) mod dirty_log;
pub(crate) mod held_ranges;
pub(crate) mod lock;
pub(crate) mod pace;
pub(crate) mod side_by_side;
