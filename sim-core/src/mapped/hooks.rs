//! What a bio meets on its way besides the table: statistics, and faults that were armed.

use std::sync::Arc;

use super::MappedDevice;
use crate::fault::Faults;
use crate::trace::TapSlot;
use crate::{Errno, FaultReport, stats};

impl MappedDevice {
    /// Carries out a message about statistics.
    ///
    /// Where something is counted, every bio goes through the tables.
    pub(crate) fn count(&self, message: stats::Message) -> Result<Option<String>, Errno> {
        self.stats.perform(message, || {
            if self.stats.is_on() {
                self.revoke();
            } else {
                self.refold();
            }
        })
    }

    /// Returns where what is sent to the device is followed.
    pub(crate) fn tap(&self) -> &TapSlot {
        &self.tap
    }

    /// Returns the device, to be held for longer.
    pub(crate) fn shared(&self) -> Option<Arc<MappedDevice>> {
        self.me.upgrade()
    }

    /// Takes the maps away that pass through the device.
    pub(crate) fn unfold(&self) {
        self.revoke();
    }

    /// Folds the maps that pass through the device, where they may be.
    pub(crate) fn fold_again(&self) {
        self.refold();
    }

    /// Returns the plan that is armed for whoever uses the device.
    pub(crate) fn faults(&self) -> Option<Arc<Faults>> {
        self.faults.armed()
    }

    /// Says what has gone wrong on purpose for whoever uses the device, if a plan is armed.
    pub fn fault_report(&self) -> Option<FaultReport> {
        Some(self.faults()?.report(None))
    }

    /// Arms a plan for whoever uses the device, or none; returns the one before. The maps that pass through the
    /// device have to be folded anew.
    pub(crate) fn swap_faults(&self, faults: Option<Arc<Faults>>) -> Option<Arc<Faults>> {
        self.faults.set(faults)
    }

    /// Counts the rules that are armed for whoever uses the device, and for what its table sends below.
    pub(crate) fn fault_rules(&self) -> usize {
        let table = self.table();
        let below = table.iter().flat_map(|table| table.devices()).filter_map(|open| open.faults());
        self.faults().into_iter().chain(below).map(|faults| faults.rule_count()).sum()
    }

    /// Says whether bios are held that plans make late on their way below.
    pub(super) fn hold_late(&self, holds: bool) {
        self.live().iter().flat_map(|table| table.devices()).for_each(|open| open.hold_late(holds));
    }
}
