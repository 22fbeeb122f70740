//! Swap, whose signature is the end of the first page, and a system that was suspended into it.

use super::{Found, Window, text};
use crate::bytes::{be32, le32};

/// TuxOnIce overwrites the beginning, and leaves the end of the page.
pub(super) const TUX_ON_ICE: &[u8] = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";

pub(super) fn swap(window: &Window, at: u64) -> Option<Found> {
    if window.has(0, TUX_ON_ICE).is_some() {
        return None;
    }
    if window.has(at as i64, b"SWAP-SPACE").is_some() {
        return Some(Found::default());
    }
    let header = window.at(1024, 12)?;
    let last = match (le32(&header, 0), be32(&header, 0)) {
        (1, _) => le32(&header, 4),
        (_, 1) => be32(&header, 4),
        _ => return None,
    };
    if last == 0 {
        return None;
    }
    let size = (u64::from(last) + 1) * (at + 10);
    Some(Found { size: Some(size), ..names(window)? })
}

pub(super) fn suspended(window: &Window, _: u64) -> Option<Found> {
    names(window)
}

fn names(window: &Window) -> Option<Found> {
    let header = window.at(1024, 512)?;
    // The old headers have something else there, and no label.
    if header[172..180].iter().any(|byte| *byte != 0) {
        return Some(Found::default());
    }
    let (label, uuid) = (text::label(&header[28..44]), text::uuid(&header[12..28]));
    Some(Found { label, uuid, size: None })
}
