//! Where LVM2 keeps what it knows: the label of a physical volume, and the ring of a metadata area.
//!
//! Source: `lib/format_text/layout.h` of LVM2 and what `pvck --dump` prints, as descriptions of the format.

use crate::bytes::{array, le32, le64};
use crate::{Error, Source, source};

/// One of the first four sectors has the label.
const LABEL_SECTORS: u64 = 4;
const SECTOR: usize = 512;
/// An area's header.
const HEADER: usize = 512;
const MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// The initial value of the checksums, which are not inverted at the end.
const CRC_START: u32 = 0xf597_a6cf;
/// A text that is longer is refused: LVM2's own areas are 1 MiB by default, and hold two texts.
const LONGEST_TEXT: u64 = 64 << 20;
/// LVM2 makes two metadata areas at most.
const MOST_AREAS: usize = 8;

/// The label of a physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// The volume's id, without hyphens.
    pub(super) id: String,
    /// The size in bytes that the volume was made with.
    pub(super) size: u64,
    /// Where metadata areas are: offset and size in bytes.
    pub(super) areas: Vec<(u64, u64)>,
    /// Whether it is in a group, where the label says it (since version 1 of its extension).
    pub(super) used: Option<bool>,
}

/// A text in a metadata area, as it was committed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// The area is out of use: its text may be an old one.
    pub(super) ignored: bool,
}

/// Looks for a label; nothing where there is none.
pub(super) fn find(source: &dyn Source) -> Result<Option<Label>, Error> {
    let len = source.len().min(LABEL_SECTORS * SECTOR as u64);
    let head = source::read(source, 0, len as usize)?;
    let mut found = None;
    for (nr, sector) in head.chunks_exact(SECTOR).enumerate() {
        if !is_label(sector) {
            continue;
        }
        match read(sector, nr as u64) {
            Ok(label) => return Ok(Some(label)),
            Err(error) => found = found.or(Some(error)),
        }
    }
    found.map_or(Ok(None), Err)
}

fn is_label(sector: &[u8]) -> bool {
    sector.starts_with(b"LABELONE") && sector[24..32] == *b"LVM2 001"
}

fn read(sector: &[u8], nr: u64) -> Result<Label, Error> {
    let wrong = |what: String| Err(Error::damaged(format!("LVM2 label in sector {nr}: {what}")));
    let (found, expected) = (le32(sector, 16), checksum(CRC_START, &sector[20..]));
    if found != expected {
        return wrong(format!("checksum {found:#010x}, expected {expected:#010x}"));
    }
    if le64(sector, 8) != nr {
        return wrong(format!("says that it is in sector {}", le64(sector, 8)));
    }
    let start = le32(sector, 20) as usize;
    let Some(header) = sector.get(start..).filter(|header| header.len() >= 40 + 32) else {
        return wrong(format!("its contents begin at byte {start}"));
    };
    let id = id(&header[..32]).ok_or_else(|| {
        Error::damaged(format!("LVM2 label in sector {nr}: an id of other characters"))
    })?;
    let mut rest = Pairs { bytes: &header[40..] };
    rest.list();
    let areas: Vec<(u64, u64)> = rest.list().into_iter().take(MOST_AREAS).collect();
    let extension = rest.bytes;
    let used = (extension.len() >= 8 && (1..=2).contains(&le32(extension, 0)))
        .then(|| le32(extension, 4) & 1 != 0);
    Ok(Label { id, size: le64(header, 32), areas, used })
}

/// Offsets with sizes, in lists that end with zeros.
struct Pairs<'a> {
    bytes: &'a [u8],
}

impl Pairs<'_> {
    fn list(&mut self) -> Vec<(u64, u64)> {
        let mut list = Vec::new();
        while self.bytes.len() >= 16 {
            let pair = (le64(self.bytes, 0), le64(self.bytes, 8));
            self.bytes = &self.bytes[16..];
            // The size of a data area may be 0, for all there is; the offset never is.
            if pair.0 == 0 {
                break;
            }
            list.push(pair);
        }
        list
    }
}

/// Reads the text that was committed last in a metadata area; nothing where none ever was.
pub(super) fn text(source: &dyn Source, area: (u64, u64)) -> Result<Option<Text>, Error> {
    let (start, size) = area;
    let wrong =
        |what: String| Err(Error::damaged(format!("LVM2 metadata area at byte {start}: {what}")));
    let header = source::read(source, start, HEADER)?;
    let (found, expected) = (le32(&header, 0), checksum(CRC_START, &header[4..]));
    if found != expected {
        return wrong(format!("checksum {found:#010x}, expected {expected:#010x}"));
    }
    if array::<16>(&header, 4) != *MAGIC || le32(&header, 20) != 1 {
        return wrong("no header of version 1".to_owned());
    }
    if (le64(&header, 24), le64(&header, 32)) != (start, size) {
        let (says, of) = (le64(&header, 24), le64(&header, 32));
        return wrong(format!("of {size} bytes, says that it is at {says} and of {of}"));
    }
    let (offset, len) = (le64(&header, 40), le64(&header, 48));
    let (sum, flags) = (le32(&header, 56), le32(&header, 60));
    if offset == 0 || len == 0 {
        return Ok(None);
    }
    let inside = offset >= HEADER as u64 && offset < size && len <= size - HEADER as u64;
    if !inside || len > LONGEST_TEXT {
        return wrong(format!("a text of {len} bytes at {offset}, in an area of {size}"));
    }
    // What does not fit before the end goes on behind the header.
    let first = len.min(size - offset);
    let mut bytes = source::read(source, start.saturating_add(offset), first as usize)?.to_vec();
    if first < len {
        let rest = start.saturating_add(HEADER as u64);
        bytes.extend_from_slice(&source::read(source, rest, (len - first) as usize)?);
    }
    let expected = checksum(CRC_START, &bytes);
    if sum != expected {
        return wrong(format!("text with checksum {sum:#010x}, expected {expected:#010x}"));
    }
    Ok(Some(Text { bytes, ignored: flags & 1 != 0 }))
}

/// Returns an id's 32 characters.
fn id(bytes: &[u8]) -> Option<String> {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#');
    bytes.iter().all(is_usual).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// CRC-32 with another initial value, and without the inversion at the end.
fn checksum(start: u32, bytes: &[u8]) -> u32 {
    // The crate inverts at both ends.
    let mut hasher = crc32fast::Hasher::new_with_initial(!start);
    hasher.update(bytes);
    !hasher.finalize()
}
