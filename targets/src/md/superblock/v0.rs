//! Version 0.90: 4 KiB of 32-bit words, with a descriptor of each member.

use sim_core::{Sector, Sectors};

use super::{Change, DONE, Facts, Fault, LEN, Place, Role, sum, words};
use crate::parts::bytes::{le32, le64, put};

/// How many members it has room for.
const MOST: usize = 27;

// Where things are, in bytes.
const MINOR_VERSION: usize = 8;
const UUID: usize = 20;
const LEVEL: usize = 28;
const SIZE: usize = 32;
const PLACES: usize = 40;
const MORE_UUID: usize = 52;
const STATE: usize = 132;
/// How many members there are: active, working, failed and spare.
const COUNTS: [usize; 4] = [136, 140, 144, 148];
const MEMBERS: usize = 36;
const CHECKSUM: usize = 152;
const EVENTS: usize = 156;
const CHECKPOINT_EVENTS: usize = 164;
const RECOVERY: usize = 172;
const LAYOUT: usize = 256;
const CHUNK: usize = 260;
const DISKS: usize = 512;
const DISK: usize = 128;
const THIS: usize = DISKS + MOST * DISK;

/// In the state: it is clean; it has a bitmap.
const CLEAN: u32 = 1;
const BITMAP: u32 = 1 << 8;

// In the state of a member.
const FAULTY: u32 = 1;
const ACTIVE: u32 = 1 << 1;
const SYNC: u32 = 1 << 2;
const REMOVED: u32 = 1 << 3;
const WRITE_MOSTLY: u32 = 1 << 9;
const JOURNAL: u32 = 1 << 18;

/// A bitmap lies so far behind the superblock.
const TO_BITMAP: Sectors = Sectors(8);

pub(super) fn check(bytes: &[u8]) -> Result<usize, Fault> {
    if le32(bytes, 4) != 0 || !matches!(le32(bytes, MINOR_VERSION), 90 | 91) {
        return Err(Fault::Version);
    }
    if checksum(bytes) != le32(bytes, CHECKSUM) {
        return Err(Fault::Checksum);
    }
    match le32(bytes, PLACES) as usize {
        1..=MOST => {}
        _ => return Err(Fault::Impossible("more members than 27, or none")),
    }
    match le32(bytes, THIS) as usize {
        0..MOST => Ok(LEN),
        _ => Err(Fault::Impossible("a member with a number past 26")),
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let own = CHECKSUM / 4;
    sum(words(&bytes[..LEN]).enumerate().filter(|(nr, _)| *nr != own).map(|(_, word)| word))
}

pub(super) fn facts(bytes: &[u8], at: Sector) -> Facts {
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&bytes[UUID..UUID + 4]);
    uuid[4..].copy_from_slice(&bytes[MORE_UUID..MORE_UUID + 12]);
    let number = le32(bytes, THIS) as usize;
    let state = le32(bytes, STATE);
    let events = le64(bytes, EVENTS);
    let resync_offset = match state & CLEAN != 0 {
        true => DONE,
        false if le64(bytes, CHECKPOINT_EVENTS) == events => match le32(bytes, RECOVERY) {
            u32::MAX => DONE,
            at => at.into(),
        },
        false => 0,
    };
    let reshapes = le32(bytes, MINOR_VERSION) == 91;
    Facts {
        uuid,
        name: String::new(),
        level: le32(bytes, LEVEL) as i32,
        layout: le32(bytes, LAYOUT),
        chunk: Sectors::in_bytes(le32(bytes, CHUNK).into()),
        places: le32(bytes, PLACES) as usize,
        size: Sectors(u64::from(le32(bytes, SIZE)) * 2),
        events,
        resync_offset,
        number,
        role: role_of(bytes, number),
        recovery_offset: DONE,
        recovers_by_bitmap: false,
        data_offset: Sector::ZERO,
        data_len: at - Sector::ZERO,
        bitmap: (state & BITMAP != 0).then(|| at + TO_BITMAP),
        write_mostly: le32(bytes, disk(number) + 16) & WRITE_MOSTLY != 0,
        raid0_layout: 0,
        unsupported: reshapes.then_some("is being reshaped"),
    }
}

fn disk(number: usize) -> usize {
    DISKS + number * DISK
}

pub(super) fn role_of(bytes: &[u8], number: usize) -> Role {
    if number >= MOST {
        return Role::Faulty;
    }
    let (state, place) = (le32(bytes, disk(number) + 16), le32(bytes, disk(number) + 12));
    match () {
        () if state & FAULTY != 0 => Role::Faulty,
        () if state & JOURNAL != 0 => Role::Journal,
        () if state & (SYNC | ACTIVE) != 0 => Role::Active(place as usize),
        () => Role::Spare,
    }
}

pub(super) fn change(bytes: &mut [u8], change: &Change, place: Option<usize>) {
    let mut put_word = |at: usize, value: u32| put(bytes, at, &value.to_le_bytes());
    let clean = !change.dirty && change.resync_offset == DONE;
    let recovery = match change.dirty {
        true => 0,
        false => u32::try_from(change.resync_offset).unwrap_or(u32::MAX),
    };
    put_word(RECOVERY, recovery);
    put(bytes, EVENTS, &change.events.to_le_bytes());
    let checkpoint = if change.dirty { 0 } else { change.events };
    put(bytes, CHECKPOINT_EVENTS, &checkpoint.to_le_bytes());
    let state = le32(bytes, STATE) & BITMAP | if clean { CLEAN } else { 0 };
    put(bytes, STATE, &state.to_le_bytes());
    put_disks(bytes, change, place);
    let sum = checksum(bytes);
    put(bytes, CHECKSUM, &sum.to_le_bytes());
}

/// Writes the descriptors: those in sync in their places, behind them those that are no more than
/// spares as this version has no words for how far they are.
fn put_disks(bytes: &mut [u8], change: &Change, place: Option<usize>) {
    let own = le32(bytes, THIS) as usize;
    let devices: Vec<[u8; 8]> = (0..MOST)
        .map(|number| {
            let at = disk(number) + 4;
            bytes[at..at + 8].try_into().expect("8 bytes")
        })
        .collect();
    let of = |number: usize| devices.get(number).copied().unwrap_or_default();
    let places = change.places.len();
    let others: Vec<[u8; DISK]> = (places..MOST)
        .filter(|number| {
            let is_ours = |place: &Place| match place {
                Place::InSync(nr) | Place::Behind { number: nr, .. } => nr == number,
                Place::Empty => false,
            };
            le32(bytes, disk(*number)) as usize == *number
                && role_of(bytes, *number) == Role::Spare
                && !change.places.iter().any(is_ours)
        })
        .map(|number| bytes[disk(number)..][..DISK].try_into().expect("a descriptor"))
        .collect();
    let mut spares: Vec<([u8; 8], bool)> = Vec::new();
    let mostly = |bytes: &[u8], number: usize| {
        number < MOST && le32(bytes, disk(number) + 16) & WRITE_MOSTLY != 0
    };
    let was: Vec<bool> = (0..MOST).map(|number| mostly(bytes, number)).collect();
    bytes[DISKS..THIS].fill(0);
    let mut this = own;
    let (mut active, mut failed) = (0, 0);
    for (nr, now) in change.places.iter().enumerate() {
        let (device, state) = match now {
            Place::InSync(number) => {
                active += 1;
                let mostly = if was[*number] { WRITE_MOSTLY } else { 0 };
                (of(*number), ACTIVE | SYNC | mostly)
            }
            Place::Behind { number, .. } => {
                failed += 1;
                spares.push((of(*number), place == Some(nr)));
                ([0; 8], REMOVED | FAULTY)
            }
            Place::Empty => {
                failed += 1;
                ([0; 8], REMOVED | FAULTY)
            }
        };
        if place == Some(nr) {
            this = nr;
        }
        put_disk(bytes, nr, device, state);
    }
    let mut next = places;
    for (device, is_own) in &spares {
        if *is_own {
            this = next;
        }
        put_disk(bytes, next, *device, 0);
        next += 1;
    }
    for other in others {
        if next < MOST {
            put(bytes, disk(next), &other);
            put(bytes, disk(next), &(next as u32).to_le_bytes());
            put(bytes, disk(next) + 12, &(next as u32).to_le_bytes());
            next += 1;
        }
    }
    let spare = (next - places) as u32;
    for (at, count) in COUNTS.into_iter().zip([active, active + spare, failed, spare]) {
        put(bytes, at, &count.to_le_bytes());
    }
    put(bytes, MEMBERS, &(active + spare).to_le_bytes());
    let descriptor: [u8; DISK] = bytes[disk(this)..][..DISK].try_into().expect("a descriptor");
    put(bytes, THIS, &descriptor);
}

fn put_disk(bytes: &mut [u8], number: usize, device: [u8; 8], state: u32) {
    let at = disk(number);
    put(bytes, at, &(number as u32).to_le_bytes());
    put(bytes, at + 4, &device);
    put(bytes, at + 12, &(number as u32).to_le_bytes());
    put(bytes, at + 16, &state.to_le_bytes());
}

/// A spare has all that the others have.
pub(super) fn join(bytes: &mut [u8], other: &[u8]) {
    let own: [u8; DISK] = bytes[THIS..THIS + DISK].try_into().expect("a descriptor");
    bytes.copy_from_slice(other);
    put(bytes, THIS, &own);
}
