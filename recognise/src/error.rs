//! What can go wrong while a container is read and unlocked.

use std::fmt;

/// Why a container could not be read or unlocked. Each variant is a case that a user must be able
/// to tell from the others; the text says where, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No header of a known kind.
    #[error("no container found: {0}")]
    NotAContainer(String),
    /// No key slot opens with this passphrase; with a key slot asked for, that one does not.
    #[error("no key available with this passphrase{}", of_slot(*key_slot))]
    WrongPassphrase {
        /// The key slot that was asked for.
        key_slot: Option<u32>,
    },
    /// The key slot asked for holds no key.
    #[error("key slot {key_slot}: {why}")]
    NoSuchKeySlot {
        /// The key slot that was asked for.
        key_slot: u32,
        /// Absent, inactive, out of range.
        why: String,
    },
    /// The header, or every copy of it, is not what its format says.
    #[error("damaged header: {what}")]
    DamagedHeader {
        /// Where in the header, what was expected, what was found.
        what: String,
    },
    /// A cipher that is not known, or does not fit its key.
    #[error("{place}: cipher `{cipher}`: {why}")]
    UnknownCipher {
        /// The part of the header that names it.
        place: String,
        /// The cipher, as the header has it.
        cipher: String,
        /// What is wrong with it.
        why: String,
    },
    /// A hash that is not known.
    #[error("{place}: unknown hash `{hash}`")]
    UnknownHash {
        /// The part of the header that names it.
        place: String,
        /// The hash, as the header has it.
        hash: String,
    },
    /// A LUKS2 reencryption was begun and has not ended: parts of the data have different keys.
    #[error("a reencryption is in progress ({0}): finish it with cryptsetup reencrypt first")]
    ReencryptionInProgress(String),
    /// A LUKS2 segment with dm-integrity below it.
    #[error("segment {segment}: data integrity ({integrity}) is not supported")]
    IntegritySegment {
        /// The segment's number.
        segment: u32,
        /// The kind of integrity, as the header has it.
        integrity: String,
    },
    /// The header demands something of its reader that this reader does not know.
    #[error("the header requires `{0}`, which is not supported")]
    UnknownRequirement(String),
    /// The key slot holds a key that belongs to no segment.
    #[error("key slot {0} is unbound: its key opens no segment")]
    UnboundSlot(u32),
    /// To derive the key would cost more than is allowed.
    #[error("{place}: {what} of {figure} is above the limit of {limit}")]
    TooCostly {
        /// The key slot or digest.
        place: String,
        /// Which cost, with its unit.
        what: &'static str,
        /// What the header asks for.
        figure: u64,
        /// What [`Limits`](crate::containers::Limits) allows.
        limit: u64,
    },
    /// The memory that the key derivation needs is not to be had.
    #[error("{place}: no memory for a key derivation that needs {kib} KiB")]
    NoMemory {
        /// The key slot.
        place: String,
        /// What it needs.
        kib: u64,
    },
    /// The image or the data device ends before what the header says.
    #[error("{what}: {len} bytes, expected at least {needed}")]
    TooSmall {
        /// Which of the two.
        what: &'static str,
        /// Its size in bytes.
        len: u64,
        /// The least size in bytes.
        needed: u64,
    },
    /// The header is a detached one: its data lie on another device.
    #[error("the header is a detached one: its data lie on another device")]
    DetachedHeader,
    /// The argument of a caller that no container could take.
    #[error("{0}")]
    BadArgument(String),
    /// Something that exists, but that this reader does not do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The image could not be read.
    #[error("reading {len} bytes at {offset}")]
    Io {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn damaged(what: impl fmt::Display) -> Error {
        Error::DamagedHeader { what: what.to_string() }
    }

    /// Writes it with what the system said, where it did, for a warning.
    pub(crate) fn with_cause(&self) -> String {
        match self {
            Error::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

fn of_slot(key_slot: Option<u32>) -> String {
    key_slot.map(|slot| format!(" (key slot {slot})")).unwrap_or_default()
}
