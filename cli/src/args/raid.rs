//! The command line of the verbs on RAID sets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ops::raid::{self, Create};
use ops::size::parse_size;

/// Make RAID sets of images, look at them, check them, and replace their legs
///
/// Each leg is one image: its first MiB is the leg's metadata (superblock and bitmap, as dm-raid
/// writes them), the rest its data. The two are the devices NAME_rmeta_0 and NAME_rimage_0, as LVM
/// calls them, and so on; the device NAME is the set. All of it is on record as any device is, and
/// `dmsim restore` brings it back.
#[derive(Args, Clone, Debug)]
pub(crate) struct Raid {
    /// What to do
    #[command(subcommand)]
    pub(crate) what: What,
}

/// What to do with a set.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum What {
    Create(New),
    Assemble(Assemble),
    Status(Status),
    Check(Scrub),
    Repair(Scrub),
    Replace(Replace),
    /// Take a set's devices away; its images keep it for `assemble`
    Remove {
        /// The set
        name: String,
    },
}

/// Make a set of images: raid0, raid1 or raid10
///
/// Prints the file of the device, which can be used at once: what the legs do not have in common yet
/// is made the same in the background (`dmsim wait --sync NAME` waits for that, with a bar). Images that
/// are all made here are the same already. The smallest image says how large the legs are. Where a step fails, all is put back.
///
/// An image that holds something, a leg of another set for example, is refused.
#[derive(Args, Clone, Debug)]
pub(crate) struct New {
    /// raid0, raid1 or raid10
    pub(crate) level: String,
    /// The legs: files, attached images or mapped devices
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// What the device is to be called
    #[arg(required = true)]
    pub(crate) name: String,
    /// Make the images that are not there, of this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// How much is on a leg before the next one has its turn [default: 64K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) chunk: Option<u64>,
    /// What a bit of the bitmap stands for: a power of two [default: 4M, or what 2^21 bits need]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) region_size: Option<u64>,
    /// How many copies a raid10 keeps [default: 2]
    #[arg(long, value_name = "COUNT")]
    pub(crate) copies: Option<usize>,
    /// Where a raid10 keeps its copies [default: near]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Take the legs for the same already: nothing is made so at first
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Overwrite what the images hold
    #[arg(long)]
    pub(crate) force: bool,
}

/// Where copies lie.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Format {
    /// On the next legs
    Near,
    /// In another part of the next legs: reads in a row are as fast as with raid0
    Far,
    /// In the next row of the next legs
    Offset,
}

/// Put a set together again from its images alone
///
/// What the set is and which leg each image is, the images say themselves. A leg that is missing is
/// left out, as long as the others have all of the data: a line on standard error says so. One that
/// the others have as failed gets what it has missed. Images that do not fit one another are refused;
/// dm-raid's superblocks have no name of the set, so images of another set that was made the same way
/// are not noticed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Assemble {
    /// The images, in any order
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// What the device is to be called
    #[arg(long)]
    pub(crate) name: String,
}

/// Show how a set is: its legs, and what goes on
///
/// --json prints an object: name; level; format and copies, null where the level has none; size_bytes,
/// chunk_size_bytes and region_size_bytes, 0 where there are none; health (`in sync`, `resyncing`,
/// `rebuilding`, `degraded` or `suspended`); legs, a list of objects with leg (its place), state
/// (in_sync, resyncing, rebuilding, failed or missing), major and minor of its data's device, and file;
/// action, null or an object with what, done_bytes, total_bytes, percent and seconds_left;
/// differing_bytes, what the last check found.
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// The set
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare the copies of a set; `repair` makes them the same
///
/// It goes on beside everything else, and shows a bar. An interrupt breaks it off. What differs is
/// counted in pieces of 64 KiB or a chunk, for each copy that is not as the first. `repair` compares
/// first, and mends what differs: every piece becomes what its first copy is.
///
/// Exit status: 0 where no copy differs, or all that did are the same now; 1 where some do; 130 when the
/// command was interrupted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Scrub {
    /// The set
    pub(crate) name: String,
    /// Return when it has begun; `dmsim raid status` shows the rest
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Put another image in the place of a leg, one that has failed or is missing too
///
/// The set goes on as it was, with everybody who has it open. The new leg is filled from the others,
/// with a bar; an interrupt ends the waiting alone. Refused where no other leg has some of the data.
/// The old leg's devices are removed, and its image is left alone.
#[derive(Args, Clone, Debug)]
pub(crate) struct Replace {
    /// The set
    pub(crate) name: String,
    /// The leg: its place from 0, or its image or device
    pub(crate) leg: String,
    /// What takes its place: as large as the other legs at least
    pub(crate) image: PathBuf,
    /// Overwrite what the image holds
    #[arg(long)]
    pub(crate) force: bool,
    /// Return when the new leg is in its place, and is filled in the background
    #[arg(long)]
    pub(crate) no_wait: bool,
}

impl From<New> for Create {
    fn from(typed: New) -> Create {
        let New { level, images, name, size, chunk, region_size, copies, .. } = typed;
        let format = typed.format.map(|format| match format {
            Format::Near => raid::Format::Near,
            Format::Far => raid::Format::Far,
            Format::Offset => raid::Format::Offset,
        });
        let New { no_sync, force, .. } = typed;
        Create { level, images, name, size, chunk, region_size, copies, format, no_sync, force }
    }
}
