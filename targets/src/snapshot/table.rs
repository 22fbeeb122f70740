//! The exceptions of a snapshot in memory, made for tens of millions of them.
//!
//! 128 consecutive chunks of the origin are a group. A group with exceptions has one slot of 16
//! bytes, in a shard's hash table; a slot holds the group's only run, or points to its runs.
//!
//! Slots lie in the order of their hashes, none before its home (linear probing, Robin Hood).
//! So a search ends at the first hash that is not smaller, and a table grows in one pass. A shard
//! is small enough to grow, or to have its runs moved together, within one insert.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// The last chunk of an origin: 57 bits.
pub const MAX_OLD: u64 = (1 << 57) - 1;

/// The last chunk of a store: 49 bits, 256 PiB in the smallest chunks.
pub const MAX_NEW: u64 = (1 << NEW_BITS) - 1;

/// Chunks of the origin in a group.
const GROUP: u64 = 128;

/// Shards of a table, by the upper bits of a hash. An empty table takes 72 bytes for each.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 8;

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

    /// Returns every run as its first old chunk, its first new chunk and its length. Groups of 128
    /// old chunks come in the order of a hash, the runs of a group by old chunk: in the same order
    /// whenever the exceptions are the same.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.shards.iter().flat_map(|shard| {
            shard.buckets.iter().flat_map(move |bucket| {
                (0..bucket.used()).flat_map(move |slot| {
                    let first = unmix(bucket.hashes[slot]) * GROUP;
                    let runs = shard.runs_in(&bucket.runs[slot]).iter();
                    runs.map(move |run| (first + run.start(), run.new_of(run.start()), run.len()))
                })
            })
        })
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

/// A run of exceptions of one group: its start there (7 bits), its length less one (7 bits), and
/// its first chunk in the store. The uppermost bit is left to [`Held`].
#[derive(Debug, Clone, Copy)]
struct Run(u64);

const NEW_BITS: u32 = 49;
const LEN_BITS: u32 = 7;

impl Run {
    fn new(start: u64, len: u64, new: u64) -> Run {
        Run(start << (LEN_BITS + NEW_BITS) | (len - 1) << NEW_BITS | new)
    }

    fn start(self) -> u64 {
        self.0 >> (LEN_BITS + NEW_BITS)
    }

    fn len(self) -> u64 {
        (self.0 >> NEW_BITS) % GROUP + 1
    }

    fn end(self) -> u64 {
        self.start() + self.len()
    }

    /// Returns the chunk of the store that chunk `start` of the group lies in, or would.
    fn new_of(self, start: u64) -> u64 {
        (self.0 & MAX_NEW) + start - self.start()
    }

    /// Returns this run and the next as one, if both the old chunks and the new ones continue.
    fn joined(self, next: Run) -> Option<Run> {
        let continues =
            self.end() == next.start() && self.new_of(next.start()) == next.new_of(next.start());
        continues.then(|| Run::new(self.start(), self.len() + next.len(), self.0 & MAX_NEW))
    }

    /// Returns the chunks of this run from `start` to `end` of the group, if there are any.
    fn part(self, start: u64, end: u64) -> Option<Run> {
        (start < end).then(|| Run::new(start, end - start, self.new_of(start)))
    }
}

/// How many groups a bucket holds.
const SLOTS: usize = 8;

/// Some groups of a shard, in the first of its slots.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    hashes: [u64; SLOTS],
    runs: [Held; SLOTS],
}

/// What a slot has of a group: its only run, or where its runs are.
#[derive(Clone, Copy)]
struct Held(Run);

impl Held {
    const SEVERAL: u64 = 1 << 63;

    /// Stands for the runs from `start` on in [`Shard::blocks`].
    fn block(start: usize, count: usize) -> Held {
        Held(Run(Held::SEVERAL | (start as u64) << 8 | count as u64))
    }

    fn as_block(self) -> Option<Range<usize>> {
        let bits = self.0.0;
        let (start, count) = ((bits & !Held::SEVERAL) >> 8, bits & 0xff);
        (bits & Held::SEVERAL != 0).then(|| start as usize..(start + count) as usize)
    }
}

impl Bucket {
    const UNUSED: u64 = u64::MAX;
    const EMPTY: Bucket = Bucket { hashes: [Bucket::UNUSED; SLOTS], runs: [Held(Run(0)); SLOTS] };

    // Looks at all slots, and so does not depend on a guess of the processor where it ends: a
    // wrong guess about memory far away is dear.
    fn position(&self, hash: u64) -> Option<usize> {
        let mut found = 0u32;
        for (nr, other) in self.hashes.iter().enumerate() {
            found |= u32::from(*other == hash) << nr;
        }
        (found != 0).then_some(found.trailing_zeros() as usize)
    }

    fn used(&self) -> usize {
        self.hashes.iter().map(|hash| usize::from(*hash != Bucket::UNUSED)).sum()
    }

    fn is_full(&self) -> bool {
        self.hashes[SLOTS - 1] != Bucket::UNUSED
    }

    fn take(&mut self, at: usize) {
        let last = self.used() - 1;
        (self.hashes[at], self.runs[at]) = (self.hashes[last], self.runs[last]);
        self.hashes[last] = Bucket::UNUSED;
    }
}

/// The groups whose hashes begin with the same bits.
#[derive(Default)]
struct Shard {
    buckets: Vec<Bucket>,
    /// Buckets that are a home. More follow where the last are full.
    homes: usize,
    groups: usize,
    /// Blocks of runs of the groups that have several, by start, each with [`room`] for more.
    blocks: Vec<Run>,
    /// What of `blocks` has been left behind.
    left: usize,
}

/// Returns the size of a group's block: steps of an eighth, so that not every run moves it.
fn room(count: usize) -> usize {
    match count {
        0 | 1 => 0,
        _ => count.next_multiple_of((count.next_power_of_two() / 8).max(1)),
    }
}

fn upto(runs: &[Run], start: u64) -> usize {
    let mut next = start as usize * runs.len() / GROUP as usize;
    while next < runs.len() && runs[next].start() <= start {
        next += 1;
    }
    while next > 0 && runs[next - 1].start() > start {
        next -= 1;
    }
    next
}

impl Shard {
    fn insert(&mut self, hash: u64, mut run: Run) -> Result<(), u64> {
        let at = match self.find(hash) {
            Ok(at) => at,
            Err(at) => {
                self.open(at, hash, run);
                return Ok(());
            }
        };
        let runs = self.runs_at(at);
        let next = upto(runs, run.start());
        let mut joined = next..next;
        if let Some(before) = runs[..next].last() {
            if before.end() > run.start() {
                return Err(before.new_of(run.start()));
            }
            if let Some(both) = before.joined(run) {
                (run, joined.start) = (both, next - 1);
            }
        }
        if let Some(both) = runs.get(next).and_then(|after| run.joined(*after)) {
            (run, joined.end) = (both, next + 1);
        }
        self.splice(at, joined, &[run]);
        Ok(())
    }

    fn remove(&mut self, hash: u64, start: u64) -> Option<u64> {
        let at = self.find(hash).ok()?;
        let runs = self.runs_at(at);
        let nr = upto(runs, start).checked_sub(1)?;
        let run = runs[nr];
        if run.end() <= start {
            return None;
        }
        match (run.part(run.start(), start), run.part(start + 1, run.end())) {
            (None, None) if runs.len() == 1 => self.close(at),
            (None, None) => self.splice(at, nr..nr + 1, &[]),
            (Some(part), None) | (None, Some(part)) => self.splice(at, nr..nr + 1, &[part]),
            (Some(left), Some(right)) => self.splice(at, nr..nr + 1, &[left, right]),
        }
        Some(run.new_of(start))
    }

    fn runs(&self, hash: u64) -> &[Run] {
        self.find(hash).map_or(&[], |at| self.runs_at(at))
    }

    fn runs_at(&self, at: usize) -> &[Run] {
        self.runs_in(&self.buckets[at / SLOTS].runs[at % SLOTS])
    }

    fn runs_in<'a>(&'a self, held: &'a Held) -> &'a [Run] {
        match held.as_block() {
            Some(block) => &self.blocks[block],
            None => std::slice::from_ref(&held.0),
        }
    }

    fn held(&mut self, at: usize) -> &mut Held {
        &mut self.buckets[at / SLOTS].runs[at % SLOTS]
    }

    /// Returns the place of a group's slot, or else the free slot where it would lie.
    fn find(&self, hash: u64) -> Result<usize, usize> {
        let mut nr = home(hash, self.homes);
        while let Some(bucket) = self.buckets.get(nr) {
            if let Some(slot) = bucket.position(hash) {
                return Ok(nr * SLOTS + slot);
            }
            if !bucket.is_full() {
                return Err(nr * SLOTS + bucket.used());
            }
            nr += 1;
        }
        Err(nr * SLOTS)
    }

    /// Puts a new group where [`Shard::find`] has found its place.
    fn open(&mut self, mut at: usize, hash: u64, run: Run) {
        if self.groups >= self.homes * 7 {
            self.move_house(self.homes * 7 / 6 + 1);
            at = self.find(hash).expect_err("the group is new");
        }
        self.put(at, hash, Held(run));
        self.groups += 1;
    }

    fn put(&mut self, at: usize, hash: u64, held: Held) {
        if at / SLOTS == self.buckets.len() {
            self.buckets.reserve_exact(1);
            self.buckets.push(Bucket::EMPTY);
        }
        let bucket = &mut self.buckets[at / SLOTS];
        (bucket.hashes[at % SLOTS], bucket.runs[at % SLOTS]) = (hash, held);
    }

    /// Takes a group away, and moves one after it back, if its home allows.
    fn close(&mut self, at: usize) {
        let (mut nr, mut slot) = (at / SLOTS, at % SLOTS);
        self.groups -= 1;
        loop {
            let was_full = self.buckets[nr].is_full();
            self.buckets[nr].take(slot);
            if !was_full {
                break;
            }
            let Some(next) = self.astray(nr) else { break };
            let (from, s) = (next / SLOTS, next % SLOTS);
            let (hash, held) = (self.buckets[from].hashes[s], self.buckets[from].runs[s]);
            self.put(nr * SLOTS + SLOTS - 1, hash, held);
            (nr, slot) = (from, s);
        }
        if self.groups * 2 + 8 < self.homes * 7 / 2 {
            self.move_house(self.groups / 6 + 1);
        }
    }

    /// Returns a slot after bucket `nr` whose group would rather lie in that.
    fn astray(&self, nr: usize) -> Option<usize> {
        for from in nr + 1..self.buckets.len() {
            let bucket = &self.buckets[from];
            for slot in 0..bucket.used() {
                if home(bucket.hashes[slot], self.homes) <= nr {
                    return Some(from * SLOTS + slot);
                }
            }
            if !bucket.is_full() {
                break;
            }
        }
        None
    }

    fn move_house(&mut self, homes: usize) {
        let mut buckets = Vec::with_capacity(homes);
        buckets.resize(homes, Bucket::EMPTY);
        let before = std::mem::replace(&mut self.buckets, buckets);
        self.homes = homes;
        for bucket in before {
            for slot in 0..bucket.used() {
                let mut nr = home(bucket.hashes[slot], homes);
                while self.buckets.get(nr).is_some_and(Bucket::is_full) {
                    nr += 1;
                }
                let at = nr * SLOTS + self.buckets.get(nr).map_or(0, Bucket::used);
                self.put(at, bucket.hashes[slot], bucket.runs[slot]);
            }
        }
    }

    /// Puts `with` in the place of the runs `gone` of a group, which leave one at least.
    fn splice(&mut self, at: usize, gone: Range<usize>, with: &[Run]) {
        let before = self.runs_at(at).len();
        let after = before - gone.len() + with.len();
        match (before, after) {
            (1, 1) => *self.held(at) = Held(with[0]),
            _ if room(after) > room(before) => self.move_block(at, gone, with, after),
            _ => self.splice_block(at, gone, with, after),
        }
        self.left += room(before).saturating_sub(room(after));
        if self.left > self.blocks.len() / 2 {
            self.compact(0);
        }
    }

    fn splice_block(&mut self, at: usize, gone: Range<usize>, with: &[Run], count: usize) {
        let block = self.held(at).as_block().expect("one run of one is not spliced here");
        let (first, rest) = (block.start + gone.start, block.start + gone.end);
        self.blocks.copy_within(rest..block.end, first + with.len());
        self.blocks[first..first + with.len()].copy_from_slice(with);
        *self.held(at) = match count {
            1 => Held(self.blocks[block.start]),
            _ => Held::block(block.start, count),
        }
    }

    /// Splices while it copies the runs to the end of the blocks.
    fn move_block(&mut self, at: usize, gone: Range<usize>, with: &[Run], count: usize) {
        let size = room(count);
        if self.blocks.len() + size > self.blocks.capacity() {
            self.compact(size);
        }
        let start = self.blocks.len();
        match self.held(at).as_block() {
            None => {
                let only = [self.held(at).0];
                let parts = [&only[..gone.start], with, &only[gone.end..]];
                parts.iter().for_each(|part| self.blocks.extend_from_slice(part));
            }
            Some(block) => {
                self.blocks.extend_from_within(block.start..block.start + gone.start);
                self.blocks.extend_from_slice(with);
                self.blocks.extend_from_within(block.start + gone.end..block.end);
                self.left += room(block.len());
            }
        }
        self.blocks.resize(start + size, Run(0));
        *self.held(at) = Held::block(start, count);
    }

    /// Moves the blocks together, with space behind them for `size` runs and a quarter more.
    fn compact(&mut self, size: usize) {
        let used = self.blocks.len() - self.left;
        // The homes count too: while few groups have blocks, this pass costs a visit to all.
        let mut blocks = Vec::with_capacity(used + used / 4 + self.homes / 4 + size);
        for held in self.buckets.iter_mut().flat_map(|bucket| &mut bucket.runs) {
            if let Some(block) = held.as_block() {
                let (start, count) = (blocks.len(), block.len());
                blocks.extend_from_slice(&self.blocks[block]);
                blocks.resize(start + room(count), Run(0));
                *held = Held::block(start, count);
            }
        }
        (self.blocks, self.left) = (blocks, 0);
    }

    fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>() + self.blocks.capacity() * size_of::<Run>()
    }
}

/// Returns the first bucket that may hold a group. Larger hashes have no smaller homes.
fn home(hash: u64, homes: usize) -> usize {
    ((u128::from(hash << SHARD_BITS) * homes as u128) >> u64::BITS) as usize
}

#[cfg(test)]
mod tests;
