//! Sets of legs among which far copies stay.
//!
//! With `raid10_format far` and `offset`, the copies of a chunk after the first go to the next legs
//! of the same set, round the set. A set has as many legs as there are copies; where that does not
//! divide the number of legs, the last set is larger. With `raid10_use_near_sets` all legs are one
//! set.

/// The legs of a set, as consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FarSets {
    legs: usize,
    size: usize,
}

impl FarSets {
    /// Divides legs into sets of `size` legs, no more than there are legs.
    pub(super) fn new(legs: usize, size: usize) -> FarSets {
        debug_assert!((1..=legs).contains(&size), "sets of {size} of {legs} legs");
        FarSets { legs, size }
    }

    /// Returns the leg that is `by` legs further on, round the set of `leg`.
    pub(super) fn turn(self, leg: usize, by: usize) -> usize {
        let (first, size) = self.set_of(leg);
        first + (leg - first + by) % size
    }

    /// Returns the leg that is `by` legs back.
    pub(super) fn turn_back(self, leg: usize, by: usize) -> usize {
        let (_, size) = self.set_of(leg);
        self.turn(leg, size - by % size)
    }

    /// Returns the first leg of a leg's set, and how many legs it has.
    fn set_of(self, leg: usize) -> (usize, usize) {
        let last = (self.legs / self.size - 1) * self.size;
        match leg < last {
            true => (leg / self.size * self.size, self.size),
            false => (last, self.legs - last),
        }
    }
}
