//! A reshape: which sectors of a set are in the new layout by now, and which move next.
//!
//! Data moves from one end of the set to the other. Up to the *position* it lies as in the new
//! layout, behind it as in the old one, which begins elsewhere on the legs: what is written never
//! lies where there is data yet that moves later, nor where that comes from which is moved now.
//! Who starts again from a position finds all of it.

use std::ops::Range;

use sim_core::{Sector, Sectors};

use super::Layout;
use super::rows::gcd;
use crate::raid::superblock::Reshape;

/// What moves, and which way: between two layouts with parity, or two of raid10 that are not far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// How the set lay.
    pub old: Layout,
    /// How it lies then.
    pub new: Layout,
    /// From the beginning on, or from the end down.
    pub way: Reshape,
}

/// The most rows that move at a time: 1 MiB of each leg.
const ROWS: Sector = Sector(2048);

impl Moving {
    /// Returns how much moves. Parity is made for all that the set has then; copies of what it had not
    /// before are synchronized later.
    pub fn len(&self) -> Sectors {
        match self.new {
            Layout::Raid10(_) => self.new.len().min(self.old.len()),
            _ => self.new.len(),
        }
    }

    /// Tells whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Returns where it begins.
    pub fn start(&self) -> Sector {
        match self.way {
            Reshape::Forwards => Sector::ZERO,
            Reshape::Backwards => self.len().to_sector(),
        }
    }

    /// Returns where it is over.
    pub fn end(&self) -> Sector {
        match self.way {
            Reshape::Forwards => self.len().to_sector(),
            Reshape::Backwards => Sector::ZERO,
        }
    }

    /// Tells whether it can be at a position: with parity, between two stripes of the new layout.
    pub fn fits(&self, position: Sector) -> bool {
        let is_even = position.0.is_multiple_of(self.new.grain(&self.old));
        // The kernel may begin behind what there was.
        (is_even || position == self.len().to_sector()) && position.0 <= self.new.len().0
    }

    /// Returns the position after a range has moved.
    pub fn after(&self, range: &Range<Sector>) -> Sector {
        match self.way {
            Reshape::Forwards => range.end,
            Reshape::Backwards => range.start,
        }
    }

    /// Returns how a sector lies, and up to where others lie so.
    pub fn side(&self, position: Sector, at: Sector) -> (&Layout, Sector) {
        const ALL: Sector = Sector(u64::MAX);
        match (self.way, at < position) {
            (Reshape::Forwards, true) => (&self.new, position),
            (Reshape::Forwards, false) => (&self.old, ALL),
            (Reshape::Backwards, true) => (&self.old, position),
            (Reshape::Backwards, false) => (&self.new, ALL),
        }
    }

    /// Returns how far apart the two places of data have to be for it to come to its end. (md takes
    /// less where a power cut costs data then.)
    pub fn least_room(&self) -> Sectors {
        let (old, new) = (self.old.step(), self.new.step());
        match self.new {
            // A position may be in the middle of what is filled together.
            Layout::Raid10(_) => Sectors(old + new),
            // It is at the ends of rows.
            _ => Sectors(old + new - gcd(old, new)),
        }
    }

    /// Returns how much is behind it, as a status counts: sectors of a leg with parity, else of the set.
    pub fn rows_done(&self, position: Sector) -> Sectors {
        let all = self.len();
        let done = match self.way {
            Reshape::Forwards => Sectors(position.0),
            Reshape::Backwards => Sectors(all.0.saturating_sub(position.0)),
        };
        match &self.new {
            Layout::Raid10(_) => done,
            new => new.share(done),
        }
    }

    /// Returns how much of a leg a range of the set takes.
    pub fn share(&self, range: &Range<Sector>) -> Sectors {
        self.new.share(range.end - range.start)
    }

    /// Returns what moves next; none at the end, and where there is no room.
    pub fn next(&self, position: Sector) -> Option<Range<Sector>> {
        if position == self.end() {
            return None;
        }
        let (new, old) = (&self.new, &self.old);
        let (grain, even) = (new.grain(old), new.even(old));
        // At least a step, where there is room for it; of a long chunk, a part.
        let least = if new.parity().is_some() { grain } else { ROWS.0 };
        let most = new.fits_before(ROWS).0.max(least);
        match self.way {
            Reshape::Forwards => {
                let room = match position.0 < old.len().0 {
                    // The first row of a leg with data that has not moved.
                    true => {
                        let row = old.first_row(position).0 + old.offset().0;
                        new.fits_before(Sector(row.saturating_sub(new.offset().0)))
                    }
                    false => Sector(u64::MAX),
                };
                let end = room.0.min(position.0.saturating_add(most)).min(self.len().0);
                let end = match end == self.len().0 {
                    true => end,
                    false => down(end, even, position.0).unwrap_or(end / grain * grain),
                };
                (end > position.0).then_some(position..Sector(end))
            }
            Reshape::Backwards => {
                let last = position.min(old.len().to_sector());
                // The row behind the last one with data that has not moved.
                let row = old.end_row(last).0 + old.offset().0;
                let least = new.begins_behind(Sector(row.saturating_sub(new.offset().0)));
                let start = least.0.max(position.0.saturating_sub(most));
                let up = start.next_multiple_of(even);
                let start = if up < position.0 { up } else { start.next_multiple_of(grain) };
                (start < position.0).then_some(Sector(start)..position)
            }
        }
    }
}

/// Returns the multiple at or before a number, where it is behind another.
fn down(number: u64, multiple: u64, behind: u64) -> Option<u64> {
    Some(number / multiple * multiple).filter(|even| *even > behind)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::raid::layout::{Format, Parity, Raid10};

    fn parity(layout: u32, legs: usize, chunk: u64, device: u64, offset: u64) -> Layout {
        let parity = Parity::new(5, layout, legs, Sectors(chunk), Sectors(device));
        Layout::Parity(parity.expect("a layout")).at(Sectors(offset))
    }

    fn raid10(format: Format, copies: usize, legs: usize, chunk: u64, offset: u64) -> Layout {
        let word = Raid10::word(format, copies, format != Format::Near);
        let layout = Raid10::new(word, legs, Sectors(chunk), Sectors(192));
        Layout::Raid10(layout.expect("a layout")).at(Sectors(offset))
    }

    /// The sectors of all legs that a range has in a layout; of whole stripes with parity.
    fn rows(layout: &Layout, range: Range<Sector>, whole: bool) -> BTreeSet<(usize, u64)> {
        let mut places = BTreeSet::new();
        let end = range.end.min(layout.len().to_sector());
        for at in (range.start.0..end.0).map(Sector) {
            match layout {
                Layout::Parity(parity) => {
                    let place = layout.places(at)[0];
                    let row = place.sector.0 + parity.offset().0;
                    match whole {
                        true => places.extend((0..parity.legs()).map(|leg| (leg, row))),
                        false => drop(places.insert((place.leg, row))),
                    }
                }
                _ => {
                    places.extend(layout.places(at).iter().map(|place| (place.leg, place.sector.0)))
                }
            }
        }
        places
    }

    /// Walks along, and fails where something is written over that has not moved.
    fn walk(moving: &Moving, from: Sector) -> Result<(), TestCaseError> {
        let Moving { old, new, way } = moving;
        let (mut position, mut moved) = (from, 0);
        while position != moving.end() {
            prop_assert!(moving.fits(position), "{:?} at {}", moving, position);
            let range = moving.next(position).expect("it goes on");
            let unmoved = match way {
                Reshape::Forwards => position..Sector(u64::MAX),
                Reshape::Backwards => Sector::ZERO..position,
            };
            let written = rows(new, range.clone(), true);
            let kept = rows(old, unmoved, false);
            prop_assert!(written.is_disjoint(&kept), "{:?} at {}", moving, position);
            for at in [range.start, Sector(range.end.0 - 1)] {
                prop_assert_eq!(moving.side(position, at).0, old);
                prop_assert_eq!(moving.side(moving.after(&range), at).0, new);
            }
            moved += range.end.0 - range.start.0;
            position = moving.after(&range);
        }
        if from == moving.start() {
            prop_assert_eq!(moved, moving.len().0);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn nothing_is_written_over_that_has_not_moved_and_all_moves(
            old_legs in 3_usize..7,
            delta in -2_i64..3,
            (old_chunk, new_chunk) in prop::sample::select(vec![(8, 8), (8, 16), (16, 8), (16, 16)]),
            more in 0_u64..3,
            backwards in any::<bool>(),
        ) {
            let new_legs = (old_legs as i64 + delta).max(3) as usize;
            let backwards = match new_legs.cmp(&old_legs) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => backwards,
                std::cmp::Ordering::Greater => false,
            };
            let room = 32 + more * 8;
            let offsets = if backwards { (0, room) } else { (room, 0) };
            let way = if backwards { Reshape::Backwards } else { Reshape::Forwards };
            let old = parity(2, old_legs, old_chunk, 192, offsets.0);
            let new = parity(0, new_legs, new_chunk, 192, offsets.1);
            let moving = Moving { old, new, way };
            walk(&moving, moving.start())?;
            prop_assert_eq!(moving.rows_done(moving.end()), new.resync_len());
        }

        #[test]
        fn no_copy_is_written_over_that_has_not_moved(
            (old_format, new_format) in formats(),
            copies in 2_usize..4,
            old_legs in 3_usize..7,
            more in 0_usize..3,
            (old_chunk, new_chunk) in prop::sample::select(vec![(8, 8), (8, 16), (16, 8), (32, 8)]),
            room in 1_u64..9,
            backwards in any::<bool>(),
            from in 0_u64..24,
        ) {
            let backwards = more == 0 && backwards;
            let at = |format, chunk| raid10(format, copies, old_legs, chunk, 0);
            let (old, new) = (at(old_format, old_chunk), at(new_format, new_chunk));
            let least = Moving { old, new, way: Reshape::Forwards }.least_room();
            let room = (room * 8).max(least.0);
            let offsets = if backwards { (0, room) } else { (room, 0) };
            let way = if backwards { Reshape::Backwards } else { Reshape::Forwards };
            let old = raid10(old_format, copies, old_legs, old_chunk, offsets.0);
            let new = raid10(new_format, copies, old_legs + more, new_chunk, offsets.1);
            prop_assume!(new.len() >= old.len());
            let moving = Moving { old, new, way };
            walk(&moving, moving.start())?;
            // The kernel leaves it where we do not.
            let from = Sector((from * 8).min(moving.len().0));
            walk(&moving, from)?;
        }
    }

    fn formats() -> impl Strategy<Value = (Format, Format)> {
        use Format::{Near, Offset};
        prop::sample::select(vec![(Near, Near), (Near, Offset), (Offset, Near), (Offset, Offset)])
    }

    #[test]
    fn without_room_nothing_moves() {
        let (old, new) = (parity(2, 3, 64, 1024, 32), parity(0, 3, 64, 1024, 0));
        let moving = Moving { old, new, way: Reshape::Forwards };
        assert_eq!(moving.next(moving.start()), None);
        let (old, new) = (parity(2, 3, 64, 1024, 0), parity(0, 3, 64, 1024, 32));
        let moving = Moving { old, new, way: Reshape::Backwards };
        assert_eq!(moving.next(moving.start()), None);
    }
}
