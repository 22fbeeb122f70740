//! Reads the metadata of a persistent store, whoever does the reading: says which sectors it
//! wants, and takes their bytes.

use std::collections::TryReserveError;

use sim_core::{Sector, Sectors};

use super::super::table::ExceptionTable;
use super::format::{Damage, ENTRY, Entry, Fault, Layout};

/// How much of an area is read or zeroed at a time, in bytes, where a chunk is longer.
pub(super) const PIECE: u64 = 1 << 20;

/// How many exceptions wait to be added to the table at once.
const BATCH: usize = 1 << 20;

/// The entries of a store, as they are read area by area.
pub struct Scan {
    layout: Layout,
    /// The size of the store's device.
    size: Sectors,
    area: u64,
    /// The entries of the area so far.
    entries: Vec<Entry>,
    ended: bool,
    exceptions: ExceptionTable,
    waiting: Vec<Waiting>,
    /// Every chunk of the store that an entry named.
    taken: Vec<u64>,
    next_free: u64,
}

/// An entry that nothing is wrong with by itself.
struct Waiting {
    /// Its place in the list, over all areas.
    place: u64,
    entry: Entry,
}

/// What a store holds.
pub struct Scanned {
    /// The exceptions.
    pub exceptions: ExceptionTable,
    /// The area that the next entry goes to.
    pub area: u64,
    /// The entries of that area.
    pub entries: Vec<Entry>,
    /// The chunk that the next exception gets.
    pub next_free: u64,
}

impl Scanned {
    /// Returns every run of exceptions as its first chunk of the origin, its first chunk of the
    /// store and its length, in no order that means anything.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.exceptions.iter()
    }
}

impl Scan {
    /// Starts with the first area of a store of this size.
    pub fn new(layout: Layout, size: Sectors) -> Scan {
        Scan {
            layout,
            size,
            area: 0,
            entries: Vec::new(),
            ended: false,
            exceptions: ExceptionTable::new(),
            waiting: Vec::new(),
            taken: Vec::new(),
            next_free: layout.data_at_or_after(0),
        }
    }

    /// Returns the sectors to be read next; nothing when the list has ended.
    pub fn wants(&self) -> Option<(Sector, Sectors)> {
        if self.ended {
            return None;
        }
        let at = self.layout.entry(self.entries.len() as u64);
        let len = (self.layout.chunk().sectors().bytes() - at).min(PIECE);
        Some((self.layout.area_sector(self.area) + Sectors::in_bytes(at), Sectors::in_bytes(len)))
    }

    /// Takes the bytes of the sectors that were [wanted](Self::wants). Calls `damaged` with each
    /// entry that cannot be right, which is left out: a second exception of a chunk may come to
    /// light some calls later, when the list has ended at the latest. Fails where there is no memory
    /// for as many entries as the store has.
    pub fn take(
        &mut self,
        bytes: &[u8],
        damaged: &mut dyn FnMut(Damage),
    ) -> Result<(), TryReserveError> {
        let most = bytes.len() / ENTRY;
        self.entries.try_reserve(most)?;
        self.waiting.try_reserve(most)?;
        for bytes in bytes.chunks_exact(ENTRY) {
            let Some(entry) = Entry::read(bytes) else {
                self.ended = true;
                break;
            };
            let place = self.area * self.layout.entries() + self.entries.len() as u64;
            match self.layout.check(entry, self.size) {
                Ok(()) => self.waiting.push(Waiting { place, entry }),
                Err(fault) => damaged(self.damage(place, entry, fault)),
            }
            self.entries.push(entry);
        }
        if self.ended || self.waiting.len() >= BATCH {
            self.add(damaged)?;
        }
        if self.entries.len() as u64 == self.layout.entries() {
            self.entries.clear();
            self.area += 1;
        }
        Ok(())
    }

    fn damage(&self, place: u64, entry: Entry, fault: Fault) -> Damage {
        let entries = self.layout.entries();
        Damage { area: place / entries, index: place % entries, entry, fault }
    }

    /// Adds what waits to the table.
    fn add(&mut self, damaged: &mut dyn FnMut(Damage)) -> Result<(), TryReserveError> {
        self.taken.try_reserve(self.waiting.len())?;
        let mut waiting = std::mem::take(&mut self.waiting);
        let pair = |waiting: &Waiting| (waiting.entry.old, waiting.entry.new);
        let mut refused = self.exceptions.insert_all(&waiting, pair).into_iter().peekable();
        for (at, Waiting { place, entry }) in waiting.drain(..).enumerate() {
            if refused.next_if_eq(&at).is_some() {
                damaged(self.damage(place, entry, Fault::Twice));
                continue;
            }
            self.taken.push(entry.new);
            self.next_free = self.next_free.max(entry.new + 1);
        }
        self.waiting = waiting;
        Ok(())
    }

    /// Ends the reading. Calls `shared` with each chunk of the store that two entries name.
    pub fn finish(mut self, shared: &mut dyn FnMut(u64)) -> Scanned {
        self.taken.sort_unstable();
        for pair in self.taken.windows(2).filter(|pair| pair[0] == pair[1]) {
            shared(pair[0]);
        }
        let next_free = self.layout.data_at_or_after(self.next_free);
        Scanned { exceptions: self.exceptions, area: self.area, entries: self.entries, next_free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ChunkSize;

    /// Reads a store whose chunks are sectors, of these entries.
    fn damage(entries: &[Entry]) -> Vec<Damage> {
        let layout = Layout::new(ChunkSize::new(Sectors(1), &[]).expect("a chunk size"));
        let mut scan = Scan::new(layout, Sectors(1000));
        let mut found = Vec::new();
        for area in entries.chunks(layout.entries() as usize) {
            assert!(scan.wants().is_some(), "the list has not ended");
            let mut bytes: Vec<u8> = area.iter().flat_map(|entry| entry.to_bytes()).collect();
            bytes.resize(512, 0);
            let taken = scan.take(&bytes, &mut |damage| found.push(damage));
            taken.expect("memory for some entries");
        }
        assert_eq!(scan.wants(), None);
        found
    }

    #[test]
    fn a_second_exception_of_a_chunk_is_named_by_its_place_in_the_list() {
        let mut entries: Vec<Entry> =
            (0..40).map(|nr| Entry { old: nr, new: 2 + nr + nr / 32 }).collect();
        assert_eq!(damage(&entries), []);
        entries[35].old = 3;
        let entry = entries[35];
        assert_eq!(damage(&entries), [Damage { area: 1, index: 3, entry, fault: Fault::Twice }]);
    }

    #[test]
    fn an_area_that_is_longer_than_a_piece_is_read_piece_by_piece() {
        // Chunks of 3 MiB would be no power of two: of 4 MiB, in four pieces.
        let chunk = Sectors(8192);
        let layout = Layout::new(ChunkSize::new(chunk, &[]).expect("a chunk size"));
        let mut scan = Scan::new(layout, Sectors(chunk.0 << 20));
        let (piece, per_piece) = (Sectors(2048), (1 << 20) / ENTRY as u64);
        let mut new = 2;
        for (at, area) in [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1)] {
            let start = layout.area_sector(area) + Sectors(at * piece.0);
            assert_eq!(scan.wants(), Some((start, piece)), "piece {at} of area {area}");
            let entries = (new..new + per_piece).map(|new| Entry { old: new, new });
            let bytes: Vec<u8> = entries.flat_map(|entry| entry.to_bytes()).collect();
            scan.take(&bytes, &mut |damage| panic!("{damage:?}")).expect("memory for them");
            new += per_piece + u64::from(at == 3);
        }
        scan.take(&[0; ENTRY], &mut |damage| panic!("{damage:?}")).expect("memory for it");
        assert_eq!(scan.wants(), None);
        let scanned = scan.finish(&mut |_| ());
        assert_eq!(scanned.entries.len() as u64, 2 * per_piece);
        let mut runs: Vec<_> = scanned.runs().collect();
        runs.sort_unstable();
        assert_eq!(runs.iter().map(|(_, _, len)| len).sum::<u64>(), 6 * per_piece);
        assert_eq!((runs[0].0, runs[0].1), (2, 2));
    }

    #[test]
    fn a_chunk_of_the_origin_that_has_no_address_is_refused() {
        let layout = Layout::new(ChunkSize::new(Sectors(1 << 21), &[]).expect("a chunk size"));
        let fault = |old| layout.check(Entry { old, new: 2 }, Sectors(1 << 40));
        assert_eq!(fault((1 << 43) - 2), Ok(()));
        assert_eq!(fault((1 << 43) - 1), Err(Fault::NoChunk), "its end has none");
        assert_eq!(fault(u64::MAX), Err(Fault::NoChunk));
    }
}
