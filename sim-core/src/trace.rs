//! What passes through a device, bio by bio, for whoever follows it: the kernel's `blktrace`.
//!
//! A tap is put on a device for what its users send there, and on where its tables have devices below
//! open for what they send there. A tap turns the flattened maps off that lead past it; where there is
//! none, nothing is asked but whether there is one.
//!
//! What nobody reads in time is left out and counted: no bio waits for a reader.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Bio, BlkError, BlkResult, BlockDevice, DevNumber, Flags, MappedDevice, OpenDevice, Runtime,
    Sector, Sectors, Signal, Struck,
};

/// How many steps are kept that are not read yet.
pub const MAX_TRACED: usize = 1 << 16;

/// The most steps that one answer has.
const PAGE: usize = 2048;

/// One step of a bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Its number among all steps of the trace, from 1; those that were left out have one, too.
    pub seq: u64,
    /// When, in nanoseconds since the trace began.
    pub at_ns: u64,
    /// The processor that it happened on.
    pub cpu: u32,
    /// The device.
    pub dev: DevNumber,
    /// What happened.
    pub step: Step,
    /// What the bio asks for.
    pub op: Struck,
    /// It asks for a flush before it.
    pub preflush: bool,
    /// Nobody waits for what it reads.
    pub readahead: bool,
    /// Its first sector on the device.
    pub sector: Sector,
    /// Its length; zero of a flush.
    pub len: Sectors,
}

/// What happens to a bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It came to the device.
    Queued,
    /// It comes to the device because a table of another one sends it on.
    Remapped {
        /// The other device.
        from: DevNumber,
        /// The sector that it had there.
        sector: Sector,
    },
    /// It ended.
    Completed(Option<BlkError>),
}

/// What was traced since the last answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedPage {
    /// In their order, as far as it fits.
    pub steps: Vec<Traced>,
    /// How many steps of the trace were left out so far, as nobody had read those before. Where in it these
    /// were, the numbers of the others tell.
    pub dropped: u64,
    /// The device is gone, and nothing more comes.
    pub is_over: bool,
}

/// A trace that somebody reads.
pub(crate) struct Trace {
    runtime: Arc<dyn Runtime>,
    begun: Duration,
    kept: Mutex<Kept>,
    waiting: Signal,
}

#[derive(Default)]
struct Kept {
    seq: u64,
    steps: VecDeque<Traced>,
    dropped: u64,
    is_over: bool,
}

/// A trace, and which device is meant by what passes here.
pub(crate) struct Tap {
    trace: Arc<Trace>,
    dev: DevNumber,
    /// The device whose tables send bios by here, where it is they.
    above: Option<DevNumber>,
}

/// Where a tap is put; empty most of the time, which costs whoever asks one look.
#[derive(Default)]
pub(crate) struct TapSlot {
    is_on: AtomicBool,
    tap: Mutex<Option<Arc<Tap>>>,
}

impl Trace {
    fn new(runtime: Arc<dyn Runtime>) -> Trace {
        let begun = runtime.now();
        Trace { runtime, begun, kept: Mutex::default(), waiting: Signal::default() }
    }

    fn note(&self, dev: DevNumber, step: Step, bio: &Shape) {
        let cpu = self.runtime.processor();
        let mut kept = lock(&self.kept);
        // Within the lock, so that no step is before the one that was noted before it.
        let at_ns = self.runtime.now().saturating_sub(self.begun).as_nanos() as u64;
        let Shape { op, flags: Flags { preflush, readahead, .. }, sector, len } = *bio;
        kept.push(Traced { seq: 0, at_ns, cpu, dev, step, op, preflush, readahead, sector, len });
        let is_first = kept.steps.len() == 1;
        drop(kept);
        if is_first {
            self.waiting.notify();
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn end(&self) {
        lock(&self.kept).is_over = true;
        self.waiting.notify();
    }

    async fn next(&self) -> TracedPage {
        self.waiting.until(|| lock(&self.kept).page()).await
    }
}

impl Kept {
    /// Numbers a step, and keeps it where there is room.
    fn push(&mut self, step: Traced) {
        self.seq += 1;
        match self.steps.len() < MAX_TRACED {
            true => self.steps.push_back(Traced { seq: self.seq, ..step }),
            false => self.dropped += 1,
        }
    }

    fn page(&mut self) -> Option<TracedPage> {
        if self.steps.is_empty() && !self.is_over {
            return None;
        }
        let steps: Vec<Traced> = self.steps.drain(..self.steps.len().min(PAGE)).collect();
        let is_over = self.is_over && self.steps.is_empty();
        Some(TracedPage { steps, dropped: self.dropped, is_over })
    }
}

/// What is told of a bio.
struct Shape {
    op: Struck,
    flags: Flags,
    sector: Sector,
    len: Sectors,
}

impl Shape {
    fn of(bio: &Bio<'_>) -> Shape {
        let (flags, sector, len) = (bio.flags, bio.sector, bio.len());
        Shape { op: Struck::of(bio.op(), flags.fua), flags, sector, len }
    }
}

impl Tap {
    /// Sends a bio on by `send`, and notes that it came and how it ended.
    pub(crate) async fn follow<'a, F>(
        &self,
        bio: Bio<'a>,
        send: impl FnOnce(Bio<'a>) -> F,
    ) -> BlkResult
    where
        F: Future<Output = BlkResult>,
    {
        let shape = Shape::of(&bio);
        self.trace.note(self.dev, Step::Queued, &shape);
        let end = send(bio).await;
        self.trace.note(self.dev, Step::Completed(end.err()), &shape);
        end
    }

    /// Notes that a table is about to send a bio here, which had another sector on its device.
    pub(crate) fn remapped(&self, bio: &Bio<'_>, to: Sector, sector: Sector) {
        let Some(from) = self.above else { return };
        let shape = Shape { sector: to, ..Shape::of(bio) };
        self.trace.note(self.dev, Step::Remapped { from, sector }, &shape);
    }
}

impl TapSlot {
    /// Tells whether there is a tap.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Returns the tap.
    pub(crate) fn tap(&self) -> Option<Arc<Tap>> {
        if self.is_on() { lock(&self.tap).clone() } else { None }
    }

    /// Puts a tap where there is none; tells whether it could.
    fn put(&self, tap: Tap) -> bool {
        let mut slot = lock(&self.tap);
        if slot.is_some() {
            return false;
        }
        *slot = Some(Arc::new(tap));
        self.is_on.store(true, Relaxed);
        true
    }

    fn take(&self) {
        let mut slot = lock(&self.tap);
        *slot = None;
        self.is_on.store(false, Relaxed);
    }

    /// Says that nothing more comes by the tap, if there is one.
    pub(crate) fn end(&self) {
        self.tap().iter().for_each(|tap| tap.trace.end());
    }
}

/// A trace that runs until this goes.
pub struct Tracing {
    trace: Arc<Trace>,
    device: Weak<MappedDevice>,
    /// The devices whose tables are followed, each before those that it maps onto.
    above: Vec<Weak<MappedDevice>>,
    below: Vec<Weak<OpenDevice>>,
}

impl Tracing {
    /// Begins to trace what is sent to a device; and what its tables send below, down to the images. What
    /// tables that come later map onto is not followed. The error names a device that is traced already.
    pub(crate) fn begin(
        device: &Arc<MappedDevice>,
        runtime: Arc<dyn Runtime>,
        deep: bool,
    ) -> Result<Tracing, DevNumber> {
        let trace = Arc::new(Trace::new(runtime));
        let tap = |dev, above| Tap { trace: trace.clone(), dev, above };
        if !device.tap().put(tap(device.number(), None)) {
            return Err(device.number());
        }
        let me = Arc::downgrade(device);
        let (above, below) = (Vec::new(), Vec::new());
        // From here on, what was put is taken away where something is in the way.
        let mut tracing = Tracing { trace: trace.clone(), device: me, above, below };
        if deep {
            let mut next = vec![device.clone()];
            let mut seen = vec![device.minor()];
            while let Some(upper) = next.pop() {
                tracing.above.push(Arc::downgrade(&upper));
                for open in upper.live().iter().flat_map(|table| table.devices()) {
                    if !open.tap().put(tap(open.number(), Some(upper.number()))) {
                        return Err(open.number());
                    }
                    tracing.below.push(Arc::downgrade(open));
                    let lower = MappedDevice::of(&**open.device()).and_then(MappedDevice::shared);
                    if let Some(lower) = lower.filter(|lower| !seen.contains(&lower.minor())) {
                        seen.push(lower.minor());
                        next.push(lower);
                    }
                }
            }
        }
        tracing.fold_anew();
        Ok(tracing)
    }

    /// Waits for what passes, and returns as much of it as fits.
    pub async fn next(&self) -> TracedPage {
        self.trace.next().await
    }

    /// Has the maps folded that the taps are seen by, or are not.
    fn fold_anew(&self) {
        let devices = || self.above.iter().chain([&self.device]).filter_map(Weak::upgrade);
        devices().for_each(|device| device.unfold());
        devices().for_each(|device| device.fold_again());
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        self.device.upgrade().iter().for_each(|device| device.tap().take());
        self.below.iter().filter_map(Weak::upgrade).for_each(|open| open.tap().take());
        self.fold_anew();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Traced {
        Traced {
            seq: 0,
            at_ns: 0,
            cpu: 0,
            dev: DevNumber::mapped(0),
            step: Step::Queued,
            op: Struck::Read,
            preflush: false,
            readahead: false,
            sector: Sector(0),
            len: Sectors(8),
        }
    }

    #[test]
    fn what_is_not_read_in_time_is_left_out_and_counted() {
        let mut kept = Kept::default();
        let most = MAX_TRACED as u64;
        (0..most + 10).for_each(|_| kept.push(step()));
        assert_eq!(kept.steps.len(), MAX_TRACED);
        let page = kept.page().expect("there is a page");
        assert_eq!((page.steps.len(), page.steps[0].seq, page.dropped), (PAGE, 1, 10));
        // There is room again: the numbers tell where some are missing.
        kept.push(step());
        let mut seqs = Vec::new();
        while let Some(page) = kept.page() {
            seqs.extend(page.steps.iter().map(|step| step.seq));
        }
        assert_eq!(seqs[seqs.len() - 2..], [most, most + 11]);
        kept.is_over = true;
        let end = kept.page().expect("it says that it is over");
        assert!(end.is_over && end.steps.is_empty() && end.dropped == 10);
    }
}
