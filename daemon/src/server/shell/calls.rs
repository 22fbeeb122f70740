//! Carries out the ioctls of programs.

use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use backing::{Cancel, block_on};
use block_frontend::{Error, Node};
use fuse_frontend::files::Caller;
use fuse_frontend::node::Calls;
use sim_core::control::ioctl::{Reply, Request, carry_out};
use sim_core::control::{Answer, Command, Id, WhenOpen};
use sim_core::{Errno, KernelLog};

use super::super::state::Daemon;
use super::Open;
use super::numbers::outward;
use super::view::View;
use crate::fault::causes;

/// What a control node hands calls to.
pub(super) struct Carrier {
    daemon: Weak<Daemon>,
    /// The thread that was told last how often a device is open.
    told: AtomicU32,
}

impl Carrier {
    pub(super) fn new(daemon: Weak<Daemon>) -> Carrier {
        Carrier { daemon, told: AtomicU32::new(0) }
    }
}

impl Calls for Carrier {
    fn call(&self, caller: Caller, mut request: Request, given_up: &Cancel) -> Reply {
        let Some(daemon) = self.daemon.upgrade() else { return refused(request, Errno::NODEV) };
        let Some(open) = daemon.shell.get() else { return refused(request, Errno::NODEV) };
        let view = View::of(caller.pid);
        if let Command::TableLoad { .. } = request.command() {
            request.set_base(&view.directory());
        }
        let numbers = &open.placed.numbers;
        let counts = request.wants_open_count();
        // One that asks of many devices, one by one, is told how it was a moment ago, and so is who asks for
        // targets, or what is below.
        let is_status = matches!(request.command(), Command::DevStatus { .. });
        let now = is_status && self.told.swap(caller.pid, SeqCst) != caller.pid;
        block_on(carry_out(request, async |command: Command| {
            let (command, attached) = daemon.inward(numbers, view, command)?;
            let creates = matches!(command, Command::DevCreate { .. });
            let done = daemon.carry(command, given_up);
            drop(attached);
            if let (true, Ok(Answer::Status(made))) = (creates, &done)
                && numbers.node_of(made.dev.minor).is_none()
            {
                // A program could do nothing with it: the daemon's log says why.
                let id = Id::Dev(made.dev);
                let _gone =
                    daemon.control(Command::DevRemove { id, open: WhenOpen::Refuse }, given_up);
                return Err(Errno::IO);
            }
            let mut answer = done?;
            if counts {
                count_openers(&open, &mut answer, now);
            }
            Ok(outward(numbers, answer))
        }))
    }

    fn log(&self, line: &str) {
        if let Some(daemon) = self.daemon.upgrade() {
            daemon.kmsg.line(line);
        }
    }
}

impl Daemon {
    /// Carries out a command of a program. Nobody but a client of dmsim waits until a change is on disk: the
    /// kernel keeps no record.
    pub(super) fn carry(&self, command: Command, given_up: &Cancel) -> Result<Answer, Errno> {
        let change = command.changes().then(|| self.keeper.change());
        let done = self.control(command, given_up).map_err(|failure| failure.errno);
        if change.is_some() {
            self.keeper.end_command();
        }
        done
    }
}

/// Adds those who have a device's node open, or mounted: to the daemon they are all one, which shows the
/// device. LVM merges a snapshot as soon as nobody uses its origin. To look takes milliseconds.
pub(super) fn count_openers(open: &Open, answer: &mut Answer, now: bool) {
    let (Answer::Status(status) | Answer::Table(status, _)) = answer else { return };
    let Some(node) = open.placed.numbers.node_of(status.dev.minor) else { return };
    match count(open, node, now) {
        Ok(count) => status.open_count = status.open_count.saturating_add(count),
        Err(error) => {
            let dev = status.dev;
            tracing::error!(error = causes(&error), %dev, "nobody knows who uses a block node");
        }
    }
}

/// Counts how often a node is open, now or a moment ago.
pub(super) fn count(open: &Open, node: Node, now: bool) -> Result<u32, Error> {
    let opens = open.tree.opens();
    match now {
        true => open.nodes.open_count(node, opens),
        false => open.nodes.recent_open_count(node, opens),
    }
}

pub(super) fn refused(request: Request, errno: Errno) -> Reply {
    request.reply(Err::<Answer, Errno>(errno), None)
}
