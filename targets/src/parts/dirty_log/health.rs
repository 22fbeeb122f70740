//! What is told of a log's device.

/// What the device of a log went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// Nothing (`A`).
    Good,
    /// A flush has failed (`F`).
    FlushFailed,
    /// It could not be read or written (`D`).
    Failed,
}

impl LogHealth {
    pub(crate) const ALL: [LogHealth; 3] =
        [LogHealth::Good, LogHealth::FlushFailed, LogHealth::Failed];

    /// Returns the letter of a status line.
    pub(crate) fn letter(self) -> char {
        match self {
            LogHealth::Good => 'A',
            LogHealth::FlushFailed => 'F',
            LogHealth::Failed => 'D',
        }
    }
}
