//! What a power cut does to what a program has written: recordings of devices in use, and a mount that shows the states of a recording.

mod record;
mod stage;

pub use record::{Record, base_of, beside, finish, has_table_of_recorded, mark, start, stop};
pub(crate) use record::{is_recorded, refuse_recorded};
pub use stage::{Stage, scratch};
