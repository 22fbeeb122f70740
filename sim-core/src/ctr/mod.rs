//! What a target is made with: the words of its table line, the devices that these name, and what it
//! shares with others.

pub(crate) mod args;
pub(crate) mod error;
pub(crate) mod open;
pub(crate) mod routes;
pub(crate) mod shared;
pub(crate) mod words;
