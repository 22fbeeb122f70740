//! Where the sectors of a snapshot lie: told, with no I/O.

use sim_core::{DevNumber, Sector, Sectors, Spots};

use super::io::Place;
use super::role::Role;
use super::snap::{Health, Snap};
use super::target::SnapTarget;

impl SnapTarget {
    pub(super) fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let sector = self.start + offset.from_start();
        let left = self.shown.size() - offset.from_start();
        let Some(snap) = self.snap() else {
            out.say("its store is not handed over yet");
            return Some(left);
        };
        let state = snap.state();
        let place = match (&state.health, snap.role) {
            (Health::Invalid(_), Role::Snapshot) => {
                out.say("the snapshot is invalid: every read and write fails");
                return Some(left);
            }
            (Health::Invalid(_), Role::Merge) => Place::Origin(left),
            (Health::Good | Health::Overflowed, _) => snap.place(&state, sector, left),
        };
        if matches!(state.health, Health::Overflowed) {
            out.say("the store is full: every write fails");
        }
        drop(state);
        match place {
            Place::Cow(to, len) => {
                out.at(&snap.cow, to, format!("exception of chunk {}", snap.chunk.of(sector)));
                Some(len)
            }
            Place::Origin(len) => {
                out.at(&snap.origin, sector, "origin");
                Some(len)
            }
        }
    }

    /// The same sector, where it is one of the origin; where it is one of the store, that of the chunk that
    /// is kept there.
    pub(super) fn shown_from(&self, below: DevNumber, sector: Sector) -> Vec<Sector> {
        let Some(snap) = self.snap() else { return Vec::new() };
        let of_target = |at: Sector| at.0.checked_sub(self.start.0).map(Sector);
        let mut shown = Vec::new();
        if snap.origin.number() == below {
            shown.extend(of_target(sector));
        }
        if snap.cow.number() == below
            && let Some(old) = snap.kept_at(snap.chunk.of(sector))
        {
            shown.extend(of_target(snap.chunk.start(old) + snap.chunk.within(sector)));
        }
        shown
    }
}

impl Snap {
    /// Returns which chunk a chunk of the store holds. Looks through all exceptions, with the lock let go
    /// now and then: bios go on.
    fn kept_at(&self, new: u64) -> Option<u64> {
        let mut from = 0;
        loop {
            let (found, next) = self.state().exceptions.find_new(new, from);
            if found.is_some() {
                return found;
            }
            from = next?;
        }
    }
}
