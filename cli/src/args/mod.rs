//! The command line of the verbs that dmsetup does not have.

pub(crate) mod crash;
pub(crate) mod cryptsetup;
pub(crate) mod dump;
pub(crate) mod events;
pub(crate) mod fault;
pub(crate) mod ignored;
pub(crate) mod mirror;
pub(crate) mod mount;
pub(crate) mod open;
pub(crate) mod partitions;
mod plugin;
pub(crate) mod raid;
pub(crate) mod see;
pub(crate) mod shell;
pub(crate) mod snapshot;
pub(crate) mod stack;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use daemon::Options;
use daemon::launch::this_program;
use ops::size::parse_size;

use crate::new_target::Kind;
use crash::Crash;
use dump::{Close, Dump};
use events::Events;
use fault::FaultArgs;
use mirror::{Change, Check, Fail, Heal};
use mount::{Mount, Umount};
use open::Open;
use partitions::Partitions;
pub(crate) use plugin::TestPlugin;
use raid::Raid;
use see::{GraphArgs, HeatArgs, TopArgs, TraceArgs, Where};
use shell::Shell;
use snapshot::{Diff, GiveUp, Merge, Take};
use stack::Stack;

/// What the help says of the verbs that dmsetup has.
const DMSETUP_VERBS: &str = "\
Verbs of dmsetup(8), with its options:
  create, remove, remove_all, rename   devices
  load (reload), clear, wipe_table     their tables
  suspend, resume                      and whether they run
  info, ls, table, status, deps        what there is
  message, setgeometry, wait           talking to targets
  targets, version                     what this program can do
`dmsim help dmsetup` prints them with their options. Called by the name dmsetup, this program
has these alone, and dmsetup's output to the letter.

An instance is a directory: --dir DIR, else $DMSIM_DIR, else $XDG_RUNTIME_DIR/dmsim, else
/run/dmsim for root. Without --dir and $DMSIM_DIR, what must survive a reboot (the record, stores
of snapshots, the daemon's log) lies in $XDG_STATE_HOME/dmsim, else /var/lib/dmsim for root and
~/.local/state/dmsim for a user. `dmsim demo` shows it all on a stack of its own.";

/// The Linux device-mapper in userspace.
#[derive(Parser, Debug)]
#[command(name = "dmsim", version, after_help = DMSETUP_VERBS, max_term_width = 100)]
pub(crate) struct Cli {
    /// Directory of the instance
    // Taken out of the arguments before they come here; named for the help.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// A verb that dmsetup does not have.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Start the instance's daemon; returns when the mount serves
    Start(Start),
    /// End a mount whose daemon was killed and cannot end: what a daemon starts beside it
    #[command(hide = true)]
    Guard {
        mount: PathBuf,
        number: String,
        daemon: u32,
    },
    /// Serve block nodes on the standard input: what a daemon starts for `shell`
    #[command(hide = true)]
    Nodes {
        tree: PathBuf,
    },
    /// Hand over a copy of mounts on the standard input: what `shell --enter` starts
    #[command(hide = true)]
    HandOver {
        dir: PathBuf,
    },
    /// Run a shell, or a command, that sees this instance as the machine's device-mapper
    Shell(Shell),
    /// Flush, unmount and end the daemon
    Stop {
        /// Also when devices are open (what is held fails with EIO), or an image cannot be flushed
        #[arg(long)]
        force: bool,
    },
    /// Make an image file a backing device, and print its major:minor
    Attach(Attach),
    /// Take an image's device away
    Detach {
        /// Its name, major:minor or path
        name: String,
    },
    /// Look how long an attached image is by now, and print its size in sectors
    ///
    /// An image has the size that its file had when it was attached, until this is said, as
    /// `losetup -c` says it to a loop device: grow or cut the file first. Mapped devices above have
    /// the size that their tables say; what goes by the size below, as the store of a snapshot does,
    /// sees the new one at once. An image that fails as its file was cut can be used again.
    Resize {
        /// Its name, major:minor or path
        image: String,
    },
    /// List the attached images
    ///
    /// Behind an image stands what is wrong with it: why it fails, what the system refused last, and that its file
    /// was deleted, moved or replaced by another one while it is in use: it goes on with the file that it has open.
    ///
    /// --json prints for each: name and kernel_name; major and minor; file; size_bytes; read_only; sector_size_bytes;
    /// host_device; open_count; allocated_bytes; fault, last_error, or null; file_lost (`deleted`, `moved`, `replaced`,
    /// or null); failing, a list of the devices for which it fails on purpose, and what of it.
    Images {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Open(Box<Open>),
    Close(Close),
    Mount(Mount),
    Umount(Umount),
    Dump(Dump),
    Partitions(Partitions),
    Snapshot(Take),
    Merge(Merge),
    Drop(GiveUp),
    Wait(Wait),
    Mirror(Change),
    Raid(Raid),
    Check(Check),
    Fault(Box<FaultArgs>),
    Fail(Fail),
    Heal(Heal),
    Diff(Diff),
    Stack(Stack),
    Events(Events),
    Crash(Box<Crash>),
    /// Bring back what is on record from before; keys are asked for again
    ///
    /// Prints what is back. Exit status: 1 where something is not, or there is no record.
    Restore {
        /// Drop the record instead, or what it has of these
        #[arg(long)]
        forget: bool,
        /// With --forget: drop these alone, called as `restore` calls them, or an image by its path; the rest stays
        /// on record. With a RAID set, what was made for its legs goes, too
        #[arg(value_name = "NAME", requires = "forget")]
        names: Vec<String>,
        /// Take a device's passphrase or key from a file. May be given again
        #[arg(long = "key-file", value_name = "NAME=FILE", value_parser = parse_named_file)]
        key_files: Vec<(String, PathBuf)>,
        /// Read a device's header from this file. May be given again
        #[arg(long = "header", value_name = "NAME=FILE", value_parser = parse_named_file)]
        headers: Vec<(String, PathBuf)>,
    },
    /// Print the stack: devices, what they map onto, images
    Tree {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Graph(GraphArgs),
    Heat(HeatArgs),
    Top(TopArgs),
    Trace(TraceArgs),
    Where(Where),
    /// Describe devices; without --json as dmsetup does
    Info {
        /// Print JSON
        #[arg(long, required = true)]
        json: bool,
        /// The device; all of them where none is named
        name: Option<String>,
        /// Name the device by its uuid
        #[arg(short, long, conflicts_with = "name")]
        uuid: Option<String>,
    },
    /// Build a stack from nothing, use it, check it, and show it
    Demo(Demo),
    /// Write a crate with a working target of one's own, its tests and its fuzzer
    NewTarget(NewTarget),
    TestPlugin(TestPlugin),
}

/// How a daemon is started.
#[derive(Args, Clone, Debug)]
pub(crate) struct Start {
    /// Show the devices in DIR instead of in the instance's mapper/
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
    /// Stay in the foreground, and log to standard error
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Let other users in, as far as file modes do; without it they get EACCES, root too
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// Keep pages in the page cache
    #[arg(long)]
    pub(crate) cache: bool,
    /// Refuse writes to all devices
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Load target types from a library; its code runs in the daemon. May be given again. Without it,
    /// those of the daemon before are loaded
    #[arg(long = "plugin", value_name = "FILE")]
    pub(crate) plugins: Vec<PathBuf>,
    /// Load no library, and take those of the daemon before off the record
    #[arg(long, conflicts_with = "plugins")]
    pub(crate) no_plugin: bool,
    /// Be the daemon: leave the session, and tell standard output when it serves
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) detached: bool,
    /// Keep what survives a reboot in DIR, as the command that starts the daemon has found it
    #[arg(long, value_name = "DIR", hide = true, requires = "detached")]
    pub(crate) state: Option<PathBuf>,
}

impl Start {
    /// Returns what the daemon is told.
    pub(crate) fn options(&self) -> Options {
        Options {
            mount: self.mount.clone(),
            allow_other: self.allow_other,
            cache: self.cache,
            read_only: self.read_only,
            guard: Some(this_program()),
            plugins: self.plugins.clone(),
            no_plugin: self.no_plugin,
        }
    }
}

/// Which image to attach, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Attach {
    /// The image file; with --host-device, a block device
    pub(crate) image: PathBuf,
    /// Make the file first, of this size (512s, 64M, 10G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) create: Option<u64>,
    /// Reserve the room for all of it
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// The name that table lines use, as /dev/sda. /dev/loopN, /dev/sdX and /dev/vdX, with partitions,
    /// have the number that they have on Linux; any other image the lowest free one from 7:4096 on,
    /// as those below are kept for names
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Refuse writes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Size of a logical block
    #[arg(long, value_name = "BYTES", value_parser = parse_sector_size)]
    pub(crate) sector_size: Option<u32>,
    /// The image is a block device of this machine, which nobody else uses: without this, none is
    /// ever opened, whatever a table says
    #[arg(long, conflicts_with_all = ["create", "preallocate"])]
    pub(crate) host_device: bool,
}

/// Wait for a merge or a resync; without --merge and --sync as dmsetup does
///
/// Exit status: 0 when it has ended well, 1 when it failed or there is nothing to wait for, 130
/// when the command was interrupted.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["merge", "sync"])))]
pub(crate) struct Wait {
    /// Wait until the merge is done
    #[arg(long)]
    pub(crate) merge: bool,
    /// Wait until all legs of the mirror, or of the RAID set, are in sync
    #[arg(long)]
    pub(crate) sync: bool,
    /// The device
    pub(crate) name: String,
}

/// How the demonstration runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Demo {
    /// Leave the stack running, to look around in
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Which crate to write, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct NewTarget {
    /// The word in table lines
    pub(crate) name: String,
    /// What the target does, to start from
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub(crate) kind: Kind,
    /// Folder of the crate, which must not be there yet [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Checkout of dmsim to build against [default: the one this program was built from]
    #[arg(long, value_name = "DIR")]
    pub(crate) checkout: Option<PathBuf>,
}

/// Reads `NAME=FILE`.
pub(crate) fn parse_named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), file.into()))
        }
        _ => Err(format!("expected NAME=FILE, found `{text}`")),
    }
}

fn parse_sector_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err(format!("expected 512 or 4096, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
