//! What a run has done so far: a file that is right whenever the run is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::run::Coverage;

/// Which part of the seeds a run takes: the third of sixteen, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub(crate) number: u64,
    pub(crate) of: u64,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Find {
    pub(crate) seed: u64,
    pub(crate) why: String,
    /// What it has in common with others.
    pub(crate) kind: String,
    /// Where the case is; nothing where enough of its kind are kept.
    pub(crate) file: Option<PathBuf>,
    /// The target types of the case as it was shrunk.
    pub(crate) types: Vec<String>,
}

/// What a run has done so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) seed: u64,
    pub(crate) shard: Shard,
    /// So many seeds of the shard are done, from the first on,
    pub(crate) done: u64,
    /// and these after them, by their places.
    pub(crate) done_beyond: BTreeSet<u64>,
    pub(crate) cases: u64,
    pub(crate) refused: u64,
    /// Why cases could not be set up, and how many.
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) seconds: f64,
    pub(crate) coverage: Coverage,
    pub(crate) finds: Vec<Find>,
}

/// The most kinds of refusals that are kept.
const REFUSALS: usize = 50;

impl State {
    pub(crate) fn new(seed: u64, shard: Shard) -> State {
        State {
            seed,
            shard,
            done: 0,
            done_beyond: BTreeSet::new(),
            cases: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            seconds: 0.0,
            coverage: Coverage::default(),
            finds: Vec::new(),
        }
    }

    /// Reads the file; nothing where there is none.
    pub(crate) fn read(path: &Path) -> io::Result<Option<State>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file anew, under another name first: it is whole at any time.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    /// Returns the seed at a place.
    pub(crate) fn seed_at(&self, place: u64) -> u64 {
        let at = place.wrapping_mul(self.shard.of).wrapping_add(self.shard.number - 1);
        self.seed.wrapping_add(at)
    }

    /// Tells whether the seed at a place is done.
    pub(crate) fn is_done(&self, place: u64) -> bool {
        place < self.done || self.done_beyond.contains(&place)
    }

    /// Counts the seed at a place.
    pub(crate) fn finish(&mut self, place: u64) {
        self.cases += 1;
        self.done_beyond.insert(place);
        while self.done_beyond.remove(&self.done) {
            self.done += 1;
        }
    }

    pub(crate) fn refuse(&mut self, why: &str) {
        self.refused += 1;
        let kind = crate::shrink::kind(why);
        if self.refusals.len() < REFUSALS || self.refusals.contains_key(&kind) {
            *self.refusals.entry(kind).or_default() += 1;
        }
    }

    /// Counts the finds of each kind: first seen first.
    pub(crate) fn kinds(&self) -> Vec<(&str, Vec<&Find>)> {
        let mut kinds: Vec<(&str, Vec<&Find>)> = Vec::new();
        for find in &self.finds {
            match kinds.iter_mut().find(|(kind, _)| *kind == find.kind) {
                Some((_, finds)) => finds.push(find),
                None => kinds.push((&find.kind, vec![find])),
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_seeds_out_and_miss_none() {
        let mut seeds = Vec::new();
        for number in 1..=3 {
            let state = State::new(100, Shard { number, of: 3 });
            seeds.extend((0..4).map(|place| state.seed_at(place)));
        }
        seeds.sort_unstable();
        assert_eq!(seeds, (100..112).collect::<Vec<u64>>());
    }

    #[test]
    fn seeds_that_end_out_of_order_are_counted_once() {
        let mut state = State::new(0, Shard { number: 1, of: 1 });
        state.finish(1);
        state.finish(2);
        assert_eq!((state.done, state.is_done(1), state.is_done(0)), (0, true, false));
        state.finish(0);
        assert_eq!((state.done, state.done_beyond.len()), (3, 0));
    }
}
