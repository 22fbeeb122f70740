//! `io-affinity`: the path that is for the processor on which the bio was sent.

use std::collections::BTreeMap;

use sim_core::Runtime;

use super::{Choice, Choose};
use crate::lines::multipath::ProcessorMask;

pub(super) struct IoAffinity {
    /// The path of each processor that has one.
    paths: BTreeMap<u32, usize>,
    failed: Vec<bool>,
    /// Bios sent on processors that have none.
    misses: u64,
}

impl IoAffinity {
    /// The first path that names a processor has it.
    pub(super) fn new<'a>(masks: impl Iterator<Item = &'a ProcessorMask>) -> IoAffinity {
        let (mut paths, mut failed) = (BTreeMap::new(), Vec::new());
        for (path, mask) in masks.enumerate() {
            mask.iter().for_each(|processor| _ = paths.entry(processor).or_insert(path));
            failed.push(false);
        }
        IoAffinity { paths, failed, misses: 0 }
    }
}

impl Choose for IoAffinity {
    fn choose(&mut self, _bytes: u64, runtime: &dyn Runtime) -> Option<Choice> {
        let own = self.paths.get(&runtime.processor()).copied();
        let missed = own.is_none();
        self.misses += u64::from(missed);
        let mut paths = own.into_iter().chain(self.paths.values().copied());
        let path = paths.find(|path| !self.failed[*path])?;
        Some(Choice { path, mark: missed.into() })
    }

    fn put_back(&mut self, choice: Choice) {
        self.misses -= choice.mark as u64;
    }

    fn fail(&mut self, path: usize) {
        self.failed[path] = true;
    }

    fn reinstate(&mut self, path: usize) {
        self.failed[path] = false;
    }

    fn info(&self, _path: usize) -> Vec<u64> {
        vec![self.misses]
    }
}
