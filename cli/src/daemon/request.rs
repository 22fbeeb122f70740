//! Carries out requests.

use std::path::Path;
use std::sync::mpsc::channel;

use backing::{AttachError, Cancel, block_on_or};
use sim_core::Errno;
use sim_core::control::{Command, Failure};

use super::settle::settle;
use super::{Daemon, Event};
use crate::describe::describe;
use crate::fault::Fault;
use crate::protocol::{Outcome, Reply, Request, User};

impl Daemon {
    /// Carries out a request; gives it up where it waits and the client hangs up.
    pub(super) fn perform(&self, request: Request, hung_up: &Cancel) -> Reply {
        match request {
            Request::Control(command) if changes(&command) => {
                self.change(|| Outcome::Control(self.control(command, hung_up)))
            }
            Request::Control(command) => reply(Outcome::Control(self.control(command, hung_up))),
            Request::Attach(image) => self.change(|| match self.images.attach(&image) {
                Ok(attached) => Outcome::Attached(attached),
                Err(error) => failed("attach", error),
            }),
            Request::Detach { word, base } => self.change(|| match self.detach(&word, &base) {
                Ok(()) => Outcome::Done,
                Err(error) => failed("detach", error),
            }),
            Request::Images => reply(Outcome::Images(self.images.list())),
            Request::Users => reply(Outcome::Users(self.users())),
            Request::Describe(id) => {
                let described = block_on_or(describe(&self.control, id), hung_up);
                reply(match described.unwrap_or(Err(Errno::INTR.into())) {
                    Ok(devices) => Outcome::Described(devices),
                    Err(failure) => failed("info", failure),
                })
            }
            Request::Keyless => reply(Outcome::Keyless(self.keyless())),
            Request::Restore(filled) => {
                self.change(|| Outcome::Restored(self.restore(&filled, hung_up)))
            }
            Request::Forget => self.change(|| {
                self.keeper.with_past(|past| *past = Default::default());
                Outcome::Done
            }),
            Request::Stop { force } => self.ask_to_stop(force),
        }
    }

    /// Makes a change and writes it down, before the client is told of it. What fails may have
    /// changed something too.
    fn change(&self, make: impl FnOnce() -> Outcome) -> Reply {
        let change = self.keeper.change();
        let outcome = make();
        let warning = change.save().err().map(|fault| {
            tracing::error!(%fault, "a change is not on record");
            format!("{fault}: the change is made, and lost when the daemon ends")
        });
        Reply { outcome, warning }
    }

    fn control(
        &self,
        command: Command,
        hung_up: &Cancel,
    ) -> Result<sim_core::control::Answer, Failure> {
        settle(&self.control, &command);
        block_on_or(self.control.execute(command), hung_up).unwrap_or(Err(Errno::INTR.into()))
    }

    /// Detaches by name or number, else by path.
    fn detach(&self, word: &str, base: &Path) -> Result<(), AttachError> {
        match self.images.detach(word) {
            Err(unknown @ AttachError::Unknown { .. }) => {
                let path = base.join(word).canonicalize().map_err(|_| unknown)?;
                self.images.detach(&path.display().to_string())
            }
            result => result,
        }
    }

    /// Lists who has the devices' files open.
    pub(super) fn users(&self) -> Vec<User> {
        let users = self.frontend.users().into_iter();
        let user = |user: fuse_frontend::User| {
            let pid = process(user.pid);
            User { device: user.device, pid, program: program(pid) }
        };
        users.map(user).collect()
    }

    fn ask_to_stop(&self, force: bool) -> Reply {
        let (answer, stopped) = channel();
        // The main thread is gone only when the process is about to be.
        let sent = self.events.send(Event::Stop { force, answer });
        match sent.ok().and_then(|()| stopped.recv().ok()) {
            None => reply(Outcome::Done),
            Some(Ok(trouble)) => {
                Reply { outcome: Outcome::Done, warning: trouble.map(|fault| fault.to_string()) }
            }
            Some(Err(fault)) => reply(Outcome::Failed(fault.to_string())),
        }
    }
}

/// Tells whether an operation changes what is to be recorded.
fn changes(command: &Command) -> bool {
    match command {
        Command::RemoveAll { .. }
        | Command::DevCreate { .. }
        | Command::DevRemove { .. }
        | Command::DevRename { .. }
        | Command::DevSuspend { .. }
        | Command::DevResume { .. }
        | Command::TableLoad { .. }
        | Command::TableClear { .. }
        | Command::TargetMsg { .. }
        | Command::SetReadAhead { .. }
        | Command::SetNode { .. } => true,
        Command::Version
        | Command::ListDevices
        | Command::DevStatus { .. }
        | Command::DevWait { .. }
        | Command::TableDeps { .. }
        | Command::TableStatus { .. }
        | Command::ListVersions
        // A restart heals: nothing of it is on record.
        | Command::SetFails { .. }
        | Command::SetGeometry { .. }
        | Command::ArmPoll
        | Command::GetTargetVersion { .. } => false,
    }
}

fn reply(outcome: Outcome) -> Reply {
    Reply { outcome, warning: None }
}

fn failed(what: &str, why: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(Fault::new(what, why).to_string())
}

/// Returns the process of a thread: FUSE tells the thread that opened a file.
fn process(thread: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    process.and_then(|pid| pid.trim().parse().ok()).unwrap_or(thread)
}

/// Names what a process runs. One that opened the device from another process namespace, or has
/// ended and left the open file to another, has no name here.
fn program(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
}
