//! `delay <dev> <start> <ms> [<write dev> <start> <ms> [<flush dev> <start> <ms>]]`: holds each bio
//! for some time before it is sent on. Without a second place, writes do as reads; without a third,
//! flushes do as writes.
//!
//! A suspend lets all go that are held, at once. The status counts those held: reads, writes and
//! discards, flushes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::select;
use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Discarded, Flat, Mapped, Op, OpenDevice, Profile,
    Runtime, Sector, Sectors, Signal, Spots, StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines::delay::{self, Line, Status};
use crate::lines::{self, Place};

/// A device that is slow.
pub struct Delay {
    read: Class,
    write: Class,
    flush: Class,
    /// How many places the line has.
    places: u8,
    /// Bios are held: not while the device is suspended.
    holds: AtomicBool,
    /// How often all were let go.
    released: AtomicU64,
    let_go: Signal,
    runtime: Arc<dyn Runtime>,
}

/// What becomes of one kind of bio.
struct Class {
    area: Area,
    delay_ms: u32,
    /// How many are held.
    held: AtomicU32,
}

impl TargetType for Delay {
    const NAME: &'static str = "delay";
    const VERSION: [u32; 3] = [1, 4, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Delay, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let len = args.target_len();
        let class = |class: &delay::Class<Arc<OpenDevice>>| Class {
            area: Area::new(class.place.device.clone(), class.place.start, len),
            delay_ms: class.delay_ms,
            held: AtomicU32::new(0),
        };
        let (write, flush, places) = match &line.write {
            None => (&line.read, &line.read, 1),
            Some((write, None)) => (write, write, 2),
            Some((write, Some(flush))) => (write, flush, 3),
        };
        Ok(Delay {
            read: class(&line.read),
            write: class(write),
            flush: class(flush),
            places,
            holds: AtomicBool::new(true),
            released: AtomicU64::new(0),
            let_go: Signal::default(),
            runtime: args.runtime().clone(),
        })
    }
}

impl Target for Delay {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let class = self.class(bio.op());
        match class.delay_ms {
            0 => Mapped::Remapped(&class.area, bio.sector, bio),
            _ => Mapped::InFlight(Box::pin(self.send_later(class, bio))),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => {
                let [reads, writes, flushes] =
                    [&self.read, &self.write, &self.flush].map(|class| class.held.load(SeqCst));
                write!(out, "{}", Status { reads, writes, flushes })
            }
            StatusKind::Table => {
                let class = |class: &Class| {
                    let device = lines::device_word(&class.area, out)?;
                    let place = Place { device, start: class.area.start };
                    Ok(delay::Class { place, delay_ms: class.delay_ms })
                };
                let flush = if self.places > 2 { Some(class(&self.flush)?) } else { None };
                let write = if self.places > 1 { Some((class(&self.write)?, flush)) } else { None };
                let read = class(&self.read)?;
                write!(out, "{}", Line { read, write })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        [&self.read, &self.write, &self.flush].iter().for_each(|class| each(&class.area));
    }

    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.write.area);
    }

    fn profile(&self) -> Profile {
        let [read, write] = [&self.read, &self.write].map(|Class { area, .. }| area);
        let is_one_place = (read.number(), read.start) == (write.number(), write.start);
        Profile {
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: false,
            discarded: if is_one_place { Discarded::AsBelow } else { Discarded::Anything },
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn flatten(&self, op: Op, offset: Sector) -> Flat<'_> {
        let Class { area, delay_ms, .. } = self.class(op);
        match delay_ms {
            0 => Flat::Device(area, offset, area.size() - offset.from_start()),
            _ => Flat::Opaque,
        }
    }

    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        each(&self.write.area, offset);
        Some(self.write.area.size() - offset.from_start())
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let (read, write) = (&self.read.area, &self.write.area);
        if (read.number(), read.start) == (write.number(), write.start) {
            out.at(read, offset, "data");
        } else {
            out.at(read, offset, "what is read");
            out.at(write, offset, "what is written");
        }
        Some(read.size() - offset.from_start())
    }

    fn presuspend(&self) {
        // In this order: a bio that still finds that bios are held sees that they were let go.
        self.holds.store(false, SeqCst);
        self.released.fetch_add(1, SeqCst);
        self.let_go.notify();
    }

    fn presuspend_undo(&self) {
        self.resume();
    }

    fn resume(&self) {
        self.holds.store(true, SeqCst);
    }
}

impl Delay {
    fn class(&self, op: Op) -> &Class {
        match op {
            Op::Read => &self.read,
            Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => &self.write,
            Op::Flush => &self.flush,
        }
    }

    async fn send_later(&self, class: &Class, bio: Bio<'_>) -> BlkResult {
        let released = self.released.load(SeqCst);
        if self.holds.load(SeqCst) {
            let _held = Held::new(&class.held);
            let time = Duration::from_millis(class.delay_ms.into());
            let let_go = || (self.released.load(SeqCst) != released).then_some(());
            let let_go = Box::pin(self.let_go.until(let_go));
            select(self.runtime.sleep(time), let_go).await;
        }
        class.area.submit(bio.sector, bio).await
    }
}

/// A bio that is counted as held until this is dropped.
struct Held<'a>(&'a AtomicU32);

impl Held<'_> {
    fn new(count: &AtomicU32) -> Held<'_> {
        count.fetch_add(1, SeqCst);
        Held(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
