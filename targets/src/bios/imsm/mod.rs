//! Intel's metadata (IMSM, Matrix Storage, Rapid Storage): one table for the whole set, the same on each
//! of its disks, little-endian.
//!
//! Its first sector, the anchor, is the second last of the disk. What it does not hold lies before it.
//! **Nothing in it tells which of the disks it lies on**: that goes by the serial number that the disk
//! itself has, which an image has lost.

mod change;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::Fault;
use super::pieces::{Pieces, Stop};
use super::set::{Hindrance, Slot, Volume};
use crate::parts::bytes::{le16, le32, le64};

const WHAT: &str = "metadata of an Intel RAID set";

const SIGNATURE: &[u8] = b"Intel Raid ISM Cfg Sig. ";
/// So many sectors it has at most; with all that it can hold, it has fewer.
const MOST: u64 = 256;

// Where things are in the table.
const CHECKSUM: usize = 0x20;
const SIZE: usize = 0x24;
const FAMILY: usize = 0x28;
const GENERATION: usize = 0x2c;
const ATTRIBUTES: usize = 0x34;
const DISKS: usize = 0x38;
const VOLUMES: usize = 0x39;
const FIRST_FAMILY: usize = 0x40;
const BAD_BLOCKS: usize = 0x48;
const TABLE: usize = 0xd8;

/// What mdadm knows how to keep up, and what means nothing.
const KNOWN: u32 = 0xac00_00d7 | 0x4000_0000;

// In the descriptor of a disk.
const DISK: usize = 48;
const SERIAL: usize = 16;
const DISK_STATUS: usize = 24;
const FAILED: u32 = 4;

// In that of a volume.
const VOLUME_LEN: usize = 16;
const WRITE_HOLE: usize = 50;
const MIGRATES: usize = 88;
const MIGRATION: usize = 89;
const DIRTY: usize = 90;
const MAP: usize = 112;

// In a map.
const STATE: usize = 14;
const FAILED_DISK: usize = 18;
const ORDER: usize = 48;
const NORMAL: u8 = 0;
const UNINITIALIZED: u8 = 1;
const DEGRADED: u8 = 2;
/// With the number of a disk: it does not have what the volume has.
const OUT_OF_SYNC: u32 = 1 << 24;

/// A table, whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mpb {
    /// Where its anchor lies.
    at: Sector,
    /// Whole sectors, the anchor first.
    bytes: Vec<u8>,
    /// Where each volume's descriptor begins, and where its maps do.
    volumes: Vec<Spot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    at: usize,
    map: usize,
    /// That of the state before, while it migrates.
    before: Option<usize>,
}

/// Reads the table of a disk so long; nothing where it has none.
pub(super) fn read(len: Sectors, pieces: &Pieces) -> Result<Option<Mpb>, Stop> {
    let Some(anchor) = pieces.sector(len.0.checked_sub(2))? else { return Ok(None) };
    if !anchor.starts_with(SIGNATURE) {
        let large = pieces.sector(len.0.checked_sub(16))?;
        return match large.is_some_and(|anchor| anchor.starts_with(SIGNATURE)) {
            true => Err(fault("is of a disk with sectors of 4096 bytes, which is not supported")),
            false => Ok(None),
        };
    }
    let at = Sector(len.0 - 2);
    let size = le32(anchor, SIZE) as usize;
    let more = (size as u64).div_ceil(SECTOR_SIZE).saturating_sub(1);
    if size < TABLE || more >= MOST || more > at.0 {
        return Err(fault(format!("cannot be: its size is {size} bytes")));
    }
    let mut bytes = anchor.to_vec();
    if more > 0 {
        bytes.extend_from_slice(pieces.sectors(Sector(at.0 - more), Sectors(more))?);
    }
    if checksum(&bytes[..size]) != le32(&bytes, CHECKSUM) {
        return Err(fault(format!(
            "has a wrong checksum: expected {:08x}, found {:08x}",
            checksum(&bytes[..size]),
            le32(&bytes, CHECKSUM)
        )));
    }
    let volumes = spots(&bytes[..size])?;
    Ok(Some(Mpb { at, bytes, volumes }))
}

fn fault(how: impl Into<String>) -> Stop {
    Fault::of(WHAT, how).into()
}

/// Finds the volumes, each within the table.
fn spots(bytes: &[u8]) -> Result<Vec<Spot>, Stop> {
    let cut_off = || fault("cannot be: its tables go past its end");
    let disks = usize::from(bytes[DISKS]);
    let mut at = TABLE + disks * DISK;
    let mut spots = Vec::new();
    let map_end = |map: usize| {
        let members = bytes.get(map + 16).copied()?;
        let end = map + ORDER + 4 * usize::from(members);
        (end <= bytes.len()).then_some(end)
    };
    for _ in 0..bytes[VOLUMES] {
        let map = at + MAP;
        let mut end = map_end(map).ok_or_else(cut_off)?;
        let before = (bytes[at + MIGRATES] != 0).then_some(end);
        if let Some(before) = before {
            end = map_end(before).ok_or_else(cut_off)?;
        }
        spots.push(Spot { at, map, before });
        at = end;
    }
    match at <= bytes.len() {
        true => Ok(spots),
        false => Err(cut_off()),
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4).map(|word| le32(word, 0));
    let sum = words.fold(0_u32, u32::wrapping_add);
    sum.wrapping_sub(le32(bytes, CHECKSUM))
}

impl Mpb {
    /// Returns the number of the set that stays while its disks change.
    pub(super) fn family(&self) -> u32 {
        match le32(&self.bytes, FIRST_FAMILY) {
            0 => le32(&self.bytes, FAMILY),
            family => family,
        }
    }

    /// Returns how many times it was written.
    pub(super) fn generation(&self) -> u32 {
        le32(&self.bytes, GENERATION)
    }

    /// Returns the serial numbers of the disks, and for each whether it has failed.
    pub(super) fn disks(&self) -> impl Iterator<Item = (String, bool)> + '_ {
        (0..usize::from(self.bytes[DISKS])).map(|nr| {
            let disk = &self.bytes[TABLE + nr * DISK..][..DISK];
            let serial = String::from_utf8_lossy(&disk[..SERIAL]);
            let serial = serial.trim_end_matches('\0').trim().to_owned();
            (serial, le32(disk, DISK_STATUS) & FAILED != 0)
        })
    }

    /// Tells whether it is the table of a disk that is in no set yet.
    pub(super) fn is_spare(&self) -> bool {
        self.volumes.is_empty()
    }

    /// Returns the volumes.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        self.volumes.iter().map(|spot| self.volume(spot)).collect()
    }

    fn volume(&self, spot: &Spot) -> Volume {
        let (bytes, map) = (&self.bytes[spot.at..], &self.bytes[spot.map..]);
        let long =
            |low: usize, high: usize| u64::from(le32(map, low)) | u64::from(le32(map, high)) << 32;
        let members = usize::from(map[16]);
        let level = match (map[15], members) {
            // Two pairs.
            (1, 3..) => 10,
            (level, _) => u32::from(level),
        };
        let (layout, parts) = match level {
            10 => (0x102, members / 2),
            1 => (0, 1),
            5 => (0, members.saturating_sub(1)),
            _ => (0, members),
        };
        let strip = u64::from(le16(map, 12));
        let len = le64(bytes, VOLUME_LEN);
        let turns = if matches!(level, 1 | 10) { 2 } else { 1 };
        let mut size = long(8, 28).saturating_mul(strip).saturating_mul(turns);
        // Where a volume has grown, that may not have been written.
        let parts = parts.max(1) as u64;
        if size.saturating_mul(parts).abs_diff(len) > 2048 * parts {
            size = len / parts;
        }
        let start = Sector(long(0, 20));
        let disks: Vec<(String, bool)> = self.disks().collect();
        let slot = |nr: usize| {
            let order = |map: usize| le32(&self.bytes, map + ORDER + 4 * nr);
            // New failures are in the first, and what is rebuilt in that before.
            let both = [Some(spot.map), spot.before].into_iter().flatten();
            let is_out = both
                .filter(|map| nr < usize::from(self.bytes[map + 16]))
                .any(|map| order(map) & OUT_OF_SYNC != 0);
            let disk = (order(spot.map) & !(0xff << 24)) as usize;
            let disk = Some(disk).filter(|disk| *disk < disks.len());
            let has_failed = disk.is_none_or(|disk| disks[disk].1);
            Slot { disk, start, is_in_sync: !is_out && !has_failed }
        };
        let name = String::from_utf8_lossy(&bytes[..16]);
        Volume {
            name: name.trim_end_matches('\0').trim().to_owned(),
            level,
            layout,
            chunk: if level == 1 { Sectors::ZERO } else { Sectors(strip) },
            size: Sectors(size),
            len: Sectors(len),
            slots: (0..members).map(slot).collect(),
            is_dirty: bytes[DIRTY] & 1 != 0 || self.before_state(spot) == UNINITIALIZED,
            hindrance: self.hindrance(spot),
        }
    }

    fn before_state(&self, spot: &Spot) -> u8 {
        self.bytes[spot.before.unwrap_or(spot.map) + STATE]
    }

    fn hindrance(&self, spot: &Spot) -> Option<Hindrance> {
        let volume = &self.bytes[spot.at..];
        let strange = le32(&self.bytes, ATTRIBUTES) & !KNOWN;
        let migration = spot.before.map(|_| volume[MIGRATION]);
        match (migration, volume[WRITE_HOLE]) {
            _ if strange != 0 => Some(Hindrance::Opens("has attributes that are not known")),
            _ if self.has_bad_blocks() => Some(Hindrance::Opens("has bad blocks in its log")),
            (Some(3 | 4), _) => {
                Some(Hindrance::Opens("is being reshaped: mdadm or the BIOS has to end that first"))
            }
            (Some(0), _) => Some(Hindrance::Writes("is being initialized")),
            (Some(1), _) => Some(Hindrance::Writes("is being rebuilt")),
            (Some(2), _) => Some(Hindrance::Writes("is being checked")),
            (Some(5), _) => Some(Hindrance::Writes("is being repaired")),
            (Some(_), _) => Some(Hindrance::Opens("migrates in a way that is not known")),
            (None, _) if self.before_state(spot) == UNINITIALIZED => {
                Some(Hindrance::Writes("was never initialized"))
            }
            (None, 0 | 5) => None,
            (None, 6) => Some(Hindrance::Writes("has a bitmap, which is not supported")),
            (None, _) => {
                Some(Hindrance::Writes("has a partial parity log, which is not supported"))
            }
        }
    }

    fn has_bad_blocks(&self) -> bool {
        const COUNT: usize = 4;
        let (size, log) = (le32(&self.bytes, SIZE), le32(&self.bytes, BAD_BLOCKS));
        let at = size.checked_sub(log).map(|at| at as usize);
        log > 0
            && at
                .and_then(|at| self.bytes.get(at + COUNT..at + COUNT + 4))
                .is_none_or(|count| count != [0; 4])
    }
}
