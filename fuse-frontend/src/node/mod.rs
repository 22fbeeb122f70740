//! The control node: a mount with one file, `control`, which programs take for
//! `/dev/mapper/control`.
//!
//! libdevmapper looks whether the path is a character device with the number 10:236, then opens it
//! and makes ioctls. A file system may show a device, but whoever opens one leaves it. So the name
//! comes to one of two inodes, by what the caller is about to do: the device for whoever looks at it,
//! a regular file for whoever opens it. The kernel keeps neither, as the answers are valid for no
//! time.
//!
//! Of an ioctl the kernel brings the first 312 bytes; what is behind is read and written in the
//! memory of the caller, which waits meanwhile and cannot go away. What a call comes to is a
//! [`Calls`]' to say; each has a thread of its own, so that one that waits holds up no other.

mod caller;
mod file;
mod service;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backing::Cancel;
use sim_core::control::ioctl::{Reply, Request};
use sim_core::{Control, Runtime};

use crate::dev_fuse::Connection;
use crate::files::Caller;
use crate::mount::{self, DeviceId, MountError};
use crate::options::{Busy, Options};
use service::{Node, Served};

/// What the file is called.
pub const NAME: &str = "control";

/// How many threads read requests: none of them waits for what a call does.
const THREADS: usize = 2;

/// Carries out calls of device-mapper's ioctl interface.
pub trait Calls: Send + Sync + 'static {
    /// Carries out a call, and waits for as long as it takes: until `given_up` is cancelled, as the
    /// caller wants no answer any more.
    fn call(&self, caller: Caller, request: Request, given_up: &Cancel) -> Reply;

    /// Takes a line for the kernel's log.
    fn log(&self, line: &str);
}

/// A mounted control node. Dropping it unmounts, busy or not.
pub struct ControlNode {
    dir: PathBuf,
    device: DeviceId,
    connection: Arc<Connection>,
    node: Arc<Node>,
}

impl ControlNode {
    /// Mounts at `dir`, and returns when the node can be used. `control` is whose events a poll of
    /// the node tells of.
    ///
    /// # Errors
    /// As [`Frontend::mount`](crate::Frontend::mount).
    pub fn mount(
        calls: Arc<dyn Calls>,
        control: Arc<Control>,
        runtime: Arc<dyn Runtime>,
        dir: &Path,
    ) -> Result<ControlNode, MountError> {
        let fault = |what| move |source| MountError::Io { dir: dir.to_owned(), what, source };
        let dir = dir.canonicalize().map_err(fault("no such directory"))?;
        let node = Arc::new(Node::new(calls, control, runtime.clone()));
        let device = mount::attach(&dir, &Options::default())?;
        let served = Connection::serve(device, Served(node.clone()), runtime, THREADS);
        let connection = served.map_err(fault("cannot serve the mount")).inspect_err(|_| {
            let _ = mount::detach(&dir, Busy::Detach);
        })?;
        node.served_by(&connection);
        let device = DeviceId::of(&dir).map_err(fault("the mount does not answer"))?;
        Ok(ControlNode { dir, device, connection, node })
    }

    /// Where the node is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Tells whether a program has the node open, in whichever mount namespace.
    pub fn is_open(&self) -> bool {
        self.node.is_open()
    }

    /// Unmounts; does nothing where somebody else has. Calls are refused from here on, by
    /// [`Errno::NODEV`](sim_core::Errno::NODEV), also by a copy of the mount in another namespace, and what is
    /// under way ends.
    pub fn unmount(&self) {
        self.node.close();
        let is_there = !self.connection.has_ended()
            && DeviceId::of(&self.dir).is_ok_and(|device| device == self.device);
        if is_there && let Err(error) = mount::detach(&self.dir, Busy::Detach) {
            tracing::error!(%error, "a control node is left behind");
        }
    }
}

impl Drop for ControlNode {
    fn drop(&mut self) {
        self.unmount();
    }
}
