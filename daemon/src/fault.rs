//! What a command failed with, as it is printed: `dmsim: what: why`.

use std::fmt;

/// The exit status of a command line that makes no sense.
pub const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it was about: a verb, a file, a device.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// The exit status.
    pub status: u8,
}

impl Fault {
    /// Makes a fault.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Fault {
        Fault { what: what.to_string(), why: why.to_string(), status: 1 }
    }

    /// Sets the exit status, where it is not 1.
    pub fn with_status(self, status: u8) -> Fault {
        Fault { status, ..self }
    }

    /// Adds how it ended: undone, so that all is as `end` says, or not.
    pub fn undone(self, undone: Result<(), Fault>, end: impl fmt::Display) -> Fault {
        let why = match undone {
            Ok(()) => format!("{}; {end}", self.why),
            Err(trouble) => format!("{}; and undoing what was done failed: {trouble}", self.why),
        };
        Fault { why, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for Fault {}

/// Writes an error with its causes, the outermost first.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Says what an error is about.
pub trait About<T> {
    /// Makes a [`Fault`] of the error.
    fn about(self, what: impl fmt::Display) -> Result<T, Fault>;
}

impl<T, E: fmt::Display> About<T> for Result<T, E> {
    fn about(self, what: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|why| Fault::new(what, why))
    }
}
