//! The requests that wait, and can be given up when their callers die.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::Interruption;
use crate::wire::Header;

/// The requests that wait, by their identity.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<u64, Caller>>);

/// Who waits.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) pid: u32,
    inode: u64,
    pub(super) ends: Ends,
    pub(super) interruption: Arc<Interruption>,
}

/// What its caller must have got for a request to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// A signal that kills it.
    Killed,
    /// Any signal.
    Signalled,
}

impl Waiting {
    pub(super) fn add(&self, header: &Header, ends: Ends) -> Arc<Interruption> {
        let interruption = Arc::<Interruption>::default();
        let (pid, inode) = (header.caller.pid, header.inode);
        let caller = Caller { pid, inode, ends, interruption: interruption.clone() };
        self.callers().insert(header.unique, caller);
        interruption
    }

    pub(super) fn remove(&self, unique: u64) {
        self.callers().remove(&unique);
    }

    /// Tells whether a request about this inode waits.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.callers().values().any(|caller| caller.inode == inode)
    }

    pub(super) fn find(&self, unique: u64) -> Option<Caller> {
        self.callers().get(&unique).cloned()
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<u64, Caller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
