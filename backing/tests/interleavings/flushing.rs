//! Flushes that are asked for while a sync runs, has ended, or has failed.

use std::io;
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use shuttle::thread;
use sim_core::{BlkError, BlkResult, Errno};

use crate::image::health::{Fault, Health};
use crate::runtime::flusher::Flusher;
use crate::{join, try_interleavings};

/// What the syncs of an image do.
#[derive(Default)]
struct Syncs {
    begun: AtomicU32,
    /// Those that ended well.
    ended: AtomicU32,
    failed: AtomicBool,
}

impl Syncs {
    fn sync(&self, failing: Option<u32>) -> io::Result<()> {
        assert!(!self.failed.load(SeqCst), "no sync after a failed one");
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        if Some(number) == failing {
            self.failed.store(true, SeqCst);
            return Err(io::Error::from_raw_os_error(Errno::NOSPC.0));
        }
        self.ended.store(number, SeqCst);
        Ok(())
    }

    /// Asks for a flush and waits for its answer.
    fn flush(&self, flusher: &Flusher) -> BlkResult {
        let (begun, failed) = (self.begun.load(SeqCst), self.failed.load(SeqCst));
        let answer = block_on(flusher.flush());
        match answer {
            Ok(()) => {
                assert!(!failed, "a flush is good after a sync has failed");
                assert!(self.ended.load(SeqCst) > begun, "a sync that began after the request");
            }
            Err(error) => {
                assert_eq!(error, BlkError::Io);
                assert!(self.failed.load(SeqCst), "nothing has failed");
            }
        }
        answer
    }
}

/// Has three flush an image, one of them twice, with a sync that fails.
fn scene(failing: Option<u32>, on_the_spot: bool) {
    let (syncs, health) = (Arc::new(Syncs::default()), Arc::new(Health::default()));
    let sync = {
        let syncs = syncs.clone();
        Box::new(move || syncs.sync(failing))
    };
    let mut flusher = Flusher::new(health.clone(), sync);
    if on_the_spot {
        flusher.sync_on_the_spot();
    }
    let flusher = Arc::new(flusher);
    let users = [1, 1, 2].map(|times| {
        let (syncs, flusher) = (syncs.clone(), flusher.clone());
        thread::spawn(move || (0..times).map(|_| syncs.flush(&flusher)).collect::<Vec<_>>())
    });
    let answers = join(users).concat();
    let failed = syncs.failed.load(SeqCst);
    assert_eq!(health.fault(), failed.then_some(Fault::Flush(Errno::NOSPC)));
    assert!(failed || answers.iter().all(Result::is_ok));
    assert_eq!(syncs.flush(&flusher).is_err(), syncs.failed.load(SeqCst));
}

#[test]
fn every_flush_ends_with_a_sync_that_began_after_it() {
    try_interleavings(|| scene(None, false));
}

#[test]
fn no_flush_is_good_after_the_first_sync_has_failed() {
    try_interleavings(|| scene(Some(1), false));
}

#[test]
fn no_flush_is_good_after_the_second_sync_has_failed() {
    try_interleavings(|| scene(Some(2), false));
}

#[test]
fn no_flush_on_the_spot_is_good_after_a_sync_has_failed() {
    try_interleavings(|| scene(Some(2), true));
}
