//! How a daemon is run.

use std::path::PathBuf;

/// What a daemon is told when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where devices are shown, if not in the instance's `mapper/`.
    pub mount: Option<PathBuf>,
    /// Lets other users in, as far as file modes do.
    pub allow_other: bool,
    /// Keeps pages in the page cache.
    pub cache: bool,
    /// Refuses writes to all devices.
    pub read_only: bool,
    /// The program of dmsim that guards the mount, as `guard MOUNT NUMBER PID`: it ends the mount where
    /// the daemon was killed and cannot end. Without one nobody does.
    pub guard: Option<PathBuf>,
    /// Libraries with target types, which [`launch`](crate::launch::launch) hands on; whoever calls
    /// [`run`](crate::run) has loaded them into its registry.
    pub plugins: Vec<PathBuf>,
    /// Loads none of those on record either.
    pub no_plugin: bool,
}
