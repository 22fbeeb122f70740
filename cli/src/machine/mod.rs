//! What the verbs on snapshots need of an instance: the daemon, or a control plane in a test.

use std::path::Path;

use backing::Attached;
use sim_core::control::{Answer, Command, Failure};

use crate::client::{Client, unexpected};
use crate::fault::Fault;
use crate::protocol::{Outcome, Request, User};

/// An instance.
pub(super) trait Machine {
    /// Carries out one operation of the control plane.
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault>;

    /// Lists the attached images.
    fn images(&mut self) -> Result<Vec<Attached>, Fault>;

    /// Lists who has devices' files open.
    fn users(&mut self) -> Result<Vec<User>, Fault>;

    /// Returns the folder in which devices are shown.
    fn mount(&self) -> &Path;
}

impl Machine for Client {
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        Client::control(self, command)
    }

    fn images(&mut self) -> Result<Vec<Attached>, Fault> {
        match self.ask(&Request::Images)? {
            Outcome::Images(images) => Ok(images),
            other => Err(unexpected(other)),
        }
    }

    fn users(&mut self) -> Result<Vec<User>, Fault> {
        match self.ask(&Request::Users)? {
            Outcome::Users(users) => Ok(users),
            other => Err(unexpected(other)),
        }
    }

    fn mount(&self) -> &Path {
        &self.welcome.mount
    }
}
