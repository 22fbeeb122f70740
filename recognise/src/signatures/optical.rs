//! ISO 9660 (with Joliet's names, and High Sierra before it) and UDF.

use super::{Found, Window, text};
use crate::bytes::{le16, le32};

const DESCRIPTORS: u64 = 0x8000;
const SECTOR: u64 = 2048;

/// How many descriptors are looked at.
const MOST_DESCRIPTORS: u64 = 16;

/// Where the fields lie that ISO 9660 and High Sierra have at different places.
struct Layout {
    /// The descriptor within its sector.
    start: u64,
    root: usize,
    created: usize,
    modified: usize,
    /// Whether an offset from Greenwich follows a date.
    zone: bool,
}

const ISO: Layout = Layout { start: 0, root: 156, created: 813, modified: 830, zone: true };
const HIGH_SIERRA: Layout =
    Layout { start: 8, root: 172, created: 782, modified: 798, zone: false };

pub(super) fn iso9660(window: &Window, at: u64) -> Option<Found> {
    let layout = if at == DESCRIPTORS + 1 { ISO } else { HIGH_SIERRA };
    let (mut primary, mut joliet) = (None, None);
    for index in 0..MOST_DESCRIPTORS {
        let offset = DESCRIPTORS + index * SECTOR + layout.start;
        let Some(descriptor) = window.at(offset, 2040) else { break };
        match descriptor[0] {
            0xff => break,
            1 if primary.is_none() => primary = Some(descriptor),
            2 if layout.zone && joliet.is_none() => {
                let escape = &descriptor[88..91];
                joliet =
                    [b"%/@", b"%/C", b"%/E"].iter().any(|e| escape == &e[..]).then_some(descriptor);
            }
            _ => {}
        }
    }
    let primary = primary?;
    let block = u64::from(le16(&primary, 128));
    if block == 0 || !root_is_there(window, &primary[layout.root..], block) {
        return None;
    }
    let date = |at: usize| date(&primary[at..at + 16], layout.zone.then(|| primary[at + 16]));
    let name = &primary[40..72];
    let label = match &joliet {
        None => text::label(name),
        Some(joliet) => {
            text::utf16_be(&merged(&joliet[40..72], name).unwrap_or(joliet[40..72].to_vec()))
        }
    };
    let size = u64::from(le32(&primary, 80)).checked_mul(block);
    Some(Found { label, uuid: date(layout.modified).or_else(|| date(layout.created)), size })
}

/// Says whether the root directory is where its record says: what overwrote a part of an image has most
/// often left the descriptors. An image that ends before it is taken at its word.
fn root_is_there(window: &Window, record: &[u8], block: u64) -> bool {
    let (extent, len) = (le32(record, 2), le32(record, 10));
    let Some(root) = window.at(u64::from(extent) * block, 34) else { return len >= 34 };
    len >= 34 && root[0] >= 34 && root[32] == 1 && root[33] == 0 && le32(&root, 2) == extent
}

/// Prints a date as blkid makes a uuid of it.
fn date(digits: &[u8], zone: Option<u8>) -> Option<String> {
    if digits.iter().all(|digit| *digit == b'0') && zone.unwrap_or(0) == 0 {
        return None;
    }
    text::nonzero(digits)?;
    let digits: String = digits.iter().map(|digit| char::from(*digit)).collect();
    let digits = text::label(digits.as_bytes())?;
    let digits: Vec<char> = digits.chars().collect();
    let parts: Vec<String> = std::iter::once(digits.get(..4)?)
        .chain(digits.get(4..)?.chunks(2))
        .map(|part| part.iter().collect())
        .collect();
    Some(parts.join("-"))
}

/// Makes one name of two, as libblkid does: the Joliet name has the right case, the other one is longer.
/// None where they are not the same name.
fn merged(unicode: &[u8], ascii: &[u8]) -> Option<Vec<u8>> {
    let mut units = unicode.chunks_exact(2);
    let mut name = Vec::new();
    for byte in ascii {
        let Some(unit) = units.next() else {
            name.extend([0, *byte]);
            continue;
        };
        let mut unit = [unit[0], unit[1]];
        if (0xd8..0xdc).contains(&unit[0])
            && units.clone().next().is_some_and(|next| (0xdc..0xe0).contains(&next[0]))
        {
            name.extend(unit);
            let low = units.next()?;
            unit = [low[0], low[1]];
        }
        match (unit, *byte) {
            (unit, b'_') => name.extend(unit),
            ([0, b'_'], byte) => name.extend([0, byte]),
            ([0, letter], byte) if letter.eq_ignore_ascii_case(&byte) => {
                name.extend([0, if byte.is_ascii_uppercase() { letter } else { byte }]);
            }
            _ => return None,
        }
    }
    Some(name)
}

/// UDF: recognised by its volume recognition sequence, then by the anchor at block 256 or 512, which
/// says where the descriptors with the names are.
pub(super) fn udf(window: &Window, _: u64) -> Option<Found> {
    let sizes = [512u64, 1024, 2048, 4096].into_iter();
    let recognised = sizes.filter(|size| is_recognised(window, (*size).max(SECTOR)));
    let (size, anchor) =
        recognised.filter_map(|size| Some((size, anchor(window, size)?))).next()?;
    let (count, first) = (u64::from(le32(&anchor, 16)) / size, u64::from(le32(&anchor, 20)));
    let (mut found, mut is_udf, mut has_name) = (Found::default(), false, false);
    for block in first..first + count.min(64) {
        let descriptor = window.at(block * size, 512)?;
        if le16(&descriptor, 0) == 0 || u64::from(le32(&descriptor, 12)) != block {
            break;
        }
        match le16(&descriptor, 0) {
            1 if found.uuid.is_none() && is_osta(&descriptor[200..]) => {
                found.uuid = udf_uuid(&descriptor[72..200]);
            }
            6 => {
                is_udf |= descriptor[217..236] == *b"*OSTA UDF Compliant";
                if !has_name && is_osta(&descriptor[20..]) {
                    found.label = compressed(&descriptor[84..212]);
                    has_name = found.label.is_some();
                }
            }
            8 => break,
            _ => {}
        }
    }
    is_udf.then_some(found)
}

fn is_recognised(window: &Window, step: u64) -> bool {
    for index in 0..64 {
        let Some(descriptor) = window.at(DESCRIPTORS + index * step, 7) else { return false };
        match &descriptor[1..6] {
            b"NSR02" | b"NSR03" => return true,
            b"BEA01" | b"BOOT2" | b"CD001" | b"CDW02" | b"TEA01" => {}
            _ => return false,
        }
    }
    false
}

fn anchor(window: &Window, size: u64) -> Option<Vec<u8>> {
    [256u64, 512].into_iter().find_map(|block| {
        let anchor = window.at(block * size, 24)?;
        let is_anchor = le16(&anchor, 0) == 2 && u64::from(le32(&anchor, 12)) == block;
        is_anchor.then(|| anchor.to_vec())
    })
}

fn is_osta(charset: &[u8]) -> bool {
    charset[..24] == *b"\0OSTA Compressed Unicode"
}

/// Decodes a field of a fixed length, whose first byte says how, and whose last how long it is.
fn compressed(field: &[u8]) -> Option<String> {
    let room = field.len() - 2;
    let len = usize::from(field[room + 1]).saturating_sub(1).min(room);
    match field[0] {
        8 | 254 => text::latin1(&field[1..1 + len]),
        16 | 255 => text::utf16_be(&field[1..1 + len]),
        _ => None,
    }
}

/// Makes the uuid of the volume set's name: its first sixteen hexadecimal digits, or, where these are
/// not, the digits of its first bytes.
fn udf_uuid(field: &[u8]) -> Option<String> {
    let name = compressed(field)?;
    let mut bytes = name.into_bytes();
    if bytes.len() < 8 {
        return None;
    }
    bytes.resize(16.max(bytes.len()), 0);
    let digits = bytes.iter().take(16).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    Some(match digits {
        16 => text(&bytes[..16]),
        8.. => text(&bytes[..8]) + &crate::bytes::hex(&bytes[8..12]),
        _ => crate::bytes::hex(&bytes[..8]),
    })
}
