//! What is known of groups and paths, and how a path is found.

use std::sync::Arc;

use sim_core::{Held, OpenDevice, Runtime};

use super::selector::{Choice, Choose, selector};
use crate::lines::multipath::{GroupState, Line};

/// The state of a multipath device.
pub(super) struct State {
    pub(super) groups: Vec<Group>,
    /// The group in use.
    current: Option<usize>,
    /// The group that is tried first, next time.
    next: Option<usize>,
    /// No group has been in use yet.
    pub(super) queues: bool,
    /// Bios wait while no path is left.
    pub(super) queue_if_no_path: bool,
    /// What a suspend has switched off, and the resume switches on again.
    pub(super) saved: bool,
    /// A suspend is under way, or over.
    suspending: Option<Held>,
    /// Paths that have not failed.
    live: usize,
}

/// Paths of one priority.
pub(super) struct Group {
    pub(super) selector: Box<dyn Choose>,
    pub(super) paths: Vec<Path>,
    /// It is left aside as long as another group has a path.
    pub(super) is_bypassed: bool,
}

/// What happened to a path.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) is_active: bool,
    pub(super) failures: u32,
}

/// Which path a bio goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) group: usize,
    pub(super) choice: Choice,
}

/// What becomes of a bio for which there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPath {
    /// It waits for one.
    Wait,
    /// It goes back to the core, which keeps it until the resume.
    HandBack,
    /// It fails.
    Fail,
}

impl State {
    pub(super) fn new(line: &Line<Arc<OpenDevice>>) -> State {
        let groups: Vec<Group> = line
            .groups
            .iter()
            .map(|group| Group {
                selector: selector(group),
                paths: vec![Path { is_active: true, failures: 0 }; group.paths.len()],
                is_bypassed: false,
            })
            .collect();
        State {
            live: groups.iter().map(|group| group.paths.len()).sum(),
            groups,
            current: None,
            next: line.first,
            queues: true,
            queue_if_no_path: line.features.queue_if_no_path,
            saved: false,
            suspending: None,
        }
    }

    /// Returns how many paths have not failed.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Returns the group that a text shows: the next, or the current one.
    pub(super) fn shown_group(&self) -> Option<usize> {
        self.next.or(self.current)
    }

    /// Returns the paths that have not failed, with their groups: those of the current group first.
    pub(super) fn active_paths(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let of_group = |group: usize| {
            let paths = self.groups[group].paths.iter().enumerate();
            paths.filter(|(_, path)| path.is_active).map(move |(path, _)| (group, path))
        };
        self.current.into_iter().chain(0..self.groups.len()).flat_map(of_group)
    }

    /// Returns what a status says of a group's use.
    pub(super) fn group_state(&self, group: usize) -> GroupState {
        match (self.groups[group].is_bypassed, self.current == Some(group)) {
            (true, _) => GroupState::Disabled,
            (false, true) => GroupState::Active,
            (false, false) => GroupState::Enabled,
        }
    }

    /// Chooses a path for a bio of so many bytes: in the group that a message or the line wants next,
    /// else in the one in use, else in the first that has one; in those that are disabled last.
    pub(super) fn choose(&mut self, bytes: u64, runtime: &dyn Runtime) -> Option<Chosen> {
        if self.live == 0 {
            (self.queues, self.current) = (false, None);
            return None;
        }
        let wanted = [self.next.take(), self.current];
        let wanted = wanted.into_iter().flatten();
        let all = [false, true].into_iter().flat_map(|bypassed| {
            let groups = self.groups.iter().enumerate();
            groups.filter(move |(_, group)| group.is_bypassed == bypassed).map(|(nr, _)| nr)
        });
        let order: Vec<usize> = wanted.chain(all).collect();
        let found = order.into_iter().find_map(|group| {
            let choice = self.groups[group].selector.choose(bytes, runtime)?;
            Some(Chosen { group, choice })
        });
        self.current = found.map(|found| found.group);
        self.queues &= found.is_none();
        found
    }

    /// Says what becomes of a bio for which there is no path.
    pub(super) fn no_path(&self) -> NoPath {
        match (self.suspending, self.queue_if_no_path) {
            (Some(Held::NoFlush), _) => NoPath::HandBack,
            (_, true) => NoPath::Wait,
            (_, false) => NoPath::Fail,
        }
    }

    /// Takes a path out of use; tells whether it was in use.
    pub(super) fn fail(&mut self, group: usize, path: usize) -> bool {
        let group = &mut self.groups[group];
        let state = &mut group.paths[path];
        if !state.is_active {
            return false;
        }
        state.is_active = false;
        state.failures = state.failures.wrapping_add(1);
        group.selector.fail(path);
        self.live -= 1;
        true
    }

    /// Takes a path into use again; tells whether it was out of use.
    pub(super) fn reinstate(&mut self, group: usize, path: usize) -> bool {
        let group = &mut self.groups[group];
        let state = &mut group.paths[path];
        if state.is_active {
            return false;
        }
        state.is_active = true;
        group.selector.reinstate(path);
        self.live += 1;
        true
    }

    /// Leaves a group aside as long as another has a path, or no more. Which one is used is found anew.
    pub(super) fn bypass(&mut self, group: usize, bypassed: bool) {
        self.groups[group].is_bypassed = bypassed;
        self.current = None;
    }

    /// Wants a group next. None is left aside any more, as the kernel has it.
    pub(super) fn switch_to(&mut self, group: usize) {
        self.groups.iter_mut().for_each(|group| group.is_bypassed = false);
        (self.current, self.next) = (None, Some(group));
    }

    /// Lets bios wait while no path is left, or fail.
    pub(super) fn set_queueing(&mut self, on: bool) {
        self.queue_if_no_path = on;
        self.saved &= on;
    }

    /// Gets ready for a suspend. `keeps` is whether bios go on waiting: they are handed back then.
    pub(super) fn suspend(&mut self, held: Held, keeps: bool) {
        self.suspending = Some(held);
        if !keeps {
            self.saved |= self.queue_if_no_path;
            self.queue_if_no_path = false;
        }
    }

    pub(super) fn resume(&mut self) {
        self.suspending = None;
        self.queue_if_no_path |= std::mem::take(&mut self.saved);
    }
}
