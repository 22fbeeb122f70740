//! The command line of the verbs that dmsetup does not have.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::mirror::options::{Change, Check, Fail, Heal};
use crate::size::parse_size;
use crate::snapshot::options::{Diff, Drop, Merge, Take};

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
/run/dmsim for root. `dmsim demo` shows it all on a stack of its own.";

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
    /// Flush, unmount and end the daemon
    Stop {
        /// Also when devices are open: what is held fails with EIO
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
    /// List the attached images
    Images {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Open(Box<Open>),
    /// Remove a device that `open` made
    Close {
        /// The device
        name: String,
    },
    /// Print and check what a container or a snapshot's store holds, without any key
    ///
    /// Exit status: 1 where a store is damaged; else as `open`.
    ///
    /// --json of a store prints an object: type (snapshot), version, valid; chunk_size, size,
    /// allocated and metadata in sectors; chunks, entries_per_area, full_areas, exceptions, runs,
    /// next_free, unused_chunks and free_chunks as counts; status as the device's would be; damaged,
    /// damaged_entries and damage (objects with area, index, old, new and why), shared_chunks and
    /// shared (chunk numbers), of both lists the first 1000; fault, a text or null. --entries adds
    /// entries: objects with old, new and len in chunks.
    Dump {
        /// The image, or its detached header, or a snapshot's store
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// List the runs of chunks that a store holds, in its own order
        #[arg(long)]
        entries: bool,
    },
    Snapshot(Take),
    Merge(Merge),
    Drop(Drop),
    Wait(Wait),
    Mirror(Change),
    Check(Check),
    Fail(Fail),
    Heal(Heal),
    Diff(Diff),
    /// Bring back what is on record from before; keys are asked for again
    Restore {
        /// Drop the record instead
        #[arg(long)]
        forget: bool,
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
}

/// How a daemon is started.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Show the devices in DIR instead of in the instance's mapper/
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
    /// Stay in the foreground, and log to standard error
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Let other users in, as far as file modes do
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// Keep pages in the page cache
    #[arg(long)]
    pub(crate) cache: bool,
    /// Refuse writes to all devices
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Load target types from a library; its code runs in the daemon. May be given again
    #[arg(long = "plugin", value_name = "FILE")]
    pub(crate) plugins: Vec<PathBuf>,
    /// Be the daemon: leave the session, and tell standard output when it serves
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) detached: bool,
}

/// Which image to attach, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Attach {
    /// The image file
    pub(crate) image: PathBuf,
    /// Make the file first, of this size (512s, 64M, 10G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) create: Option<u64>,
    /// Reserve the room for all of it
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// The name that table lines use, as /dev/sda
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Refuse writes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Size of a logical block
    #[arg(long, value_name = "BYTES", value_parser = parse_sector_size)]
    pub(crate) sector_size: Option<u32>,
}

/// Open what an image holds: LUKS, BitLocker, VeraCrypt, plain dm-crypt
///
/// Exit status: 3 wrong passphrase or key slot, 4 no container, 5 damaged or too short, 6 unknown
/// cipher or hash, 7 reencryption in progress, 8 integrity, 9 costs more than the limits, 10 not
/// supported; 1 for anything else, 2 for a command line that makes no sense.
#[derive(Args, Clone, Debug)]
pub(crate) struct Open {
    /// The image: a file, an attached image's name, or a mapped device
    pub(crate) image: PathBuf,
    /// What the device is to be called
    pub(crate) name: String,
    /// Read the passphrase from a file, all of it; `-` is standard input
    #[arg(long, short = 'd', value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Read the passphrase from an open file descriptor
    #[arg(long, value_name = "N", conflicts_with = "key_file")]
    pub(crate) key_fd: Option<i32>,
    /// Skip so many bytes of the key file
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) keyfile_offset: u64,
    /// Read so many bytes of the key file
    #[arg(long, value_name = "BYTES")]
    pub(crate) keyfile_size: Option<u64>,
    /// Try this key slot alone
    #[arg(long, short = 'S', value_name = "N")]
    pub(crate) key_slot: Option<u32>,
    /// The header lies in this file, apart from the data
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
    /// Refuse writes to the device
    #[arg(long, short = 'r')]
    pub(crate) read_only: bool,
    /// Pass discards on to the image
    #[arg(long)]
    pub(crate) allow_discards: bool,
    /// Derive keys though it takes as much memory (default 4G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) kdf_memory: Option<u64>,
    /// Derive keys though it takes so many iterations of PBKDF2 (default 100 million), or passes of
    /// Argon2 over its memory in KiB
    #[arg(long, value_name = "N")]
    pub(crate) kdf_iterations: Option<u64>,
    /// What the image is
    #[arg(long = "type", value_enum, default_value_t = Kind::Auto)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) headerless: Headerless,
    #[command(flatten)]
    pub(crate) plain: Plain,
    #[command(flatten)]
    pub(crate) tcrypt: Tcrypt,
}

/// What kind of container an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// What its header says: LUKS1, LUKS2, BitLocker
    Auto,
    /// Plain dm-crypt: there is no header
    Plain,
    /// VeraCrypt, or TrueCrypt: the header says nothing before it is opened
    Veracrypt,
    /// TrueCrypt alone, which is much faster to try
    Truecrypt,
}

/// What no header says.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "With --type plain, veracrypt and truecrypt, whose headers do not say it"
)]
pub(crate) struct Headerless {
    /// The cipher [plain: aes-xts-plain64; else all are tried]
    #[arg(long, short = 'c', value_name = "SPEC")]
    pub(crate) cipher: Option<String>,
    /// What the passphrase is hashed with; `plain` takes it as it is [plain: sha256; else all are
    /// tried]
    #[arg(long, value_name = "NAME")]
    pub(crate) hash: Option<String>,
}

/// How a TrueCrypt or VeraCrypt volume is found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type veracrypt and truecrypt")]
pub(crate) struct Tcrypt {
    /// Open the hidden volume
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Open an encrypted system disk
    #[arg(long, conflicts_with = "hidden")]
    pub(crate) system: bool,
    /// Use the header at the end of the image
    #[arg(long)]
    pub(crate) backup: bool,
    /// The personal iterations multiplier
    #[arg(long, value_name = "N")]
    pub(crate) pim: Option<u32>,
    /// A key file that goes with the passphrase. May be given again
    #[arg(long = "with-key-file", value_name = "FILE")]
    pub(crate) key_files: Vec<PathBuf>,
}

/// What there is no header for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type plain")]
pub(crate) struct Plain {
    /// The length of the key
    #[arg(long, short = 's', value_name = "BITS", default_value_t = 256)]
    pub(crate) key_size: u32,
    /// Where the data begin on the image
    #[arg(long, short = 'o', value_name = "SECTORS", default_value_t = 0)]
    pub(crate) offset: u64,
    /// What is added to sector numbers for initialization vectors
    #[arg(long, short = 'p', value_name = "SECTORS", default_value_t = 0)]
    pub(crate) skip: u64,
    /// The length of the data [default: up to the end]
    #[arg(long, short = 'b', value_name = "SECTORS")]
    pub(crate) size: Option<u64>,
    /// What is encrypted as one
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    pub(crate) sector_size: u32,
    /// Count initialization vectors in these instead of in 512 bytes
    #[arg(long)]
    pub(crate) iv_large_sectors: bool,
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
    /// Wait until all legs of the mirror are in sync
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
    /// Folder of the crate, which must not be there yet [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Checkout of dmsim to build against [default: the one this program was built from]
    #[arg(long, value_name = "DIR")]
    pub(crate) checkout: Option<PathBuf>,
}

/// Reads `NAME=FILE`.
fn parse_named_file(text: &str) -> Result<(String, PathBuf), String> {
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
