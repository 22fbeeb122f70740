//! What an image holds, of all that is known here.

use crate::containers::{self, Container};
use crate::volumes::lvm2::{self, PhysicalVolume};
use crate::{Error, Source};

/// What an image holds.
#[derive(Clone, Debug)]
pub enum Found {
    /// An encrypted container.
    Container(Container),
    /// A physical volume of LVM2.
    PhysicalVolume(Box<PhysicalVolume>),
    /// Nothing that is known.
    Nothing,
}

/// Finds out what an image holds. Where several things are there, that counts which the others are a part or a
/// remainder of.
///
/// # Errors
/// Where it cannot be read, or what is there is damaged.
pub fn probe(source: &dyn Source) -> Result<Found, Error> {
    if containers::is_container(source)? {
        return Ok(Found::Container(containers::probe(source)?));
    }
    if let Some(volume) = lvm2::read(source)? {
        return Ok(Found::PhysicalVolume(Box::new(volume)));
    }
    // A LUKS2 header whose first copy is gone altogether.
    match containers::probe(source) {
        Ok(container) => Ok(Found::Container(container)),
        Err(Error::NotAContainer(_) | Error::TooSmall { .. }) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}
