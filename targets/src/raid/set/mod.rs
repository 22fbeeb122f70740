//! The legs with what is known of them: what bios and background tasks share.

mod check;
mod clear;
mod commit;
mod copy;
mod intent;
mod load;
mod log;
mod md;
mod metadata;
mod read;
mod reshape;
mod serve;
mod spots;
mod state;
mod stripes;
mod sync;
mod target;
mod write;

pub use md::Md;
pub use target::Raid;

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{
    Area, Bio, BlkError, BlkResult, Locked, Runtime, Sector, Sectors, Signal, TargetEvents,
    TargetLog,
};

use crate::lines::raid::{Action, Kind};
use crate::parts::background::Background;
use crate::parts::held_ranges::{HeldRanges, Hold, Holder};
use crate::parts::pace::Pace;
use crate::raid::layout::Layout;
use crate::raid::superblock::Geometry;
use log::Log;
use metadata::Metadata;
use reshape::Reshaping;
use state::{Behind, Cleared, Leg, State};
use stripes::{Cache, Turns};

/// The devices of a leg.
struct Devices {
    meta: Option<Area>,
    data: Option<Area>,
    /// It is read where no other can be.
    write_mostly: bool,
}

/// A set in use.
struct RaidSet {
    layout: Layout,
    legs: Vec<Devices>,
    /// How the superblocks have it, or will when it has been reshaped.
    geometry: Geometry,
    metadata: Metadata,
    /// What is being reshaped, or was: the layout is that after it.
    reshape: Option<Reshaping>,
    /// Nothing is written, not even that.
    is_read_only: bool,
    /// What writes go through before they reach the legs.
    journal: Option<Arc<Log>>,
    /// What the journal has and the legs have not, where writes end in the journal.
    cache: Option<Arc<Cache>>,
    /// How long the set is.
    len: Sectors,
    /// How long a bit stays after the last write under it.
    daemon_sleep: Duration,
    runtime: Arc<dyn Runtime>,
    events: TargetEvents,
    log: TargetLog,
    /// Given whenever the state has changed in a way that somebody may wait for.
    signal: Signal,
    /// Some leg does not end its bios at once: writes of stripes are not tried on the spot.
    legs_wait: AtomicBool,
    /// With parity: writes that wait for their rows.
    turns: Turns,
    background: Background,
    pace: Pace,
    state: Locked<State>,
}

impl RaidSet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Locks the state in a `drop`: nothing where a panic has left it half changed.
    fn state_if_whole(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock_if_whole()
    }

    /// Returns the kernel's name of the type; of raid10 without its format.
    fn kind(&self) -> &'static str {
        let geometry = self.geometry;
        let kind = Kind::of(geometry.level, geometry.layout).filter(|_| geometry.level != 10);
        kind.map_or("raid10", Kind::name)
    }

    /// Says what goes on, as a status shows it.
    fn shown_action(&self, state: &State) -> Action {
        match () {
            () if state.frozen => Action::Frozen,
            // A resync that goes on where it was cut off shows so in the kernel.
            () if state.progress.action == Action::Resync && state.goes_on => Action::Repair,
            () => state.progress.action,
        }
    }

    /// Returns the data device of a leg that is there.
    fn data(&self, leg: usize) -> &Area {
        self.legs[leg].data.as_ref().expect("a leg that is used has a data device")
    }

    /// Takes a leg out that has failed, unless the set would lack data then; tells whether it did. The
    /// caller has the superblocks written.
    #[must_use]
    fn fail(&self, state: &mut State, leg: usize) -> bool {
        let lacks = match state.legs[leg] {
            // From here on, what has a bit.
            Leg::InSync if self.can_lose(state, leg) && state.moves.position.is_some() => {
                Behind::ALL
            }
            Leg::InSync if self.can_lose(state, leg) => {
                Behind { by_bitmap: state.intent.header().is_some(), ..Behind::ALL }
            }
            // What is written from here on may lie before where it had got.
            Leg::Behind(behind) => Behind { from: Sector::ZERO, ..behind },
            Leg::InSync | Leg::Failed(_) | Leg::Broken | Leg::Missing => return false,
        };
        if state.cleared == Cleared::TooOld {
            state.is_on_all_legs();
        }
        state.legs[leg] = Leg::Failed(lacks);
        state.commit_failure();
        self.tell_failure(state, self.data(leg));
        true
    }

    /// Says in the words of the kernel's md that a device, a leg's or the journal's, is used no more.
    fn tell_failure(&self, state: &State, device: &Area) {
        let of = match self.geometry.level {
            level @ (1 | 10) => format!("md/raid{level}:mdX"),
            _ => "md/raid:mdX".to_owned(),
        };
        let all = state.legs.len();
        let left = (0..all).filter(|leg| state.is_in_sync(*leg)).count();
        let name = device.name();
        self.log.line_of_another(format_args!("{of}: Disk failure on {name}, disabling device."));
        self.log.line_of_another(match self.layout.has_all(|leg| !state.is_in_sync(leg)) {
            true => format!("{of}: Operation continuing on {left} devices."),
            false => format!("{of}: Cannot continue operation ({}/{all} failed).", all - left),
        });
    }

    /// Tells whether what a leg has is on others too.
    fn can_lose(&self, state: &State, leg: usize) -> bool {
        let lost = |other: usize| other == leg || !state.is_in_sync(other);
        let moving = self.reshape.as_ref().filter(|_| state.moves.position.is_some());
        self.layout.has_all(lost) && moving.is_none_or(|reshape| reshape.moving.old.has_all(lost))
    }

    /// Flushes the data devices of all legs that are alive; those that cannot be flushed fail. An error
    /// where one stays that could not.
    async fn flush_legs(self: &Arc<Self>) -> BlkResult {
        let alive: Vec<usize> = {
            let state = self.state();
            (0..self.legs.len()).filter(|leg| state.legs[*leg].is_alive()).collect()
        };
        let flush = |leg: usize| async move {
            (leg, self.data(leg).submit(Sector::ZERO, Bio::flush()).await)
        };
        let mut flushes: FuturesUnordered<_> = alive.into_iter().map(flush).collect();
        let mut failed = Vec::new();
        while let Some((leg, end)) = flushes.next().await {
            failed.extend(end.err().map(|error| (leg, error)));
        }
        self.lost(failed).await
    }

    /// Takes in that legs have failed in a write or a flush, and waits until the others know of it. An
    /// error where one of them has to stay: some of what it was given is nowhere else.
    async fn lost(self: &Arc<Self>, failed: Vec<(usize, BlkError)>) -> BlkResult {
        if failed.is_empty() {
            return Ok(());
        }
        let (mut result, mut commit, mut broke) = (Ok(()), None, false);
        {
            let mut state = self.state();
            for (leg, error) in failed {
                let has_parity = matches!(self.layout, Layout::Parity(_));
                if self.fail(&mut state, leg) {
                    commit = Some(state.commits.failure());
                } else if has_parity && state.legs[leg] == Leg::InSync {
                    state.legs[leg] = Leg::Broken;
                    self.tell_failure(&state, self.data(leg));
                    (result, broke) = (Err(error), true);
                } else if state.legs[leg].is_alive() {
                    result = Err(error);
                } else {
                    // Somebody else has found it out; the others may not know of it yet.
                    commit = Some(state.commits.failure());
                }
            }
        }
        if commit.is_some() || broke {
            self.events.raise();
        }
        if let Some(commit) = commit {
            self.commit(commit).await;
        }
        self.signal.notify();
        result
    }

    /// Keeps writes away from a range, as soon as none is under way there.
    async fn hold_for_copy(&self, range: &Range<Sector>) -> Hold<'_, RaidSet> {
        // One copy comes after the other, and new writes after both.
        let begin = || {
            let mut state = self.state();
            let free = state.copies.leave_free(range);
            free.then(|| Hold::new(self, &mut state.copies, range.clone()))
        };
        let held = self.signal.until(begin).await;
        self.signal.until(|| self.state().writes.leave_free(range).then_some(())).await;
        held
    }
}

/// The ranges that are copied, which writes wait for.
impl Holder for RaidSet {
    type At = Sector;

    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<Sector>)) {
        if let Some(mut state) = self.state_if_whole() {
            change(&mut state.copies);
        }
    }

    fn freed(&self) -> &Signal {
        &self.signal
    }
}
