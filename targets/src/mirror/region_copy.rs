//! Copies what a region has from the leg that is right to all others.

use std::ops::Range;

use sim_core::Sector;

use super::line_limit::Repeated;
use super::mirror_set::MirrorSet;
use super::state::{Fault, Legs, State};
use crate::parts::copying::{self, Spot};

/// How a copy ended.
#[derive(Clone, Copy, Default)]
pub(super) struct Copied {
    /// The leg that it was read from.
    pub(super) from: usize,
    pub(super) read_failed: bool,
    /// Legs that could not be written.
    pub(super) failed: Legs,
}

impl MirrorSet {
    /// Says in the kernel's words what went wrong with a copy, and counts the legs' faults.
    #[must_use]
    pub(super) fn copy_failed(&self, state: &mut State, copied: Copied) -> bool {
        let mut event = false;
        if copied.read_failed {
            self.log_repeated(
                Repeated::RecoveryRead,
                "Unable to read primary mirror during recovery",
            );
            event |= self.fail(state, 1 << copied.from, Fault::Sync);
        }
        if copied.failed != 0 {
            // The kernel numbers the legs without the one that is read.
            let below = copied.failed & ((1 << copied.from) - 1);
            let above = copied.failed >> (copied.from + 1) << copied.from;
            let error = below | above;
            let text = format_args!("Write error during recovery (error = 0x{error:x})");
            self.log_repeated(Repeated::RecoveryWrite, text);
            event |= self.fail(state, copied.failed, Fault::Sync);
        }
        event
    }

    /// Copies a range of a region from the leg that has its data to all others.
    pub(super) async fn copy(&self, region: u64, range: Range<Sector>) -> Copied {
        let from = self.state().authority(region);
        let others: Vec<usize> = (0..self.legs.len()).filter(|leg| *leg != from).collect();
        let place = |leg: usize| Spot { area: &self.legs[leg], sector: range.start };
        let to: Vec<Spot<'_>> = others.iter().map(|leg| place(*leg)).collect();
        let copied = copying::copy(place(from), range.end - range.start, &to).await;
        let failed = (0..).zip(&others).filter(|(nr, _)| copied.failed >> nr & 1 == 1);
        let failed = failed.fold(0, |legs, (_, leg)| legs | 1 << leg);
        Copied { from, read_failed: copied.read_failed, failed }
    }
}
