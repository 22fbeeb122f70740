//! What is on an image: found out from its bytes, and turned into the lines that the device-mapper takes.
//!
//! Nothing is ever written, and no file is opened: what is read comes through [`Source`], within bounds
//! that no header can move.

#![forbid(unsafe_code)]

mod bytes;
pub mod containers;
mod error;
pub mod evms;
pub mod images;
mod layer;
pub mod partitions;
mod probe;
mod shown;
pub mod signatures;
mod source;
pub mod volumes;

pub use error::Error;
pub use layer::Layer;
pub use probe::{Found, probe};
pub use shown::{shown_line, shown_text};
pub use source::Source;
