//! What the daemon holds, and what its threads tell each other.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};

use backing::Images;
use fuse_frontend::Frontend;
use sim_core::{Access, Control};

use super::clients::Clients;
use super::counted::Count;
use super::kmsg::Kmsg;
use super::shell::Shell;
use crate::fault::{About, Fault};
use crate::record::Keeper;

/// What the daemon holds.
pub(super) struct Daemon {
    pub(super) me: Weak<Daemon>,
    pub(super) mount: PathBuf,
    /// The directory of what survives a reboot.
    pub(super) state: PathBuf,
    pub(super) control: Arc<Control>,
    pub(super) images: Arc<Images>,
    pub(super) frontend: Arc<Frontend>,
    /// Whether anything may be written by way of files or nodes.
    pub(super) access: Access,
    /// What the kernel would log.
    pub(super) kmsg: Arc<Kmsg>,
    /// What `dmsim shell` shows, and where.
    pub(super) shell: Shell,
    pub(super) private_dir: PathBuf,
    /// The program of dmsim that helpers run.
    pub(super) program: Option<PathBuf>,
    pub(super) keeper: Arc<Keeper>,
    /// What of the record was found damaged when the daemon started.
    pub(super) damage: Option<String>,
    pub(super) clients: Arc<Clients>,
    /// Requests that are not answered yet.
    pub(super) replying: Count,
    pub(super) events: Sender<Event>,
}

/// What the main thread is told.
pub(super) enum Event {
    /// A signal asks to end.
    Signal,
    /// A client asks to end. It is sent what stands in the way, or, when the daemon is about to
    /// exit, what went wrong on the way.
    Stop { force: bool, answer: Sender<Result<Option<Fault>, Fault>> },
}

/// Starts a thread that lives as long as the daemon.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).about(format!("thread {name}"))
}
