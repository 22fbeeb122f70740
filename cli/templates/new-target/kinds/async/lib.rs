//! `target-word <dev> <start> <ms>`: holds each bio for so many milliseconds before it is sent on.
//!
//! The message `delay <ms>` changes the time, also for bios that are held. A suspend lets all go. The
//! status counts those held.

#![forbid(unsafe_code)]

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::select;
use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Discarded, Errno, Mapped, Profile, Refusal, Reply,
    Runtime, Signal, StatusKind, StatusWriter, Target, TargetType, reply,
};

/// A device that is slow.
pub struct TargetName {
    area: Area,
    delay_ms: AtomicU32,
    /// Bios are held: from a resume on, until a suspend is asked for.
    holds: AtomicBool,
    /// Told after `delay_ms` or `holds` has changed.
    changed: Signal,
    held: AtomicU32,
    /// Whoever gives the time. In the tests it is virtual: a minute is over at once.
    runtime: Arc<dyn Runtime>,
}

impl TargetType for TargetName {
    const NAME: &'static str = "target-word";
    const VERSION: [u32; 3] = [1, 0, 0];
    const EXAMPLE: &'static str = "0 512 target-word a table-words";
    const MESSAGES: &'static [&'static str] = &["delay 0", "delay 7"];

    fn ctr(args: &mut Args<'_>) -> Result<TargetName, CtrError> {
        args.exactly(3, "Invalid argument count")?;
        let (device, start) = (args.next("Missing device")?, args.next("Missing start")?);
        let delay_ms = args.next("Missing delay")?.u32("Invalid delay")?;
        let (start, len) = (start.sector("Invalid device sector")?, args.target_len());
        Ok(TargetName {
            area: args.area(device, start, len, "Device lookup failed")?,
            delay_ms: AtomicU32::new(delay_ms),
            holds: AtomicBool::new(true),
            changed: Signal::default(),
            held: AtomicU32::new(0),
            runtime: args.runtime().clone(),
        })
    }
}

impl TargetName {
    async fn run(&self, bio: Bio<'_>) -> BlkResult {
        self.hold().await;
        self.area.submit(bio.sector, bio).await
    }

    /// Waits for as long as a bio is held.
    async fn hold(&self) {
        // A guard, and no count at the end: this future may be dropped at its await.
        let _held = Held::new(&self.held);
        let began = self.runtime.now();
        while self.holds.load(SeqCst) {
            let delay_ms = self.delay_ms.load(SeqCst);
            let until = began + Duration::from_millis(delay_ms.into());
            let Some(left) = until.checked_sub(self.runtime.now()).filter(|left| !left.is_zero())
            else {
                return;
            };
            // A signal has no value: what is waited for is asked of the state, each time it is told.
            let is_other = || !self.holds.load(SeqCst) || self.delay_ms.load(SeqCst) != delay_ms;
            let change = pin!(self.changed.until(|| is_other().then_some(())));
            select(self.runtime.sleep(left), change).await;
        }
    }

    fn set_holds(&self, holds: bool) {
        self.holds.store(holds, SeqCst);
        self.changed.notify();
    }
}

/// Counts a bio for as long as it is held.
struct Held<'a>(&'a AtomicU32);

impl Held<'_> {
    fn new(held: &AtomicU32) -> Held<'_> {
        held.fetch_add(1, SeqCst);
        Held(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Target for TargetName {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    /// All that can be sent on. A flush is held too: it is not sent past the target.
    fn profile(&self) -> Profile {
        Profile { flush_bypasses_map: false, discarded: Discarded::AsBelow, ..Profile::REMAP }
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        let delay_ms = match words {
            ["delay", delay_ms] => delay_ms.parse().ok(),
            _ => None,
        };
        let Some(delay_ms) = delay_ms else {
            let why = "expected the message delay <ms>";
            return reply(Err(Refusal::because(Errno::INVAL, why)));
        };
        self.delay_ms.store(delay_ms, SeqCst);
        self.changed.notify();
        reply(Ok(None))
    }

    /// The device is not suspended before all bios have ended: those held must not keep it waiting.
    fn presuspend(&self) {
        self.set_holds(false);
    }

    fn presuspend_undo(&self) {
        self.set_holds(true);
    }

    fn resume(&self) {
        self.set_holds(true);
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.held.load(SeqCst)),
            StatusKind::Table => {
                out.device(&self.area)?;
                write!(out, " {} {}", self.area.start, self.delay_ms.load(SeqCst))
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }
}
