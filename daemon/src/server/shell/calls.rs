//! Carries out the ioctls of programs.

use std::sync::Weak;

use backing::{Cancel, block_on};
use fuse_frontend::files::Caller;
use fuse_frontend::node::Calls;
use sim_core::control::ioctl::{Reply, Request, carry_out};
use sim_core::control::{Answer, Command, DevStatus, Id, WhenOpen};
use sim_core::{Errno, KernelLog};

use super::super::state::Daemon;
use super::Open;
use super::numbers::outward;
use super::view::View;
use crate::fault::causes;
use crate::record::Change;

/// What a control node hands calls to.
pub(super) struct Carrier(Weak<Daemon>);

impl Carrier {
    pub(super) fn new(daemon: Weak<Daemon>) -> Carrier {
        Carrier(daemon)
    }
}

impl Calls for Carrier {
    fn call(&self, caller: Caller, mut request: Request, given_up: &Cancel) -> Reply {
        let Some(daemon) = self.0.upgrade() else { return refused(request, Errno::NODEV) };
        let Some(open) = daemon.shell.get() else { return refused(request, Errno::NODEV) };
        let view = View::of(caller.pid);
        if let Command::TableLoad { .. } = request.command() {
            request.set_base(&view.directory());
        }
        let numbers = &open.placed.numbers;
        let counts = request.wants_open_count();
        block_on(carry_out(request, async |command: Command| {
            let (command, attached) = daemon.inward(numbers, view, command)?;
            let creates = matches!(command, Command::DevCreate { .. });
            // Nobody but a client of dmsim waits until a change is on disk: the kernel keeps no record.
            let change = command.changes().then(|| daemon.keeper.change());
            let done = daemon.control(command, given_up).map_err(|failure| failure.errno);
            if change.is_some() {
                daemon.keeper.end_command();
            }
            drop::<Option<Change<'_>>>(change);
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
                count_openers(&open, &mut answer);
            }
            Ok(outward(numbers, answer))
        }))
    }

    fn log(&self, line: &str) {
        if let Some(daemon) = self.0.upgrade() {
            daemon.kmsg.line(line);
        }
    }
}

/// Adds those who have a device's node open, or mounted: to the daemon they are all one, which shows the
/// device. LVM merges a snapshot as soon as nobody uses its origin.
fn count_openers(open: &Open, answer: &mut Answer) {
    let node = |status: &DevStatus| open.placed.numbers.node_of(status.dev.minor);
    let (status, count) = match answer {
        Answer::Status(status) => match node(status) {
            // To look takes milliseconds: only who would be told that it is in use is told what is so now.
            Some(node) => match open.nodes.recent_open_count(node) {
                Ok(count) if count > 0 => (status, open.nodes.open_count(node)),
                other => (status, other),
            },
            None => return,
        },
        // Whoever asks for the targets of many devices has no use for more than that.
        Answer::Table(status, _) => match node(status) {
            Some(node) => (status, open.nodes.recent_open_count(node)),
            None => return,
        },
        _ => return,
    };
    match count {
        Ok(count) => status.open_count = status.open_count.saturating_add(count),
        Err(error) => {
            let dev = status.dev;
            tracing::error!(error = causes(&error), %dev, "nobody knows who uses a block node");
        }
    }
}

fn refused(request: Request, errno: Errno) -> Reply {
    request.reply(Err::<Answer, Errno>(errno), None)
}
