//! Reads the metadata of a persistent store, whoever does the reading: says which sectors it
//! wants, and takes their bytes.

use sim_core::{Sector, Sectors};

use super::super::table::{ExceptionTable, MAX_NEW, MAX_OLD};
use super::format::{Damage, ENTRY, Entry, Fault, Layout};

/// How much is read at a time, in bytes, where a chunk is longer.
const PIECE: u64 = 1 << 20;

impl Scanned {
    /// Returns every run of exceptions as its first chunk of the origin, its first chunk of the
    /// store and its length, in no order that means anything.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.exceptions.iter()
    }
}

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
    /// Every chunk of the store that an entry named.
    taken: Vec<u64>,
    next_free: u64,
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
    /// entry that cannot be right, which is left out.
    pub fn take(&mut self, bytes: &[u8], damaged: &mut dyn FnMut(Damage)) {
        for bytes in bytes.chunks_exact(ENTRY) {
            let Some(entry) = Entry::read(bytes) else {
                self.ended = true;
                return;
            };
            if let Err(fault) = self.add(entry) {
                let index = self.entries.len() as u64;
                damaged(Damage { area: self.area, index, entry, fault });
            }
            self.entries.push(entry);
        }
        if self.entries.len() as u64 == self.layout.entries() {
            self.entries.clear();
            self.area += 1;
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), Fault> {
        let Entry { old, new } = entry;
        // One past the end of the origin, which may have been longer once, does no harm.
        if old > MAX_OLD {
            return Err(Fault::NoChunk);
        }
        let store = self.layout.chunk().whole_in(self.size);
        if new >= store || new > MAX_NEW {
            return Err(Fault::PastStore { chunks: store });
        }
        if self.layout.is_metadata(new) {
            return Err(Fault::Metadata);
        }
        self.exceptions.insert(old, new).map_err(|_| Fault::Twice)?;
        self.taken.push(new);
        self.next_free = self.next_free.max(new + 1);
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
