//! The states that a power cut can leave, made from the record of one run.
//!
//! At any point of the record a disk holds what is durable, and of each sector write since then
//! one or the other: the states differ from what is durable in a few sectors. These are written,
//! looked at, and undone; no image is ever copied.

pub(crate) mod legal;

use std::fmt;
use std::sync::Arc;

use crate::SECTOR;
use crate::disk::journal::{Entry, Write};
use crate::{Event, Legal, Rng, SimDisk, story};
use sim_core::Sector;

/// Which of the writes that are not durable the power cut has left. Writes are counted from 0
/// among those that are not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The first so many of those that ended.
    Prefix(usize),
    /// All that ended but this one.
    Drop(usize),
    /// All that ended, and of this one, ended or under way, the first so many sectors.
    Torn(usize, usize),
    /// All that ended, and of this one, ended or under way, all but the first so many sectors.
    TornTail(usize, usize),
    /// Each sector or not, by this seed.
    Subset(u64),
    /// Each sector or not, in any order, by this seed.
    Reorder(u64),
}

/// A power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// After so many lines of the record.
    pub at: usize,
    /// What it has left.
    pub cut: Cut,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power cut after {} steps, ", self.at)?;
        match self.cut {
            Cut::Prefix(writes) => write!(f, "with the first {writes} volatile writes"),
            Cut::Drop(write) => write!(f, "without volatile write {write}"),
            Cut::Torn(write, len) => write!(f, "with {len} sectors of volatile write {write}"),
            Cut::TornTail(write, len) => {
                write!(f, "without the first {len} sectors of volatile write {write}")
            }
            Cut::Subset(seed) => write!(f, "with random sectors {seed}"),
            Cut::Reorder(seed) => write!(f, "with reordered sectors {seed}"),
        }
    }
}

/// Takes notice of what happens to the bios of the devices under test.
pub trait Witness {
    /// Takes notice of an event.
    fn happened(&mut self, device: u32, event: &Event);
}

/// What one device may hold, whatever its number.
impl Witness for Legal {
    fn happened(&mut self, _device: u32, event: &Event) {
        self.apply(event);
    }
}

/// What several devices may hold, by their numbers.
impl Witness for Vec<Legal> {
    fn happened(&mut self, device: u32, event: &Event) {
        self[device as usize].apply(event);
    }
}

/// How many states to look at.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The most states of the listed kinds at one point of the record, taken evenly.
    pub listed: usize,
    /// Random subsets at each point, and as many reorderings.
    pub random: usize,
    /// Chooses the random ones.
    pub seed: u64,
}

/// One sector of a write that is not durable.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Its line in the record.
    line: usize,
    /// Its sector, from the write's first.
    part: usize,
}

/// Walks along a record and makes the states.
pub struct Explorer<'a> {
    disks: &'a [Arc<SimDisk>],
    record: &'a [Entry],
    /// The first point that is looked at.
    from: usize,
    /// Writes by the point from which their sectors may be on the medium, then by their lines.
    by_issue: Vec<usize>,
    /// What may be there or not, in the order of the record.
    slots: Vec<Slot>,
}

impl<'a> Explorer<'a> {
    /// Takes disks with the content that they had when the record began.
    pub fn new(disks: &'a [Arc<SimDisk>], record: &'a [Entry]) -> Explorer<'a> {
        let writes = record.iter().enumerate();
        let mut by_issue: Vec<usize> = writes
            .filter_map(|(line, entry)| matches!(entry, Entry::Write(_)).then_some(line))
            .collect();
        by_issue.sort_by_key(|line| (write(record, *line).issued, *line));
        Explorer { disks, record, from: 0, by_issue, slots: Vec::new() }
    }

    /// Looks at no point of the record before this one: what comes first is only carried out.
    #[must_use]
    pub fn from(mut self, point: usize) -> Explorer<'a> {
        self.from = point;
        self
    }

    /// Calls `check` with every state of the plan, and `legal` as it was at the power cut; the
    /// disks have the state meanwhile, and their first content again afterwards. Returns the
    /// number of states.
    ///
    /// # Errors
    /// The first that `check` gives, with the power cut.
    pub fn run<L: Witness>(
        mut self,
        plan: Plan,
        legal: &mut L,
        mut check: impl FnMut(Crash, &L) -> Result<(), String>,
    ) -> Result<u64, String> {
        let begin: Vec<usize> = self.disks.iter().map(|disk| disk.checkpoint()).collect();
        let mut states = 0;
        let (mut rng, mut issued) = (Rng::new(plan.seed), 0);
        let mut result = Ok(());
        for at in 0..=self.record.len() {
            match at.checked_sub(1).map(|line| (line, &self.record[line])) {
                Some((_, Entry::Event { device, event })) => legal.happened(*device, event),
                Some((line, Entry::Write(write))) if write.fua => self.make_durable(line, write),
                Some((_, Entry::Flush { disk, covers })) => self.flush(*disk, *covers),
                Some((_, Entry::Write(_))) | None => {}
            }
            while let Some(line) = self.by_issue.get(issued)
                && write(self.record, *line).issued <= at
            {
                issued += 1;
                self.issue(*line);
            }
            let cuts = if at < self.from { Vec::new() } else { self.cuts(at, plan, &mut rng) };
            for cut in cuts {
                let crash = Crash { at, cut };
                states += 1;
                result = self.state(crash, legal, &mut check);
                if result.is_err() {
                    break;
                }
            }
            if result.is_err() {
                break;
            }
        }
        self.disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
        result.map(|()| states)
    }

    fn issue(&mut self, line: usize) {
        let parts = write(self.record, line).data.len() / SECTOR;
        let at = self.slots.partition_point(|slot| slot.line < line);
        self.slots.splice(at..at, (0..parts).map(|part| Slot { line, part }));
    }

    /// Takes over a write that went past the cache; what the cache had for its sectors goes.
    fn make_durable(&mut self, line: usize, durable: &Write) {
        let sectors = durable.sector..durable.sector + (durable.data.len() / SECTOR) as u64;
        let record = self.record;
        self.slots.retain(|slot| {
            let own = write(record, slot.line);
            let same =
                own.disk == durable.disk && sectors.contains(&(own.sector + slot.part as u64));
            slot.line > line || !same
        });
        self.disks[durable.disk as usize].fill(Sector(durable.sector), &durable.data);
    }

    fn flush(&mut self, disk: u32, covers: usize) {
        let record = self.record;
        let covered = |slot: &Slot| slot.line < covers && write(record, slot.line).disk == disk;
        let (durable, rest): (Vec<Slot>, Vec<Slot>) = self.slots.iter().partition(|s| covered(s));
        durable.into_iter().for_each(|slot| self.put(slot));
        self.slots = rest;
    }

    fn put(&self, slot: Slot) {
        let Write { disk, sector, data, .. } = write(self.record, slot.line);
        let bytes = &data[slot.part * SECTOR..][..SECTOR];
        self.disks[*disk as usize].fill(Sector(sector + slot.part as u64), bytes);
    }

    /// Lists the cuts at a point: the empty one and the full one are among the prefixes.
    fn cuts(&self, at: usize, plan: Plan, rng: &mut Rng) -> Vec<Cut> {
        let mut lines: Vec<(usize, usize)> = Vec::new();
        for slot in &self.slots {
            match lines.last_mut() {
                Some((line, parts)) if *line == slot.line => *parts += 1,
                Some(_) | None => lines.push((slot.line, 1)),
            }
        }
        let ended = lines.iter().filter(|(line, _)| *line < at).count();
        let mut cuts: Vec<Cut> = (0..=ended).map(Cut::Prefix).collect();
        cuts.extend((0..ended.saturating_sub(1)).map(Cut::Drop));
        for (write, (_, parts)) in lines.iter().enumerate() {
            cuts.extend(
                (1..*parts).flat_map(|len| [Cut::Torn(write, len), Cut::TornTail(write, len)]),
            );
            if write >= ended {
                cuts.push(Cut::Torn(write, *parts));
            }
        }
        if cuts.len() > plan.listed {
            // The first and the last prefix always: nothing is left, and everything.
            let kept = [Cut::Prefix(0), Cut::Prefix(ended)];
            let step = cuts.len().div_ceil(plan.listed.max(1));
            let from = rng.below(step);
            let some = cuts.into_iter().skip(from).step_by(step);
            cuts = some.filter(|cut| !kept.contains(cut)).chain(kept).collect();
        }
        if self.slots.len() > 1 {
            for _ in 0..plan.random {
                cuts.extend([Cut::Subset(rng.number() >> 48), Cut::Reorder(rng.number() >> 48)]);
            }
        }
        cuts
    }

    fn state<L>(
        &self,
        crash: Crash,
        legal: &L,
        check: &mut impl FnMut(Crash, &L) -> Result<(), String>,
    ) -> Result<(), String> {
        let before: Vec<usize> = self.disks.iter().map(|disk| disk.checkpoint()).collect();
        let told = story::point();
        let chosen = self.chosen(crash);
        if story::is_told() {
            self.tell(crash, &chosen);
        }
        chosen.into_iter().for_each(|slot| self.put(slot));
        let result = check(crash, legal).map_err(|error| format!("{crash}: {error}"));
        if result.is_ok() {
            story::back_to(told);
        }
        self.disks.iter().zip(before).for_each(|(disk, at)| disk.rewind(at));
        result
    }

    /// Tells what the power cut has left of each write that was not durable.
    fn tell(&self, crash: Crash, chosen: &[Slot]) {
        let mut lines: Vec<usize> = self.slots.iter().map(|slot| slot.line).collect();
        lines.dedup();
        let left = |line: usize| {
            let mut parts: Vec<usize> =
                chosen.iter().filter(|slot| slot.line == line).map(|slot| slot.part).collect();
            parts.sort_unstable();
            (&self.record[line], parts)
        };
        story::power_cut(&crash, &lines.into_iter().map(left).collect::<Vec<_>>());
    }

    fn chosen(&self, Crash { at, cut }: Crash) -> Vec<Slot> {
        let mut lines: Vec<usize> = self.slots.iter().map(|slot| slot.line).collect();
        lines.dedup();
        let nth = |write: usize| lines.get(write).copied().unwrap_or(usize::MAX);
        let ended = |slot: &Slot| slot.line < at;
        let slots = self.slots.iter().copied();
        match cut {
            Cut::Prefix(writes) => {
                slots.filter(|slot| ended(slot) && slot.line < nth(writes)).collect()
            }
            Cut::Drop(write) => slots.filter(|s| ended(s) && s.line != nth(write)).collect(),
            Cut::Torn(write, len) => slots
                .filter(|slot| if slot.line == nth(write) { slot.part < len } else { ended(slot) })
                .collect(),
            Cut::TornTail(write, len) => slots
                .filter(|slot| if slot.line == nth(write) { slot.part >= len } else { ended(slot) })
                .collect(),
            Cut::Subset(seed) => self.subset(at, &mut Rng::new(seed)),
            Cut::Reorder(seed) => {
                let mut rng = Rng::new(seed);
                let mut chosen = self.subset(at, &mut rng);
                for last in (1..chosen.len()).rev() {
                    chosen.swap(last, rng.below(last + 1));
                }
                chosen
            }
        }
    }

    fn subset(&self, at: usize, rng: &mut Rng) -> Vec<Slot> {
        let candidate = |slot: &&Slot| {
            // A write under way whose flush comes first is there only where the flush has been.
            slot.line < at || !write(self.record, slot.line).preflush
        };
        self.slots.iter().filter(candidate).copied().filter(|_| rng.number() & 1 == 0).collect()
    }
}

fn write(record: &[Entry], line: usize) -> &Write {
    match &record[line] {
        Entry::Write(write) => write,
        Entry::Flush { .. } | Entry::Event { .. } => unreachable!("lines of writes alone are kept"),
    }
}
