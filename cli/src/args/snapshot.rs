//! The command line of the verbs on snapshots.

use std::path::PathBuf;

use clap::Args;
use ops::size::parse_size;
use ops::snapshot::WhenOpen;

/// Take a snapshot of a mapped device in use
///
/// The device goes on as it was, with everybody who has it open: a table that keeps its snapshots
/// is put under it while it is suspended for a moment. Where it has no such table yet, its own
/// moves to a new device ORIGIN-real below. Where anything fails, all is put back.
///
/// The snapshot is what a power cut at that moment would have left: a mounted file system's
/// journal is replayed when the snapshot is mounted, or by fsck. It can be written to; that does
/// not touch the origin. `dmsim merge` brings it back, `dmsim drop` gives it up.
///
/// Prints the file that shows the snapshot.
#[derive(Args, Clone, Debug)]
pub(crate) struct Take {
    /// The mapped device
    pub(crate) origin: String,
    /// What the snapshot is to be called
    pub(crate) name: String,
    /// Keep what changes in this image: an attached image or a mapped device that is empty, or a
    /// file, which --size makes [default: cow/NAME.cow where the instance keeps what survives a
    /// reboot]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) cow: Option<PathBuf>,
    /// Size of the image that is made; what is not used takes no room
    /// [default: as much as can be needed, of the instance's own images]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// How much is copied at once: a power of two of sectors [default: 16K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) chunk: Option<u64>,
    /// Forget the snapshot when the device or the daemon goes
    #[arg(long)]
    pub(crate) transient: bool,
    /// Refuse writes to the snapshot
    #[arg(long, short = 'r')]
    pub(crate) read_only: bool,
    /// Say nothing of another device that writes where these do
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Take {
    /// Returns what is to be taken.
    pub(crate) fn ask(self) -> ops::snapshot::Take {
        let Take { origin, name, cow, size, chunk, transient, read_only, quiet: _ } = self;
        ops::snapshot::Take { origin, name, cow, size, chunk, transient, read_only }
    }
}

/// Merge a snapshot back into its origin
///
/// The snapshot's device goes, and its origin is what the snapshot was from that moment on, and can
/// be used; the data follow in the background. At the end the origin has its own table back where no
/// other snapshot needs it. Interrupted, the same command goes on, also after a crash or a reboot: it
/// starts the daemon then, and brings back what is on record.
///
/// Until it is finished, each image that it changes has the extended attribute user.dmsim.merging,
/// which `dump`, `open`, `attach` and `restore` tell of; where it can have none (a block device, or a
/// file system without them) the record alone has it. Where the record is lost, as with a directory in
/// memory, and the origin was linear or striped, `dmsim merge IMAGE` finishes it by that attribute.
///
/// While somebody has the origin open, as a mounted file system has, nothing is merged: the device
/// would go back in time under its user, who has read what was there before, and would write it over
/// what is there now. The message says who that is.
///
/// Exit status: 0 when it is merged, 1 when it cannot be, 130 when the command was interrupted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Merge {
    /// The snapshot; or its origin, to finish a merge that is under way; or the path of a marked
    /// image, to finish one whose record is gone
    pub(crate) name: String,
    /// Return when the merge has begun; `dmsim merge` again finishes it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait until nobody has the origin open, and merge then
    #[arg(long)]
    pub(crate) when_closed: bool,
    /// Merge though somebody has the origin open: for users that keep nothing of what they read
    #[arg(long, conflicts_with = "when_closed")]
    pub(crate) in_use: bool,
}

impl Merge {
    /// Returns what is to be merged.
    pub(crate) fn ask(self) -> ops::snapshot::Merge {
        let open = match (self.when_closed, self.in_use) {
            (true, _) => WhenOpen::Wait,
            (false, true) => WhenOpen::Merge,
            (false, false) => WhenOpen::Refuse,
        };
        ops::snapshot::Merge { name: self.name, open, waits: !self.no_wait }
    }
}

/// Give a snapshot up
///
/// Its device goes, and the image of its store, where that is one of the instance's own and not one
/// that was named with --cow. Its origin is in use all the time, and has its own table back where no
/// other snapshot needs it. (`dmsim remove` takes the device away and leaves all else.)
#[derive(Args, Clone, Debug)]
pub(crate) struct GiveUp {
    /// The snapshot
    pub(crate) name: String,
}

/// Print what a snapshot has otherwise than its origin
///
/// Chunks that have an exception in the store are read and compared with the origin's; those that
/// were written back as they had been do not count. A transient snapshot is read as a whole.
/// Nothing is held up meanwhile: all that differed when the command began is found, and what the
/// origin or the snapshot is written meanwhile may be found or not. Suspend the origin, or take a
/// snapshot of it too, for a picture of one moment.
///
/// --json prints an object: name; origin and cow, objects with major and minor; size_bytes,
/// chunk_size_bytes and changed_bytes; chunks, exceptions (null for a transient snapshot) and
/// changed_chunks as counts; runs, a list of objects with start and len in sectors and chunk, the
/// first one's number.
#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    /// The snapshot
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the device as a line of blocks, also where standard output is no terminal
    #[arg(long, conflicts_with = "json")]
    pub(crate) picture: bool,
    /// So many characters long [default: the terminal's width]
    #[arg(long, value_name = "N", conflicts_with = "json", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) width: Option<u16>,
}
