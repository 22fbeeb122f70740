//! The target type: what the core asks of a set.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use sim_core::{
    Area, Args, Bio, BlkError, BoxFuture, CtrError, DevNumber, Errno, Flat, Limits, Mapped, Op,
    OpenDevice, Profile, Refusal, Reply, Sector, Sectors, Spots, StatusKind, StatusWriter, Target,
    TargetType, reply,
};

use super::RaidSet;
use super::load::{Begins, Surroundings, candidates, load};
use crate::lines;
use crate::lines::raid::{Family, JournalMode, Kind, Line, Status};
use crate::parts::lock::lock;
use crate::raid::layout::Layout;
use crate::raid::start::{Candidate, Found};

/// Several legs as one device that outlives some of them.
pub struct Raid {
    line: Line<Arc<OpenDevice>>,
    around: Surroundings,
    /// As the superblocks had it when the table was loaded.
    loaded: OnceLock<Arc<RaidSet>>,
    /// As they had it at the first resume: another table may have been in use until then.
    running: OnceLock<Arc<RaidSet>>,
    /// What was found when the table was loaded, until the first resume.
    first: Mutex<Option<First>>,
}

/// What matters at the first resume.
struct First {
    found: Vec<Candidate>,
    begins: Begins,
}

impl TargetType for Raid {
    const NAME: &'static str = "raid";
    const VERSION: [u32; 3] = [1, 15, 1];

    fn ctr(args: &mut Args<'_>) -> Result<Raid, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let around = Surroundings {
            len: args.target_len(),
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log(),
            access: args.access(),
        };
        let (loaded, running) = (OnceLock::new(), OnceLock::new());
        Ok(Raid { line, around, loaded, running, first: Mutex::default() })
    }
}

impl Target for Raid {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(async {
            let found = candidates(&self.line).await;
            let mut log = Vec::new();
            let loaded = load(&self.line, &self.around, &found, &mut log).await;
            log.iter().for_each(|line| self.around.log.line(line));
            let (set, begins) = loaded?;
            *lock(&self.first) = Some(First { found, begins });
            let _only_once = self.loaded.set(Arc::new(set));
            Ok(())
        })
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        if let Layout::Raid0 { .. } = set.layout {
            return self.map_raid0(bio);
        }
        match bio.op() {
            Op::Write | Op::Discard if set.is_read_only => Mapped::Completed(Err(BlkError::Io)),
            _ => set.carry_out(bio),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.info()),
            StatusKind::Table => {
                let word = |device: &Arc<OpenDevice>| {
                    lines::device_word(&Area::whole(device.clone()), out)
                };
                let mut line = self.line.try_map(word)?;
                self.show_as_it_is(&mut line);
                write!(out, "{line}")
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        write!(out, "{}", self.info().measured())?;
        if self.line.kind.family().parities() > 0 {
            // Of none, it is the mode of one that says nothing.
            let mode = match self.line.params.journal_mode {
                Some(JournalMode::WriteBack) => "writeback",
                Some(JournalMode::WriteThrough) | None => "writethrough",
            };
            write!(out, ",journal_dev_mode={mode}")?;
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        let Some(set) = self.running.get().or(self.loaded.get()) else { return };
        set.legs.iter().filter_map(|leg| leg.data.as_ref()).for_each(&mut *each);
        set.journal.iter().for_each(|log| each(log.area()));
    }

    fn profile(&self) -> Profile {
        let family = self.line.kind.family();
        let (is_raid0, has_parity) = (family == Family::Raid0, family.parities() > 0);
        Profile {
            // Whole stripes need no more than what is written.
            max_io_len: self.line.max_io_len().filter(|_| !has_parity),
            num_discard_bios: u32::from(!has_parity),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: is_raid0,
            max_discard_granularity: true,
            map_may_be_repeated: !is_raid0,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        let chunk = self.line.chunk;
        let bytes = |chunks: u64| {
            let bytes = chunk.0.checked_mul(chunks).and_then(|sectors| sectors.checked_mul(512));
            bytes.and_then(|bytes| u32::try_from(bytes).ok())
        };
        if !chunk.is_zero() {
            limits.io_min = bytes(1).unwrap_or(limits.io_min);
            let parities = self.line.kind.family().parities();
            limits.io_opt = bytes((self.line.legs.len() - parities) as u64).unwrap_or(0);
        }
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let set = self.set();
        match set.layout {
            Layout::Raid0 { .. } if offset.0 < set.len.0 => {
                let places = set.layout.places(offset);
                let place = places[0];
                let left = set.layout.run_end(offset) - offset;
                Flat::Device(set.data(place.leg), place.sector, left)
            }
            Layout::Raid0 { .. } => Flat::Error(Sectors(1)),
            Layout::Raid1 { .. } | Layout::Raid10(_) | Layout::Parity(_) => Flat::Opaque,
        }
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        self.set().spots(offset, out)
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.set().shown_from(below, sector))
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.set().take_message(words))
    }

    fn presuspend(&self) {
        self.set().end_background();
    }

    fn presuspend_undo(&self) {
        self.set().go_on();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.set().settle())
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let first = lock(&self.first).take();
            match first {
                _ if matches!(self.set().layout, Layout::Raid0 { .. }) => Ok(()),
                Some(first) => {
                    let begun = self.begin(&first).await;
                    if begun.is_err() {
                        *lock(&self.first) = Some(first);
                    }
                    begun
                }
                None => {
                    self.set().revive().await;
                    Ok(())
                }
            }
        })
    }

    fn resume(&self) {
        self.set().state().reopen();
        self.set().go_on();
    }
}

impl Raid {
    fn set(&self) -> &Arc<RaidSet> {
        let set = self.running.get().or(self.loaded.get());
        set.expect("a target is used when its metadata has been read")
    }

    /// Begins with what the superblocks have by now: while the table waited, another that was in use may
    /// have lost a leg, or moved data. (The kernel goes on with what it read when the table was loaded:
    /// it takes such a leg for one in sync.)
    async fn begin(&self, first: &First) -> Result<(), Refusal> {
        let found = candidates(&self.line).await;
        // A new set stays one: a raid0 that it is made of writes superblocks when it is suspended.
        let has_superblock =
            |candidate: &Candidate| matches!(candidate.found, Found::Superblock(_));
        let (set, begins) = match found == first.found || !first.found.iter().any(has_superblock) {
            true => (self.set().clone(), first.begins),
            false => self.load_again(&found).await?,
        };
        set.begin(begins).await?;
        let _only_once = self.running.set(set);
        // As md, which has begun then.
        self.around.events.raise();
        Ok(())
    }

    async fn load_again(&self, found: &[Candidate]) -> Result<(Arc<RaidSet>, Begins), Refusal> {
        // It has been said when the table was loaded.
        let mut log = Vec::new();
        let loaded = load(&self.line, &self.around, found, &mut log).await;
        let (set, begins) =
            loaded.map_err(|error| Refusal::because(error.errno, error.to_string()))?;
        if set.layout != self.set().layout {
            let why = "the set is another than when the table was loaded: load it again";
            return Err(Refusal::because(Errno::IO, why));
        }
        Ok((Arc::new(set), begins))
    }

    fn map_raid0<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        match bio.op() {
            Op::Read | Op::Write | Op::Discard if bio.sector.0 < set.len.0 => {
                let place = set.layout.places(bio.sector)[0];
                Mapped::Remapped(set.data(place.leg), place.sector, bio)
            }
            _ => Mapped::Completed(Err(BlkError::NotSupported)),
        }
    }

    /// Puts what the superblocks say in the place of what the line asked for, as the kernel does.
    fn show_as_it_is(&self, line: &mut Line<String>) {
        if self.loaded.get().is_none() {
            return;
        }
        let set = self.set();
        let waits = set.reshape.as_ref().map(|reshape| reshape.waits);
        let old = set.metadata.geometry().unwrap_or(set.geometry);
        if let (Some(false), Some(kind)) = (waits, Kind::of(old.level, old.layout)) {
            line.kind = kind;
        }
        if let Layout::Parity(parity) = &set.layout {
            line.chunk = parity.chunk();
            // As the kernel, which sets it when it takes the table in.
            let is_taken = waits.is_some() && lock(&self.first).is_none();
            let delta = &mut line.params.delta_disks;
            *delta = delta.map(|delta| if delta < 0 && !is_taken { 0 } else { delta });
        }
        if let Layout::Raid10(raid10) = &set.layout {
            line.chunk = raid10.chunk();
            let copies = &mut line.params.raid10_copies;
            *copies = copies.map(|_| raid10.copies());
            let moving = set.reshape.as_ref().filter(|_| set.state().moves.position.is_some());
            let now = moving.and_then(|reshape| reshape.moving.old.raid10()).unwrap_or(raid10);
            let format = &mut line.params.raid10_format;
            *format = format.map(|_| now.format());
        }
    }

    fn info(&self) -> Status {
        let has_begun = lock(&self.first).is_none();
        self.set().info(has_begun, self.line.legs.len())
    }
}
