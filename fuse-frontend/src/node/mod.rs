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
//! [`Calls`]' to say. A thread that reads requests carries out short ones itself, as long as enough
//! others read; each of the rest has a thread of its own, so that one that waits holds up no other.

mod caller;
mod copying;
mod file;
mod names;
mod service;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backing::Cancel;
use sim_core::control::ioctl::{Reply, Request};
use sim_core::{Control, Runtime};

use crate::files::Caller;
use crate::mount::MountError;
use crate::options::{Busy, Options};
use crate::served::Served;
use names::Names;
use service::{Node, READERS, Shared};

/// What the file is called.
pub const NAME: &str = "control";

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
    served: Served,
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
        ControlNode::mount_beside(None, calls, control, runtime, dir)
    }

    /// Mounts a node that has the names of devices beside it, for whoever can have no block nodes: a look
    /// at one finds a block device with the device's number, and an open leads to the device's file in
    /// `files`, which is a mount of a [`Frontend`](crate::Frontend).
    ///
    /// # Errors
    /// As [`mount`](ControlNode::mount).
    pub fn mount_with_names(
        files: &Path,
        calls: Arc<dyn Calls>,
        control: Arc<Control>,
        runtime: Arc<dyn Runtime>,
        dir: &Path,
    ) -> Result<ControlNode, MountError> {
        let names = Names::new(files.to_owned());
        ControlNode::mount_beside(Some(names), calls, control, runtime, dir)
    }

    fn mount_beside(
        names: Option<Names>,
        calls: Arc<dyn Calls>,
        control: Arc<Control>,
        runtime: Arc<dyn Runtime>,
        dir: &Path,
    ) -> Result<ControlNode, MountError> {
        let node = Arc::new(Node::new(calls, control, runtime.clone(), names));
        let options = Options { threads: READERS, ..Options::default() };
        let served = Served::mount(Shared(node.clone()), runtime, dir, &options)?;
        node.served_by(&served.connection);
        Ok(ControlNode { served, node })
    }

    /// Where the node is.
    pub fn path(&self) -> PathBuf {
        self.served.dir.join(NAME)
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
        if let Err(error) = self.served.unmount(Busy::Detach) {
            tracing::error!(%error, "a control node is left behind");
        }
    }
}

impl Drop for ControlNode {
    fn drop(&mut self) {
        self.node.close();
    }
}
