//! A range of the set, cut into bands: rows of one stripe in which the same legs are touched.

use std::num::NonZeroU64;
use std::ops::Range;

use sim_core::{Sector, Sectors};

use crate::raid::journal::PAGE;
use crate::raid::layout::{Parity, Role, Stripe};

/// Rows of a stripe, and what is touched in them: the data of some legs, chunk by chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) stripe: Stripe,
    /// The sectors of the legs.
    pub(super) rows: Range<Sector>,
    /// The first chunk that is touched, and how many are.
    first: usize,
    count: usize,
    /// Where the first chunk's rows lie in the range, and how far it is from one chunk's to the
    /// next one's.
    skip: Sectors,
    chunk: Sectors,
}

impl Band {
    pub(super) fn len(&self) -> Sectors {
        self.rows.end - self.rows.start
    }

    /// Returns the legs whose data is touched, each with where in the range that lies.
    pub(super) fn touched(&self) -> impl Iterator<Item = (usize, Sectors)> + '_ {
        (0..self.count).map(|nr| {
            let skip = self.skip + Sectors(self.chunk.0 * nr as u64);
            (self.stripe.leg_of(Role::Data(self.first + nr)), skip)
        })
    }

    /// Cuts the band into bands of at most so many pages of the journal of each leg.
    pub(super) fn cut(self, most: Option<NonZeroU64>) -> impl Iterator<Item = Band> {
        let rows = self.rows.clone();
        let step = most.map_or(u64::MAX, |pages| pages.get() * PAGE.0);
        let mut at = rows.start;
        std::iter::from_fn(move || {
            if at >= rows.end {
                return None;
            }
            let end = Sector(at.0.saturating_add(step)).min(rows.end);
            let skip = self.skip + (at - rows.start);
            let part = Band { rows: at..end, skip, ..self.clone() };
            at = end;
            Some(part)
        })
    }

    /// Tells whether a leg's data is touched.
    pub(super) fn touches(&self, leg: usize) -> bool {
        match self.stripe.role_of(leg) {
            Role::Data(nr) => (self.first..self.first + self.count).contains(&nr),
            Role::P | Role::Q => false,
        }
    }
}

/// Returns the rows between the first and the last that a range of the set touches.
pub(super) fn rows_of(parity: &Parity, range: &Range<Sector>) -> Range<Sector> {
    let (chunk, stripe) = (parity.chunk().0, parity.stripe_len().0);
    let (start, end) = (range.start.0, range.end.0);
    // Within one chunk, or else all rows of the stripes.
    if start / chunk == (end - 1) / chunk {
        let row = start / stripe * chunk + start % chunk;
        return Sector(row)..Sector(row + end - start);
    }
    Sector(start / stripe * chunk)..Sector(end.div_ceil(stripe) * chunk)
}

/// Cuts a range of the set into bands: up to three for each stripe.
pub(super) fn bands(parity: Parity, range: Range<Sector>) -> impl Iterator<Item = Band> {
    let (chunk, stripe) = (parity.chunk().0, parity.stripe_len().0);
    let stripes = range.start.0 / stripe..range.end.0.div_ceil(stripe);
    stripes.flat_map(move |nr| {
        let begin = nr * stripe;
        // What is touched of the stripe, in sectors of its data.
        let (start, end) =
            (range.start.0.max(begin) - begin, range.end.0.min(begin + stripe) - begin);
        let (first, last) = (start / chunk, (end - 1) / chunk);
        // In the rows from `from` on the first chunk is touched, in those before `to` the last.
        let (from, to) = (start % chunk, (end - 1) % chunk + 1);
        let cuts = match first == last {
            true => [from, from, to, to],
            false => [0, from.min(to), from.max(to), chunk],
        };
        let row = nr * chunk;
        let touched = parity.stripe_at(Sector(row));
        let band = move |cut: usize| {
            let (low, high) = (cuts[cut], cuts[cut + 1]);
            let first_touched = if low >= from { first } else { first + 1 };
            let behind = if low < to { last + 1 } else { last };
            (low < high && first_touched < behind).then(|| Band {
                stripe: touched,
                rows: Sector(row + low)..Sector(row + high),
                first: first_touched as usize,
                count: (behind - first_touched) as usize,
                skip: Sectors(begin + first_touched * chunk + low - range.start.0),
                chunk: Sectors(chunk),
            })
        };
        (0..3).filter_map(band)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::raid::layout::Layout;

    proptest! {
        #[test]
        fn bands_are_the_range_and_each_has_the_same_legs_in_all_its_rows(
            legs in 3_usize..7, start in 0_u64..200, len in 1_u64..120,
        ) {
            let parity = Parity::new(5, 2, legs, Sectors(8), Sectors(400)).expect("a layout");
            let range = Sector(start)..Sector(start + len);
            let rows = rows_of(&parity, &range);
            let mut seen = BTreeSet::new();
            for band in bands(parity, range.clone()) {
                prop_assert!(rows.start <= band.rows.start && band.rows.end <= rows.end);
                prop_assert_eq!(parity.stripe_at(band.rows.start), band.stripe);
                for (leg, skip) in band.touched() {
                    prop_assert!(band.touches(leg));
                    for nr in 0..band.len().0 {
                        let at = range.start + skip + Sectors(nr);
                        let place = Layout::Parity(parity).places(at)[0];
                        prop_assert_eq!((place.leg, place.sector), (leg, band.rows.start + Sectors(nr)));
                        prop_assert!(seen.insert(at), "{} twice", at);
                    }
                }
                let touched = (0..legs).filter(|leg| band.touches(*leg)).count();
                prop_assert_eq!(touched, band.touched().count());
            }
            prop_assert_eq!(seen.len() as u64, len);
        }
    }
}
