//! Where a set keeps its superblocks and its bitmap, and what the superblocks look like.

use sim_core::{Area, Bio, Buffer, Sector, Sectors};

use super::RaidSet;
use super::state::{Leg, State};
use crate::bios::{Stage, Writer};
use crate::md::superblock::{self as md, Change, Place};
use crate::raid::bitmap::OFFSET;
use crate::raid::superblock::{DONE, Geometry, Superblock};

/// What the superblocks hold that does not change, and where they are.
pub(super) enum Metadata {
    /// As dm-raid has them: on a device for each leg.
    Raid(Vec<Superblock>),
    /// As md has them: on the members themselves. None for a place that nobody has.
    Md(Vec<Option<md::Superblock>>),
    /// As a BIOS has them: on the disks, for all volumes of a set together. The members have numbers by
    /// their places.
    Bios(Box<Writer>),
}

/// What is found on a leg that has failed.
pub(super) enum Found {
    Unreadable,
    /// Something else than what was there, or nothing.
    Other,
    /// The superblock of this leg, with so many events.
    Own(u64),
}

impl Metadata {
    /// Returns where the bitmap of a leg begins.
    pub(super) fn bitmap_at(&self, leg: usize) -> Option<Sector> {
        match self {
            Metadata::Raid(_) => Some(Sectors::in_bytes(OFFSET).to_sector()),
            Metadata::Md(superblocks) => superblocks[leg].as_ref()?.facts().bitmap,
            Metadata::Bios(_) => None,
        }
    }

    /// Returns where the data begins on the first leg.
    pub(super) fn data_offset(&self, set: &RaidSet, state: &State) -> u64 {
        match self {
            Metadata::Raid(superblocks) => {
                let first = raid(&superblocks[0], set, state, 0);
                first.extension.map_or(0, |extension| extension.data_offset)
            }
            Metadata::Md(superblocks) => {
                let first = superblocks.iter().flatten().next();
                first.map_or(0, |superblock| superblock.facts().data_offset.0)
            }
            Metadata::Bios(writer) => writer.start().0,
        }
    }

    /// Tells whether whatever lies behind the bitmap is somebody else's.
    pub(super) fn is_cramped(&self) -> bool {
        matches!(self, Metadata::Md(_) | Metadata::Bios(_))
    }

    /// Tells whether legs are to be written one after the other: what a power cut leaves of what is being
    /// written may be nothing that can be read.
    pub(super) fn may_tear(&self) -> bool {
        match self {
            Metadata::Raid(_) | Metadata::Md(_) => false,
            Metadata::Bios(writer) => writer.may_tear(),
        }
    }

    /// Returns how the set is made, while it is not reshaped yet; none where it cannot be.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        match self {
            Metadata::Raid(superblocks) => Some(superblocks[0].geometry),
            Metadata::Md(_) | Metadata::Bios(_) => None,
        }
    }

    /// Returns what a leg is to have as things are, in whole blocks: each stage when the one before it is
    /// durable.
    pub(super) fn superblock(
        &self,
        set: &RaidSet,
        state: &State,
        leg: usize,
        block: usize,
    ) -> Vec<Stage> {
        match self {
            Metadata::Raid(superblocks) => {
                let mut bytes = vec![0; block];
                raid(&superblocks[leg], set, state, leg).write(&mut bytes);
                vec![vec![(Sector::ZERO, bytes)]]
            }
            Metadata::Md(superblocks) => {
                let Some(mut own) = superblocks[leg].clone() else { return Vec::new() };
                let number = |leg: usize| Some(superblocks[leg].as_ref()?.facts().number);
                own.change(&change(number, state), Some(leg));
                let mut bytes = own.bytes().to_vec();
                bytes.resize(bytes.len().next_multiple_of(block), 0);
                vec![vec![(own.place(), bytes)]]
            }
            Metadata::Bios(writer) => writer.stages(&change(Some, state), leg),
        }
    }

    /// Looks at what a leg that has failed has by now.
    pub(super) async fn find(&self, leg: usize, meta: &Area) -> Found {
        match self {
            Metadata::Raid(_) => {
                let mut block = Buffer::take(meta.limits().logical_block_size as usize);
                match meta.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut block)).await {
                    Err(_) => Found::Unreadable,
                    Ok(()) => match Superblock::read(&block) {
                        Some(found) if found.position as usize == leg => Found::Own(found.events),
                        _ => Found::Other,
                    },
                }
            }
            Metadata::Md(superblocks) => {
                let Some(own) = &superblocks[leg] else { return Found::Unreadable };
                let mut bytes = Buffer::take(md::LEN);
                let at = own.place();
                if meta.submit(at, Bio::read(at, &mut bytes)).await.is_err() {
                    return Found::Unreadable;
                }
                let known = |facts: &md::Facts| (facts.uuid, facts.number);
                match md::Superblock::read(own.version(), at, &bytes) {
                    Ok(found) if known(&found.facts()) == known(&own.facts()) => {
                        Found::Own(found.facts().events)
                    }
                    Ok(_) | Err(_) => Found::Other,
                }
            }
            // Who rebuilds a disk that has failed is the BIOS, or mdadm: the metadata knows which it was.
            Metadata::Bios(_) => Found::Unreadable,
        }
    }
}

fn raid(was: &Superblock, set: &RaidSet, state: &State, leg: usize) -> Superblock {
    let mut superblock = was.clone();
    superblock.events = state.events.now();
    let is_lost = |leg: &usize| matches!(state.legs[*leg], Leg::Failed(_) | Leg::Missing);
    let failed = (0..set.layout.legs()).filter(is_lost);
    superblock.failed = failed.collect();
    superblock.resync_offset = state.resync_from.map_or(DONE, |from| from.0);
    superblock.recovery_offset = match state.legs[leg] {
        Leg::Behind(behind) => behind.from.0,
        Leg::InSync | Leg::Failed(_) | Leg::Broken | Leg::Missing => DONE,
    };
    if let Some(reshape) = &set.reshape {
        reshape.write(&mut superblock, state);
    }
    superblock
}

/// Says how things are, with the numbers of the members that have a superblock.
fn change(number: impl Fn(usize) -> Option<usize>, state: &State) -> Change {
    let place = |(leg, now): (usize, &Leg)| {
        let Some(number) = number(leg) else { return Place::Empty };
        match now {
            Leg::InSync | Leg::Broken => Place::InSync(number),
            Leg::Behind(behind) => {
                Place::Behind { number, from: behind.from.0, by_bitmap: behind.by_bitmap }
            }
            Leg::Failed(_) | Leg::Missing => Place::Empty,
        }
    };
    Change {
        events: state.events.now(),
        resync_offset: state.resync_from.map_or(md::DONE, |from| from.0),
        dirty: state.cleanness.is_dirty(),
        places: state.legs.iter().enumerate().map(place).collect(),
    }
}
