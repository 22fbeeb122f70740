//! A copy of a caller's memory that does not come back.
//!
//! Memory may lie on a userfaultfd that nobody serves, or on a file that does not answer, and no signal of ours ends
//! the wait for it. A caller that is killed meanwhile sleeps in its call until it has an answer, and with it all that
//! it holds, what would end the wait among it. So it has its answer at once, and the thread that copies is left where
//! it is, until what it waits for comes or goes.
//!
//! With its answer the caller goes, and its thread's number may be another's. The copy that is under way has hold of
//! the memory itself; no other is begun.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::thread::gettid;

/// The numbers of process_vm_readv(2) and process_vm_writev(2).
#[cfg(target_arch = "x86_64")]
const COPIES: [&str; 2] = ["310", "311"];
#[cfg(not(target_arch = "x86_64"))]
const COPIES: [&str; 2] = ["270", "271"];

/// Whether a caller's memory is being copied.
#[derive(Debug, Default)]
pub(super) struct Copying(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Not,
    /// By this thread of ours; and whether it was found asleep in it before.
    By(i32, bool),
    /// Nobody waits for it any more.
    Abandoned,
}

impl Copying {
    /// Makes one copy; nothing where nobody waits for it any more, before or after.
    pub(super) fn one<T>(&self, copy: impl FnOnce() -> T) -> Option<T> {
        match &mut *self.state() {
            State::Abandoned => return None,
            state => *state = State::By(gettid().as_raw_nonzero().get(), false),
        }
        let done = copy();
        match &mut *self.state() {
            State::Abandoned => None,
            state => {
                *state = State::Not;
                Some(done)
            }
        }
    }

    /// Abandons a copy that sleeps, and slept when it was asked before: it has hold of the memory then. Tells
    /// whether it is abandoned; to be asked again where it is not.
    pub(super) fn abandon(&self) -> bool {
        match &mut *self.state() {
            State::Not => false,
            State::Abandoned => true,
            state @ State::By(_, true) => {
                let State::By(thread, _) = *state else { return false };
                let sleeps = sleeps_in_copy(thread);
                *state = if sleeps { State::Abandoned } else { State::By(thread, false) };
                sleeps
            }
            State::By(thread, slept) => {
                *slept = sleeps_in_copy(*thread);
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sleeps_in_copy(thread: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    text.split(' ').next().is_some_and(|number| COPIES.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_abandoned_only_where_it_sleeps() {
        let copying = Copying::default();
        assert!(!copying.abandon());
        // It is under way, and asleep somewhere else.
        let done = copying.one(|| (copying.abandon(), copying.abandon(), copying.abandon()));
        assert_eq!(done, Some((false, false, false)));
        assert!(!copying.abandon());
        *copying.state() = State::Abandoned;
        assert!(copying.abandon());
        assert_eq!(copying.one(|| 1), None);
    }
}
