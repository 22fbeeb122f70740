//! The legs with their log (`struct mirror_set`): what bios and background tasks share.

use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, MutexGuard};

use sim_core::{
    Area, Args, Bio, Buffer, Errno, Flags, Locked, Runtime, Sector, Sectors, Signal, TargetEvents,
    TargetLog,
};

use super::disk::{Header, Image};
use super::line::{Features, InitialSync, Line};
use super::line_limit::LineLimits;
use super::log::{Log, PIECE, pieces, write_at};
use super::state::{Fault, Legs, State};
use crate::parts::background::Background;
use crate::parts::bits::{Bits, NoMemory};
use crate::parts::pace::Pace;

/// The legs, and everything that is known of them.
pub(super) struct MirrorSet {
    pub(super) legs: Vec<Area>,
    pub(super) log_device: Option<Area>,
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
    pub(super) fn new(line: &Line, args: &Args<'_>) -> MirrorSet {
        let (len, region) = (args.target_len(), line.log.region);
        let regions = len.0.div_ceil(region.0);
        let image = line
            .log
            .disk
            .as_ref()
            .map(|device| Image::new(regions, device.limits().logical_block()));
        let sync = Bits::new(regions, line.log.sync == InitialSync::Everything);
        let state = State::new(line.legs.len(), sync, Log::new(image));
        MirrorSet {
            legs: line.legs.clone(),
            log_device: line.log.disk.clone(),
            region,
            regions,
            len,
            sync: line.log.sync,
            features: line.features,
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log().of_module("raid1"),
            log_log: args.log().of_module("dirty region log"),
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

    /// Finds out what is in sync before the target comes into use, from the log if there is one on
    /// a device. As in the kernel, no fault of the log keeps it from that.
    pub(super) async fn load(&self) -> Result<(), Errno> {
        let well = match &self.log_device {
            None => true,
            Some(device) => self.load_disk(device).await.map_err(|NoMemory| Errno::NOMEM)?,
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

    /// Reads the log, and writes it again with this target's number of regions; tells whether that
    /// went well.
    async fn load_disk(&self, device: &Area) -> Result<bool, NoMemory> {
        let name = device.number();
        let mut image = Image::new(self.regions, device.limits().logical_block());
        let trusted = self.read_log(device, &mut image).await?;
        let sync = image.clean().try_clone()?;
        if !trusted {
            let what = "Failed to read header on dirty region log device";
            self.log_log.line(format_args!("{name}: {what}"));
            self.fail_log();
        }
        let written = write_all(device, &image).await;
        {
            let mut state = self.state();
            (state.sync, state.log.image) = (sync, Some(image));
            state.log.settle();
        }
        let flushed = written && device.submit(Sector::ZERO, Bio::flush()).await.is_ok();
        if written && !flushed {
            self.state().log.flush_failed = true;
        }
        if !flushed {
            let what = "Failed to write header on dirty region log device";
            self.log_log.line(format_args!("{name}: {what}"));
            self.fail_log();
            self.state().log.header_is_volatile();
        }
        Ok(flushed)
    }

    /// Makes the image what the log is from now on; tells whether what the device holds is a log that
    /// can be trusted.
    async fn read_log(&self, device: &Area, image: &mut Image) -> Result<bool, NoMemory> {
        let fresh = self.sync != InitialSync::AsLogged;
        let read = read_all(device, image).await?;
        let (header, known) = match read {
            true => image.header(fresh),
            false => (Header::NEW, Ok(())),
        };
        if known.is_err() {
            self.log_log.line("incompatible disk log version");
        }
        let trusted = read && known.is_ok();
        let header = if trusted { header } else { Image::distrust(header) };
        image.fit(header, self.sync == InitialSync::Everything);
        Ok(trusted)
    }

    fn fail_log(&self) {
        let first = !std::mem::replace(&mut self.state().log.failed, true);
        self.raise_if(first);
    }
}

/// Reads the whole log; tells whether the device let that happen.
async fn read_all(device: &Area, image: &mut Image) -> Result<bool, NoMemory> {
    let mut buffer = Buffer::take(image.len().min(PIECE) as usize);
    for piece in pieces(0..image.len()) {
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        let sector = Sectors::in_bytes(piece.start).to_sector();
        if device.submit(sector, Bio::read(sector, bytes)).await.is_err() {
            return Ok(false);
        }
        image.put_bytes(piece.start, bytes)?;
    }
    Ok(true)
}

/// Writes the whole log: the first piece, with the header, when all others are durable, as it says
/// how many of their bits mean something.
async fn write_all(device: &Area, image: &Image) -> bool {
    let mut buffer = Buffer::take(image.len().min(PIECE) as usize);
    let mut pieces: Vec<Range<u64>> = pieces(0..image.len()).collect();
    pieces.rotate_left(1);
    for piece in &pieces {
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        image.get_bytes(piece.start, bytes);
        let is_header = piece.start == 0 && pieces.len() > 1;
        let before = Flags { preflush: is_header, ..Flags::default() };
        if write_at(device, piece.start, bytes, before).await.is_err() {
            return false;
        }
    }
    true
}
