//! Mapped devices for a tree.

use block_frontend::{Facts, Whole};
use sim_core::DevNumber;

/// What programs are to see of a mapped device of 8 MiB.
pub(crate) fn facts(minor: u32, name: &str, below: &[DevNumber]) -> Facts {
    Facts {
        minor,
        dev: DevNumber { major: 259, minor: 1000 + minor },
        disk: Whole::Loop(9000 + minor),
        name: name.to_owned(),
        uuid: Some(format!("LVM-{name}")),
        bytes: 8 << 20,
        suspended: false,
        read_only: false,
        block: 512,
        read_ahead: 256,
        below: below.to_vec(),
    }
}
