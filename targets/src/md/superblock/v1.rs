//! Versions 1.0, 1.1 and 1.2: 256 bytes, and 2 for the role of each member.

use sim_core::{Sector, Sectors};

use super::{Change, DONE, Facts, Fault, LEN, Place, Role, sum, words};
use crate::parts::bytes::{le16, le32, le64, put};

/// How many roles there is room for.
pub(super) const MOST: usize = (LEN - ROLES) / 2;

// Where things are, in bytes.
const FEATURES: usize = 8;
const UUID: usize = 16;
const NAME: usize = 32;
const LEVEL: usize = 72;
const LAYOUT: usize = 76;
const SIZE: usize = 80;
const CHUNK: usize = 88;
const PLACES: usize = 92;
const BITMAP: usize = 96;
const DATA_OFFSET: usize = 128;
const DATA_SIZE: usize = 136;
const SUPERBLOCK: usize = 144;
const RECOVERY: usize = 152;
const NUMBER: usize = 160;
const FLAGS: usize = 184;
const EVENTS: usize = 200;
const RESYNC: usize = 208;
const CHECKSUM: usize = 216;
const COUNT: usize = 220;
const ROLES: usize = 256;

// Features.
const HAS_BITMAP: u32 = 1;
const RECOVERS: u32 = 1 << 1;
const BY_BITMAP: u32 = 1 << 7;
const RAID0_LAYOUT: u32 = 1 << 12;
/// Those that nothing here keeps up, the ones that say most first.
const UNSUPPORTED: [(u32, &str); 8] = [
    (1 << 2, "is being reshaped"),
    (1 << 5, "is being reshaped"),
    (1 << 6, "is being reshaped"),
    (1 << 9, "has a journal"),
    (1 << 10, "has a partial parity log"),
    (1 << 11, "has partial parity logs"),
    (1 << 8, "is of a cluster"),
    (1 << 4, "is a replacement for another member"),
];
const BAD_BLOCKS: u32 = 1 << 3;

const WRITE_MOSTLY: u8 = 1;

const SPARE: u16 = 0xffff;
const FAULTY: u16 = 0xfffe;
const JOURNAL: u16 = 0xfffd;

pub(super) fn check(bytes: &[u8], at: Sector) -> Result<usize, Fault> {
    if le32(bytes, 4) != 1 || le64(bytes, SUPERBLOCK) != at.0 {
        return Err(Fault::Version);
    }
    let count = le32(bytes, COUNT) as usize;
    if count > MOST {
        return Err(Fault::Impossible("more roles than fit into 4 KiB"));
    }
    let len = ROLES + 2 * count;
    if checksum(&bytes[..len]) != le32(bytes, CHECKSUM) {
        return Err(Fault::Checksum);
    }
    if le32(bytes, PLACES) as usize > MOST {
        return Err(Fault::Impossible("more places than roles fit into 4 KiB"));
    }
    let behind = le32(bytes, NUMBER) as usize >= count;
    match le64(bytes, DATA_OFFSET).checked_add(le64(bytes, DATA_SIZE)) {
        Some(end) if end < 1 << 55 && !behind => Ok(len),
        Some(_) if behind => Err(Fault::Impossible("a member without a role")),
        _ => Err(Fault::Impossible("data past any end")),
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let own = CHECKSUM / 4;
    let words = words(bytes).enumerate().filter(|(nr, _)| *nr != own).map(|(_, word)| word);
    let last = (bytes.len() % 4 == 2).then(|| le16(bytes, bytes.len() - 2).into());
    sum(words.chain(last))
}

pub(super) fn facts(bytes: &[u8], at: Sector) -> Facts {
    let features = le32(bytes, FEATURES);
    let name = bytes[NAME..NAME + 32].split(|byte| *byte == 0).next().unwrap_or_default();
    let number = le32(bytes, NUMBER) as usize;
    let (level, layout) = (le32(bytes, LEVEL) as i32, le32(bytes, LAYOUT));
    let known = UNSUPPORTED.iter().fold(0, |all, (feature, _)| all | feature);
    let known = known | HAS_BITMAP | RECOVERS | BY_BITMAP | RAID0_LAYOUT | BAD_BLOCKS;
    let unsupported = UNSUPPORTED.iter().find(|(feature, _)| features & feature != 0);
    let unsupported = match unsupported {
        Some((_, what)) => Some(*what),
        None if features & !known != 0 => Some("has features that are not known"),
        None if features & BAD_BLOCKS != 0 => Some("has bad blocks on its list"),
        None => None,
    };
    // Relative to the superblock; with a log of parity, the field is of that.
    let to_bitmap = i64::from(le32(bytes, BITMAP) as i32);
    Facts {
        uuid: bytes[UUID..UUID + 16].try_into().expect("16 bytes"),
        name: String::from_utf8_lossy(name).into_owned(),
        level,
        layout,
        chunk: Sectors(le32(bytes, CHUNK).into()),
        places: le32(bytes, PLACES) as usize,
        size: Sectors(le64(bytes, SIZE)),
        events: le64(bytes, EVENTS),
        resync_offset: le64(bytes, RESYNC),
        number,
        role: role_of(bytes, number),
        recovery_offset: match features & RECOVERS {
            0 => DONE,
            _ => le64(bytes, RECOVERY),
        },
        recovers_by_bitmap: features & BY_BITMAP != 0,
        data_offset: Sector(le64(bytes, DATA_OFFSET)),
        data_len: Sectors(le64(bytes, DATA_SIZE)),
        bitmap: (features & HAS_BITMAP != 0).then(|| Sector(at.0.saturating_add_signed(to_bitmap))),
        write_mostly: bytes[FLAGS] & WRITE_MOSTLY != 0,
        raid0_layout: if features & RAID0_LAYOUT != 0 { layout } else { 0 },
        unsupported,
    }
}

pub(super) fn role_of(bytes: &[u8], number: usize) -> Role {
    if number >= le32(bytes, COUNT) as usize {
        return Role::Spare;
    }
    match le16(bytes, ROLES + 2 * number) {
        SPARE => Role::Spare,
        FAULTY => Role::Faulty,
        JOURNAL => Role::Journal,
        place => Role::Active(place.into()),
    }
}

pub(super) fn change(bytes: &mut [u8], change: &Change, place: Option<usize>) {
    let resync = if change.dirty { 0 } else { change.resync_offset };
    put(bytes, EVENTS, &change.events.to_le_bytes());
    put(bytes, RESYNC, &resync.to_le_bytes());
    let mut features = le32(bytes, FEATURES) & !(RECOVERS | BY_BITMAP);
    let mut recovery = 0;
    if let Some(Place::Behind { from, by_bitmap, .. }) = place.map(|place| change.places[place]) {
        features |= RECOVERS | if by_bitmap { BY_BITMAP } else { 0 };
        recovery = from;
    }
    put(bytes, FEATURES, &features.to_le_bytes());
    put(bytes, RECOVERY, &recovery.to_le_bytes());
    for number in 0..le32(bytes, COUNT) as usize {
        let has = |place: &Place| match place {
            Place::InSync(nr) | Place::Behind { number: nr, .. } => *nr == number,
            Place::Empty => false,
        };
        let role = match (change.places.iter().position(has), role_of(bytes, number)) {
            (Some(place), _) => place as u16,
            // It had a place, and has none any more.
            (None, Role::Active(_)) => FAULTY,
            (None, Role::Spare | Role::Faulty | Role::Journal) => continue,
        };
        put(bytes, ROLES + 2 * number, &role.to_le_bytes());
    }
    let sum = checksum(bytes);
    put(bytes, CHECKSUM, &sum.to_le_bytes());
}

/// A spare has all but the roles already.
pub(super) fn join(bytes: &mut [u8], other: &[u8]) {
    let len = bytes.len().min(other.len());
    bytes[ROLES..len].copy_from_slice(&other[ROLES..len]);
}
