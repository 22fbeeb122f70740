//! Where a BitLocker volume's sectors are: its first ones were moved, its metadata read as zeros,
//! all else lies where it belongs.

use crypto::Secret;

use super::{BitLocker, METADATA_BYTES};
use crate::Error;
use crate::containers::unlocked::{Crypt, Line, LineTarget};

/// A run of sectors: where it is on the volume, how long it is, and where on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u64,
    len: u64,
    /// The first sector on the disk; without it zeros.
    on_disk: Option<u64>,
}

/// Divides a volume on a device of `len` bytes.
pub(super) fn spans(volume: &BitLocker, len: u64) -> Result<Vec<Span>, Error> {
    let unit = u64::from(volume.sector_size);
    let end = len / unit * unit / 512;
    let header = volume.header_size / 512;
    let mut holes: Vec<(u64, u64)> = vec![(volume.header_offset, volume.header_size)];
    holes.extend(volume.metadata_offsets.iter().map(|offset| (*offset, METADATA_BYTES)));
    holes.sort_unstable();
    let mut spans = vec![Span { start: 0, len: header, on_disk: Some(volume.header_offset / 512) }];
    let mut at = header;
    for (offset, bytes) in holes {
        if !offset.is_multiple_of(unit) || !bytes.is_multiple_of(unit) {
            let what =
                format!("an area of {bytes} bytes at {offset}: expected multiples of {unit}");
            return Err(Error::damaged(what));
        }
        let (hole, sectors) = (offset / 512, bytes / 512);
        let behind = hole.checked_add(sectors).filter(|_| hole >= at);
        let behind = behind.ok_or_else(|| {
            Error::damaged(format!("the area of {bytes} bytes at {offset} overlaps with another"))
        })?;
        if behind > end {
            let (what, needed) = ("the data device", behind.saturating_mul(512));
            return Err(Error::TooSmall { what, len, needed });
        }
        spans.push(Span { start: at, len: hole - at, on_disk: Some(at) });
        spans.push(Span { start: hole, len: sectors, on_disk: None });
        at = behind;
    }
    spans.push(Span { start: at, len: end - at, on_disk: Some(at) });
    spans.retain(|span| span.len > 0);
    Ok(spans)
}

pub(super) fn lines(volume: &BitLocker, spans: &[Span], key: &Secret) -> Vec<Line> {
    let sector_size = u32::from(volume.sector_size);
    let crypt = |on_disk: u64| Crypt {
        cipher: volume.cipher.into(),
        key: key.clone(),
        iv_offset: on_disk,
        offset: on_disk,
        sector_size,
        // The IV counts what is encrypted as one.
        options: if sector_size == 512 { Vec::new() } else { vec!["iv_large_sectors"] },
    };
    let line = |span: &Span| Line {
        start: span.start,
        len: span.len,
        target: span.on_disk.map_or(LineTarget::Zero, |at| LineTarget::Crypt(crypt(at))),
    };
    spans.iter().map(line).collect()
}
