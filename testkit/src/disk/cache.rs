//! The bytes of a simulated disk, and what it takes to undo those that are not durable.

use std::collections::VecDeque;

use crate::SECTOR;

use sim_core::{Sector, Sectors};

/// The most sector writes that a cache holds. Past it the oldest becomes durable by itself, as on
/// a disk whose cache is full: 64 MiB of writes without a flush.
pub(crate) const MAX_VOLATILE: usize = 1 << 17;

/// The current bytes, and an undo block for each sector write since it was last durable.
///
/// Going back over the blocks from the newest on gives every state that the medium can be in;
/// nothing is ever copied but the sectors that are written.
pub(crate) struct Cache {
    bytes: Vec<u8>,
    undo: VecDeque<Undo>,
    /// How many blocks ever left the front of `undo`.
    gone: u64,
    /// A block for each sector changed since the first checkpoint, durable or not.
    rewind: Option<Vec<Undo>>,
}

struct Undo {
    sector: u64,
    before: [u8; SECTOR],
}

/// What is written.
pub(crate) enum Bytes<'a> {
    Given(&'a [u8]),
    Zeros(Sectors),
}

impl Cache {
    pub(crate) fn new(size: Sectors) -> Cache {
        let len = usize::try_from(size.bytes()).expect("a simulated disk fits in memory");
        Cache { bytes: vec![0; len], undo: VecDeque::new(), gone: 0, rewind: None }
    }

    pub(crate) fn size(&self) -> Sectors {
        Sectors::in_bytes(self.bytes.len() as u64)
    }

    pub(crate) fn current(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn read(&self, at: Sector, len: Sectors) -> &[u8] {
        let from = at.0 as usize * SECTOR;
        &self.bytes[from..from + len.0 as usize * SECTOR]
    }

    /// Writes at `at`; durable at once with `fua`.
    pub(crate) fn write(&mut self, at: Sector, bytes: Bytes<'_>, fua: bool) {
        let len = match &bytes {
            Bytes::Given(bytes) => bytes.len(),
            Bytes::Zeros(len) => len.0 as usize * SECTOR,
        };
        let from = at.0 as usize * SECTOR;
        let old = &mut self.bytes[from..from + len];
        if let Some(rewind) = &mut self.rewind {
            rewind.extend((at.0..).zip(old.chunks_exact(SECTOR)).map(Undo::new));
        }
        if fua {
            let range = at.0..at.0 + (len / SECTOR) as u64;
            // The blocks before the first that stays keep their places: marks count them.
            self.undo.iter_mut().filter(|undo| range.contains(&undo.sector)).for_each(Undo::void);
        } else {
            self.undo.extend((at.0..).zip(old.chunks_exact(SECTOR)).map(Undo::new));
        }
        match bytes {
            Bytes::Given(bytes) => old.copy_from_slice(bytes),
            Bytes::Zeros(_) => old.fill(0),
        }
        while self.undo.len() > MAX_VOLATILE {
            self.undo.pop_front();
            self.gone += 1;
        }
    }

    /// Returns the place in the sequence of writes that [`flush`](Self::flush) takes.
    pub(crate) fn mark(&self) -> u64 {
        self.gone + self.undo.len() as u64
    }

    /// Makes durable what was written before the mark.
    pub(crate) fn flush(&mut self, mark: u64) {
        let count = mark.saturating_sub(self.gone) as usize;
        self.undo.drain(..count);
        self.gone += count as u64;
    }

    /// Makes everything durable.
    pub(crate) fn settle(&mut self) {
        self.flush(self.mark());
    }

    /// Goes back to what is durable.
    pub(crate) fn lose(&mut self) {
        while let Some(Undo { sector, before }) = self.undo.pop_back() {
            if sector != Undo::VOID {
                let bytes = &mut self.bytes[sector as usize * SECTOR..][..SECTOR];
                if let Some(rewind) = &mut self.rewind {
                    rewind.push(Undo::new((sector, bytes)));
                }
                bytes.copy_from_slice(&before);
            }
        }
    }

    /// Returns the place in the sequence of changes that [`rewind`](Self::rewind) goes back to.
    pub(crate) fn checkpoint(&mut self) -> usize {
        self.rewind.get_or_insert_default().len()
    }

    /// Undoes every change since the checkpoint; what is left is durable.
    pub(crate) fn rewind(&mut self, checkpoint: usize) {
        self.settle();
        let Some(rewind) = &mut self.rewind else { return };
        for Undo { sector, before } in rewind.drain(checkpoint..).rev() {
            self.bytes[sector as usize * SECTOR..][..SECTOR].copy_from_slice(&before);
        }
    }

    /// Returns what is on the medium.
    pub(crate) fn durable(&self, sector: Sector) -> &[u8] {
        self.versions(sector).next().expect("the current version is there at least")
    }

    /// Returns every content since the durable one, that one first.
    pub(crate) fn versions(&self, sector: Sector) -> impl Iterator<Item = &[u8]> {
        let of_sector = move |undo: &&Undo| undo.sector == sector.0;
        let before = self.undo.iter().filter(of_sector).map(|undo| &undo.before[..]);
        before.chain([self.read(sector, Sectors(1))])
    }

    pub(crate) fn volatile_writes(&self) -> usize {
        self.undo.iter().filter(|undo| undo.sector != Undo::VOID).count()
    }
}

impl Undo {
    /// No sector has this number: what a block is about that undoes nothing any more.
    const VOID: u64 = u64::MAX;

    fn new((sector, before): (u64, &[u8])) -> Undo {
        Undo { sector, before: before.try_into().expect("a chunk is a sector") }
    }

    fn void(&mut self) {
        self.sector = Undo::VOID;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(cache: &mut Cache, sector: u64, byte: u8, fua: bool) {
        cache.write(Sector(sector), Bytes::Given(&[byte; SECTOR]), fua);
    }

    fn versions(cache: &Cache, sector: u64) -> Vec<u8> {
        cache.versions(Sector(sector)).map(|bytes| bytes[0]).collect()
    }

    #[test]
    fn a_flush_covers_what_was_written_before_its_mark_alone() {
        let mut cache = Cache::new(Sectors(4));
        write(&mut cache, 1, 10, false);
        let mark = cache.mark();
        write(&mut cache, 1, 11, false);
        assert_eq!(versions(&cache, 1), [0, 10, 11]);
        cache.flush(mark);
        assert_eq!(versions(&cache, 1), [10, 11]);
        // Two flushes may end in either order.
        cache.flush(mark);
        assert_eq!(versions(&cache, 1), [10, 11]);
        cache.flush(cache.mark());
        assert_eq!((versions(&cache, 1), cache.volatile_writes()), (vec![11], 0));
    }

    #[test]
    fn a_fua_write_is_durable_and_its_neighbours_are_not() {
        let mut cache = Cache::new(Sectors(4));
        write(&mut cache, 1, 10, false);
        write(&mut cache, 2, 20, false);
        let mark = cache.mark();
        write(&mut cache, 1, 11, true);
        assert_eq!((versions(&cache, 1), versions(&cache, 2)), (vec![11], vec![0, 20]));
        cache.flush(mark);
        assert_eq!(versions(&cache, 2), [20]);
    }

    #[test]
    fn a_power_cut_takes_what_is_not_durable_alone() {
        let mut cache = Cache::new(Sectors(4));
        write(&mut cache, 1, 10, true);
        write(&mut cache, 1, 11, false);
        write(&mut cache, 1, 12, false);
        write(&mut cache, 2, 20, true);
        cache.lose();
        assert_eq!((versions(&cache, 1), versions(&cache, 2)), (vec![10], vec![20]));
    }

    #[test]
    fn a_rewind_undoes_what_was_durable_too() {
        let mut cache = Cache::new(Sectors(4));
        write(&mut cache, 1, 10, false);
        let first = cache.checkpoint();
        write(&mut cache, 1, 11, true);
        let second = cache.checkpoint();
        write(&mut cache, 1, 12, false);
        cache.settle();
        cache.rewind(second);
        assert_eq!(versions(&cache, 1), [11]);
        cache.rewind(first);
        assert_eq!(versions(&cache, 1), [10]);
    }

    #[test]
    fn a_cache_that_is_full_writes_its_oldest_back() {
        let mut cache = Cache::new(Sectors(2));
        write(&mut cache, 0, 1, false);
        (0..MAX_VOLATILE).for_each(|_| write(&mut cache, 1, 2, false));
        assert_eq!((versions(&cache, 0), cache.volatile_writes()), (vec![1], MAX_VOLATILE));
    }
}
