//! A set as its newest metadata has it: volumes, who has which place of one, and what is written.

use sim_core::{Sector, Sectors};

use super::{Member, ddf, imsm};
use crate::md::superblock::Change;

/// A volume of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name; may be empty.
    pub name: String,
    /// 0, 1, 4, 5, 6 or 10; others cannot be opened.
    pub level: u32,
    /// As md counts the layouts of the level.
    pub layout: u32,
    /// The length of a chunk; none in a raid1.
    pub chunk: Sectors,
    /// How much of each disk is in use.
    pub size: Sectors,
    /// How long it is; no more than the disks hold.
    pub len: Sectors,
    /// Its places.
    pub slots: Vec<Slot>,
    /// It was being written, or was never made the same all over.
    pub is_dirty: bool,
    /// What stands against its use.
    pub hindrance: Option<Hindrance>,
}

/// A place in a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The number of the disk in the table of the set; none where that is past its end.
    pub disk: Option<usize>,
    /// Where on the disk the volume begins.
    pub start: Sector,
    /// The disk has what the volume has.
    pub is_in_sync: bool,
}

/// What stands against the use of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It can be read, and not be written.
    Writes(&'static str),
    /// It cannot be opened.
    Opens(&'static str),
}

/// What the disks of a set say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// One of Intel's.
    Imsm(imsm::Mpb),
    /// One in the Disk Data Format.
    Ddf(Box<ddf::Set>),
}

/// What is written at once; what comes after it waits until it is durable.
pub type Stage = Vec<(Sector, Vec<u8>)>;

/// Writes the state of a volume to the disks that have a place in it.
#[derive(Clone, Debug)]
pub struct Writer {
    set: Set,
    volume: usize,
    /// By the places.
    disks: Vec<Option<Member>>,
}

impl Set {
    /// Returns the volumes.
    pub fn volumes(&self) -> Vec<Volume> {
        match self {
            Set::Imsm(mpb) => mpb.volumes(),
            Set::Ddf(set) => set.volumes(),
        }
    }
}

impl Writer {
    /// Makes the writer of a volume; a place that nobody has, has no disk.
    pub fn new(set: Set, volume: usize, disks: Vec<Option<Member>>) -> Writer {
        Writer { set, volume, disks }
    }

    /// Returns what the disk of a place is to have in a new state of the volume.
    pub fn stages(&self, change: &Change, place: usize) -> Vec<Stage> {
        match (&self.set, &self.disks[place]) {
            (Set::Imsm(mpb), Some(_)) => {
                let mut mpb = mpb.clone();
                mpb.change(self.volume, change);
                vec![vec![mpb.image()]]
            }
            (Set::Ddf(set), Some(Member::Ddf(disk))) => set.stages(disk, self.volume, change),
            (Set::Ddf(_), _) | (_, None) => Vec::new(),
        }
    }

    /// Returns where the volume begins on the disk that has the first place.
    pub(crate) fn start(&self) -> Sector {
        let volumes = self.set.volumes();
        volumes[self.volume].slots.first().map_or(Sector::ZERO, |slot| slot.start)
    }

    /// Tells whether a power cut may leave a disk without metadata that can be read: one is written after
    /// the other then.
    pub fn may_tear(&self) -> bool {
        matches!(self.set, Set::Imsm(_))
    }
}
