//! The way of a bio: by a path, and where that fails by another.

use sim_core::{Area, Bio, BlkError, BlkResult, Mapped};

use super::Multipath;
use super::state::{Chosen, NoPath};
use crate::lines::multipath::QueueMode;

/// A bio on its way by a path: the selector counts it until this is dropped.
struct Flight<'a> {
    multipath: &'a Multipath,
    chosen: Chosen,
    bytes: u64,
    started: u64,
    ended: bool,
}

impl<'a> Flight<'a> {
    fn area(&self) -> &'a Area {
        &self.multipath.paths[self.chosen.group][self.chosen.choice.path]
    }

    /// Takes the choice back: the bio has not gone this way.
    fn put_back(self) {
        let mut state = self.multipath.state();
        state.groups[self.chosen.group].selector.put_back(self.chosen.choice);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.multipath.state.lock_if_whole() else { return };
        let selector = &mut state.groups[self.chosen.group].selector;
        let started = self.ended.then_some(self.started);
        let path = self.chosen.choice.path;
        selector.end(path, self.bytes, started, &*self.multipath.runtime);
    }
}

impl Multipath {
    /// Carries a bio out, on the spot where nothing waits.
    pub(super) fn carry<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match self.carry_now(bio) {
            Ok(result) => Mapped::Completed(result),
            Err(bio) => Mapped::InFlight(Box::pin(self.carry_later(bio))),
        }
    }

    fn carry_now<'a>(&'a self, mut bio: Bio<'a>) -> Result<BlkResult, Bio<'a>> {
        loop {
            let mut flight = match self.take_off(bio.len().bytes()) {
                Ok(flight) => flight,
                Err(NoPath::Wait) => return Err(bio),
                Err(NoPath::HandBack) => return Ok(Err(BlkError::Requeue)),
                Err(NoPath::Fail) => return Ok(Err(BlkError::Io)),
            };
            match flight.area().submit(bio.sector, bio.reborrow()).now().ok() {
                Some(result) => {
                    flight.ended = true;
                    if let Some(result) = self.land(&flight, result) {
                        return Ok(result);
                    }
                }
                None => {
                    flight.put_back();
                    return Err(bio);
                }
            }
        }
    }

    async fn carry_later(&self, mut bio: Bio<'_>) -> BlkResult {
        loop {
            let mut flight = match self.take_off(bio.len().bytes()) {
                Ok(flight) => flight,
                Err(NoPath::Wait) => {
                    self.signal.until(|| self.may_go_on().then_some(())).await;
                    continue;
                }
                Err(NoPath::HandBack) => return Err(BlkError::Requeue),
                Err(NoPath::Fail) => return Err(BlkError::Io),
            };
            let result = flight.area().submit(bio.sector, bio.reborrow()).await;
            flight.ended = true;
            if let Some(result) = self.land(&flight, result) {
                return result;
            }
        }
    }

    /// Chooses a path, and counts the bio there.
    fn take_off(&self, bytes: u64) -> Result<Flight<'_>, NoPath> {
        let mut state = self.state();
        let Some(chosen) = state.choose(bytes, &*self.runtime) else { return Err(state.no_path()) };
        let selector = &mut state.groups[chosen.group].selector;
        let started = selector.start(chosen.choice.path, bytes, &*self.runtime);
        Ok(Flight { multipath: self, chosen, bytes, started, ended: false })
    }

    /// Tells whether a bio that waits for a path need not any more.
    fn may_go_on(&self) -> bool {
        let state = self.state();
        state.live() > 0 || state.no_path() != NoPath::Wait
    }

    /// Takes in how a bio ended on a path; none where it is to be carried out once more.
    fn land(&self, flight: &Flight<'_>, result: BlkResult) -> Option<BlkResult> {
        let error = match result {
            Err(error) if is_of_path(error) => error,
            other => return Some(other),
        };
        self.fail_path(flight.chosen.group, flight.chosen.choice.path);
        let state = self.state();
        if state.live() > 0 {
            return None;
        }
        match (state.no_path(), self.line.features.queue_mode) {
            (NoPath::Wait, _) => None,
            (NoPath::HandBack, _) => Some(Err(BlkError::Requeue)),
            (NoPath::Fail, QueueMode::Bios) => Some(Err(BlkError::Io)),
            // A request keeps the error that it ended with.
            (NoPath::Fail, QueueMode::Requests) => Some(Err(error)),
        }
    }
}

/// Tells whether an error says more of the path than of what lies behind it: another path may do
/// (`blk_path_error`).
fn is_of_path(error: BlkError) -> bool {
    match error {
        BlkError::Io | BlkError::Timeout | BlkError::Gone | BlkError::Requeue => true,
        BlkError::NotSupported | BlkError::NoSpace | BlkError::Medium | BlkError::Protection => {
            false
        }
        // The kernel never sends such a bio here, as its multipath takes none that must not wait.
        BlkError::Again => false,
    }
}
