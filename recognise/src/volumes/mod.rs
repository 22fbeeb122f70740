//! Volume groups: what their metadata say, whichever format has them, and the devices that they become.

pub mod lvm2;
mod plan;

use serde::Serialize;

pub use plan::{NotOpened, Place, Plan, plan};
pub mod lvm1;

/// A volume group: physical volumes, cut into extents, and logical volumes made of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id, with hyphens as the tools print it.
    pub id: String,
    /// Counts the changes of the metadata.
    pub seqno: u64,
    /// It was exported: to be imported by another machine before it is used.
    pub exported: bool,
    /// The length of an extent in sectors.
    #[serde(rename = "extent_sectors")]
    pub extent: u64,
    /// The physical volumes. Segments name them by their place in this list.
    pub physical: Vec<Physical>,
    /// The logical volumes, the hidden ones that others are made of with them.
    pub logical: Vec<Logical>,
}

/// A physical volume, as the metadata of its group have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Physical {
    /// Its id, with hyphens.
    pub id: String,
    /// Where it was when the metadata were written; empty where nobody said.
    pub hint: String,
    /// Its size in sectors; 0 where nobody said.
    #[serde(rename = "size_sectors")]
    pub size: u64,
    /// The sector at which its first extent begins.
    #[serde(rename = "first_sector")]
    pub first: u64,
    /// How many extents it has.
    pub extents: u64,
    /// The group went on without it: what it holds is old.
    pub stale: bool,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logical {
    /// Its name.
    pub name: String,
    /// Its id, with hyphens.
    pub id: String,
    /// Whether it is there for people, and not as a part of another.
    pub visible: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether its copies were never synchronized, and need not be.
    pub not_synced: bool,
    /// Whether it is a leg that is read only where no other can be.
    pub write_mostly: bool,
    /// Whether it is a leg that is to be made anew from the others.
    pub rebuild: bool,
    /// Its segments, by their places in it.
    pub segments: Vec<Segment>,
}

/// A run of a logical volume's extents that are mapped in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// The first extent of the volume.
    pub start: u64,
    /// How many extents it has.
    pub extents: u64,
    /// How they are mapped.
    #[serde(flatten)]
    pub mapping: Mapping,
}

/// How a segment is mapped. Lengths are in sectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Mapping {
    /// Over so many areas in turn; over one, one after another.
    Striped {
        /// What lies together on one area; 0 where there is one alone.
        #[serde(rename = "chunk_sectors")]
        chunk: u64,
        /// Where the stripes lie.
        areas: Vec<Area>,
    },
    /// Copies, kept in step by the `mirror` target.
    Mirror {
        /// The length of a region of the log.
        #[serde(rename = "region_sectors")]
        region: u64,
        /// The volume that keeps the log; none where it is kept in memory.
        log: Option<String>,
        /// How many extents a move has copied.
        moved: u64,
        /// Where the copies lie.
        legs: Vec<Area>,
    },
    /// The `raid` target, or the one that raid0 without superblocks is.
    Raid {
        /// The level, as the metadata and the target call it.
        level: String,
        /// What lies together on one leg; 0 for raid1.
        #[serde(rename = "chunk_sectors")]
        chunk: u64,
        /// The length of a region of the bitmap; 0 where there is none.
        #[serde(rename = "region_sectors")]
        region: u64,
        /// How many copies raid10 has.
        copies: u64,
        /// Options of the table line that are kept with the volume: word and value.
        options: Vec<(&'static str, u64)>,
        /// The legs: the volume with the superblocks, where there is one, and that with the data.
        legs: Vec<(Option<String>, String)>,
    },
    /// Says that a volume is a snapshot of another.
    Snapshot {
        /// The length of a chunk.
        #[serde(rename = "chunk_sectors")]
        chunk: u64,
        /// The volume that it is of.
        origin: String,
        /// The volume that holds what was there before.
        store: String,
        /// Whether it is being merged back.
        merging: bool,
    },
    /// Every read and write fails.
    Error,
    /// Reads as zeros.
    Zero,
    /// What no target of ours maps.
    Other {
        /// The type of the segment.
        name: String,
    },
}

/// Where a part of a segment lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// On a physical volume.
    Physical {
        /// Its place in the group's list.
        volume: usize,
        /// The first extent.
        extent: u64,
    },
    /// On another logical volume.
    Logical {
        /// Its name.
        volume: String,
        /// The first extent.
        extent: u64,
    },
}

impl Area {
    /// Returns the logical volume that it lies on.
    fn volume(&self) -> Option<&str> {
        match self {
            Area::Logical { volume, .. } => Some(volume),
            Area::Physical { .. } => None,
        }
    }
}
