//! The device of a dirty log, read and written in pieces.

use std::ops::Range;

use sim_core::{Area, Bio, BlkResult, Buffer, Flags, Sectors};

use super::image::Image;
use crate::parts::bits::NoMemory;

/// How long a piece is, in bytes.
pub(super) const PIECE: u64 = 1 << 20;

/// Cuts a range of bytes into pieces.
pub(super) fn pieces(bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = bytes.end;
    bytes.step_by(PIECE as usize).map(move |at| at..end.min(at + PIECE))
}

/// Writes some bytes of the log.
pub(super) async fn write_at(device: &Area, at: u64, bytes: &[u8], flags: Flags) -> BlkResult {
    let sector = Sectors::in_bytes(at).to_sector();
    device.submit(sector, Bio::write(sector, bytes).with_flags(flags)).await
}

/// Reads the whole log; tells whether the device let that happen.
pub(super) async fn read_all(device: &Area, image: &mut Image) -> Result<bool, NoMemory> {
    let mut buffer = Buffer::take(image.len().min(PIECE) as usize);
    for piece in pieces(0..image.len()) {
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        let sector = Sectors::in_bytes(piece.start).to_sector();
        if device.submit(sector, Bio::read(sector, bytes)).await.is_err() {
            return Ok(false);
        }
        image.put_bytes(piece.start, bytes)?;
    }
    Ok(true)
}

/// Writes the whole log: the first piece, with the header, when all others are durable, as it says
/// how many of their bits mean something.
pub(super) async fn write_all(device: &Area, image: &Image) -> bool {
    let mut buffer = Buffer::take(image.len().min(PIECE) as usize);
    let mut pieces: Vec<Range<u64>> = pieces(0..image.len()).collect();
    pieces.rotate_left(1);
    for piece in &pieces {
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        image.get_bytes(piece.start, bytes);
        let is_header = piece.start == 0 && pieces.len() > 1;
        let before = Flags { preflush: is_header, ..Flags::default() };
        if write_at(device, piece.start, bytes, before).await.is_err() {
            return false;
        }
    }
    true
}
