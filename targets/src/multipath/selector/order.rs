//! The paths that have not failed, the one whose turn it is first.

use std::collections::VecDeque;

use super::Choice;

/// The paths that have not failed, in an order.
pub(super) struct Order(VecDeque<usize>);

impl Order {
    pub(super) fn new(count: usize) -> Order {
        Order((0..count).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the first path than which none is better, and puts it at the end.
    pub(super) fn take_best(&mut self, is_better: impl Fn(usize, usize) -> bool) -> Option<Choice> {
        let mut best = 0;
        for mark in 1..self.0.len() {
            if is_better(self.0[mark], self.0[best]) {
                best = mark;
            }
        }
        let path = self.0.remove(best)?;
        self.0.push_back(path);
        Some(Choice { path, mark: best })
    }

    pub(super) fn put_back(&mut self, choice: Choice) {
        // Unless it has failed meanwhile.
        if let Some(at) = self.0.iter().rposition(|path| *path == choice.path) {
            self.0.remove(at);
            self.0.insert(choice.mark.min(self.0.len()), choice.path);
        }
    }

    pub(super) fn fail(&mut self, path: usize) {
        self.0.retain(|other| *other != path);
    }

    pub(super) fn add_first(&mut self, path: usize) {
        self.0.push_front(path);
    }

    pub(super) fn add_last(&mut self, path: usize) {
        self.0.push_back(path);
    }
}
