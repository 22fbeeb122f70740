//! Volume groups: what their metadata say, whichever format has them, and the devices that they become.

/// A volume group: physical volumes, cut into extents, and logical volumes made of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id, with hyphens as the tools print it.
    pub id: String,
    /// Counts the changes of the metadata.
    pub seqno: u64,
    /// The length of an extent in sectors.
    pub extent: u64,
    /// The physical volumes. Segments name them by their place in this list.
    pub physical: Vec<Physical>,
    /// The logical volumes, the hidden ones that others are made of with them.
    pub logical: Vec<Logical>,
}

/// A physical volume, as the metadata of its group have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Physical {
    /// Its id, with hyphens.
    pub id: String,
    /// Where it was when the metadata were written; empty where nobody said.
    pub hint: String,
    /// The sector at which its first extent begins.
    pub first: u64,
    /// How many extents it has.
    pub extents: u64,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Its segments, by their places in it.
    pub segments: Vec<Segment>,
}

/// A run of a logical volume's extents that are mapped in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first extent of the volume.
    pub start: u64,
    /// How many extents it has.
    pub extents: u64,
    /// How they are mapped.
    pub mapping: Mapping,
}

/// How a segment is mapped. Lengths are in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Over so many areas in turn; over one, one after another.
    Striped {
        /// What lies together on one area; 0 where there is one alone.
        chunk: u64,
        /// Where the stripes lie.
        areas: Vec<Area>,
    },
    /// Copies, kept in step by the `mirror` target.
    Mirror {
        /// The length of a region of the log.
        region: u64,
        /// The volume that keeps the log; none where it is kept in memory.
        log: Option<String>,
        /// Where the copies lie.
        legs: Vec<Area>,
    },
    /// The `raid` target, or the one that raid0 without superblocks is.
    Raid {
        /// The level, as the metadata and the target call it.
        level: String,
        /// What lies together on one leg; 0 for raid1.
        chunk: u64,
        /// The length of a region of the bitmap; 0 where there is none.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
