//! What workflows need of an instance.

use std::fs::File;
use std::path::{Path, PathBuf};

use backing::{Attach, Attached};
use daemon::client::unexpected;
use daemon::protocol::{Outcome, Request, User};
use daemon::{Client, Description, Fault};
use sim_core::control::{Answer, Command, Failure};

/// The turn of one workflow among those that change sets, open images or mount, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Turn(
    /// What keeps others from it, where there may be others.
    pub Option<File>,
);

/// A device-mapper: that of an instance over its socket, or one in this process.
pub trait DeviceMapper {
    /// Carries out one operation of the control plane.
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault>;

    /// Lists the attached images.
    fn images(&mut self) -> Result<Vec<Attached>, Fault>;

    /// Describes every mapped device.
    fn describe(&mut self) -> Result<Vec<Description>, Fault>;

    /// Makes an image a backing device, and returns it.
    fn attach(&mut self, image: Attach) -> Result<Attached, Fault>;

    /// Takes an attached image's device away, by its name or number.
    fn detach(&mut self, image: &str) -> Result<(), Fault>;

    /// Has an attached image, by its name or number, go by how long its file is by now.
    fn resize(&mut self, image: &str) -> Result<(), Fault>;

    /// Lists who has devices' files open.
    fn users(&mut self) -> Result<Vec<User>, Fault>;

    /// Returns the folder in which devices are shown.
    fn mount(&self) -> &Path;

    /// Takes the turn of such workflows; nothing where another one has it.
    fn turn(&self) -> Result<Option<Turn>, Fault>;

    /// Is told what was done as asked, and may not have been meant.
    fn advise(&self, what: &str);
}

impl DeviceMapper for Client {
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        Client::control(self, command)
    }

    fn images(&mut self) -> Result<Vec<Attached>, Fault> {
        match self.ask(&Request::Images)? {
            Outcome::Images(images) => Ok(images),
            other => Err(unexpected(other)),
        }
    }

    fn describe(&mut self) -> Result<Vec<Description>, Fault> {
        match self.ask(&Request::Describe(None))? {
            Outcome::Described(devices) => Ok(devices),
            other => Err(unexpected(other)),
        }
    }

    fn attach(&mut self, image: Attach) -> Result<Attached, Fault> {
        match self.ask(&Request::Attach(image))? {
            Outcome::Attached(image) => Ok(image),
            other => Err(unexpected(other)),
        }
    }

    fn detach(&mut self, image: &str) -> Result<(), Fault> {
        self.done(&Request::Detach { word: image.to_owned(), base: PathBuf::from("/") })
    }

    fn resize(&mut self, image: &str) -> Result<(), Fault> {
        match self.ask(&Request::Resize { word: image.to_owned(), base: PathBuf::from("/") })? {
            Outcome::Attached(_) => Ok(()),
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

    fn turn(&self) -> Result<Option<Turn>, Fault> {
        Ok(Client::turn(self)?.map(|lock| Turn(Some(lock))))
    }

    fn advise(&self, what: &str) {
        Client::advise(self, what);
    }
}
