//! Futures that are mostly ready at once, on two processors.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use sim_core::Runtime;

/// Polls futures, half of them on another processor where the runtime has one to spare. Returns what those
/// came to that have ended, and the others, which whoever awaits them polls again: nothing wakes them before.
pub(crate) fn begin<F>(runtime: &dyn Runtime, futures: Vec<F>) -> (Vec<F::Output>, Vec<Pin<Box<F>>>)
where
    F: Future + Send,
    F::Output: Send,
{
    let mut one: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut other = one.split_off(one.len().div_ceil(2));
    let (mut ended, mut ended_there) = (Vec::new(), Vec::new());
    match other.is_empty() {
        true => poll_each(&mut one, &mut ended),
        false => runtime.join(&mut || poll_each(&mut one, &mut ended), &mut || {
            poll_each(&mut other, &mut ended_there);
        }),
    }
    ended.append(&mut ended_there);
    one.append(&mut other);
    (ended, one)
}

/// Polls each once, and leaves those that have not ended.
fn poll_each<F: Future>(futures: &mut Vec<Pin<Box<F>>>, ended: &mut Vec<F::Output>) {
    futures.retain_mut(|future| {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => {
                ended.push(output);
                false
            }
            Poll::Pending => true,
        }
    });
}
