//! Questions about a stack that is in use, asked without any I/O.

mod places;

pub use places::{Place, PlaceKind, located, shown};
