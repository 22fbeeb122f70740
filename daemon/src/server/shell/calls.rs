//! Carries out the ioctls of programs.

use std::sync::Weak;

use backing::{Cancel, block_on};
use fuse_frontend::files::Caller;
use fuse_frontend::node::Calls;
use sim_core::control::ioctl::{Reply, Request, carry_out};
use sim_core::control::{Answer, Command, Id, WhenOpen};
use sim_core::{Errno, KernelLog};

use super::super::state::Daemon;
use super::numbers::outward;
use super::view::View;
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
            done.map(|answer| outward(numbers, answer))
        }))
    }

    fn log(&self, line: &str) {
        if let Some(daemon) = self.0.upgrade() {
            daemon.kmsg.line(line);
        }
    }
}

fn refused(request: Request, errno: Errno) -> Reply {
    request.reply(Err::<Answer, Errno>(errno), None)
}
