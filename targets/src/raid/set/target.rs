//! The target type: what the core asks of a set.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sim_core::{
    Area, Args, Bio, BlkError, BoxFuture, CtrError, Flat, Limits, Mapped, Op, OpenDevice, Profile,
    Refusal, Reply, Sector, Sectors, StatusKind, StatusWriter, Target, TargetType, reply,
};

use super::RaidSet;
use super::load::{Surroundings, load};
use crate::lines;
use crate::lines::raid::{Family, Kind, Line, Status};
use crate::parts::lock::lock;
use crate::raid::layout::Layout;
use crate::raid::start::BitmapStart;

/// Several legs as one device that outlives some of them.
pub struct Raid {
    line: Line<Arc<OpenDevice>>,
    around: Surroundings,
    /// None until the superblocks have been read.
    set: OnceLock<Arc<RaidSet>>,
    /// What is with the bitmap, until the first resume.
    first: std::sync::Mutex<Option<BitmapStart>>,
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
        };
        Ok(Raid { line, around, set: OnceLock::new(), first: std::sync::Mutex::default() })
    }
}

impl Target for Raid {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(async {
            let (set, first) = load(&self.line, &self.around).await?;
            *lock(&self.first) = Some(first);
            let _only_once = self.set.set(Arc::new(set));
            Ok(())
        })
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        if let Layout::Raid0 { .. } = set.layout {
            return self.map_raid0(bio);
        }
        set.carry_out(bio)
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

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        let Some(set) = self.set.get() else { return };
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
            let set = self.set();
            let first = lock(&self.first).take();
            if let Layout::Raid0 { .. } = set.layout {
                return Ok(());
            }
            match first {
                Some(first) => {
                    let begun = set.begin(first).await;
                    match begun.is_err() {
                        true => *lock(&self.first) = Some(first),
                        // As md, which has begun then.
                        false => set.events.raise(),
                    }
                    begun
                }
                None => {
                    set.revive().await;
                    Ok(())
                }
            }
        })
    }

    fn resume(&self) {
        self.set().go_on();
    }
}

impl Raid {
    fn set(&self) -> &Arc<RaidSet> {
        self.set.get().expect("a target is used when its metadata has been read")
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
        let Some(set) = self.set.get() else { return };
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
