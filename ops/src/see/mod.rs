//! Questions about a stack that is in use, asked without any I/O of their own.

mod heat;
mod places;

pub use heat::{AreaHeat, Heat, heat};
pub use places::{Place, PlaceKind, located, shown};
