//! What has been read of a disk, piece by piece.

use std::collections::BTreeMap;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::Fault;

/// Pieces of a disk, by the sector where they begin.
#[derive(Clone, Debug, Default)]
pub struct Pieces(BTreeMap<Sector, Vec<u8>>);

/// Why reading has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before it goes on, so much is to be read from a sector on.
    Needs(Sector, Sectors),
    /// What is there is wrong.
    Fault(Fault),
}

impl Pieces {
    /// Takes a piece in.
    pub fn put(&mut self, at: Sector, bytes: Vec<u8>) {
        self.0.insert(at, bytes);
    }

    /// Returns what lies at a sector, or says that it is to be read.
    pub(super) fn sectors(&self, at: Sector, len: Sectors) -> Result<&[u8], Stop> {
        let bytes = len.0 * SECTOR_SIZE;
        let before = self.0.range(..=at).next_back();
        let found = before.and_then(|(start, piece)| {
            let skip = usize::try_from((at - *start).0 * SECTOR_SIZE).ok()?;
            piece.get(skip..skip.checked_add(usize::try_from(bytes).ok()?)?)
        });
        found.ok_or(Stop::Needs(at, len))
    }

    /// As [`Pieces::sectors`], one of them, where the disk has it.
    pub(super) fn sector(&self, at: Option<u64>) -> Result<Option<&[u8]>, Stop> {
        at.map(|at| self.sectors(Sector(at), Sectors(1))).transpose()
    }
}

/// Looks at a disk whose pieces can be had at once: by `piece`, which gives none where it cannot be read.
pub fn read_whole<T>(
    look: impl Fn(&Pieces) -> Result<T, Stop>,
    mut piece: impl FnMut(Sector, Sectors) -> Option<Vec<u8>>,
) -> Result<T, Fault> {
    let mut pieces = Pieces::default();
    loop {
        match look(&pieces) {
            Ok(found) => return Ok(found),
            Err(Stop::Fault(fault)) => return Err(fault),
            Err(Stop::Needs(at, len)) => match piece(at, len) {
                Some(bytes) => pieces.put(at, bytes),
                None => {
                    return Err(Fault::of("metadata", format!("cannot be read at sector {at}")));
                }
            },
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}
