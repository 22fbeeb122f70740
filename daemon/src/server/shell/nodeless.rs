//! What an ordinary user's `dmsim shell` shows: the control node, and devices as files.
//!
//! A user can have neither block nodes nor loop devices, in no user namespace. What there is instead is
//! the control node with the names of devices beside it, which are looked up when somebody looks at them, and
//! the files that a shell binds over those of the machine. A device's number is that of the control plane
//! for all.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};

use backing::{Cancel, Pool, block_on};
use block_frontend::Within;
use fuse_frontend::files::Caller;
use fuse_frontend::node::{Calls, ControlNode};
use sim_core::control::Command;
use sim_core::control::ioctl::{Reply, Request, carry_out};
use sim_core::{DM_MAJOR, Errno, KernelLog};

use super::super::state::{Daemon, spawn};
use super::calls::refused;
use super::nodes::watcher;
use super::sys::Sys;
use super::view::View;
use crate::fault::{About, Fault, causes};
use crate::protocol::{Private, Shows};

/// A control node without block nodes. Dropping it unmounts.
pub(super) struct Nodeless {
    node: ControlNode,
    /// The thread that keeps the files true ends when this is dropped.
    files: Arc<Sys>,
}

impl Nodeless {
    /// Tells whether a program has the control node open.
    pub(super) fn is_open(&self) -> bool {
        self.node.is_open()
    }
}

impl Drop for Nodeless {
    fn drop(&mut self) {
        self.node.unmount();
    }
}

impl Daemon {
    /// Makes the control node, if it is not there yet, and says where all is.
    pub(super) fn private_without_nodes(&self) -> Result<Private, Fault> {
        let mut nodeless = self.shell.nodeless();
        if nodeless.is_none() {
            *nodeless = Some(self.open_nodeless()?);
        }
        if let Some(nodeless) = &*nodeless {
            // What programs of earlier shells have made of it.
            let mended = nodeless.files.mend().and_then(|()| furnish(&self.private_dir));
            mended.about(self.private_dir.display())?;
        }
        Ok(self.private_at(Shows::Files, self.private_dir.clone()))
    }

    fn open_nodeless(&self) -> Result<Nodeless, Fault> {
        let dir = &self.private_dir;
        let (at, under) = (dir.display().to_string(), dir.join("node"));
        super::clean(dir);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).about(&at)?;
        furnish(dir).about(&at)?;
        // Later it is the node that is mounted there.
        let node =
            Within::open(dir).and_then(|within| within.make_folder(Path::new("node"), 0o700));
        drop(node.about(&at)?);
        let files = Arc::new(Sys::make(dir).about(&at)?);
        files.refresh(&self.control).about(&at)?;
        self.keep_true(&files)?;
        let lock = dir.join("lvm-lock");
        self.settings_for_lvm(&settings(&lock)).about("settings for lvm")?;
        let calls = Files { daemon: self.me.clone(), files: files.clone() };
        let (calls, control) = (Arc::new(calls), self.control.clone());
        let node = ControlNode::mount_with_names(&self.mount, calls, control, Pool::new(1), &under);
        let node = node.map_err(|error| Fault::new("control node", causes(&error)))?;
        Ok(Nodeless { node, files })
    }

    /// Starts the thread that makes the files true after what others than programs change.
    fn keep_true(&self, files: &Arc<Sys>) -> Result<(), Fault> {
        let (changed, changes) = channel::<()>();
        self.control.watch(watcher(changed));
        let (daemon, files) = (self.me.clone(), Arc::downgrade(files));
        spawn("files", move || {
            while changes.recv().is_ok() {
                while changes.try_recv().is_ok() {}
                let (Some(daemon), Some(files)) = (daemon.upgrade(), files.upgrade()) else {
                    return;
                };
                refresh(&daemon, &files);
            }
        })
    }
}

/// Makes what there is besides the files for `/sys`. Programs write here, those of containers too.
fn furnish(dir: &Path) -> io::Result<()> {
    let within = Within::open(dir)?;
    within.make_folder(Path::new("shell"), 0o700)?;
    super::folders_for_lvm(&within)?;
    let text = devices(&fs::read_to_string("/proc/devices")?);
    let path = Path::new("proc-devices");
    match within.has_text(path, text.as_bytes()) {
        true => Ok(()),
        false => within.put_file(path, text.as_bytes(), 0o644),
    }
}

fn refresh(daemon: &Daemon, files: &Sys) {
    if let Err(error) = files.refresh(&daemon.control) {
        tracing::error!(%error, "what programs see of devices is out of date");
    }
}

/// LVM's settings where no device can be a physical volume: it looks for none, and says so in its own
/// words.
fn settings(lock: &Path) -> String {
    let filter = "devices {\n    filter = [ \"r|.*|\" ]\n}\n";
    format!("{}{filter}global {{\n    locking_dir = \"{}\"\n}}\n", super::LVM_CONF, lock.display())
}

/// Writes /proc/devices anew: the numbers of mapped devices are the control plane's, whatever the machine
/// has there.
fn devices(text: &str) -> String {
    let mut block = false;
    let stays = |line: &&str| {
        block |= line.starts_with("Block devices");
        let mut words = line.split_whitespace();
        let (major, name) = (words.next(), words.next());
        let is_ours = major.is_some_and(|major| major.parse() == Ok(DM_MAJOR));
        !(block && (is_ours || name == Some("device-mapper")))
    };
    let mut lines: Vec<String> = text.lines().filter(stays).map(str::to_owned).collect();
    // Block devices are last.
    lines.push(format!("{DM_MAJOR:>3} device-mapper\n"));
    lines.join("\n")
}

/// Carries out the ioctls of a user's programs: numbers, names and paths mean to them what they mean to
/// `dmsim`.
struct Files {
    daemon: Weak<Daemon>,
    files: Arc<Sys>,
}

impl Calls for Files {
    fn call(&self, caller: Caller, mut request: Request, given_up: &Cancel) -> Reply {
        let Some(daemon) = self.daemon.upgrade() else { return refused(request, Errno::NODEV) };
        if let Command::TableLoad { .. } = request.command() {
            request.set_base(&View::of(caller.pid).directory());
        }
        block_on(carry_out(request, async |command: Command| {
            let changes = command.changes();
            let done = daemon.carry(command, given_up);
            if changes {
                refresh(&daemon, &self.files);
            }
            done
        }))
    }

    fn log(&self, line: &str) {
        if let Some(daemon) = self.daemon.upgrade() {
            daemon.kmsg.line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_devices_have_the_control_planes_number() {
        let text = "Character devices:\n  1 mem\n253 dimmctl\n\nBlock devices:\n  7 loop\n253 zram\n\
                    252 device-mapper\n259 blkext\n";
        let expected = "Character devices:\n  1 mem\n253 dimmctl\n\nBlock devices:\n  7 loop\n259 blkext\n\
                        253 device-mapper\n";
        assert_eq!(devices(text), expected);
    }
}
