//! What must hold between the parts of LUKS2's JSON text, whoever wrote it.

use super::metadata::{Metadata, Segment};
use super::values::Size;
use super::{Luks2, Numbers};
use crate::Error;

/// The binary header's size in bytes; the JSON area's makes up the rest.
const BINARY_BYTES: u64 = 4096;

/// The most that all key slots may take, in bytes.
const MOST_KEYSLOTS_BYTES: u64 = 128 << 20;

/// A range of bytes: its start, its end, and whose it is.
type Range = (u64, u64, u32);

pub(super) fn check(header: &Luks2) -> Result<(), Error> {
    sizes(header)?;
    references(&header.metadata)?;
    segments(&header.metadata)?;
    areas(header)?;
    data_behind_areas(header)
}

fn sizes(header: &Luks2) -> Result<(), Error> {
    let config = &header.metadata.config;
    let json_bytes = header.header_bytes - BINARY_BYTES;
    if config.json_size.0 != json_bytes {
        let found = config.json_size.0;
        return Err(Error::damaged(format!("json_size: expected {json_bytes}, found {found}")));
    }
    let keyslots = config.keyslots_size.0;
    if keyslots > MOST_KEYSLOTS_BYTES || !keyslots.is_multiple_of(4096) {
        let expected = format!("a multiple of 4096 up to {MOST_KEYSLOTS_BYTES}");
        let what = format!("keyslots_size: expected {expected}, found {keyslots}");
        return Err(Error::damaged(what));
    }
    Ok(())
}

/// Checks that what is referred to is there.
fn references(metadata: &Metadata) -> Result<(), Error> {
    let missing = |who: &str, number: u32, what: &str, missing: u32| {
        Err(Error::damaged(format!("{who} {number}: there is no {what} {missing}")))
    };
    let no_slot = |list: &Numbers| {
        list.0.iter().find(|slot| metadata.keyslots.get(**slot).is_none()).copied()
    };
    for (number, token) in metadata.tokens.iter() {
        if let Some(slot) = no_slot(&token.keyslots) {
            return missing("token", number, "key slot", slot);
        }
    }
    for (number, digest) in metadata.digests.iter() {
        if let Some(slot) = no_slot(&digest.keyslots) {
            return missing("digest", number, "key slot", slot);
        }
        let mut segments = digest.segments.0.iter();
        if let Some(segment) = segments.find(|segment| metadata.segments.get(**segment).is_none()) {
            return missing("digest", number, "segment", *segment);
        }
    }
    Ok(())
}

/// Checks that segments are numbered without a gap, those of a reencryption's records last, and
/// that the others do not overlap.
fn segments(metadata: &Metadata) -> Result<(), Error> {
    let mut ranges: Vec<Range> = Vec::new();
    let (mut behind_backup, mut behind_dynamic) = (None, None);
    for (expected, (number, segment)) in (0u32..).zip(metadata.segments.iter()) {
        let place = format!("segment {number}");
        if number != expected {
            return Err(Error::damaged(format!("segments: there is no number {expected}")));
        }
        segment_values(&place, segment, number, metadata)?;
        if segment.is_backup() {
            behind_backup = Some(number);
            continue;
        }
        if let Some(backup) = behind_backup {
            return Err(Error::damaged(format!("{place} is behind the backup segment {backup}")));
        }
        if let Some(dynamic) = behind_dynamic {
            let what = format!("segment {dynamic} is dynamic, and not the last");
            return Err(Error::damaged(what));
        }
        let start = segment.offset.0;
        let end = match segment.size {
            Size::Dynamic => {
                behind_dynamic = Some(number);
                u64::MAX
            }
            Size::Fixed(bytes) => start.checked_add(bytes).ok_or_else(|| {
                Error::damaged(format!("{place}: offset {start} and size {bytes} overflow"))
            })?,
        };
        ranges.push((start, end, number));
    }
    if ranges.is_empty() {
        return Err(Error::damaged("segments: there is none"));
    }
    apart("segments", ranges)
}

fn segment_values(
    place: &str,
    segment: &Segment,
    number: u32,
    metadata: &Metadata,
) -> Result<(), Error> {
    let size = match segment.size {
        Size::Dynamic => 0,
        Size::Fixed(0) => return Err(Error::damaged(format!("{place}: size of 0"))),
        Size::Fixed(bytes) => bytes,
    };
    if !segment.offset.0.is_multiple_of(512) || !size.is_multiple_of(512) {
        let what = format!("{place}: offset {} or size {size}", segment.offset.0);
        return Err(Error::damaged(format!("{what}: expected multiples of 512")));
    }
    if segment.kind.as_bytes() != b"crypt" {
        return Ok(());
    }
    let there = [
        ("iv_tweak", segment.iv_tweak.is_some()),
        ("encryption", segment.encryption.is_some()),
        ("sector_size", segment.sector_size.is_some()),
    ];
    if let Some((name, _)) = there.iter().find(|(_, there)| !there) {
        return Err(Error::damaged(format!("{place}: there is no {name}")));
    }
    let sector_size = segment.sector_size.unwrap_or(512);
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        let what = "expected 512, 1024, 2048 or 4096";
        return Err(Error::damaged(format!("{place}: sector_size: {what}, found {sector_size}")));
    }
    if !size.is_multiple_of(u64::from(sector_size)) {
        let what = format!("{place}: size {size}: expected a multiple of {sector_size}");
        return Err(Error::damaged(what));
    }
    if !metadata.digests.iter().any(|(_, digest)| digest.segments.0.contains(&number)) {
        return Err(Error::damaged(format!("{place}: no digest")));
    }
    Ok(())
}

/// Checks that the key slots' areas lie in their part of the image, and apart.
fn areas(header: &Luks2) -> Result<(), Error> {
    let (first, last) = (2 * header.header_bytes, header.areas_end());
    let mut ranges: Vec<Range> = Vec::new();
    for (number, slot) in header.metadata.keyslots.iter() {
        let (start, size) = (slot.area.offset.0, slot.area.size.0);
        let end = start.checked_add(size).filter(|end| size > 0 && start >= first && *end <= last);
        let end = end.ok_or_else(|| {
            Error::damaged(format!(
                "key slot {number}: area of {size} bytes at {start}: expected it within {first} to {last}"
            ))
        })?;
        ranges.push((start, end, number));
    }
    apart("areas of key slots", ranges)
}

fn apart(what: &str, mut ranges: Vec<Range>) -> Result<(), Error> {
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => {
            let (one, other) = (pair[0].2, pair[1].2);
            Err(Error::damaged(format!("{what} {one} and {other} overlap")))
        }
        None => Ok(()),
    }
}

/// Checks that the data begin behind the key slots, unless they are on another device.
fn data_behind_areas(header: &Luks2) -> Result<(), Error> {
    let segments = header.metadata.segments.iter().map(|(_, segment)| segment);
    let first = segments.filter(|segment| !segment.is_backup()).map(|segment| segment.offset.0);
    let (first, end) = (first.min().unwrap_or(0), header.areas_end());
    if first != 0 && first < end {
        let what =
            format!("data at {first}: expected them behind the key slots, at {end} or later");
        return Err(Error::damaged(what));
    }
    Ok(())
}
