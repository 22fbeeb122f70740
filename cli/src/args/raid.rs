//! The command line of the verbs on RAID sets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ops::raid::{self, Create};
use ops::size::parse_size;

/// Make RAID sets of images, look at them, check them, replace their legs and add some
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
    Check(Check),
    Repair(Repair),
    Replace(Replace),
    Grow(Grow),
    /// `dmsim fail`
    #[command(hide = true)]
    Fail(Elsewhere),
    /// `dmsim heal`
    #[command(hide = true)]
    Heal(Elsewhere),
    /// `dmsim wait --sync`
    #[command(hide = true)]
    Wait(Elsewhere),
    /// Take a set's devices away; its images keep it for `assemble`
    ///
    /// Also where the set itself is not there, and devices of its legs are: of a command that was cut off, or a
    /// `restore` that lacked others.
    Remove {
        /// The set
        name: String,
    },
}

/// What was typed behind a verb that is none of these, but one for sets all the same.
#[derive(Args, Clone, Debug)]
pub(crate) struct Elsewhere {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Make a set of images: raid0, raid1, raid10, raid4, raid5 or raid6
///
/// A raid1 keeps the same on each leg, a raid10 two copies of each chunk; a raid4 and a raid5 can do
/// without one leg, whichever it is, and a raid6 without two. A raid6 takes 4 images at least, a raid10 as
/// many as it keeps copies, the others 2.
///
/// Prints the file of the device, which can be used at once: what the legs do not have in common yet
/// is made the same in the background (`dmsim wait --sync NAME` waits for that, with a bar). Images that
/// are all made here are the same already, but a raid6 is synchronized all the same. The smallest image says how large the legs are: a MiB less,
/// and whole chunks. Where a step fails, all is put back.
///
/// An image that holds something, a leg of another set for example, is refused.
#[derive(Args, Clone, Debug)]
pub(crate) struct New {
    /// raid0, raid1, raid10, raid4, raid5 (as raid5_ls) or raid6 (as raid6_zr), or the number alone; or
    /// the kernel's name of a type: raid5_n, raid5_ls, raid5_rs, raid5_la, raid5_ra, raid6_zr, raid6_nr,
    /// raid6_nc, raid6_n_6, raid6_ls_6, raid6_rs_6, raid6_la_6, raid6_ra_6, raid10_near, raid10_far,
    /// raid10_offset
    pub(crate) level: String,
    /// The legs: files, attached images or mapped devices
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// What the device is to be called
    #[arg(required = true)]
    pub(crate) name: String,
    /// Make the images that are not there, of this size; those that are there keep theirs
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
    /// Of a raid4, raid5 or raid6: keep what a write changes in this image before a leg is written, which closes
    /// the write hole. 5 MiB at least; the log is behind its first MiB
    #[arg(long, value_name = "IMAGE")]
    pub(crate) journal: Option<PathBuf>,
    /// Take the legs for the same already, or the parity for right: nothing is made so at first. What is
    /// wrong of a raid4 or a raid5 then comes to light when a leg is lost; a raid6 does not take it
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
/// the others have as failed gets what it has missed. A set with parity that was written without all legs
/// is warned of: where a crash came in between, what the missing leg had may be wrong (the write hole).
/// Images that do not fit one another are refused. dm-raid's superblocks have no name of the set: `create`
/// and `replace` put a label beside them, by which images of another set that was made the same way are told
/// apart; those of a set that was made otherwise have none, and are not noticed.
///
/// Members of an array that mdadm made are known as such: what was found and the table that was loaded
/// come before the file. Its superblocks and bitmap are kept as Linux keeps them, and mdadm takes it over
/// whenever the device is removed, or after a crash. So are the disks of a set that a BIOS made, in the formats
/// of Intel or DDF: its volumes are devices, one at a time. Sets of others are refused by name.
#[derive(Args, Clone, Debug)]
pub(crate) struct Assemble {
    /// The images, in any order
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// What the device is to be called
    #[arg(long)]
    pub(crate) name: String,
    /// Take parity that was never made right for what a missing leg has: some of the data is lost
    ///
    /// With --journal, also an empty image for a journal that is lost. No image that holds something is ever
    /// overwritten by this word.
    ///
    /// Of an array of md, as `mdadm --assemble --force`: take members that are out of date for good where there
    /// are too few others, and start what is not clean without all of its members
    #[arg(long)]
    pub(crate) force: bool,
    /// The image of its journal, without which a set that has one does not start; with --force, an empty image that is
    /// to be its journal instead of one that is lost. What is another set's, or holds anything else, is refused
    #[arg(long, value_name = "IMAGE")]
    pub(crate) journal: Option<PathBuf>,
    /// Of a set of a BIOS (Intel's, DDF) with several volumes: open this one
    #[arg(long, value_name = "VOLUME")]
    pub(crate) volume: Option<String>,
    /// The serial numbers of the disks that the images are of, in their order. An Intel set goes by these;
    /// not needed where the files are called by them
    #[arg(long, value_name = "SERIAL,..", value_delimiter = ',')]
    pub(crate) serials: Vec<String>,
}

/// Show how a set is: its legs, and what goes on
///
/// `marked` is what the write-intent bitmap has: what is being written or was a moment ago, and while a
/// leg is not there, what that misses. A crash while a set with parity lacks a leg may damage what that
/// leg had there, also where nobody wrote (the write hole): nothing else tells what it was.
///
/// --json prints an object: name; level, and raid_type, the kernel's name of it; format and copies, null
/// where the level has none; parities, how many legs' worth of a stripe is parity; size_bytes, and
/// becomes_bytes, null but while data moves onto more legs;
/// chunk_size_bytes and region_size_bytes, 0 where there are none; health (`in sync`, `resyncing`,
/// `rebuilding`, `reshaping`, `degraded`, `journal failed`, `broken` or `suspended`); may_lose, how many legs more may fail, whichever they are;
/// marked_bytes, what the bitmap has, or null; legs, a list of objects with leg (its place), state
/// (in_sync, resyncing, rebuilding, reshaping, failed or missing), major and minor of its data's device, file,
/// file_lost (`deleted`, `moved` or `replaced` where that path leads to the open file no more, else null), fails
/// (`reads`, `writes` or `all` where `dmsim fail` has it so, else null), and write_mostly; journal, null or an object with state (writethrough, writeback or failed), major, minor, file and
/// file_lost;
/// action, null or an object with what, done_bytes, total_bytes, percent and seconds_left;
/// unsettled, true where `replace` or `grow` was cut off and `dmsim heal` goes on with it;
/// differing_bytes, what the last check found; 0 also where none was run since the daemon's start, as the status
/// does not tell that.
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// The set
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare the copies of a set, or its parity with the data; `repair` mends what differs
///
/// It goes on beside everything else, and shows a bar. An interrupt breaks it off. What differs is
/// counted in pieces: of 64 KiB or a chunk, for each copy that is not as the first; of 4 KiB of each leg,
/// where parity is wrong.
///
/// Exit status: 0 where nothing differs; 1 where something does, no two legs in sync have the same to be
/// compared, or it failed; 130 when the command was interrupted.
///
/// --json prints an object: name; level; compared, false where there was nothing to be compared;
/// differing_bytes; repaired; left_out, the places of the legs that
/// are not in sync, and were not compared.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// The set
    pub(crate) name: String,
    /// Print JSON
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) json: bool,
    /// Return when it has begun; `dmsim raid status` shows the rest
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Make the copies of a set the same, or its parity right
///
/// Compares first, as `check` does, and mends what differs: every piece of a raid1 or raid10 becomes what
/// its first copy is; the parity of a raid4, raid5 or raid6 is computed anew from the data, which is taken
/// for right, as the kernel does it. What a leg could not be read of is computed from the others, and
/// written to it.
///
/// Exit status: 0 where nothing differs any more; 1 where nothing could be compared, or it failed; 130 when the command was interrupted.
///
/// --json prints the object that `check` does; differing_bytes is what differed before.
#[derive(Args, Clone, Debug)]
pub(crate) struct Repair {
    /// The set
    pub(crate) name: String,
    /// What it goes by: `copy` for a raid1 or raid10, `parity` for a raid4, raid5 or raid6 [default: what
    /// the level has]
    #[arg(long)]
    pub(crate) from: Option<Source>,
    /// Print JSON
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) json: bool,
    /// Return when it has begun; `dmsim raid status` shows the rest
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// What a repair goes by.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The first copy: the others become the same
    Copy,
    /// The parity of the data: it is computed anew
    Parity,
}

impl From<Source> for raid::Source {
    fn from(typed: Source) -> raid::Source {
        match typed {
            Source::Copy => raid::Source::Copy,
            Source::Parity => raid::Source::Parity,
        }
    }
}

/// Put another image in the place of a leg, one that has failed or is missing too
///
/// The set goes on as it was, with everybody who has it open. The new leg is filled from the others,
/// with a bar; an interrupt ends the waiting alone. Refused where the others do not have all of the data.
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

/// Give a set more legs: a raid1 can lose more of them then, any other becomes larger
///
/// The set goes on as it was, with everybody who has it open. The new legs of a raid1 are filled from the
/// others. Of a raid4, raid5, raid6 or raid10 (near or offset), data moves onto the new legs, with a bar;
/// when all has moved, the device becomes longer by itself, and the file system on it can be made so
/// (`resize2fs`, `xfs_growfs`). It goes on after a crash: `dmsim restore`, or `dmsim raid assemble` of all
/// images. There is no way back. An interrupt ends the waiting alone; `dmsim raid status` shows how far it is.
///
/// At the first time, each image of such a set is made longer, by 8 MiB (more with chunks of 2 MiB and
/// more), as data moves by that room. An image that is no file has to have it.
///
/// Refused while a leg is not in sync, and where an image is too small, holds something or is in use; a
/// raid0; far copies; a set that was not made by `raid create`, whose data moves by tables (docs/src/reshape.md).
#[derive(Args, Clone, Debug)]
pub(crate) struct Grow {
    /// The set
    pub(crate) name: String,
    /// The new legs: files, attached images or mapped devices, as large as the other legs at least
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Overwrite what the images hold
    #[arg(long)]
    pub(crate) force: bool,
    /// Return when the new legs are in their places, and are filled, or data moves, in the background
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
        let New { journal, no_sync, force, .. } = typed;
        Create {
            level,
            images,
            name,
            size,
            chunk,
            region_size,
            copies,
            format,
            journal,
            no_sync,
            force,
        }
    }
}
