//! The key of `crypt`: in the table line, in the kernel's key ring, or wiped.

use std::fmt;

use crypto::Secret;
use sim_core::{Errno, StatusWriter};

/// A key as a table line or a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its bytes; none where the line has `-`.
    Bytes(Secret),
    /// In the key ring: `:<size>:<type>:<description>`.
    Ring {
        /// Its size in bytes.
        size: usize,
        /// Its type: `user`, `logon` or `encrypted`.
        kind: String,
        /// Its description.
        description: String,
    },
    /// Gone; this many bytes were there.
    Wiped(usize),
}

/// Why a key cannot be used.
#[derive(Debug)]
pub struct KeyFault {
    /// What a load or a message fails with.
    pub errno: Errno,
    /// What is wrong, without a word of the key.
    pub detail: String,
}

/// The types of key that the kernel's dm-crypt takes.
const RING_TYPES: [&str; 3] = ["user", "logon", "encrypted"];

impl Key {
    /// Returns the size in bytes that a word asks for; `None` where a reference to the key ring
    /// has none.
    pub fn size_in(word: &str) -> Option<usize> {
        match word.strip_prefix(':') {
            None => Some(word.len() / 2),
            Some(reference) => {
                let (size, _) = reference.split_once(':')?;
                let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| size.parse().ok()).flatten()
            }
        }
    }

    /// Reads a word: hexadecimal digits (one left over at the end is dropped, as the kernel
    /// does), `-`, or a reference to the key ring.
    pub fn parse(word: &str) -> Result<Key, KeyFault> {
        let fault = |detail: &str| KeyFault { errno: Errno::INVAL, detail: detail.to_owned() };
        let Some(reference) = word.strip_prefix(':') else {
            return Secret::from_hex(word).map(Key::Bytes).map_err(|why| fault(&why.detail));
        };
        let mut parts = reference.splitn(3, ':');
        let (size, kind, description) = (parts.next(), parts.next(), parts.next());
        let size = size.and_then(|_| Key::size_in(word)).filter(|size| *size > 0);
        match (size, kind, description) {
            (Some(size), Some(kind), Some(description)) if !description.is_empty() => {
                if !RING_TYPES.contains(&kind) {
                    let known = RING_TYPES.join(", ");
                    return Err(fault(&format!("expected a key type of {known}, found `{kind}`")));
                }
                let (kind, description) = (kind.to_owned(), description.to_owned());
                Ok(Key::Ring { size, kind, description })
            }
            _ => Err(fault("expected `:SIZE:TYPE:DESCRIPTION`")),
        }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        match self {
            Key::Bytes(key) => key.len(),
            Key::Ring { size, .. } | Key::Wiped(size) => *size,
        }
    }

    /// Writes the key as a text is to show it. A wiped one is zeros.
    pub(super) fn write(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        match self {
            Key::Bytes(key) => out.key(key.expose()),
            Key::Wiped(size) => out.key(&vec![0; *size]),
            Key::Ring { size, kind, description } => write!(out, ":{size}:{kind}:{description}"),
        }
    }
}

impl fmt::Display for Key {
    /// Writes the key itself. A wiped one is zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bytes(key) if key.is_empty() => f.write_str("-"),
            Key::Bytes(key) => f.write_str(&key.to_hex()),
            Key::Wiped(size) => (0..*size).try_for_each(|_| f.write_str("00")),
            Key::Ring { size, kind, description } => write!(f, ":{size}:{kind}:{description}"),
        }
    }
}
