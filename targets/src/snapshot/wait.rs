//! What a bio has to wait for in a snapshot.

use std::sync::Arc;

use sim_core::{BlkResult, Outcome};

/// What somebody waits for before looking again.
pub(super) enum Wait {
    Copy(Arc<Outcome<BlkResult>>),
    Invalid(Arc<Outcome<()>>),
}

impl Wait {
    pub(super) async fn end(&self) {
        match self {
            // Whether it went well shows when the snapshot is looked at again.
            Wait::Copy(done) => drop(done.wait().await),
            Wait::Invalid(done) => done.wait().await,
        }
    }
}
