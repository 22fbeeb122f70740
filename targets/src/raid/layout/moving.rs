//! A reshape: which sectors of a set are in the new layout by now, and which move next.
//!
//! Data moves from one end of the set to the other. Up to the *position* it lies as in the new
//! layout, behind it as in the old one, which begins elsewhere on the legs: what is written never
//! lies where there is data yet that moves later, nor where that comes from which is moved now.
//! Who starts again from a position finds all of it.

use std::ops::Range;

use sim_core::{Sector, Sectors};

use super::Parity;
use crate::raid::superblock::Reshape;

/// What moves, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// How the set lay.
    pub old: Parity,
    /// How it lies then.
    pub new: Parity,
    /// From the beginning on, or from the end down.
    pub way: Reshape,
}

/// The most rows that move at a time: 1 MiB of each leg.
const ROWS: u64 = 2048;

impl Moving {
    /// Returns where it begins.
    pub fn start(&self) -> Sector {
        match self.way {
            Reshape::Forwards => Sector::ZERO,
            Reshape::Backwards => self.new.len().to_sector(),
        }
    }

    /// Returns where it is over.
    pub fn end(&self) -> Sector {
        match self.way {
            Reshape::Forwards => self.new.len().to_sector(),
            Reshape::Backwards => Sector::ZERO,
        }
    }

    /// Tells whether it can be at a position: between two stripes of the new layout.
    pub fn fits(&self, position: Sector) -> bool {
        position.0.is_multiple_of(self.new.stripe_len().0) && position.0 <= self.new.len().0
    }

    /// Returns the position after a range has moved.
    pub fn after(&self, range: &Range<Sector>) -> Sector {
        match self.way {
            Reshape::Forwards => range.end,
            Reshape::Backwards => range.start,
        }
    }

    /// Returns how a sector lies, and up to where others lie so.
    pub fn side(&self, position: Sector, at: Sector) -> (&Parity, Sector) {
        const ALL: Sector = Sector(u64::MAX);
        match (self.way, at < position) {
            (Reshape::Forwards, true) => (&self.new, position),
            (Reshape::Forwards, false) => (&self.old, ALL),
            (Reshape::Backwards, true) => (&self.old, position),
            (Reshape::Backwards, false) => (&self.new, ALL),
        }
    }

    /// Returns how many sectors of a leg are behind it.
    pub fn rows_done(&self, position: Sector) -> Sectors {
        let rows = Sectors(position.0 / self.new.stripe_len().0 * self.new.chunk().0);
        match self.way {
            Reshape::Forwards => rows,
            Reshape::Backwards => self.new.device_len() - rows,
        }
    }

    /// Returns what moves next; none at the end, and where there is no room.
    pub fn next(&self, position: Sector) -> Option<Range<Sector>> {
        if position == self.end() {
            return None;
        }
        let (stripe, chunk) = (self.new.stripe_len().0, self.new.chunk().0);
        let old_stripe = self.old.stripe_len().0;
        let most = (ROWS / chunk).max(1);
        let here = position.0 / stripe;
        let both = lcm(stripe, old_stripe) / stripe;
        match self.way {
            Reshape::Forwards => {
                let room = match position.0 < self.old.len().0 {
                    true => {
                        // The first row of a leg with data that has not moved.
                        let row = position.0 / old_stripe * self.old.chunk().0;
                        (self.old.offset().0 + row).saturating_sub(self.new.offset().0) / chunk
                    }
                    false => u64::MAX,
                };
                let end = room.min(here + most).min(self.new.len().0 / stripe);
                // Whole stripes of both, where it goes.
                let even = end / both * both;
                let end = if even > here { even } else { end };
                (end > here).then(|| position..Sector(end * stripe))
            }
            Reshape::Backwards => {
                let last = position.0.min(self.old.len().0);
                // The row behind the last one with data that has not moved.
                let row = self.old.offset().0 + last.div_ceil(old_stripe) * self.old.chunk().0;
                let least = row.saturating_sub(self.new.offset().0).div_ceil(chunk);
                let start = least.max(here.saturating_sub(most));
                let even = start.div_ceil(both) * both;
                let start = if even < here { even } else { start };
                (start < here).then(|| Sector(start * stripe)..position)
            }
        }
    }
}

fn lcm(one: u64, other: u64) -> u64 {
    let (mut a, mut b) = (one, other);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    one / a * other
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::raid::layout::Layout;

    fn parity(layout: u32, legs: usize, chunk: u64, device: u64, offset: u64) -> Parity {
        let parity = Parity::new(5, layout, legs, Sectors(chunk), Sectors(device));
        parity.expect("a layout").at(Sectors(offset))
    }

    /// The sectors of all legs that a range has in a layout; of whole stripes with parity.
    fn rows(parity: &Parity, range: Range<Sector>, whole: bool) -> BTreeSet<(usize, u64)> {
        let mut places = BTreeSet::new();
        let end = range.end.min(parity.len().to_sector());
        for at in (range.start.0..end.0).map(Sector) {
            let place = Layout::Parity(*parity).places(at)[0];
            let row = place.sector.0 + parity.offset().0;
            match whole {
                true => places.extend((0..parity.legs()).map(|leg| (leg, row))),
                false => drop(places.insert((place.leg, row))),
            }
        }
        places
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
            let mut position = moving.start();
            let mut moved = 0;
            while position != moving.end() {
                prop_assert!(moving.fits(position));
                let range = moving.next(position).expect("it goes on");
                prop_assert_eq!(range.start.0 % new.stripe_len().0, 0);
                prop_assert_eq!(range.end.0 % new.stripe_len().0, 0);
                let unmoved = match way {
                    Reshape::Forwards => position..Sector(u64::MAX),
                    Reshape::Backwards => Sector::ZERO..position,
                };
                let written = rows(&new, range.clone(), true);
                let kept = rows(&old, unmoved, false);
                prop_assert!(written.is_disjoint(&kept), "{:?} at {}", moving, position);
                for at in [range.start, Sector(range.end.0 - 1)] {
                    prop_assert_eq!(moving.side(position, at).0, &old);
                    prop_assert_eq!(moving.side(moving.after(&range), at).0, &new);
                }
                moved += range.end.0 - range.start.0;
                position = moving.after(&range);
            }
            prop_assert_eq!(moved, new.len().0);
            prop_assert_eq!(moving.rows_done(position), new.device_len());
        }
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
