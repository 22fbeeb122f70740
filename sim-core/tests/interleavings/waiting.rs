//! Those who wait for a condition, and those who bring it about.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicU32, Ordering::SeqCst};
use shuttle::thread;

use crate::sync::signal::{Outcome, Signal};
use crate::{join, try_interleavings};

#[test]
fn nobody_sleeps_through_what_he_waits_for() {
    try_interleavings(|| {
        let shared = Arc::new((AtomicU32::new(0), Signal::default()));
        let waiting = [1, 2].map(|wanted| {
            let shared = shared.clone();
            thread::spawn(move || {
                let (count, signal) = &*shared;
                block_on(signal.until(|| (count.load(SeqCst) >= wanted).then_some(())));
            })
        });
        let (count, signal) = &*shared;
        for _ in 0..2 {
            count.fetch_add(1, SeqCst);
            signal.notify();
        }
        join(waiting);
    });
}

#[test]
fn all_who_wait_for_an_outcome_learn_it() {
    try_interleavings(|| {
        let outcome = Arc::new(Outcome::new());
        let waiting = [(); 2].map(|()| {
            let outcome = outcome.clone();
            thread::spawn(move || block_on(outcome.wait()))
        });
        outcome.set(7);
        assert!(outcome.has_ended());
        assert_eq!(join(waiting), [7, 7]);
    });
}
