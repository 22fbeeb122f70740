//! What a simulated disk is inside: it carries bios out, well or damaged, and writes them down.

use std::sync::Arc;
use std::time::Duration;

use sim_core::{Bio, BlkError, BlkResult, Flags, Op, Runtime, Sector, Sectors};

use crate::disk::cache::{Bytes, Cache};
use crate::disk::fault::{Damage, Faults, aim, flip};
use crate::disk::journal::{Entry, Journal, Write};
use crate::{Handle, Io, Latency, story};

/// Whether bios can be carried out on the spot ([`try_now`](sim_core::BlockDevice::try_now)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// Each bio is a pending I/O first.
    #[default]
    Waits,
    /// The seed decides for each bio.
    Mixed,
    /// No bio waits, as with an image in the page cache.
    AtOnce,
}

/// How many bios of each kind have ended, well or with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the operations")]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub discards: u64,
    pub write_zeroes: u64,
    pub secure_erases: u64,
}

/// A disk behind its lock.
pub(crate) struct State {
    pub(crate) minor: u32,
    /// A logical block.
    pub(crate) block: Sectors,
    pub(crate) sim: Handle,
    pub(crate) cache: Cache,
    pub(crate) speed: Speed,
    pub(crate) latency: Option<Latency>,
    /// Where the bio before ended.
    pub(crate) head: u64,
    pub(crate) faults: Faults,
    pub(crate) journal: Option<Arc<Journal>>,
    /// Every bio as it came, where somebody wants to know.
    pub(crate) ios: Option<Vec<Io>>,
    pub(crate) counts: Counts,
    pub(crate) in_flight: u64,
    pub(crate) open_count: u32,
}

/// Where things were when a bio was submitted.
#[derive(Clone, Copy)]
pub(crate) struct Submitted {
    /// What the cache held.
    pub(crate) cache: u64,
    /// The length of the record.
    pub(crate) journal: usize,
}

impl State {
    pub(crate) fn submitted(&mut self, bio: &Bio<'_>) -> Submitted {
        if let Some(ios) = &mut self.ios {
            ios.push(Io::of(self.minor, bio));
        }
        let journal = self.journal.as_ref().map_or(0, |journal| journal.len());
        Submitted { cache: self.cache.mark(), journal }
    }

    /// Returns how long a bio takes that comes now.
    pub(crate) fn takes(&mut self, bio: &Bio<'_>) -> Option<Duration> {
        let latency = self.latency?;
        let (size, random) = (self.cache.size().0, self.sim.random());
        let (time, head) = latency.of(bio, self.head, size, random);
        self.head = head;
        Some(time)
    }

    pub(crate) fn carry_out(&mut self, bio: &mut Bio<'_>, submitted: Submitted) -> BlkResult {
        self.counts.add(bio.op());
        let damage = self.faults.next(bio);
        let result = self.carry_out_with(bio, damage, submitted);
        story::io(self.minor, bio, damage.as_ref(), &result);
        result
    }

    fn carry_out_with(
        &mut self,
        bio: &mut Bio<'_>,
        damage: Option<Damage>,
        submitted: Submitted,
    ) -> BlkResult {
        let is_whole = |sectors: u64| sectors.is_multiple_of(self.block.0);
        let is_on_disk = bio.end().is_some_and(|end| end.0 <= self.cache.size().0);
        if !(is_on_disk && is_whole(bio.sector.0) && is_whole(bio.len().0)) {
            return Err(BlkError::Io);
        }
        match damage {
            None => self.perform(bio, submitted),
            Some(Damage::Error) => return Err(BlkError::Io),
            Some(Damage::Short(done)) => {
                self.perform_part(bio, done, submitted);
                return Err(BlkError::Io);
            }
            Some(Damage::DoneThenError) => {
                self.perform(bio, submitted);
                return Err(BlkError::Io);
            }
            Some(Damage::Torn(done)) => self.perform_part(bio, done, submitted),
            Some(Damage::Corrupt(bit)) if bio.op() == Op::Write => {
                let mut data = bio.data().to_vec();
                flip(&mut data, bit);
                self.perform(&mut Bio::write(bio.sector, &data).with_flags(bio.flags), submitted);
            }
            Some(Damage::Corrupt(bit)) => {
                self.perform(bio, submitted);
                flip(bio.buffer(), bit);
            }
            Some(Damage::Misdirected(to)) => {
                let to = aim(to, bio.len(), self.cache.size());
                self.perform(&mut bio.reborrow().at(to), submitted);
            }
            Some(Damage::Stale) => self.read_durable(bio),
        }
        Ok(())
    }

    fn perform_part(&mut self, bio: &mut Bio<'_>, done: Sectors, submitted: Submitted) {
        if bio.op() != Op::Flush && !done.is_zero() {
            self.perform(&mut bio.part(Sectors::ZERO, done.min(bio.len())), submitted);
        }
    }

    fn read_durable(&self, bio: &mut Bio<'_>) {
        let sectors = bio.sector.0..;
        for (sector, bytes) in sectors.zip(bio.buffer().chunks_exact_mut(512)) {
            bytes.copy_from_slice(self.cache.durable(Sector(sector)));
        }
    }

    fn perform(&mut self, bio: &mut Bio<'_>, submitted: Submitted) {
        if bio.op() == Op::Flush || bio.flags.preflush {
            self.cache.flush(submitted.cache);
            self.note(|disk| Entry::Flush { disk, covers: submitted.journal });
        }
        let (sector, len, Flags { fua, preflush, .. }) = (bio.sector, bio.len(), bio.flags);
        let bytes = match bio.op() {
            Op::Read => return bio.buffer().copy_from_slice(self.cache.read(sector, len)),
            Op::Flush => return,
            Op::Write => Bytes::Given(bio.data()),
            Op::Discard | Op::WriteZeroes | Op::SecureErase => Bytes::Zeros(len),
        };
        self.note(|disk| {
            let data = match &bytes {
                Bytes::Given(bytes) => (*bytes).into(),
                Bytes::Zeros(len) => vec![0; len.bytes() as usize].into(),
            };
            let issued = submitted.journal;
            Entry::Write(Write { disk, sector: sector.0, data, fua, preflush, issued })
        });
        self.cache.write(sector, bytes, fua);
    }

    fn note(&self, entry: impl FnOnce(u32) -> Entry) {
        if let Some(journal) = &self.journal {
            journal.push(entry(self.minor));
        }
    }
}

impl Counts {
    fn add(&mut self, op: Op) {
        let count = match op {
            Op::Read => &mut self.reads,
            Op::Write => &mut self.writes,
            Op::Flush => &mut self.flushes,
            Op::Discard => &mut self.discards,
            Op::WriteZeroes => &mut self.write_zeroes,
            Op::SecureErase => &mut self.secure_erases,
        };
        *count += 1;
    }
}
