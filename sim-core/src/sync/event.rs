//! A counter that can be waited for: a device's event number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::control::journal::Journal;
use crate::graph::NodeId;
use crate::{Sectors, Signal};

/// Counts events, and wakes whoever waits for the next.
#[derive(Debug, Default)]
pub struct Events {
    number: AtomicU32,
    waiting: Signal,
}

impl Events {
    /// Returns the number of the last event; zero before the first. Wraps around.
    pub fn number(&self) -> u32 {
        self.number.load(SeqCst)
    }

    /// Counts one more event.
    pub fn raise(&self) {
        self.number.fetch_add(1, SeqCst);
        self.wake();
    }

    /// Makes whoever waits look again.
    pub(crate) fn wake(&self) {
        self.waiting.notify();
    }

    /// Waits until `done` says so; asked again at each event.
    pub(crate) async fn until(&self, mut done: impl FnMut(u32) -> bool) {
        self.waiting.until(|| done(self.number()).then_some(())).await;
    }
}

/// Where a target counts the events of its device (`dm_table_event`).
#[derive(Clone, Debug, Default)]
pub struct TargetEvents {
    device: Arc<Events>,
    all: Arc<Events>,
    size: Arc<AtomicU64>,
    /// Who is told, and of which device.
    journal: Option<(Arc<Journal>, NodeId)>,
}

impl TargetEvents {
    pub(crate) fn new(
        device: Arc<Events>,
        all: Arc<Events>,
        size: Arc<AtomicU64>,
        journal: (Arc<Journal>, NodeId),
    ) -> TargetEvents {
        TargetEvents { device, all, size, journal: Some(journal) }
    }

    /// Counts one more event, and wakes whoever waits for one.
    pub fn raise(&self) {
        match &self.journal {
            Some((journal, node)) => journal.event(*node, &self.device),
            None => self.device.raise(),
        }
        self.all.raise();
    }

    /// Gives the device another size than its table has (`set_capacity_and_notify`), until the next
    /// table. For a target that has the table for itself, while that is live: from its `preresume` on.
    pub fn resize(&self, size: Sectors) {
        self.size.store(size.0, SeqCst);
        self.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn an_event_ends_the_wait_for_it() {
        let events = Events::default();
        assert!(events.until(|number| number != 0).now_or_never().is_none());
        events.raise();
        assert!(events.until(|number| number != 0).now_or_never().is_some());
    }
}
