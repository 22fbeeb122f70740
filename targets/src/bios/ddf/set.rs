//! The disks of a set together: what the newest of them says of all, and the records of each.

use std::collections::BTreeMap;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::records::Record;
use super::{
    Disk, Half, OF_DISKS, OF_THIS, OF_VOLUMES, OPEN, SECTIONS, SECTOR, SEQUENCE, checksum,
};
use crate::bios::set::{Hindrance, Slot, Stage, Volume};
use crate::md::superblock::{Change, DONE, Place};
use crate::parts::bytes::{be16, be32, put};

/// Entries of the lists of disks and of volumes begin here, and are so long.
const ENTRIES: usize = 64;
const ENTRY: usize = 64;

// In the entry of a disk.
const REFERENCE: usize = 24;
const DISK_STATE: usize = 30;
const ONLINE: u16 = 1;
const FAILED: u16 = 2;
const REBUILDS: u16 = 4;

// In the entry of a volume.
const STATE: usize = 32;
const INITIALIZED: usize = 33;
const NAME: usize = 48;
const STATE_OF_DISKS: u8 = 7;
const MORPHS: u8 = 8;
const INCONSISTENT: u8 = 0x10;
const INITIALIZATION: u8 = 3;
const FULLY: u8 = 2;
const ACCESS: u8 = 0xc0;

impl Disk {
    /// Tells what the disks of its set are known by, and whether they have failed.
    pub(in super::super) fn disks(&self) -> impl Iterator<Item = (String, bool)> + '_ {
        let all = entries(self.copy.section(OF_DISKS));
        all.map(|entry| (name_of(be32(entry, REFERENCE)), be16(entry, DISK_STATE) & FAILED != 0))
    }
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What the newest disk says of all.
    disks: Vec<u8>,
    volumes: Vec<u8>,
    /// The newest records, by the volumes, and by the parts of each.
    records: BTreeMap<usize, Vec<Record>>,
    /// Every disk that is there can be written.
    can_be_written: bool,
}

impl Set {
    /// Puts together what disks say; the newest is one of them.
    pub(in super::super) fn new<'a>(
        newest: &Disk,
        all: impl Iterator<Item = &'a Disk> + Clone,
    ) -> Set {
        let mut records: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        let volumes = newest.copy.section(OF_VOLUMES).to_vec();
        for record in all.clone().flat_map(|disk| &disk.records) {
            let Some(nr) = entries(&volumes).position(|entry| entry[..24] == record.guid) else {
                continue;
            };
            let parts = records.entry(nr).or_default();
            match parts.iter_mut().find(|part| part.parts.1 == record.parts.1) {
                Some(known) if known.sequence < record.sequence => *known = record.clone(),
                Some(_) => {}
                None => parts.push(record.clone()),
            }
        }
        records.values_mut().for_each(|parts| parts.sort_by_key(|part| part.parts.1));
        // One list goes to all.
        let is_long =
            |disk: &Disk, nr| disk.copy.section(nr).len() == newest.copy.section(nr).len();
        let has_room = |disk: &Disk| is_long(disk, OF_DISKS) && is_long(disk, OF_VOLUMES);
        let can_be_written = all.clone().all(|disk| disk.can_be_written() && has_room(disk));
        Set { disks: newest.copy.section(OF_DISKS).to_vec(), volumes, records, can_be_written }
    }

    /// Returns the volumes, in the order of the list.
    pub(in super::super) fn volumes(&self) -> Vec<Volume> {
        self.records.iter().map(|(nr, parts)| self.volume(*nr, parts)).collect()
    }

    fn entry(&self, volume: usize) -> &[u8] {
        &self.volumes[ENTRIES + volume * ENTRY..][..ENTRY]
    }

    fn volume(&self, nr: usize, parts: &[Record]) -> Volume {
        let entry = self.entry(nr);
        let first = &parts[0];
        let (level, layout) = first.level().unwrap_or((u32::MAX, 0));
        let name = String::from_utf8_lossy(&entry[NAME..NAME + 16]);
        let slot = |(disk, start): &(u32, Sector)| {
            let at = entries(&self.disks).position(|entry| be32(entry, REFERENCE) == *disk);
            let state = at.map_or(FAILED, |at| self.disk_state(at));
            let is_in_sync = state & (ONLINE | FAILED | REBUILDS) == ONLINE;
            Slot { disk: at, start: *start, is_in_sync }
        };
        let init = entry[INITIALIZED] & INITIALIZATION;
        Volume {
            name: name.trim_end_matches(['\0', ' ']).to_owned(),
            level,
            layout,
            chunk: if level == 1 { Sectors::ZERO } else { first.chunk },
            size: first.size,
            len: if first.parts.0 > 1 {
                Sectors(first.len.0.max(first.size.0.saturating_mul(first.parts.0.into())))
            } else {
                first.len
            },
            slots: parts.iter().flat_map(|part| &part.disks).map(slot).collect(),
            is_dirty: entry[STATE] & INCONSISTENT != 0 || init != FULLY,
            hindrance: self.hindrance(entry, parts),
        }
    }

    fn disk_state(&self, nr: usize) -> u16 {
        be16(&self.disks, ENTRIES + nr * ENTRY + DISK_STATE)
    }

    fn hindrance(&self, entry: &[u8], parts: &[Record]) -> Option<Hindrance> {
        let first = &parts[0];
        let whole = parts.len() == usize::from(first.parts.0.max(1))
            && parts.iter().zip(0_u8..).all(|(part, nr)| {
                let shape = |part: &Record| {
                    (part.kind, part.parts.0, part.parts.2, part.size, part.chunk, part.disks.len())
                };
                part.parts.1 == nr && shape(part) == shape(first)
            });
        let rebuilds = parts.iter().flat_map(|part| &part.disks).any(|(disk, _)| {
            let at = entries(&self.disks).position(|entry| be32(entry, REFERENCE) == *disk);
            at.is_some_and(|at| self.disk_state(at) & REBUILDS != 0)
        });
        match entry[INITIALIZED] & ACCESS {
            _ if first.level().is_none() => {
                Some(Hindrance::Opens("has a level or a layout that is not supported"))
            }
            _ if first.parts.0 > 1 && !whole => {
                Some(Hindrance::Opens("is of parts that do not fit one another, or lacks some"))
            }
            _ if entry[STATE] & MORPHS != 0 => {
                Some(Hindrance::Opens("is being reshaped: mdadm or the BIOS has to end that first"))
            }
            0xc0 => Some(Hindrance::Opens("is blocked, as its metadata says")),
            0x80 => Some(Hindrance::Writes("is read-only, as its metadata says")),
            _ if rebuilds => Some(Hindrance::Writes("is being rebuilt")),
            _ if entry[INITIALIZED] & INITIALIZATION == 1 => {
                Some(Hindrance::Writes("is being initialized"))
            }
            _ if !self.can_be_written => Some(Hindrance::Writes(
                "has a disk without a second copy of the metadata that is like the first, or with \
                     other room for it than the others",
            )),
            _ => None,
        }
    }

    /// Returns what a disk is to have in a new state of a volume.
    ///
    /// The copy that does not count is written first, then the header that makes it count, then the
    /// other: whenever the power fails, one of them is whole.
    pub(in super::super) fn stages(
        &self,
        disk: &Disk,
        volume: usize,
        change: &Change,
    ) -> Vec<Stage> {
        let Some((other, header)) = &disk.other else { return Vec::new() };
        let sequence = change.events as u32;
        let (disks, volumes, touched) = self.changed(volume, change);
        let knows = disk.copy.section(OF_DISKS) == self.disks
            && disk.copy.section(OF_VOLUMES) == self.volumes;
        let own = (disk.copy.at, &disk.copy.bytes[..SECTOR]);
        let mut stages = Vec::new();
        for ((at, header), is_like_it) in [((*other, &header[..]), disk.is_same), (own, true)] {
            let mut stage = match is_like_it {
                true => Vec::new(),
                false => rest(&disk.copy, at),
            };
            for (nr, section) in [(OF_DISKS, &disks), (OF_VOLUMES, &volumes)] {
                let at = at + Sectors(be32(header, SECTIONS[nr]).into());
                let all = 0..section.len() / SECTOR;
                let own = touched.iter().filter(|(of, _)| *of == nr).map(|(_, sector)| *sector);
                let sectors: Vec<usize> =
                    if knows && is_like_it { own.collect() } else { all.collect() };
                stage.extend(
                    runs(section, &sectors)
                        .map(|(sector, bytes)| (at + Sectors(sector as u64), bytes)),
                );
            }
            stages.push(stage);
            let mut header = header.to_vec();
            header[OPEN] = 0;
            put(&mut header, SEQUENCE, &sequence.to_be_bytes());
            seal(&mut header);
            stages.push(vec![(at, header)]);
        }
        stages
    }

    /// Returns the lists in a new state of a volume, and the sectors of each section that may differ
    /// from what was read.
    fn changed(&self, volume: usize, change: &Change) -> (Vec<u8>, Vec<u8>, Vec<(usize, usize)>) {
        let (mut disks, mut volumes) = (self.disks.clone(), self.volumes.clone());
        let mut touched = vec![(OF_DISKS, 0), (OF_VOLUMES, 0)];
        let nr = *self.records.keys().nth(volume).expect("the volume was found");
        let slots = self.volumes()[volume].slots.clone();
        let mut working = Vec::new();
        for (slot, now) in slots.iter().zip(&change.places) {
            working.push(*now != Place::Empty);
            let Some(disk) = slot.disk else { continue };
            let at = ENTRIES + disk * ENTRY;
            touched.push((OF_DISKS, at / SECTOR));
            if *now == Place::Empty {
                let state = be16(&disks, at + DISK_STATE) | FAILED;
                put(&mut disks, at + DISK_STATE, &state.to_be_bytes());
            }
        }
        let at = ENTRIES + nr * ENTRY;
        touched.push((OF_VOLUMES, at / SECTOR));
        let is_dirty = change.dirty || change.resync_offset != DONE;
        let state = &mut volumes[at + STATE];
        *state &= !(STATE_OF_DISKS | INCONSISTENT);
        *state |= self.state_of(nr, &working) | if is_dirty { INCONSISTENT } else { 0 };
        if !is_dirty {
            let init = &mut volumes[at + INITIALIZED];
            *init = *init & !INITIALIZATION | FULLY;
        }
        seal(&mut disks);
        seal(&mut volumes);
        touched.sort_unstable();
        touched.dedup();
        (disks, volumes, touched)
    }

    /// Returns the word for what works: optimal, degraded, or one that more than one may still leave.
    fn state_of(&self, nr: usize, working: &[bool]) -> u8 {
        const OPTIMAL: u8 = 0;
        const DEGRADED: u8 = 1;
        const PARTIALLY: u8 = 5;
        let lost = working.iter().filter(|works| !**works).count();
        let first = &self.records[&nr][0];
        match (first.level(), lost) {
            (_, 0) => OPTIMAL,
            (Some((6, _)), 1) => PARTIALLY,
            (Some((1, _)), lost) if working.len() - lost >= 2 => PARTIALLY,
            _ => DEGRADED,
        }
    }
}

/// Returns what a set knows a disk by, for people.
pub(in super::super) fn name_of(reference: u32) -> String {
    format!("{reference:08x}")
}

fn entries(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list[ENTRIES..].chunks_exact(ENTRY)
}

fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    put(bytes, 4, &sum.to_be_bytes());
}

/// Returns the sections that do not change, for a copy that begins at a sector.
fn rest(copy: &Half, at: Sector) -> Stage {
    let others = (0..=OF_THIS).filter(|nr| !matches!(*nr, OF_DISKS | OF_VOLUMES));
    let part = |nr: usize| {
        let from = be32(&copy.bytes, SECTIONS[nr]);
        (at + Sectors(from.into()), copy.section(nr).to_vec())
    };
    others.map(part).filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// Returns sectors of a section, those together that follow on each other.
fn runs<'a>(
    section: &'a [u8],
    sectors: &'a [usize],
) -> impl Iterator<Item = (usize, Vec<u8>)> + 'a {
    sectors.chunk_by(|one, next| one + 1 == *next).map(|run| {
        let (from, to) = (run[0], run[run.len() - 1] + 1);
        (from, section[from * SECTOR..to * SECTOR].to_vec())
    })
}

const _: () = assert!(SECTOR as u64 == SECTOR_SIZE);
