//! `snapshot <origin> <cow> <P|PO|N> <chunk sectors> [<#features> <features>]`, and the same of
//! `snapshot-merge`

use std::fmt;

use sim_core::{Arg, CtrError, Sectors, Words};

use super::words::{DeviceWord, Devices, from_text};
use crate::snapshot::ChunkSize;

/// Where the cow device stands among the words, and the store's kind.
pub(crate) const COW_WORD: usize = 1;
pub(crate) const STORE_WORD: usize = 2;

/// The module that the kernel's log names before lines about a persistent store.
pub(crate) const STORE_MODULE: &str = "persistent snapshot";

const STORE: &str = "Couldn't create exception store";

/// A table line of `snapshot` or `snapshot-merge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The device that the snapshot is of.
    pub origin: D,
    /// The device of the store.
    pub cow: D,
    /// The store.
    pub store: StoreKind,
    /// Nothing where the line says zero: what a store has, or the default.
    pub chunk: Option<ChunkSize>,
    /// The features.
    pub features: Features,
}

/// The store's kind: the third word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// `P` or `PO`: it outlives its device.
    Persistent(WhenFull),
    /// `N`.
    Transient,
}

/// What becomes of a snapshot whose store is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The snapshot's reader is told that it is full, and can go on (`PO`).
    Overflow,
    /// The snapshot is worth nothing any more (`P`).
    Invalidate,
}

/// What a line asks for besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A discard drops what the store has.
    pub discard_zeroes_cow: bool,
    /// A discard goes on to the origin.
    pub discard_passdown_origin: bool,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const TOO_FEW: &str = "requires 4 or more arguments";
        words.at_least(4, TOO_FEW)?;
        let features = Features::parse(words)?;
        let origin = devices.open(words.at(0, TOO_FEW)?, "Cannot get origin device")?;
        let cow_word = words.at(COW_WORD, TOO_FEW)?;
        let cow = devices.open(cow_word, "Cannot get COW device")?;
        let facts = [devices.facts(&origin), devices.facts(&cow)];
        if let [Some(origin), Some(cow)] = facts
            && origin.number == cow.number
        {
            let same = "COW device cannot be the same as origin device";
            return Err(cow_word.error("another device than the origin", same));
        }
        let store = StoreKind::parse(words.at(STORE_WORD, TOO_FEW)?, devices)?;
        let blocks: Vec<Sectors> =
            facts.iter().flatten().map(|facts| facts.logical_block).collect();
        let chunk = parse_chunk(words.at(3, TOO_FEW)?, &blocks)?;
        Ok(Line { origin, cow, store, chunk, features })
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, mut device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let (origin, cow) = (device(&self.origin)?, device(&self.cow)?);
        Ok(Line { origin, cow, store: self.store, chunk: self.chunk, features: self.features })
    }

    /// Tells whether the store is forgotten with its device.
    pub fn is_transient(&self) -> bool {
        self.store == StoreKind::Transient
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl StoreKind {
    fn parse<D>(
        word: Arg<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<StoreKind, CtrError> {
        let refused = |what: &str| Err(word.error(what, STORE));
        let mut letters = word.text().chars().map(|letter| letter.to_ascii_uppercase());
        match (letters.next(), letters.next()) {
            (Some('P'), None) => Ok(StoreKind::Persistent(WhenFull::Invalidate)),
            (Some('P'), Some('O')) => Ok(StoreKind::Persistent(WhenFull::Overflow)),
            (Some('P'), Some(_)) => {
                let options = &word.text()[1..];
                let why = format_args!("Unsupported persistent store option: {options}");
                devices.log(STORE_MODULE, why);
                refused("`P` or `PO`")
            }
            // What follows an N is ignored, as the kernel does.
            (Some('N'), _) => Ok(StoreKind::Transient),
            _ => refused("`P`, `PO` or `N`"),
        }
    }
}

/// Reads the chunk size; nothing for zero.
fn parse_chunk(word: Arg<'_>, blocks: &[Sectors]) -> Result<Option<ChunkSize>, CtrError> {
    let chunk = word.u32(STORE)?;
    if chunk == 0 {
        return Ok(None);
    }
    let size = ChunkSize::new(Sectors(chunk.into()), blocks);
    size.map(Some).map_err(|why| {
        let most = 1_u64 << ChunkSize::MAX.0.ilog2();
        word.error(format_args!("a chunk size in sectors, {most} at most ({why})"), STORE)
    })
}

impl Features {
    fn parse(words: &Words<'_>) -> Result<Features, CtrError> {
        const UNKNOWN: &str = "Unrecognised feature requested";
        const ALONE: &str = "discard_passdown_origin feature depends on discard_zeroes_cow";
        let mut features = Features::default();
        let words = words.group(4, 2, "Invalid number of feature arguments")?;
        for word in &words {
            match word.text().to_ascii_lowercase().as_str() {
                "discard_zeroes_cow" => features.discard_zeroes_cow = true,
                "discard_passdown_origin" => features.discard_passdown_origin = true,
                _ => return Err(word.error("a feature of snapshots", UNKNOWN)),
            }
        }
        match (features.discard_passdown_origin, features.discard_zeroes_cow, words.last()) {
            (true, false, Some(word)) => Err(word.error("both features", ALONE)),
            _ => Ok(features),
        }
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { origin, cow, store, chunk, features } = self;
        let chunk = chunk.map_or(Sectors::ZERO, ChunkSize::sectors);
        write!(f, "{origin} {cow} {store} {chunk}{features}")
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreKind::Persistent(WhenFull::Invalidate) => "P",
            StoreKind::Persistent(WhenFull::Overflow) => "PO",
            StoreKind::Transient => "N",
        })
    }
}

impl fmt::Display for Features {
    /// Writes the features with their count and a blank before it; nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Features { discard_zeroes_cow, discard_passdown_origin } = *self;
        match (discard_zeroes_cow, discard_passdown_origin) {
            (false, _) => Ok(()),
            (true, false) => f.write_str(" 1 discard_zeroes_cow"),
            (true, true) => f.write_str(" 2 discard_zeroes_cow discard_passdown_origin"),
        }
    }
}

/// A status line of `snapshot` or `snapshot-merge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// How much of the store is taken.
    Used {
        /// By header, metadata and data.
        allocated: Sectors,
        /// The size of the store's device.
        size: Sectors,
        /// By header and metadata.
        metadata: Sectors,
    },
    /// The store was full, or failed: what the snapshot held is lost.
    Invalid,
    /// The store is full, and can be read (`PO`).
    Overflow,
    /// A merge could not go on.
    MergeFailed,
    /// The kernel does not know how full the store is; ours always does.
    Unknown,
}

impl Status {
    const INVALID: &str = "Invalid";
    const OVERFLOW: &str = "Overflow";
    const MERGE_FAILED: &str = "Merge failed";
    const UNKNOWN: &str = "Unknown";

    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status> {
        let (allocated, rest) = match text.trim() {
            Status::INVALID => return Some(Status::Invalid),
            Status::OVERFLOW => return Some(Status::Overflow),
            Status::MERGE_FAILED => return Some(Status::MergeFailed),
            Status::UNKNOWN => return Some(Status::Unknown),
            text => text.split_once('/')?,
        };
        let (size, metadata) = rest.split_once(' ')?;
        let sectors = |text: &str| text.parse().ok().map(Sectors);
        let (allocated, size, metadata) = (sectors(allocated)?, sectors(size)?, sectors(metadata)?);
        Some(Status::Used { allocated, size, metadata })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Used { allocated, size, metadata } => {
                write!(f, "{allocated}/{size} {metadata}")
            }
            Status::Invalid => f.write_str(Status::INVALID),
            Status::Overflow => f.write_str(Status::OVERFLOW),
            Status::MergeFailed => f.write_str(Status::MERGE_FAILED),
            Status::Unknown => f.write_str(Status::UNKNOWN),
        }
    }
}
