//! The exceptions of a snapshot in memory, made for tens of millions of them.
//!
//! 128 consecutive chunks of the origin are a group. A group with exceptions has one slot of 16
//! bytes, in a shard's hash table; a slot holds the group's only run, or points to its runs.
//!
//! Slots lie in the order of their hashes, none before its home (linear probing, Robin Hood).
//! So a search ends at the first hash that is not smaller, and a table grows in one pass. A shard
//! is small enough to grow, or to have its runs moved together, within one insert.

mod run;
mod shard;

use std::error::Error;
use std::fmt;

pub use self::run::MAX_NEW;

use self::run::{GROUP, Run};
use self::shard::{Bucket, SHARD_BITS, Shard, upto};

/// The last chunk of an origin: 57 bits.
pub const MAX_OLD: u64 = (1 << 57) - 1;

/// An empty table takes 72 bytes for each.
const SHARDS: usize = 1 << SHARD_BITS;

/// The bytes of a table that is looked for in a processor's own cache, more or less.
const CACHED: usize = 4 << 20;

/// The exceptions of a snapshot: which chunk of the store holds a chunk of the origin.
pub struct ExceptionTable {
    shards: Vec<Shard>,
    len: u64,
}

/// The run of chunks that begins at the one asked for. It ends at a multiple of 128 chunks at the
/// latest, though the next one may go on with it.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// `len` chunks lie in the store, one after the other, from `new` on.
    Exception {
        /// The first chunk of the store.
        new: u64,
        /// How many chunks.
        len: u64,
    },
    /// `len` chunks have no exception.
    Origin {
        /// How many chunks.
        len: u64,
    },
}

/// The chunk has an exception already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The chunk of the origin.
    pub old: u64,
    /// Where the chunk lies in the store.
    pub new: u64,
}

impl ExceptionTable {
    /// Makes a table without exceptions.
    pub fn new() -> ExceptionTable {
        ExceptionTable { shards: (0..SHARDS).map(|_| Shard::default()).collect(), len: 0 }
    }

    /// Adds an exception. Where chunk `old` has one already, nothing changes.
    ///
    /// # Panics
    /// Past [`MAX_OLD`] or [`MAX_NEW`].
    pub fn insert(&mut self, old: u64, new: u64) -> Result<(), Duplicate> {
        assert!(new <= MAX_NEW, "chunk {new} of the store lies past {MAX_NEW}");
        let (hash, start) = locate(old);
        let added = self.shards[shard(hash)].insert(hash, Run::new(start, 1, new));
        added.map_err(|new| Duplicate { old, new })?;
        self.len += 1;
        Ok(())
    }

    /// Adds exceptions as if one after the other, and returns the places in `entries` of those
    /// whose chunk `old` had one already. `pair` reads the old chunk and the new one.
    ///
    /// Where the table does not fit a cache, though a shard does, they go to one shard after the
    /// other: many at once are several times as fast as one by one.
    ///
    /// # Panics
    /// Past [`MAX_OLD`] or [`MAX_NEW`].
    pub fn insert_all<E>(&mut self, entries: &[E], pair: impl Fn(&E) -> (u64, u64)) -> Vec<usize> {
        if self.heap_bytes() < CACHED {
            let mut refused: Vec<usize> = Vec::new();
            for (at, (old, new)) in entries.iter().map(pair).enumerate() {
                refused.extend(self.insert(old, new).is_err().then_some(at));
            }
            return refused;
        }
        let shard_of = |entry| shard(locate(pair(entry).0).0);
        let mut next = [0usize; SHARDS + 1];
        entries.iter().for_each(|entry| next[shard_of(entry) + 1] += 1);
        (0..SHARDS).for_each(|nr| next[nr + 1] += next[nr]);
        // Copies, and not their places alone: those would be looked up all over `entries`.
        let mut sorted = vec![(0, 0, 0); entries.len()];
        for (at, entry) in entries.iter().enumerate() {
            let next = &mut next[shard_of(entry)];
            let (old, new) = pair(entry);
            sorted[*next] = (old, new, at);
            *next += 1;
        }
        let mut refused = Vec::new();
        for (old, new, at) in sorted {
            refused.extend(self.insert(old, new).is_err().then_some(at));
        }
        refused.sort_unstable();
        refused
    }

    /// Returns the run that begins at chunk `old`, of one chunk at least.
    ///
    /// # Panics
    /// Past [`MAX_OLD`].
    pub fn lookup(&self, old: u64) -> Lookup {
        let (hash, start) = locate(old);
        let runs = self.shards[shard(hash)].runs(hash);
        let next = upto(runs, start);
        match runs[..next].last() {
            Some(run) if run.end() > start => {
                Lookup::Exception { new: run.new_of(start), len: run.end() - start }
            }
            _ => Lookup::Origin { len: runs.get(next).map_or(GROUP, |run| run.start()) - start },
        }
    }

    /// Takes the exception of chunk `old` away and returns the chunk of the store that held it, if
    /// there was one.
    ///
    /// # Panics
    /// Past [`MAX_OLD`].
    pub fn remove(&mut self, old: u64) -> Option<u64> {
        let (hash, start) = locate(old);
        let new = self.shards[shard(hash)].remove(hash, start)?;
        self.len -= 1;
        Some(new)
    }

    /// Returns the number of exceptions: of chunks, not of runs.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether there is no exception.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes allocated, in use or not, by adding up all shards.
    pub fn heap_bytes(&self) -> usize {
        let shards = self.shards.capacity() * size_of::<Shard>();
        shards + self.shards.iter().map(Shard::heap_bytes).sum::<usize>()
    }

    /// Looks in shard `from` for the chunk that lies in chunk `new` of the store; returns it, and which
    /// shard is next.
    pub(super) fn find_new(&self, new: u64, from: usize) -> (Option<u64>, Option<usize>) {
        let mut runs = self.shards[from..].iter().take(1).flat_map(runs_of);
        let found = runs.find_map(|(old, first, len)| {
            let ahead = new.checked_sub(first).filter(|ahead| *ahead < len);
            ahead.map(|ahead| old + ahead)
        });
        (found, (from + 1 < self.shards.len()).then_some(from + 1))
    }

    /// Returns every run as its first old chunk, its first new chunk and its length. Groups of 128
    /// old chunks come in the order of a hash, the runs of a group by old chunk: in the same order
    /// whenever the exceptions are the same.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.shards.iter().flat_map(runs_of)
    }
}

impl Default for ExceptionTable {
    fn default() -> ExceptionTable {
        ExceptionTable::new()
    }
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Duplicate { old, new } = self;
        write!(f, "chunk {old}: expected no exception, found one to chunk {new} of the store")
    }
}

impl Error for Duplicate {}

/// Returns the hash of a chunk's group, and the chunk's place in the group.
fn locate(old: u64) -> (u64, u64) {
    assert!(old <= MAX_OLD, "chunk {old} of the origin lies past {MAX_OLD}");
    (mix(old / GROUP), old % GROUP)
}

fn runs_of(shard: &Shard) -> impl Iterator<Item = (u64, u64, u64)> {
    shard.buckets.iter().flat_map(move |bucket| {
        (0..bucket.used()).flat_map(move |slot| {
            let first = unmix(bucket.hashes[slot]) * GROUP;
            let runs = shard.runs_in(&bucket.runs[slot]).iter();
            runs.map(move |run| (first + run.start(), run.new_of(run.start()), run.len()))
        })
    })
}

fn shard(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

const MIX: u64 = 0xD6E8_FEB8_6659_FD93;
const UNMIX: u64 = 0xCFEE_444D_8B59_A89B;
const _: () = assert!(MIX.wrapping_mul(UNMIX) == 1);
// The hash of an unused slot is that of no group.
const _: () = assert!(unmix(Bucket::UNUSED) > MAX_OLD / GROUP);

/// Hashes a group, such that the upper bits depend on all of it. No two have the same hash, so
/// that a slot needs nothing else to know its group by.
const fn mix(group: u64) -> u64 {
    let half = (group ^ group >> 32).wrapping_mul(MIX);
    (half ^ half >> 32).wrapping_mul(MIX)
}

const fn unmix(hash: u64) -> u64 {
    let half = hash.wrapping_mul(UNMIX);
    let group = (half ^ half >> 32).wrapping_mul(UNMIX);
    group ^ group >> 32
}

#[cfg(test)]
mod tests;
