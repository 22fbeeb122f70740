//! LUKS2: two copies of a binary header with a JSON text, then key slots.
//!
//! As written by the "LUKS2 On-Disk Format Specification", version 1.1.4, and checked as
//! cryptsetup 2.6 to 2.8 check it.

use serde::Serialize;

use crate::{Error, Source};

mod binary;
mod check;
mod dump;
mod metadata;
mod slots;
mod unlock;
mod values;

pub use metadata::{
    Af, Area, Config, Digest, Integrity, Kdf, KeySlot, Metadata, Requirements, Segment, Token,
};
pub use values::{Binary, Number, Numbered, Numbers, Size, Text, Words};

pub(crate) use binary::MAGIC_FIRST;

/// A LUKS2 header.
#[derive(Clone, Debug, Serialize)]
pub struct Luks2 {
    /// How many bytes one copy takes, binary header and JSON text.
    pub header_bytes: u64,
    /// Counts the changes of the header; of two valid copies the higher one counts.
    pub seqid: u64,
    /// A name for the container, or nothing.
    pub label: String,
    /// Another name, for programs; or nothing.
    pub subsystem: String,
    /// The container's UUID.
    pub uuid: String,
    /// The hash of the header's checksum.
    pub checksum: String,
    /// Which copy this is.
    pub copy: HeaderCopy,
    /// The JSON text.
    pub metadata: Metadata,
    /// What is wrong with the other copy.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
}

/// A copy of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderCopy {
    /// At the start of the image.
    Primary,
    /// Behind the first.
    Secondary,
}

impl Luks2 {
    /// Reads the copy of the header that counts: of two valid ones the newer; else the valid one.
    pub(crate) fn read(image: &dyn Source) -> Result<Luks2, Error> {
        let (first, at) = match binary::read(image, 0, HeaderCopy::Primary) {
            Ok(raw) => (parse(image, raw.clone()), Some(raw.header_bytes)),
            Err(error) => (Err(error), None),
        };
        let second = match at {
            Some(at) => binary::read(image, at, HeaderCopy::Secondary),
            // The first copy does not say where the second is: it is at one of a few places.
            None => binary::search_second(image),
        };
        let second = second.and_then(|raw| parse(image, raw));
        choose(first, second)
    }

    /// Returns where the key slots' areas end, in bytes: what the image must hold at least.
    fn areas_end(&self) -> u64 {
        2 * self.header_bytes + self.metadata.config.keyslots_size.0
    }
}

fn parse(image: &dyn Source, raw: binary::Raw) -> Result<Luks2, Error> {
    let metadata = metadata::parse(raw.json())?;
    let header = Luks2 {
        header_bytes: raw.header_bytes,
        seqid: raw.seqid,
        label: raw.label,
        subsystem: raw.subsystem,
        uuid: raw.uuid,
        checksum: raw.checksum,
        copy: raw.copy,
        metadata,
        warnings: Vec::new(),
    };
    check::check(&header)?;
    let (len, needed) = (image.len(), header.areas_end());
    if len < needed {
        return Err(Error::TooSmall { what: "the image", len, needed });
    }
    Ok(header)
}

fn choose(first: Result<Luks2, Error>, second: Result<Luks2, Error>) -> Result<Luks2, Error> {
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let (old, new) = (first.seqid.min(second.seqid), first.seqid.max(second.seqid));
            let mut newer = if first.seqid >= second.seqid { first } else { second };
            if old != new {
                let copy = name(newer.copy);
                let text = format!(
                    "the copies of the header differ (epochs {old} and {new}): the {copy} one is newer and was used"
                );
                newer.warnings.push(text);
            }
            Ok(newer)
        }
        (Ok(mut first), Err(why)) => {
            let text =
                format!("the second copy of the header is no good ({why}): the first was used");
            first.warnings.push(text);
            Ok(first)
        }
        (Err(why), Ok(mut second)) => {
            let text =
                format!("the first copy of the header is no good ({why}): the second was used");
            second.warnings.push(text);
            Ok(second)
        }
        // One that could not be read may be good: that the image cannot be read comes first.
        (Err(Error::DamagedHeader { .. }), Err(io @ Error::Io { .. })) => Err(io),
        (Err(why), Err(_)) => Err(why),
    }
}

fn name(copy: HeaderCopy) -> &'static str {
    match copy {
        HeaderCopy::Primary => "first",
        HeaderCopy::Secondary => "second",
    }
}
