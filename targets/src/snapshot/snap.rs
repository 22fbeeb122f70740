//! One snapshot: its store, the chunks that have exceptions, and whether it is of use.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use sim_core::{
    Area, BlkResult, Locked, Outcome, Runtime, Sector, Sectors, Signal, TargetEvents, TargetLog,
};

use super::role::Role;
use super::store::{Store, Usage};
use super::wait::Wait;
use super::{ChunkSize, ExceptionTable};
use crate::lines::snapshot::WhenFull;
use crate::parts::background::EndOnDrop;
use crate::parts::held_ranges::HeldRanges;

/// What a snapshot is made of.
pub(super) struct Parts {
    /// The whole origin.
    pub(super) origin: Area,
    /// Where the part of it ends that the snapshot shows.
    pub(super) end: Sector,
    /// The whole device of the store.
    pub(super) cow: Area,
    pub(super) role: Role,
    pub(super) when_full: WhenFull,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) events: TargetEvents,
    pub(super) log: TargetLog,
}

/// A snapshot with its store.
pub(super) struct Snap {
    pub(super) origin: Area,
    end: Sector,
    pub(super) cow: Area,
    pub(super) store: Store,
    pub(super) chunk: ChunkSize,
    pub(super) role: Role,
    pub(super) when_full: WhenFull,
    pub(super) runtime: Arc<dyn Runtime>,
    events: TargetEvents,
    pub(super) log: TargetLog,
    state: Locked<State>,
    /// A read of the origin, or in a merge a write of the store, has ended.
    pub(super) untracked: Signal,
}

pub(super) struct State {
    pub(super) health: Health,
    pub(super) exceptions: ExceptionTable,
    /// Chunks that are being copied, by the first of each run.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Chunks with bios in flight that a copy or a merge must not overtake.
    pub(super) tracked: HeldRanges<u64>,
    /// Chunks that are being merged, and what ends when they are.
    pub(super) merging: Option<Merging>,
}

/// Whether a snapshot is of use.
#[derive(Clone)]
pub(super) enum Health {
    Good,
    /// Reads go on, writes fail.
    Overflowed,
    /// Everything fails. Ends when the store says so too.
    Invalid(Arc<Outcome<()>>),
}

/// A run of chunks that is being copied.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) end: u64,
    /// A bio of the snapshot itself asked for it.
    pub(super) own: bool,
    pub(super) copied: Arc<Outcome<BlkResult>>,
}

/// What is being merged.
pub(super) struct Merging {
    pub(super) runs: Vec<Range<u64>>,
    pub(super) merged: Arc<Outcome<BlkResult>>,
}

impl Snap {
    /// Makes the snapshot of a store; without exceptions it is one that says of itself that it
    /// is invalid.
    pub(super) fn new(parts: Parts, store: Store, exceptions: Option<ExceptionTable>) -> Arc<Snap> {
        let health = match exceptions {
            Some(_) => Health::Good,
            None => Health::Invalid(ended()),
        };
        Snap::with(parts, store, health, exceptions.unwrap_or_default())
    }

    fn with(parts: Parts, store: Store, health: Health, exceptions: ExceptionTable) -> Arc<Snap> {
        let Parts { origin, end, cow, role, when_full, runtime, events, log } = parts;
        let (pending, tracked, merging) = (BTreeMap::new(), HeldRanges::default(), None);
        let state = Locked::new(State { health, exceptions, pending, tracked, merging });
        let chunk = store.chunk();
        // A store that is forgotten anyway has no overflow to report.
        let when_full = match &store {
            Store::Persistent(_) => when_full,
            Store::Transient(_) => WhenFull::Invalidate,
        };
        let untracked = Signal::default();
        Arc::new(Snap {
            origin,
            end,
            cow,
            store,
            chunk,
            role,
            when_full,
            runtime,
            events,
            log,
            state,
            untracked,
        })
    }

    /// Moves the snapshot to another target's devices; nothing is under way in it, and it is of
    /// no use itself from then on.
    pub(super) fn hand_over(&self, parts: Parts) -> Arc<Snap> {
        let mut state = self.state();
        assert!(state.pending.is_empty(), "a snapshot at rest is handed over");
        let exceptions = std::mem::take(&mut state.exceptions);
        let store = self.store.hand_over(parts.cow.clone(), &exceptions, &parts.runtime);
        let health = std::mem::replace(&mut state.health, Health::Invalid(ended()));
        Snap::with(parts, store, health, exceptions)
    }

    /// Returns the chunks that the snapshot shows of a range of the origin.
    pub(super) fn shown(&self, sector: Sector, len: Sectors) -> Range<u64> {
        let shown = Sectors(self.end.0.saturating_sub(sector.0)).min(len);
        self.chunk.touched(sector, shown)
    }

    pub(super) fn usage(&self) -> Usage {
        self.store.usage()
    }

    pub(super) fn health(&self) -> Health {
        self.state().health.clone()
    }

    /// Deals with a full store; returns what to wait for before going on.
    pub(super) fn no_room(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        when: WhenFull,
    ) -> Option<Wait> {
        match when {
            WhenFull::Overflow => {
                state.health = Health::Overflowed;
                drop(state);
                self.log.line("Snapshot overflowed: Unable to allocate exception.");
                None
            }
            WhenFull::Invalidate => {
                let done = self.invalidate(state, "Unable to allocate exception.");
                Some(Wait::Invalid(done))
            }
        }
    }

    /// Gives the snapshot up after an I/O error.
    pub(super) async fn fail(self: &Arc<Self>) {
        self.invalidated("Error reading/writing.").wait().await;
    }

    /// Makes the snapshot invalid if it is not yet; returns what ends when the store says so.
    fn invalidated(self: &Arc<Self>, why: &str) -> Arc<Outcome<()>> {
        let state = self.state();
        match &state.health {
            Health::Invalid(done) => done.clone(),
            Health::Good | Health::Overflowed => self.invalidate(state, why),
        }
    }

    fn invalidate(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        why: &str,
    ) -> Arc<Outcome<()>> {
        let done = Arc::new(Outcome::new());
        state.health = Health::Invalid(done.clone());
        drop(state);
        self.log.line(format_args!("Invalidating snapshot: {why}"));
        let (snap, marked) = (self.clone(), EndOnDrop::new(done.clone(), ()));
        self.runtime.spawn_here(Box::pin(async move {
            let _marked = marked;
            snap.store.invalidate().await;
            snap.events.raise();
        }));
        done
    }

    /// Waits for what the snapshot's own bios have left under way.
    pub(super) async fn settle(&self) {
        let under_way: Vec<_> = {
            let state = self.state();
            state.pending.values().filter(|pending| pending.own).cloned().collect()
        };
        for pending in under_way {
            let _known_to_the_bio = pending.copied.wait().await;
        }
        if let Health::Invalid(done) = self.health() {
            done.wait().await;
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Locks the state in a `drop`: nothing where a panic has left it half changed.
    pub(super) fn state_if_whole(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock_if_whole()
    }
}

/// Returns something that has ended.
fn ended() -> Arc<Outcome<()>> {
    let done = Outcome::new();
    done.set(());
    Arc::new(done)
}
