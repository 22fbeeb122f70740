use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::{io, thread};

use sim_core::BlkError;

use crate::block_on;
use crate::image::health::Health;
use crate::runtime::flusher::Flusher;

fn flusher(sync: impl FnMut() -> io::Result<()> + Send + 'static) -> (Flusher, Arc<Health>) {
    let health = Arc::new(Health::default());
    (Flusher::new(health.clone(), Box::new(sync)), health)
}

#[test]
fn flushes_asked_for_before_a_sync_starts_share_it() {
    let syncs = Arc::new(AtomicU32::new(0));
    let (entered, at_work) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let counted = syncs.clone();
    let (flusher, _health) = flusher(move || {
        counted.fetch_add(1, SeqCst);
        entered.send(()).unwrap();
        gate.recv().unwrap();
        Ok(())
    });
    let first = flusher.flush();
    at_work.recv().unwrap();
    // The first sync is under way: these came too late for it.
    let later = [flusher.flush(), flusher.flush(), flusher.flush()];
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(block_on(first), Ok(()));
    for flush in later {
        assert_eq!(block_on(flush), Ok(()));
    }
    assert_eq!(syncs.load(SeqCst), 2);
}

#[test]
fn the_first_error_is_final_and_says_why() {
    let mut calls = 0;
    let (flusher, health) = flusher(move || {
        calls += 1;
        assert_eq!(calls, 1, "no sync after a failed one");
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    });
    assert_eq!(block_on(flusher.flush()), Err(BlkError::Io));
    assert_eq!(block_on(flusher.flush()), Err(BlkError::Io));
    let why = health.fault().expect("poisoned").text();
    assert!(why.contains("No space left on device"), "{why}");
}

#[test]
fn a_flush_on_the_spot_is_over_when_it_was_asked_for_and_its_first_error_is_final() {
    let here = thread::current().id();
    let mut calls = 0;
    let (mut flusher, health) = flusher(move || {
        assert_eq!(thread::current().id(), here);
        calls += 1;
        assert!(calls < 3, "no sync after a failed one");
        if calls == 1 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    });
    flusher.sync_on_the_spot();
    assert_eq!(block_on(flusher.flush()), Ok(()));
    assert_eq!(block_on(flusher.flush()), Err(BlkError::Io));
    assert!(!health.is_good());
    assert_eq!(block_on(flusher.flush()), Err(BlkError::Io));
}

#[test]
fn a_flush_that_nobody_waits_for_is_carried_out_all_the_same() {
    let (done, was_done) = mpsc::channel();
    let (flusher, _health) = flusher(move || {
        done.send(()).unwrap();
        Ok(())
    });
    drop(flusher.flush());
    was_done.recv().unwrap();
}
