//! What a file system, a swap area or a member of something larger says that it is: its type by
//! blkid's name, its label, its uuid.
//!
//! The crates that do this were passed over: those that are sound link the C library, which takes the
//! path of a device, and the others know a handful of types and trust the lengths that they read. The
//! rules here (where a signature is, what must hold beside it, which of two wins) are libblkid's, of
//! util-linux 2.42, as facts; its version 2.38 is what the tests compare with.
//!
//! **Which wins.** Old signatures stay behind when something new is written over a part of them. All
//! that match are found, in libblkid's order: members of RAID sets, caches and encryption
//! first, file systems after them. The first is the answer; the others are told in [`Signature::also`].
//! Where blkid, asked with `-p`, refuses to decide (`ambivalent result`), there is at least one such.
//! Checksums are verified where libblkid verifies them, so a superblock of which a part was overwritten
//! does not win over a whole one.

mod apple;
mod ext;
mod fat;
mod linux;
mod members;
mod optical;
mod read_only;
mod swap;
mod table;
mod text;
mod unix;
mod window;
mod zfs;

use std::fmt;

use serde::Serialize;

use crate::{Error, Source};
use window::Window;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The type, by blkid's name.
    pub kind: &'static str,
    /// The label. No control character is in it.
    pub label: Option<String>,
    /// The uuid or serial number, as blkid prints it.
    pub uuid: Option<String>,
    /// How long it says that it is; none where its header does not tell.
    #[serde(rename = "size_bytes")]
    pub size: Option<u64>,
    /// What it is good for.
    pub usage: Usage,
    /// What else the bytes look like, by blkid's names: most often what was there before.
    pub also: Vec<&'static str>,
}

/// What something is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// It can be mounted.
    #[serde(rename = "filesystem")]
    FileSystem,
    /// Swap, or a system that sleeps in it.
    Swap,
    /// A part of something larger: a member, a journal, hashes.
    Other,
}

/// What a superblock tells beside its type.
#[derive(Default)]
struct Found {
    label: Option<String>,
    uuid: Option<String>,
    size: Option<u64>,
}

/// A type, and how it is recognised.
struct Kind {
    name: &'static str,
    usage: Usage,
    /// The least size in bytes.
    least: u64,
    /// The bytes that it shows itself by, of which the first that is there counts: where, from the end
    /// where negative, and what. Where none are given it is looked for always.
    magics: &'static [(i64, &'static [u8])],
    /// Looks at the rest. It is given where the signature is.
    read: fn(&Window, u64) -> Option<Found>,
}

/// Says what a source holds, if it is of a type that is known.
///
/// Partition tables, LVM, LUKS, BitLocker and MD are not looked for. At most 4 MiB
/// are read, whatever the headers say.
///
/// # Errors
/// [`Error::Io`] when what had to be read could not be, and nothing else was found.
pub fn read(source: &dyn Source) -> Result<Option<Signature>, Error> {
    let window = Window::new(source)?;
    let mut found: Option<Signature> = None;
    for kind in table::KINDS {
        if window.len() < kind.least {
            continue;
        }
        let at = match kind.magics {
            [] => Some(0),
            magics => magics.iter().find_map(|(at, bytes)| window.has(*at, bytes)),
        };
        let Some(Found { label, uuid, size }) = at.and_then(|at| (kind.read)(&window, at)) else {
            continue;
        };
        match &mut found {
            Some(first) => first.also.push(kind.name),
            None => {
                let (kind, usage) = (kind.name, kind.usage);
                found = Some(Signature { kind, label, uuid, size, usage, also: Vec::new() });
            }
        }
    }
    match (found, window.failure()) {
        (None, Some(failure)) => Err(failure),
        (found, _) => Ok(found),
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(label) = &self.label {
            write!(f, " `{label}`")?;
        }
        if let Some(uuid) = &self.uuid {
            write!(f, " {uuid}")?;
        }
        if let Some(size) = self.size {
            write!(f, ", {size} bytes")?;
        }
        if !self.also.is_empty() {
            write!(f, " (also looks like {})", self.also.join(", "))?;
        }
        Ok(())
    }
}
