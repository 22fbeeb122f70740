//! The legs with their log (`struct mirror_set`): what bios and background tasks share.

use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, MutexGuard};

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{
    Area, Args, Bio, BlkResult, Errno, Locked, OpenDevice, Runtime, Sector, Sectors, Signal,
    TargetEvents, TargetLog,
};

use super::line_limit::{LineLimits, Repeated};
use super::state::{Fault, Legs, State};
use crate::lines::Place;
use crate::lines::mirror::{Features, Line};
use crate::parts::background::Background;
use crate::parts::bits::{Bits, NoMemory};
use crate::parts::dirty_log::{self, DirtyLog, InitialSync, Keeper, Loaded};
use crate::parts::pace::Pace;

/// The legs, and everything that is known of them.
pub(super) struct MirrorSet {
    pub(super) legs: Vec<Area>,
    pub(super) log_device: Option<Area>,
    /// The part of that which has the log.
    pub(super) log_area: Option<Area>,
    pub(super) region: Sectors,
    pub(super) regions: u64,
    pub(super) len: Sectors,
    sync: InitialSync,
    pub(super) features: Features,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) events: TargetEvents,
    pub(super) log: TargetLog,
    log_log: TargetLog,
    /// Given whenever the state has changed in a way that somebody may wait for.
    pub(super) signal: Signal,
    pub(super) background: Background,
    pub(super) pace: Pace,
    pub(super) line_limits: LineLimits,
    /// Large writes that are being carried out on the spot.
    pub(super) large_writes: AtomicU32,
    state: Locked<State>,
}

impl MirrorSet {
    pub(super) fn new(line: &Line<Arc<OpenDevice>>, args: &Args<'_>) -> MirrorSet {
        let (len, region) = (args.target_len(), line.log.region);
        let regions = len.0.div_ceil(region.0);
        let leg = |leg: &Place<Arc<OpenDevice>>| Area::new(leg.device.clone(), leg.start, len);
        let log_device = line.log.disk.clone().map(Area::whole);
        let log_area = line.log.disk.clone().map(|device| {
            let len = dirty_log::bytes(regions, device.limits().logical_block());
            Area::new(device, Sector::ZERO, Sectors::in_bytes(len))
        });
        let log = match &log_device {
            None => DirtyLog::core(),
            Some(device) => DirtyLog::disk(regions, device.limits().logical_block()),
        };
        let sync = Bits::new(regions, line.log.sync == InitialSync::Everything);
        let state = State::new(line.legs.len(), sync, log);
        MirrorSet {
            legs: line.legs.iter().map(leg).collect(),
            log_device,
            log_area,
            region,
            regions,
            len,
            sync: line.log.sync,
            features: line.features,
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log().of_module("raid1"),
            log_log: args.log().of_module(dirty_log::LOG_MODULE),
            signal: Signal::default(),
            background: Background::default(),
            pace: Pace::default(),
            line_limits: LineLimits::default(),
            large_writes: AtomicU32::new(0),
            state: Locked::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Locks the state in a `drop`: nothing where a panic has left it half changed.
    pub(super) fn state_if_whole(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock_if_whole()
    }

    /// Returns the region that a sector lies in.
    pub(super) fn region_of(&self, sector: Sector) -> u64 {
        sector.0 / self.region.0
    }

    /// Returns the regions that a range touches.
    pub(super) fn regions_of(&self, range: &Range<Sector>) -> Range<u64> {
        self.region_of(range.start)..range.end.0.div_ceil(self.region.0)
    }

    /// Returns the sectors of a region; the last may be a short one.
    pub(super) fn range_of(&self, region: u64) -> Range<Sector> {
        let start = region * self.region.0;
        Sector(start)..Sector((start + self.region.0).min(self.len.0))
    }

    /// Returns the number of a leg's device, as the kernel's messages name it.
    pub(super) fn name(&self, leg: usize) -> impl std::fmt::Display + use<> {
        self.legs[leg].number()
    }

    /// Counts a fault of some legs (`fail_mirror`), and tells whether that is an event.
    #[must_use]
    pub(super) fn fail(&self, state: &mut State, legs: Legs, fault: Fault) -> bool {
        let mut event = false;
        for leg in (0..self.legs.len()).filter(|leg| legs >> leg & 1 == 1) {
            state.leg_failed = true;
            if !state.health[leg].add(fault) || !self.features.handle_errors {
                continue;
            }
            event = true;
            if leg != state.default {
                continue;
            }
            if !state.in_sync && !self.features.keep_log {
                let name = self.name(leg);
                self.log.line(format_args!(
                    "Primary mirror ({name}) failed while out-of-sync: Reads may fail."
                ));
                continue;
            }
            match state.valid() {
                Some(leg) => state.default = leg,
                None => self.log.line("All sides of mirror have failed."),
            }
        }
        event
    }

    /// Raises an event, if there was one.
    pub(super) fn raise_if(&self, event: bool) {
        if event {
            self.events.raise();
        }
    }

    /// Notices that all regions are in sync: what legs went through is forgotten.
    pub(super) fn look_whether_in_sync(&self) {
        {
            let mut state = self.state();
            if state.in_sync || !state.sync.is_full() {
                return;
            }
            state.in_sync = true;
            state.leg_failed = false;
            state.health.fill_with(Default::default);
        }
        self.events.raise();
    }

    /// Logs a line, unless there were many of its kind.
    pub(super) fn log_repeated(&self, line: Repeated, text: impl std::fmt::Display) {
        if self.line_limits.lets_through(line, self.runtime.now()) {
            self.log.line(text);
        }
    }

    /// Flushes all legs at once, and returns those that failed.
    pub(super) async fn flush_legs(&self) -> Legs {
        let legs = 0..self.legs.len();
        let mut flushes: FuturesUnordered<_> = legs.map(|leg| self.flush_leg(leg)).collect();
        let mut failed = 0;
        while let Some((leg, result)) = flushes.next().await {
            failed |= Legs::from(result.is_err()) << leg;
        }
        failed
    }

    async fn flush_leg(&self, leg: usize) -> (usize, BlkResult) {
        (leg, self.legs[leg].submit(Sector::ZERO, Bio::flush()).await)
    }

    /// Makes the tasks of the background end as soon as they can.
    pub(super) fn end_background(&self) {
        self.background.end();
        self.signal.notify();
    }

    /// Finds out what is in sync before the target comes into use, from the log if there is one on
    /// a device. As in the kernel, no fault of the log keeps it from that.
    pub(super) async fn load(&self) -> Result<(), Errno> {
        let well = match &self.log_device {
            None => true,
            Some(device) => {
                let (regions, log) = (self.regions, &self.log_log);
                let loaded = dirty_log::load(self, device, regions, self.sync, log).await;
                let Loaded { sync, well } = loaded.map_err(|NoMemory| Errno::NOMEM)?;
                self.state().sync = sync;
                well
            }
        };
        if !well {
            self.log.line("log resume failed");
        }
        let mut state = self.state();
        state.distrust_unsynced();
        state.unsync_behind();
        (state.search, state.suspending) = (0, false);
        Ok(())
    }
}

impl Keeper for MirrorSet {
    fn with_log<T>(&self, look: impl FnOnce(&mut DirtyLog) -> T) -> T {
        look(&mut self.state().log)
    }

    fn log_device(&self) -> Option<&Area> {
        self.log_device.as_ref()
    }

    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    fn committed(&self) -> &Signal {
        &self.signal
    }

    fn log_has_failed(&self) {
        self.events.raise();
    }
}
