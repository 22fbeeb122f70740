//! The command line of `stack`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ops::stack::{Existing, How, ImagesBy, Keys, Minors};

use super::parse_named_file;

/// Save all devices and images as a file, make them of one, say what differs
///
/// A file says what a stack is, as TOML: images and how they are attached, devices with their tables, and plug-ins.
/// Paths in it start from the folder that it lies in, so that it lives in a repository beside the images.
/// docs/src/stacks.md has one with all there is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Stack {
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: StackVerb,
}

/// What to do with a file.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum StackVerb {
    /// Write all images and devices that there are to a file
    ///
    /// Keys are left out: `?` and their length stand in their places, and `load` asks for them. Faults that are
    /// armed, read-ahead and modes of devices' files are not written.
    Save(Save),
    /// Make the images and devices of a file; what is there already, stays
    ///
    /// A second load changes nothing. A device that is there otherwise is refused, and nothing done, unless
    /// --reload is said. What fails in the middle is undone. The daemon is started where none runs.
    Load(Load),
    /// Say what `load` would change, and change nothing
    ///
    /// Exit status: 0 where all is as the file says, 1 where something is not, 2 where it cannot be told.
    ///
    /// --json prints for each: kind (`image`, `device`); name; action (`make`; `reload`: with --reload; `refuse`: it
    /// cannot be changed where it is); differs, a list of field, in_file and now.
    Diff(Diff),
}

/// The file, and its form.
#[derive(Args, Clone, Debug)]
pub(crate) struct StackFile {
    /// The file; `-` for standard input or output
    pub(crate) file: PathBuf,
    /// It is in the form of `dmsetup create --concise`: devices alone, images by their paths
    #[arg(long)]
    pub(crate) concise: bool,
}

/// How a stack is saved.
#[derive(Args, Clone, Debug)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) file: StackFile,
    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Write the keys too; nobody else may read the file then
    #[arg(long)]
    pub(crate) showkeys: bool,
    /// Write minor numbers; without it, a load takes the lowest free ones
    #[arg(long)]
    pub(crate) minors: bool,
}

impl Save {
    /// Returns how it is written down.
    pub(crate) fn how(&self) -> How {
        How {
            keys: if self.showkeys { Keys::Plain } else { Keys::LeftOut },
            minors: if self.minors { Minors::Kept } else { Minors::Any },
            images: if self.file.concise { ImagesBy::Path } else { ImagesBy::Name },
        }
    }
}

/// How a stack is loaded.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) file: StackFile,
    /// Change devices that are there otherwise: load their tables and swap them in, suspend or resume them
    #[arg(long)]
    pub(crate) reload: bool,
    /// Take a device's passphrase or key from a file. May be given again
    #[arg(long = "key-file", value_name = "NAME=FILE", value_parser = parse_named_file)]
    pub(crate) key_files: Vec<(String, PathBuf)>,
    /// Read a device's header from this file. May be given again
    #[arg(long = "header", value_name = "NAME=FILE", value_parser = parse_named_file)]
    pub(crate) headers: Vec<(String, PathBuf)>,
    /// Print nothing of what was done
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Load {
    /// Returns what becomes of devices that are there otherwise.
    pub(crate) fn existing(&self) -> Existing {
        if self.reload { Existing::Reload } else { Existing::Refuse }
    }
}

/// How differences are shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) file: StackFile,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
