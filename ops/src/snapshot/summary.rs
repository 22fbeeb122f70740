//! What a store holds, and what is wrong with it: read without loading it.

use std::io;
use std::path::Path;

use daemon::{About, Fault};
use sim_core::Sectors;
use targets::snapshot::store::format::{Damage, Entry, Header, Layout};

use super::store::{Start, StoreFile};

/// The most that is told of one by one; the rest is counted.
const MOST: usize = 1000;

/// What a store holds, and what is wrong with it.
pub struct Summary {
    /// The header.
    pub header: Header,
    /// Where areas and chunks lie.
    pub layout: Layout,
    /// The size of the store.
    pub size: Sectors,
    /// How many areas are full.
    pub full_areas: u64,
    /// How many entries the area after them has.
    pub in_area: u64,
    /// Exceptions.
    pub entries: u64,
    /// Runs of exceptions about chunks one after the other.
    pub runs: u64,
    /// The chunk that the next exception gets.
    pub next_free: u64,
    /// Chunks for data before the next free one that no exception names.
    pub unused: u64,
    /// Chunks for data from there on.
    pub free: u64,
    /// Entries that cannot be right.
    pub damage: FirstOf<Damage>,
    /// Chunks of the store that are named twice.
    pub shared: FirstOf<u64>,
    /// Why the list could not be read to its end.
    pub broken: Option<String>,
    store: StoreFile,
}

/// The first of many things, and how many there are.
pub struct FirstOf<T> {
    /// The first, a thousand at most.
    pub first: Vec<T>,
    /// How many there are.
    pub count: u64,
}

impl<T> FirstOf<T> {
    fn nothing() -> FirstOf<T> {
        FirstOf { first: Vec::new(), count: 0 }
    }

    fn push(&mut self, thing: T) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(thing);
        }
    }

    /// Returns how many are left out.
    pub fn rest(&self) -> u64 {
        self.count - self.first.len() as u64
    }
}

fn summarize(store: StoreFile, header: Header, layout: Layout) -> Summary {
    let (mut damage, mut shared) = (FirstOf::nothing(), FirstOf::nothing());
    let (mut entries, mut runs, mut last) = (0, 0, None);
    let mut count = |entry: Entry| {
        entries += 1;
        runs += u64::from(last.is_none_or(|last| !goes_on(last, entry)));
        last = Some(entry);
    };
    let (scan, broken) = store.scan(layout, &mut count, &mut |found| damage.push(found));
    let scanned = scan.finish(&mut |chunk| shared.push(chunk));
    let taken = entries - damage.count - shared.count;
    let chunks = layout.chunk().whole_in(store.len);
    let next_free = scanned.next_free;
    Summary {
        header,
        layout,
        size: store.len,
        full_areas: scanned.area,
        in_area: scanned.entries.len() as u64,
        entries,
        runs,
        next_free,
        unused: data_before(layout, next_free).saturating_sub(taken),
        free: data_before(layout, chunks).saturating_sub(data_before(layout, next_free)),
        damage,
        shared,
        broken,
        store,
    }
}

/// Tells whether an entry is about the chunks after those of another.
fn goes_on(last: Entry, next: Entry) -> bool {
    last.old.checked_add(1) == Some(next.old) && last.new.checked_add(1) == Some(next.new)
}

/// Counts the chunks for data before this one.
fn data_before(layout: Layout, chunk: u64) -> u64 {
    match chunk.checked_sub(1) {
        None => 0,
        Some(after_header) => after_header - after_header.div_ceil(layout.entries() + 1),
    }
}

impl Summary {
    /// Reads a store.
    ///
    /// # Errors
    /// Where the file is no store, or cannot be read. What is wrong with the list of a store is no
    /// error: the summary says so.
    pub fn read(path: &Path) -> Result<Summary, Fault> {
        let store = StoreFile::open(path).about(path.display())?;
        match store.start() {
            Ok(Start::Store(header, layout)) => Ok(summarize(store, header, layout)),
            Ok(Start::Zeros) => Err(Fault::new(path.display(), "expected a store, found zeros")),
            Err(why) => Err(Fault::new(path.display(), format!("damaged header: {why}"))),
        }
    }

    /// Tells whether anything is wrong with the list.
    pub fn is_damaged(&self) -> bool {
        self.damage.count + self.shared.count > 0 || self.broken.is_some()
    }

    /// Returns how large a chunk is, in sectors.
    pub fn chunk(&self) -> u64 {
        self.layout.chunk().sectors().0
    }

    /// Returns how much of the store is taken, in sectors.
    pub fn allocated(&self) -> u64 {
        self.next_free * self.chunk()
    }

    /// Returns how much of it is the header's chunk and the areas, in sectors.
    pub fn metadata(&self) -> u64 {
        (self.full_areas + 2) * self.chunk()
    }

    /// Returns what the status of a snapshot would be.
    pub fn status(&self) -> String {
        match (self.is_damaged(), self.header.valid) {
            (true, _) => "(cannot be loaded)".to_owned(),
            (false, false) => "Invalid".to_owned(),
            (false, true) => format!("{}/{} {}", self.allocated(), self.size, self.metadata()),
        }
    }

    /// Calls `each` with the runs of chunks, in the order in which they lie in the store.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn each_run(&self, each: &mut dyn FnMut(StoreRun) -> io::Result<()>) -> io::Result<()> {
        let (mut run, mut last, mut result) = (None::<StoreRun>, None, Ok(()));
        let mut take = |entry: Entry| {
            match &mut run {
                Some(run) if last.is_some_and(|last| goes_on(last, entry)) => run.len += 1,
                _ => {
                    let next = StoreRun { old: entry.old, new: entry.new, len: 1 };
                    if let Some(done) = run.replace(next).filter(|_| result.is_ok()) {
                        result = each(done);
                    }
                }
            }
            last = Some(entry);
        };
        // What is wrong with it was told already.
        let _ = self.store.scan(self.layout, &mut take, &mut |_| {});
        result?;
        run.map_or(Ok(()), each)
    }
}

/// Chunks one after the other, in the origin and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRun {
    /// The first, in the origin.
    pub old: u64,
    /// The first, in the store.
    pub new: u64,
    /// How many.
    pub len: u64,
}
