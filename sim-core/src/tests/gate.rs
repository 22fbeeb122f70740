use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use futures_util::FutureExt;

use crate::{Gate, Gone};

#[test]
fn a_closed_gate_lets_nobody_in_and_those_inside_out() {
    let gate = Gate::default();
    let pass = gate.try_enter().expect("an open gate");
    gate.close();
    assert!(gate.try_enter().is_none());
    assert!(gate.drained().now_or_never().is_none());
    drop(pass);
    assert!(gate.drained().now_or_never().is_some());
    gate.open();
    assert!(gate.try_enter().is_some());
}

#[test]
fn whoever_waits_at_a_gate_that_goes_is_turned_away() {
    let gate = Gate::default();
    gate.close();
    assert!(gate.enter().now_or_never().is_none());
    gate.demolish();
    assert_eq!(gate.enter().now_or_never().map(|entered| entered.err()), Some(Some(Gone)));
}

#[test]
fn whoever_waits_at_a_closed_gate_sleeps_until_it_opens() {
    let gate = Gate::default();
    gate.close();
    let (waker, woken) = counting_waker();
    let mut enter = std::pin::pin!(gate.enter());
    let mut cx = Context::from_waker(&waker);
    assert!(enter.as_mut().poll(&mut cx).is_pending());
    assert!(gate.try_enter().is_none());
    assert_eq!(woken.load(SeqCst), 0);
    gate.open();
    assert_eq!(woken.load(SeqCst), 1);
    assert!(enter.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn a_turn_waits_for_those_who_were_inside_and_for_nobody_else() {
    let gate = Gate::default();
    let before = gate.try_enter().expect("an open gate");
    let mut turned = Box::pin(gate.turned_over());
    assert!(turned.as_mut().now_or_never().is_none());
    let after = gate.try_enter().expect("still open");
    assert_eq!(gate.inside(), 2);
    drop(before);
    // The second change of turns waits for none either: whoever came later is known to be.
    drop(after);
    assert!(turned.now_or_never().is_some());
    assert!(gate.turned_over().now_or_never().is_some(), "nobody is inside");
    let (waker, woken) = counting_waker();
    let pass = gate.try_enter();
    let mut turned = std::pin::pin!(gate.turned_over());
    assert!(turned.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(pass);
    assert_eq!(woken.load(SeqCst), 1, "the last one to leave says so");
}

#[test]
fn one_who_gives_up_waiting_for_those_inside_leaves_it_to_the_next() {
    let gate = Gate::default();
    let pass = gate.try_enter().expect("an open gate");
    let mut first = Box::pin(gate.turned_over());
    assert!(first.as_mut().now_or_never().is_none());
    let (waker, woken) = counting_waker();
    let mut next = std::pin::pin!(gate.turned_over());
    let mut cx = Context::from_waker(&waker);
    assert!(next.as_mut().poll(&mut cx).is_pending());
    drop(first);
    assert_eq!(woken.load(SeqCst), 1, "it is the next one's turn");
    assert!(next.as_mut().poll(&mut cx).is_pending());
    drop(pass);
    assert!(next.as_mut().poll(&mut cx).is_ready());
}

/// A waker that counts how often it is called.
fn counting_waker() -> (Waker, Arc<AtomicU64>) {
    struct Count(Arc<AtomicU64>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let count = Arc::new(AtomicU64::new(0));
    (Arc::new(Count(count.clone())).into(), count)
}
