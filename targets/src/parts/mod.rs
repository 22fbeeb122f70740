//! What several target types are made of.

pub(crate) mod bits;
