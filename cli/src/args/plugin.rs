//! The options of `test-plugin`.

use std::path::PathBuf;

use clap::Args;

/// Hold the target types of a library to what every target must do
///
/// Runs the parts of the conformance suite, each in a process of its own, on simulated disks `a`, `b`
/// and `c` of 1024 sectors. Callbacks of the library run one at a time, as a seed chooses. Exit
/// status: 0 when all parts hold, 1 when one does not.
#[derive(Args, Clone, Debug)]
pub(crate) struct TestPlugin {
    /// The library
    pub(crate) file: PathBuf,
    /// A table with the target under test, as '0 64 mine a 0'
    #[arg(long)]
    pub(crate) table: String,
    /// Run this part alone
    #[arg(long)]
    pub(crate) part: Option<String>,
    /// Run the case of this seed alone
    #[arg(long, requires = "part")]
    pub(crate) seed: Option<u64>,
    /// Search each part for so long
    #[arg(long, value_name = "SECONDS", conflicts_with = "seed")]
    pub(crate) search: Option<u64>,
    /// Leave a part out; with `model`, the content is not looked at by the others either. May be
    /// given again
    #[arg(long, value_name = "PART")]
    pub(crate) except: Vec<String>,
    /// Run in this process, which the library may end
    #[arg(long, hide = true, requires = "part")]
    pub(crate) here: bool,
}
