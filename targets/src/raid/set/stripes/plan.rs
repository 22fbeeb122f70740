//! What has to be read before rows of a stripe are written, or before what a leg lacks is known.

use std::cmp::Ordering;

use crate::raid::layout::Stripe;

/// How new data gets its parity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The old data under the new, and the old parity, are read; the parity is changed by the
    /// difference.
    Modify(Vec<usize>),
    /// So much is read that all data is known; the parity is computed anew.
    Compute(Vec<usize>),
}

impl Plan {
    /// Returns the legs that are read.
    pub(super) fn into_reads(self) -> Vec<usize> {
        let (Plan::Modify(reads) | Plan::Compute(reads)) = self;
        reads
    }
}

/// Plans a write of some legs' data, which come in a row: the way with less to be read. None where
/// what is to be read cannot be known, as too many legs are lost.
///
/// `modifies` says whether the parity is known to be right: only then may it be changed.
pub(super) fn write(
    stripe: &Stripe,
    is_written: impl Fn(usize) -> bool,
    is_readable: impl Fn(usize) -> bool,
    is_alive: impl Fn(usize) -> bool,
    modifies: bool,
) -> Option<Plan> {
    let mut parities = stripe.parities().filter(|leg| is_alive(*leg)).peekable();
    if parities.peek().is_none() {
        return Some(Plan::Compute(Vec::new()));
    }
    let under: Vec<usize> = stripe.data().filter(|leg| is_written(*leg)).chain(parities).collect();
    let modify = modifies && under.iter().all(|leg| is_readable(*leg));
    let compute = to_know(stripe, |leg| !is_written(leg), is_readable);
    match compute {
        Some(reads) => {
            let solves = reads.iter().any(|leg| stripe.parities().any(|parity| parity == *leg));
            // Where both read the same, that is better which has less to compute.
            Some(match (reads.len() + usize::from(solves)).cmp(&under.len()) {
                Ordering::Greater if modify => Plan::Modify(under),
                _ => Plan::Compute(reads),
            })
        }
        None => modify.then_some(Plan::Modify(under)),
    }
}

/// Says which legs are to be read for the data of those that are wanted: others, too, where these
/// cannot be read. None where it cannot be known.
pub(super) fn to_know(
    stripe: &Stripe,
    is_wanted: impl Fn(usize) -> bool,
    is_readable: impl Fn(usize) -> bool,
) -> Option<Vec<usize>> {
    let lost = stripe.data().filter(|leg| !is_readable(*leg)).count();
    if stripe.data().all(|leg| is_readable(leg) || !is_wanted(leg)) {
        return Some(stripe.data().filter(|leg| is_wanted(*leg)).collect());
    }
    let mut legs: Vec<usize> = stripe.data().filter(|leg| is_readable(*leg)).collect();
    let parities = stripe.parities().filter(|leg| is_readable(*leg)).take(lost);
    let before = legs.len();
    legs.extend(parities);
    (legs.len() - before == lost).then_some(legs)
}

#[cfg(test)]
mod tests {
    use sim_core::{Sector, Sectors};

    use super::*;
    use crate::raid::layout::Parity;

    /// The first stripe of a set with P on the second last leg and Q on the last, or P on the last.
    fn stripe(level: u32, legs: usize) -> Stripe {
        let parity = Parity::new(level, 5, legs, Sectors(8), Sectors(64)).expect("a layout");
        parity.stripe_at(Sector::ZERO)
    }

    fn planned(level: u32, legs: usize, written: &[usize], lost: &[usize]) -> Option<Plan> {
        let readable = |leg: usize| !lost.contains(&leg);
        write(&stripe(level, legs), |leg| written.contains(&leg), readable, readable, true)
    }

    #[test]
    fn the_way_with_less_to_read_is_taken() {
        assert_eq!(planned(5, 6, &[0, 1, 2, 3, 4], &[]), Some(Plan::Compute(vec![])));
        assert_eq!(planned(5, 6, &[1], &[]), Some(Plan::Modify(vec![1, 5])));
        assert_eq!(planned(5, 6, &[1, 2], &[]), Some(Plan::Compute(vec![0, 3, 4])));
        assert_eq!(planned(5, 6, &[0, 1, 2, 3], &[]), Some(Plan::Compute(vec![4])));
        assert_eq!(planned(6, 8, &[1], &[]), Some(Plan::Modify(vec![1, 6, 7])));
        assert_eq!(planned(6, 6, &[1], &[]), Some(Plan::Compute(vec![0, 2, 3])));
    }

    #[test]
    fn what_is_lost_is_computed_or_not_needed() {
        // What is written is lost: the others tell the parity.
        assert_eq!(planned(5, 6, &[1], &[1]), Some(Plan::Compute(vec![0, 2, 3, 4])));
        // Another is lost: the parity is changed, or the lost one computed first.
        assert_eq!(planned(5, 4, &[0, 1], &[2]), Some(Plan::Modify(vec![0, 1, 3])));
        assert_eq!(planned(6, 5, &[0], &[1, 2]), Some(Plan::Modify(vec![0, 3, 4])));
        assert_eq!(planned(6, 5, &[0], &[0, 1]), Some(Plan::Compute(vec![2, 3, 4])));
        // Without its leg nothing is to be done for the parity.
        assert_eq!(planned(5, 6, &[1], &[5]), Some(Plan::Compute(vec![])));
        assert_eq!(planned(6, 8, &[1], &[7]), Some(Plan::Modify(vec![1, 6])));
        assert_eq!(planned(5, 4, &[0], &[0, 1]), None);
        assert_eq!(planned(6, 5, &[0], &[0, 1, 2]), None);
    }

    #[test]
    fn parity_that_may_be_wrong_is_computed_anew() {
        let plan = write(&stripe(5, 6), |leg| leg == 1, |_| true, |_| true, false);
        assert_eq!(plan, Some(Plan::Compute(vec![0, 2, 3, 4])));
    }
}
