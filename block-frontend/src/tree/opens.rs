//! Sees that a program opens or closes a node of the tree.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;

/// Room for many events: what they say is of no interest.
const ROOM: usize = 1 << 14;

/// Watches nodes. The kernel notes an open before the program that opens goes on, so nobody who asks
/// later is told of an earlier state. A mount opens no node by its name; mount(8) looks at it before.
#[derive(Debug)]
pub(super) struct Opens {
    /// Nothing where the kernel gave none: then anything may have happened each time.
    events: Option<OwnedFd>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    changes: u64,
    /// There is a node that could not be watched: anything may have happened.
    is_blind: bool,
}

impl Opens {
    pub(super) fn new() -> Opens {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Opens { events, seen: Mutex::default() }
    }

    /// Watches a node, also one that is watched already.
    pub(super) fn watch(&self, node: &Path) {
        let Some(events) = &self.events else { return };
        let what = WatchFlags::OPEN
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CLOSE_NOWRITE
            | WatchFlags::DONT_FOLLOW;
        match add_watch(events, node, what) {
            // A program has taken it away.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(_) => self.seen().is_blind = true,
        }
    }

    /// Returns a number that is another one after each open and close.
    pub(super) fn changes(&self) -> u64 {
        // Held until it is counted: who comes meanwhile finds no event any more.
        let mut seen = self.seen();
        let mut room = [0; ROOM];
        let has_changed = match &self.events {
            Some(events) => loop {
                match rustix::io::read(events, &mut room) {
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break seen.is_blind,
                    // There may be more, which the next one finds.
                    Ok(_) | Err(_) => break true,
                }
            },
            None => true,
        };
        seen.changes += u64::from(has_changed);
        seen.changes
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn an_open_and_a_close_are_seen_at_once_and_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (node, other) = (dir.path().join("node"), dir.path().join("other"));
        fs::write(&node, "").unwrap();
        fs::write(&other, "").unwrap();
        let opens = Opens::new();
        opens.watch(&node);
        opens.watch(&node);
        opens.watch(&dir.path().join("gone"));
        let quiet = opens.changes();
        drop(File::open(&other).unwrap());
        fs::metadata(&node).unwrap();
        assert_eq!(opens.changes(), quiet);
        let file = File::open(&node).unwrap();
        let open = opens.changes();
        assert!(open > quiet);
        assert_eq!(opens.changes(), open);
        drop(file);
        assert!(opens.changes() > open);
    }
}
