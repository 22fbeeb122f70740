//! Carries out the ioctls of programs.

use std::sync::Weak;

use backing::{Cancel, block_on};
use fuse_frontend::files::Caller;
use fuse_frontend::node::Calls;
use sim_core::control::ioctl::{Reply, Request, carry_out};
use sim_core::control::{Answer, Command};
use sim_core::{BlockDevice, Errno, Held, KernelLog};

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
        request.set_base(&view.directory);
        let numbers = &open.placed.numbers;
        let counts = request.wants_open_count();
        let is_status = matches!(request.command(), Command::DevStatus { .. });
        block_on(carry_out(request, async |command: Command| {
            let (command, attached) = daemon.inward(numbers, &view, command)?;
            if let Command::DevSuspend { id, held: Held::Flush } = &command
                && let Ok(device) = daemon.control.device(id)
            {
                view.sync(numbers.node(device.number()));
            }
            // Nobody but a client of dmsim waits until a change is on disk: the kernel keeps no record.
            let change = command.changes().then(|| daemon.keeper.change());
            let done = daemon.control(command, given_up).map_err(|failure| failure.errno);
            if change.is_some() {
                daemon.keeper.end_command();
            }
            drop::<Option<Change<'_>>>(change);
            drop(attached);
            let mut answer = done?;
            if counts {
                count_openers(&open, &mut answer, is_status);
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
/// device. LVM merges a snapshot as soon as nobody uses its origin. Whoever asks for the targets of many
/// devices, or what is below them, is told how it was a moment ago.
fn count_openers(open: &Open, answer: &mut Answer, now: bool) {
    let (Answer::Status(status) | Answer::Table(status, _)) = answer else { return };
    let Some(node) = open.placed.numbers.node_of(status.dev.minor) else { return };
    let count = match now {
        true => open.nodes.open_count(node),
        false => open.nodes.recent_open_count(node),
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
