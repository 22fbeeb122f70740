//! How much of a set its bitmap has marked, read beside the set.

use std::fs::File;
use std::os::unix::fs::FileExt;

use targets::lines::raid::{LegHealth, Status};
use targets::raid::bitmap::{Bitmap, HEADER, Header, OFFSET};
use targets::raid::superblock::{self, Superblock};

use super::super::state::{Line, number};
use crate::device_mapper::DeviceMapper;
use crate::files::{fresh, path_of};
use sim_core::{Access, Sectors};

/// The largest bitmap, in bytes: 2^21 bits and the header.
const LARGEST: usize = (1 << 18) + HEADER;

/// Returns how much of what a set synchronizes is marked on the first leg in sync; nothing where that
/// cannot be read.
pub(in super::super) fn marked(
    dm: &mut dyn DeviceMapper,
    line: &Line,
    status: &Status,
) -> Option<Sectors> {
    marked_in(&metadata(dm, line, status)?)
}

/// Tells whether the superblock of the first leg in sync has a resync that is not over: where one goes on
/// that was cut off, the kernel's status has the word of a repair.
pub(in super::super) fn has_resync(
    dm: &mut dyn DeviceMapper,
    line: &Line,
    status: &Status,
) -> Option<bool> {
    let mut bytes = vec![0; superblock::LEN];
    metadata(dm, line, status)?.read_exact_at(&mut bytes, 0).ok()?;
    Some(Superblock::read(&bytes)?.resync_offset != superblock::DONE)
}

/// Opens the metadata of the first leg in sync.
fn metadata(dm: &mut dyn DeviceMapper, line: &Line, status: &Status) -> Option<File> {
    let first = status.legs.iter().position(|leg| *leg == LegHealth::InSync).unwrap_or_default();
    let meta = number(line.legs.get(first)?.meta.as_ref())?;
    let path = path_of(dm, meta).ok()?;
    fresh(&path, Access::ReadOnly).ok()
}

/// As [`marked`], by the metadata of one leg, with which the file begins.
pub(in super::super) fn marked_in(file: &File) -> Option<Sectors> {
    let mut bytes = vec![0; LARGEST];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], OFFSET + filled as u64).ok()? {
            0 => break,
            more => filled += more,
        }
    }
    let (head, bits) = bytes.split_first_chunk::<HEADER>().expect("it is longer");
    let header = Header::read(head).ok()?;
    let (region, all) = (header.chunk(), header.sync_size);
    if header.bytes() > filled as u64 {
        return None;
    }
    let bitmap = Bitmap::read(header, bits)?;
    let regions: u64 = bitmap.dirty().map(|run| run.end - run.start).sum();
    Some(Sectors(regions.saturating_mul(region.0).min(all.0)))
}
