//! Numbers that are given out, the lowest free one first, and given back.

use std::collections::BTreeMap;
use std::ops::Range;

/// The free numbers of a range, as runs: taking the lowest costs the same however many are taken.
#[derive(Clone, Debug)]
pub struct FreeNumbers {
    /// The end of each run, by its start.
    runs: BTreeMap<u32, u32>,
}

impl FreeNumbers {
    /// Makes a set in which all of `range` is free.
    pub fn new(range: Range<u32>) -> FreeNumbers {
        let run = (!range.is_empty()).then_some((range.start, range.end));
        FreeNumbers { runs: run.into_iter().collect() }
    }

    /// Returns the lowest free number.
    pub fn lowest(&self) -> Option<u32> {
        self.runs.keys().next().copied()
    }

    /// Returns the free numbers, in their order.
    pub fn free(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|(start, end)| *start..*end)
    }

    /// Takes a number, and tells whether it was free.
    pub fn take(&mut self, number: u32) -> bool {
        let run = self.runs.range(..=number).next_back().map(|(start, end)| *start..*end);
        let Some(run) = run.filter(|run| run.contains(&number)) else { return false };
        self.runs.remove(&run.start);
        for rest in [run.start..number, number + 1..run.end] {
            if !rest.is_empty() {
                self.runs.insert(rest.start, rest.end);
            }
        }
        true
    }

    /// Gives back a number that was taken.
    pub fn give_back(&mut self, number: u32) {
        let before = self.runs.range(..=number).next_back().map(|(start, end)| (*start, *end));
        let start = match before {
            Some((start, end)) if end == number => start,
            _ => number,
        };
        let end = self.runs.remove(&(number + 1)).unwrap_or(number + 1);
        self.runs.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_lowest_free_number_is_that_of_a_plain_set(
            steps in prop::collection::vec((0..20u32, any::<bool>()), 0..100)
        ) {
            let mut numbers = FreeNumbers::new(2..18);
            let mut model: BTreeSet<u32> = (2..18).collect();
            for (number, takes) in steps {
                if takes {
                    prop_assert_eq!(numbers.take(number), model.remove(&number));
                } else if (2..18).contains(&number) && model.insert(number) {
                    numbers.give_back(number);
                }
                prop_assert_eq!(numbers.lowest(), model.first().copied());
                prop_assert_eq!(numbers.free().collect::<BTreeSet<_>>(), model.clone());
            }
        }
    }
}
