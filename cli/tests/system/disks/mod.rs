//! Images of whole disks, and what lies on them.

mod open;
mod partitions;
