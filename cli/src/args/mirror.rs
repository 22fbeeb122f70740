//! The command line of the verbs on mirrors.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ops::size::parse_size;
use sim_core::Fails;

/// Make a mirror of a device in use, or change the legs of one
///
/// The device goes on as it was, with everybody who has it open: the table is put in while it is
/// suspended for a moment. Where anything fails, all is put back.
///
/// --add makes a mirror of any device, or gives a mirror one leg more (9 at most). What the new leg
/// held is overwritten, in the background: `dmsim wait --sync NAME` waits for that. A table that is
/// one `linear` line is the first leg's; any other moves to a new device NAME-leg0 below. The mirror
/// has the features handle_errors and keep_log: it is used on while one leg has the data.
///
/// --drop takes a leg out, and leaves its data alone. The device of the last leg gets its own table
/// back. Refused where no other leg has all of the data. With a log in memory the legs that stay are
/// resynced from the first of them; with one on a device, where it says so.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["add", "drop", "resync_rate"])))]
pub(crate) struct Change {
    /// The mapped device
    pub(crate) name: String,
    /// Add this leg: a file, an attached image or a mapped device, as large as the device at least
    #[arg(long, value_name = "IMAGE", conflicts_with = "drop")]
    pub(crate) add: Option<PathBuf>,
    /// Drop this leg: its name, major:minor, path, or place in the table, from 0
    #[arg(long, value_name = "LEG")]
    pub(crate) drop: Option<String>,
    /// Keep the log of regions in memory (`core`), or in this image, which is empty, or made where
    /// it is not there: a resync then goes on after a restart [default: core]
    #[arg(long, value_name = "core|IMAGE", requires = "add")]
    pub(crate) log: Option<PathBuf>,
    /// How much the log tells apart: a power of two of sectors [default: 512K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "add")]
    pub(crate) region_size: Option<u64>,
    /// Copy no more than so much a second (10M), or as much as can be (0), until the table or the
    /// daemon goes
    #[arg(long, value_name = "SIZE", value_parser = parse_rate, conflicts_with = "drop")]
    pub(crate) resync_rate: Option<u64>,
    /// Say nothing of another device that writes where these do
    #[arg(long)]
    pub(crate) quiet: bool,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_size(text) }
}

/// Compare the legs of a mirror
///
/// Reads all legs, and compares them region by region. Nothing is held up meanwhile; regions that
/// seem to differ are read again under a suspension of some 50 ms at a time, so that what is being
/// written does not count. Regions that are not in sync, as the mirror knows itself, are told apart:
/// they are the resync's. Legs that are made to fail are read all the same.
///
/// Exit status: 0 where no region differs, or all that did are repaired; 1 where some do.
///
/// --json prints an object: name; regions, a count, and region_size_bytes; legs, a list of
/// objects with major, minor and file; differing, a list of objects with region, regions (how many), start and
/// len in sectors, and legs (the places of those that differ from the first, or from --from);
/// differing_regions; out_of_sync, a list of objects with region and regions; out_of_sync_regions;
/// repaired.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// The mirror
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Copy regions that differ from one leg to the others
    #[arg(long, requires = "from")]
    pub(crate) repair: bool,
    /// The leg that is right: its name, major:minor, path, or place in the table, from 0
    #[arg(long, value_name = "LEG", requires = "repair")]
    pub(crate) from: Option<String>,
}

/// Make a leg of a mirror or a RAID set fail, a mirror's log, or a path of a multipath device
///
/// For this device alone, and before anything reaches the leg's device: others use it on, and no
/// data come to harm. Whatever else of the mirror lies on the same device fails too. `status` shows
/// the leg's letter when the mirror has noticed; `tree` and `images` show it at once. `dmsim heal`
/// ends it, and so does a restart of the daemon, which remembers none of this: a mirror whose first
/// leg has missed writes is to be healed before. A set's leg is out with the first I/O that fails: until
/// then its status has it in sync. A path is out of use with the first bio that it fails. What else can go wrong, and
/// of any device, `dmsim fault` has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Fail {
    /// The mirror, the set, or the multipath device
    pub(crate) name: String,
    /// The leg or path: its name, major:minor, path, or place in the table, from 0; or `log`
    pub(crate) leg: String,
    /// Fail reads alone
    #[arg(long, conflicts_with = "writes")]
    pub(crate) reads: bool,
    /// Fail writes, discards and flushes alone
    #[arg(long)]
    pub(crate) writes: bool,
}

/// Take faults of a device away; bring what failed of a mirror, a RAID set or a multipath device up to date
///
/// What `dmsim fault` has armed for the device is gone then, and what it held goes on.
///
/// The leg does not fail any more, and is brought up to date: the mirror is suspended and resumed,
/// which makes the resync look again, and writes that were held go on. When all is in sync the table
/// is loaded again where the mirror has to forget that a leg or its log has failed; with a log in
/// memory that is one more resync. A RAID set needs no more than the suspension: a leg that can be used
/// again gets what it has missed, by the bitmap. Returns when that is done. Paths of a multipath device
/// are reinstated.
///
/// Says what was done, what is left, and what helps there. Exit status: 0 when it has ended well, or there was
/// nothing to heal; 1 when it failed, or nothing could be done for a set's legs or journal; 130 when the command was
/// interrupted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Heal {
    /// The mapped device
    pub(crate) name: String,
    /// The leg or path, or `log`; the device that `fault --below` named [default: all]
    pub(crate) leg: Option<String>,
    /// Return when the resync has begun; the same again does the rest
    #[arg(long)]
    pub(crate) no_wait: bool,
}

impl Fail {
    /// Returns what is to fail.
    pub(crate) fn fails(&self) -> Fails {
        match (self.reads, self.writes) {
            (true, false) => Fails::Reads,
            (false, true) => Fails::Writes,
            (false, false) | (true, true) => Fails::All,
        }
    }
}
