//! The key of `crypt`: in the table line, in the kernel's key ring, or wiped.

use std::fmt;

use crypto::Secret;
use sim_core::{Errno, Runtime, StatusWriter};

/// A key as a table line or a message names it.
pub(super) enum Key {
    /// Its bytes; none where the line has `-`.
    Bytes(Secret),
    /// In the key ring: `:<size>:<type>:<description>`.
    Ring { size: usize, kind: String, description: String },
    /// Gone; this many bytes were there.
    Wiped(usize),
}

/// Why a key cannot be used.
pub(super) struct KeyFault {
    pub(super) errno: Errno,
    pub(super) detail: String,
}

/// The types of key that the kernel's dm-crypt takes, and why some of them are of no use here.
const RING_TYPES: [(&str, Option<&str>); 3] = [
    ("user", None),
    ("logon", Some("only the kernel can read a key of type `logon`")),
    ("encrypted", Some("only the kernel can decrypt a key of type `encrypted`")),
];

impl Key {
    /// Returns the size in bytes that a word asks for; `None` where a reference to the key ring
    /// has none.
    pub(super) fn size_in(word: &str) -> Option<usize> {
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
    pub(super) fn read(word: &str) -> Result<Key, KeyFault> {
        let fault = |detail: &str| KeyFault { errno: Errno::INVAL, detail: detail.to_owned() };
        let Some(reference) = word.strip_prefix(':') else {
            return Secret::from_hex(word).map(Key::Bytes).map_err(|why| fault(&why.detail));
        };
        let mut parts = reference.splitn(3, ':');
        let (size, kind, description) = (parts.next(), parts.next(), parts.next());
        let size = size.and_then(|_| Key::size_in(word)).filter(|size| *size > 0);
        match (size, kind, description) {
            (Some(size), Some(kind), Some(description)) if !description.is_empty() => {
                if !RING_TYPES.iter().any(|(known, _)| *known == kind) {
                    let known = RING_TYPES.map(|(known, _)| known).join(", ");
                    return Err(fault(&format!("expected a key type of {known}, found `{kind}`")));
                }
                let (kind, description) = (kind.to_owned(), description.to_owned());
                Ok(Key::Ring { size, kind, description })
            }
            _ => Err(fault("expected `:SIZE:TYPE:DESCRIPTION`")),
        }
    }

    /// Returns the key's bytes, from the key ring if need be.
    pub(super) fn load(&self, runtime: &dyn Runtime) -> Result<Secret, KeyFault> {
        match self {
            Key::Bytes(key) => Ok(key.clone()),
            Key::Wiped(_) => Err(KeyFault { errno: Errno::NOKEY, detail: "key wiped".to_owned() }),
            Key::Ring { size, kind, description } => {
                let out_of_reach = RING_TYPES.iter().find(|(known, _)| known == kind);
                if let Some((_, Some(why))) = out_of_reach {
                    let detail = format!("{why}: give it as type `user`");
                    return Err(KeyFault { errno: Errno::NOKEY, detail });
                }
                let key = runtime.key(kind, description).map_err(|errno| {
                    let detail = format!("key `{kind}:{description}`: {errno}");
                    KeyFault { errno, detail }
                })?;
                if key.len() != *size {
                    let found = key.len();
                    let detail =
                        format!("key `{kind}:{description}`: expected {size} bytes, found {found}");
                    return Err(KeyFault { errno: Errno::INVAL, detail });
                }
                Ok(Secret::from(&key[..]))
            }
        }
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Key::Bytes(key) => key.len(),
            Key::Ring { size, .. } | Key::Wiped(size) => *size,
        }
    }

    /// Writes the key as a table line has it. A wiped one is zeros.
    pub(super) fn write(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        match self {
            Key::Bytes(key) => out.key(key.expose()),
            Key::Wiped(size) => out.key(&vec![0; *size]),
            Key::Ring { size, kind, description } => write!(out, ":{size}:{kind}:{description}"),
        }
    }
}
