//! The command line of `partitions`.

use std::path::PathBuf;

use clap::Args;

use super::parse_sector_size;

/// Print the partition table of an image: MBR with logical partitions, or GPT
///
/// Places and lengths are in sectors of 512 bytes. What is odd about the table, and what was left out of it, is
/// said on standard error. Exit status: 4 where there is no table, 5 where both copies of a GPT are damaged.
///
/// --json prints an object: type (`dos` or `gpt`), uuid, sector_size_bytes and size_bytes; partitions, a list of
/// objects with number, start, size_bytes, type, type_name, uuid (what udev calls PARTUUID), label, bootable,
/// attributes (a list), logical and extended; warnings, a list of texts.
#[derive(Args, Clone, Debug)]
pub(crate) struct Partitions {
    /// The image: a file, an attached image's name, or a mapped device
    pub(crate) image: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The disk's logical sectors have 512 or 4096 bytes; without this, GPT says so itself, and MBR is taken for 512
    #[arg(long, value_name = "BYTES", value_parser = parse_sector_size)]
    pub(crate) sector_size: Option<u32>,
}
