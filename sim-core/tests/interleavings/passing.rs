//! Bios that pass a gate, and those who close it or wait for it.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicU32, Ordering::SeqCst};
use shuttle::thread;

use crate::sync::gate::{Gate, Gone};
use crate::{join, try_interleavings};

#[test]
fn nobody_is_inside_a_gate_that_is_closed_and_drained_and_all_enter_when_it_opens() {
    try_interleavings(|| {
        let (gate, inside) = (Arc::new(Gate::default()), Arc::new(AtomicU32::new(0)));
        let bios = [(); 3].map(|()| {
            let (gate, inside) = (gate.clone(), inside.clone());
            thread::spawn(move || {
                let _pass = block_on(gate.enter()).expect("the gate stays");
                inside.fetch_add(1, SeqCst);
                inside.fetch_sub(1, SeqCst);
            })
        });
        gate.close();
        block_on(gate.drained());
        // Two looks: others run before each.
        assert_eq!((inside.load(SeqCst), inside.load(SeqCst)), (0, 0));
        gate.open();
        join(bios);
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn whoever_passes_or_waits_at_a_gate_that_goes_comes_to_an_end() {
    try_interleavings(|| {
        let gate = Arc::new(Gate::default());
        let bios = [(); 2].map(|()| {
            let gate = gate.clone();
            thread::spawn(move || block_on(gate.enter()).map(drop))
        });
        gate.close();
        gate.demolish();
        block_on(gate.drained());
        assert_eq!(block_on(gate.enter()).map(drop), Err(Gone));
        let _passed_or_turned_away = join(bios);
    });
}

/// How often each of those who wait for the ones inside has begun to, and has ended: a byte each,
/// so that one look tells.
#[derive(Default)]
struct Turns {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// Sends a bio through a gate while some wait, each so often, for those who were inside.
fn turn_over(waiting: u32, times: u32) {
    let (gate, turns) = (Arc::new(Gate::default()), Arc::new(Turns::default()));
    let bio = {
        let (gate, turns) = (gate.clone(), turns.clone());
        thread::spawn(move || {
            let _pass = gate.try_enter().expect("nobody closes the gate");
            let begun = turns.begun.load(SeqCst).to_le_bytes();
            // Looks now and then: the longer it stays, the more happens meanwhile.
            for _ in 0..8 {
                let ended = turns.ended.load(SeqCst).to_le_bytes();
                let in_time = begun.iter().zip(ended).all(|(begun, ended)| ended <= *begun);
                assert!(in_time, "one who was inside at the call is inside after it");
            }
        })
    };
    let waiting = (0..waiting).map(|who| {
        let (gate, turns, one) = (gate.clone(), turns.clone(), 1 << (8 * who));
        thread::spawn(move || {
            for _ in 0..times {
                turns.begun.fetch_add(one, SeqCst);
                block_on(gate.turned_over());
                turns.ended.fetch_add(one, SeqCst);
            }
        })
    });
    let waiting: Vec<_> = waiting.collect();
    join(waiting);
    join([bio]);
}

#[test]
fn whoever_was_inside_has_left_when_the_gate_has_turned_over() {
    try_interleavings(|| turn_over(1, 2));
}

#[test]
fn so_has_he_where_two_turn_the_gate_over_at_once() {
    // It takes five changes of threads at certain moments to go wrong: chance needs longer.
    shuttle::check_random(|| turn_over(2, 1), 100_000);
}
