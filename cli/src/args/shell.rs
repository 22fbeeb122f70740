//! The command line of `shell`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Run a shell, or a command, that sees this instance as the machine's device-mapper
///
/// Unmodified dmsetup, lvm and cryptsetup work in it: they find /dev/mapper/control, block nodes,
/// /dev/mapper/NAME and what they look for in /sys and /proc, in a mount namespace of their own. No
/// program outside sees the names; the nodes below them (a partition of a loop device each) are the
/// machine's. That needs root, for the daemon too. An ordinary user has dmsetup in it, and devices as
/// files. `docs/src/shell.md` has examples.
///
/// Exit status: that of the command; 127 where there is none.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shell {
    /// Show an image file as the device that is called as the file is, without its ending; again for
    /// more. One that is shown already grows where its file has grown
    #[arg(long = "disk", value_name = "IMAGE")]
    pub(crate) disks: Vec<PathBuf>,
    /// Run it in the mount namespace of this process, a container's first perhaps, in which all programs
    /// see the instance as long as the command runs
    #[arg(long, value_name = "PID")]
    pub(crate) enter: Option<u32>,
    /// What to run instead of $SHELL, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
