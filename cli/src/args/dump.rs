//! The command lines of `close` and `dump`.

use std::path::PathBuf;

use clap::Args;
use ops::open::Expected;

/// Remove a device that `open` made
#[derive(Args, Clone, Debug)]
pub(crate) struct Close {
    /// The device
    pub(crate) name: String,
    /// Where it is in use: remove it when nobody has it open any more
    #[arg(long)]
    pub(crate) deferred: bool,
    /// No header is needed to close
    #[arg(long, hide = true, value_name = "FILE")]
    header: Option<PathBuf>,
    #[command(flatten)]
    _common: Common,
}

/// Print what an image holds, without any key: a container, a snapshot's store, partitions, LVM, a file system
///
/// What is no container and no store --json prints as an object: type, as `blkid` calls it (`partitions` of a
/// table), and holds, what its metadata say, in their own units.
///
/// Exit status: 1 where a store is damaged; else as `open`.
///
/// --json of a store prints an object: type (snapshot), version, valid; chunk_size_bytes, size_bytes,
/// allocated_bytes and metadata_bytes; chunks, entries_per_area, full_areas, exceptions, run_count,
/// next_free, unused_chunks and free_chunks as counts; status as the device's would be; damaged,
/// damaged_entries and damage (objects with area, index, old, new and why), shared_chunks and
/// shared (chunk numbers), of both lists the first 1000; fault, a text or null. --entries adds
/// entries: objects with old, new and len in chunks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Dump {
    /// The image, or its detached header, or a snapshot's store
    pub(crate) image: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// List the runs of chunks that a store holds, in its own order
    #[arg(long)]
    pub(crate) entries: bool,
    /// Print a container's uuid alone
    #[arg(long, conflicts_with_all = ["json", "entries"])]
    pub(crate) uuid: bool,
    /// Fail with exit status 4 where the container is another one
    #[arg(long = "type", short = 'M', value_enum)]
    pub(crate) kind: Option<Kind>,
    /// Print nothing: the exit status tells whether there is a container
    #[arg(long, short, conflicts_with_all = ["json", "entries", "uuid"])]
    pub(crate) quiet: bool,
    /// Read the header of this file instead
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
    #[command(flatten)]
    _common: Common,
}

/// A kind of container that has a header which says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// LUKS1 or LUKS2
    Luks,
    /// LUKS1
    Luks1,
    /// LUKS2
    Luks2,
    /// BitLocker
    #[value(alias = "bitlocker")]
    Bitlk,
}

impl Dump {
    /// Returns which containers are taken.
    pub(crate) fn expected(&self) -> Expected {
        match self.kind {
            None => Expected::Any,
            Some(Kind::Luks) => Expected::Luks,
            Some(Kind::Luks1) => Expected::Luks1,
            Some(Kind::Luks2) => Expected::Luks2,
            Some(Kind::Bitlk) => Expected::BitLocker,
        }
    }
}

/// What cryptsetup has for every verb, and what changes nothing here.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Turns off what dmsim never does
    #[arg(long, hide = true)]
    disable_locks: bool,
    /// There is nothing more to say
    #[arg(long, hide = true, alias = "debug-json")]
    debug: bool,
    /// There is nothing more to say
    #[arg(long, short = 'v', hide = true)]
    verbose: bool,
    /// Nothing is asked
    #[arg(long, hide = true)]
    batch_mode: bool,
}
