//! Encrypted containers, read and unlocked: from a header and a passphrase to the lines that the
//! device-mapper takes.
//!
//! [`probe`] finds out what an image holds, [`Container::dump`] says it in words without any key,
//! [`Container::unlock`] derives the keys. Nothing is ever written, and no file is opened: what is
//! read comes through [`Source`]. A header is whatever somebody wrote on a disk, so what it asks
//! for is bounded by [`Limits`].

pub(crate) mod af;
pub mod bitlocker;
pub(crate) mod kdf;
pub(crate) mod keys;
mod limits;
mod luks1;
pub mod luks2;
mod plain;
pub(crate) mod unlocked;
pub mod veracrypt;

use std::fmt;

use crypto::Secret;
use serde::Serialize;

use crate::{Error, Source, bytes, source};

pub use bitlocker::BitLocker;
pub use limits::{Data, Limits, Place, Unlock};
pub use luks1::{KeySlot, Luks1};
pub use luks2::Luks2;
pub use plain::{Plain, PlainKey};
pub use unlocked::{Crypt, Line, LineTarget, Unlocked};
pub use veracrypt::VeraCrypt;

/// A container whose header says what it is.
#[derive(Clone, Debug)]
pub enum Container {
    /// LUKS1.
    Luks1(Box<Luks1>),
    /// LUKS2.
    Luks2(Box<Luks2>),
    /// BitLocker.
    BitLocker(Box<BitLocker>),
}

/// Finds out what an image holds and reads its header.
///
/// Of LUKS2's two copies the newer valid one counts; [`Container::warnings`] says when there is
/// only one. What has no magic number (plain dm-crypt, VeraCrypt) is not found this way.
///
/// # Errors
/// [`Error::NotAContainer`] where there is no magic number, [`Error::DamagedHeader`] where there is
/// one but no copy of the header holds together.
pub fn probe(image: &dyn Source) -> Result<Container, Error> {
    let head = source::read(image, 0, image.len().min(512) as usize)?;
    if bitlocker::is_bitlocker(&head) {
        return Ok(Container::BitLocker(Box::new(BitLocker::read(image)?)));
    }
    let mut head = head.to_vec();
    head.resize(8, 0);
    let version = bytes::be16(&head, 6);
    match &head[..6] {
        magic if *magic == *luks1::MAGIC && version == 1 => {
            Ok(Container::Luks1(Box::new(Luks1::read(image)?)))
        }
        magic if *magic == *luks2::MAGIC_FIRST => {
            Ok(Container::Luks2(Box::new(Luks2::read(image)?)))
        }
        // The first copy may be gone altogether.
        _ => match Luks2::read(image) {
            Ok(header) => Ok(Container::Luks2(Box::new(header))),
            Err(io @ Error::Io { .. }) => Err(io),
            Err(_) => Err(Error::NotAContainer("neither LUKS nor BitLocker".into())),
        },
    }
}

/// Tells whether an image begins as a container does. One whose header is damaged does, too.
///
/// # Errors
/// Where it cannot be read.
pub fn is_container(image: &dyn Source) -> Result<bool, Error> {
    let head = source::read(image, 0, image.len().min(512) as usize)?;
    // LUKS2 begins as LUKS1 does.
    Ok(bitlocker::is_bitlocker(&head) || head.starts_with(luks1::MAGIC))
}

impl Container {
    /// Returns the kind's name, as cryptsetup's `--type` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Container::Luks1(_) => "luks1",
            Container::Luks2(_) => "luks2",
            Container::BitLocker(_) => "bitlk",
        }
    }

    /// Returns the container's UUID, where it has one.
    pub fn uuid(&self) -> Option<&str> {
        let uuid = match self {
            Container::Luks1(header) => &header.uuid,
            Container::Luks2(header) => &header.uuid,
            Container::BitLocker(header) => &header.guid,
        };
        (!uuid.is_empty()).then_some(uuid)
    }

    /// Returns what a user should know about the header although it can be used.
    pub fn warnings(&self) -> &[String] {
        match self {
            Container::Luks1(_) => &[],
            Container::Luks2(header) => &header.warnings,
            Container::BitLocker(header) => &header.warnings,
        }
    }

    /// Derives the keys and returns what to load. `image` is what [`probe`] was given, `data` tells
    /// the size of the device that holds the data. For BitLocker the passphrase may as well be a
    /// recovery key's digits, or the content of a startup key's file.
    ///
    /// # Errors
    /// See [`Error`]. What no passphrase could mend is found before any key is derived.
    pub fn unlock(
        &self,
        image: &dyn Source,
        data: Data,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Unlocked, Error> {
        let mut unlocked = match self {
            Container::Luks1(header) => header.unlock(image, data, passphrase, how),
            Container::Luks2(header) => header.unlock(image, data, passphrase, how),
            Container::BitLocker(header) => header.unlock(data, passphrase, how),
        }?;
        unlocked.warnings.extend_from_slice(self.warnings());
        Ok(unlocked)
    }

    /// Returns what the container holds, in words or for a machine, without any key.
    pub fn dump(&self) -> Dump<'_> {
        match self {
            Container::Luks1(header) => Dump::Luks1(header),
            Container::Luks2(header) => Dump::Luks2(header),
            Container::BitLocker(header) => Dump::BitLocker(header),
        }
    }
}

/// What a container holds: printed, it reads as `cryptsetup luksDump` does.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Dump<'a> {
    /// LUKS1.
    Luks1(&'a Luks1),
    /// LUKS2.
    Luks2(&'a Luks2),
    /// BitLocker.
    #[serde(rename = "bitlk")]
    BitLocker(&'a BitLocker),
}

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dump::Luks1(header) => write!(f, "{header}"),
            Dump::Luks2(header) => write!(f, "{header}"),
            Dump::BitLocker(header) => write!(f, "{header}"),
        }
    }
}
