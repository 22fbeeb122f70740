//! The devices that a reporting verb goes through, and what it can show of each.

mod below;
mod device;
mod row;
mod selected;

pub(super) use below::{Names, Style, block_name, dependencies, refuse, words_of};
pub(super) use device::Device;
pub(super) use row::{Row, no_data, open_report, opened};
pub(super) use selected::Devices;
