//! A shard of the table: slots of groups, and the runs of those that have several.

use std::ops::Range;

use super::run::{GROUP, Run};

/// Shards of a table, by the upper bits of a hash.
pub(super) const SHARD_BITS: u32 = 8;

/// How many groups a bucket holds.
const SLOTS: usize = 8;

/// Some groups of a shard, in the first of its slots.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Bucket {
    pub(super) hashes: [u64; SLOTS],
    pub(super) runs: [Held; SLOTS],
}

/// What a slot has of a group: its only run, or where its runs are.
#[derive(Clone, Copy)]
pub(super) struct Held(Run);

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
    pub(super) const UNUSED: u64 = u64::MAX;
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

    pub(super) fn used(&self) -> usize {
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
pub(super) struct Shard {
    pub(super) buckets: Vec<Bucket>,
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

pub(super) fn upto(runs: &[Run], start: u64) -> usize {
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
    pub(super) fn insert(&mut self, hash: u64, mut run: Run) -> Result<(), u64> {
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

    pub(super) fn remove(&mut self, hash: u64, start: u64) -> Option<u64> {
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

    pub(super) fn runs(&self, hash: u64) -> &[Run] {
        self.find(hash).map_or(&[], |at| self.runs_at(at))
    }

    fn runs_at(&self, at: usize) -> &[Run] {
        self.runs_in(&self.buckets[at / SLOTS].runs[at % SLOTS])
    }

    pub(super) fn runs_in<'a>(&'a self, held: &'a Held) -> &'a [Run] {
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
            self.rehash(self.homes * 7 / 6 + 1);
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
            let Some(next) = self.displaced(nr) else { break };
            let (from, s) = (next / SLOTS, next % SLOTS);
            let (hash, held) = (self.buckets[from].hashes[s], self.buckets[from].runs[s]);
            self.put(nr * SLOTS + SLOTS - 1, hash, held);
            (nr, slot) = (from, s);
        }
        if self.groups * 2 + 8 < self.homes * 7 / 2 {
            self.rehash(self.groups / 6 + 1);
        }
    }

    /// Returns a slot after bucket `nr` whose group would rather lie in that.
    fn displaced(&self, nr: usize) -> Option<usize> {
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

    /// Puts every group into a table with so many homes.
    fn rehash(&mut self, homes: usize) {
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

    pub(super) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>() + self.blocks.capacity() * size_of::<Run>()
    }
}

/// Returns the first bucket that may hold a group. Larger hashes have no smaller homes.
fn home(hash: u64, homes: usize) -> usize {
    ((u128::from(hash << SHARD_BITS) * homes as u128) >> u64::BITS) as usize
}
