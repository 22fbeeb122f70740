//! What an image holds, of all that is known here.

use crate::containers::{self, Container};
use crate::evms;
use crate::images::{self, Format};
use crate::partitions::{self, Table};
use crate::signatures::{self, Signature};
use crate::volumes::lvm1;
use crate::volumes::lvm2::{self, PhysicalVolume};
use crate::{Error, Source};

/// What an image holds.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is not raw: another program makes it so.
    Image(Format),
    /// An encrypted container.
    Container(Container),
    /// A physical volume of LVM2.
    Lvm2(Box<PhysicalVolume>),
    /// A physical volume of LVM1.
    Lvm1(Box<lvm1::Member>),
    /// An object of EVMS.
    Evms(evms::Header),
    /// Partitions.
    Partitions(Table),
    /// A file system, swap, or whatever else has a signature.
    Signature(Signature),
    /// Nothing that is known.
    Nothing,
}

/// Finds out what an image holds. Where several things are there, that counts which the others are a part or a
/// remainder of: what is written by tools that look at the whole device before what lies inside it.
///
/// # Errors
/// Where it cannot be read, or what is there is damaged.
pub fn probe(source: &dyn Source) -> Result<Found, Error> {
    if let Some(format) = images::format(source)? {
        return Ok(Found::Image(format));
    }
    if containers::is_container(source)? {
        return Ok(Found::Container(containers::probe(source)?));
    }
    if let Some(volume) = lvm2::read(source)? {
        return Ok(Found::Lvm2(Box::new(volume)));
    }
    if lvm1::is_member(source)? {
        return Ok(Found::Lvm1(Box::new(lvm1::read(source)?)));
    }
    if let Some(header) = evms::read(source)? {
        return Ok(Found::Evms(header));
    }
    let signature = signatures::read(source)?;
    match (partitions::read(source), signature) {
        // A disk image of an optical disc may have both: the table is for machines that start from it.
        (Ok(Some(_)) | Err(Error::DamagedHeader { .. }), Some(signature))
            if matches!(signature.kind, "iso9660" | "udf") =>
        {
            Ok(Found::Signature(signature))
        }
        (Ok(Some(mut table)), signature) => {
            if let Some(signature) = signature {
                table.warnings.push(format!(
                    "there is {} as well, which was there before or lies beside it: the partitions count",
                    signature.kind
                ));
            }
            Ok(Found::Partitions(table))
        }
        (Err(Error::DamagedHeader { .. }) | Ok(None), Some(signature)) => {
            Ok(Found::Signature(signature))
        }
        (Err(error), _) => Err(error),
        (Ok(None), None) => second_header(source),
    }
}

/// Looks for a LUKS2 header whose first copy is gone altogether.
fn second_header(source: &dyn Source) -> Result<Found, Error> {
    match containers::probe(source) {
        Ok(container) => Ok(Found::Container(container)),
        Err(Error::NotAContainer(_) | Error::TooSmall { .. }) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}
