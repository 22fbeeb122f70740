//! Takes from a state that fails what it does not need.

use crate::recording::Recording;
use crate::state::{Kept, Loss, State};

/// Returns a state that fails as well, with the fewest lost writes that can be found by giving writes back, in parts
/// and one by one, and by moving the cut to where the last of them is lost. `fails` is asked at most `tries` times.
pub fn shrink(
    recording: &Recording,
    state: &State,
    tries: u32,
    mut fails: impl FnMut(&State) -> bool,
) -> State {
    let mut left = tries;
    let mut ask = |state: &State| {
        left = match left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        fails(state)
    };
    let mut best = state.clone();
    let mut part = best.losses.len().div_ceil(2).max(1);
    while !best.losses.is_empty() {
        let mut from = 0;
        let mut is_better = false;
        while from < best.losses.len() {
            let to = (from + part).min(best.losses.len());
            let mut fewer = best.clone();
            fewer.losses.drain(from..to);
            if ask(&fewer) {
                (best, is_better) = (fewer, true);
            } else {
                from = to;
            }
        }
        match (part, is_better) {
            (1, false) => break,
            (1, true) => {}
            _ => part = part.div_ceil(2),
        }
    }
    // What is lost as a whole is simpler than what is torn.
    for at in 0..best.losses.len() {
        if best.losses[at].kept != Kept::Nothing {
            let mut simpler = best.clone();
            simpler.losses[at].kept = Kept::Nothing;
            if ask(&simpler) {
                best = simpler;
            }
        }
    }
    let after = best.losses.last().map_or(0, |loss: &Loss| loss.entry + 1);
    let windows = recording.windows();
    for window in windows.iter().filter(|window| (after..best.cut).contains(&window.cut)) {
        let earlier = State { cut: window.cut, ..best.clone() };
        if recording.check(&earlier).is_ok() && ask(&earlier) {
            return earlier;
        }
    }
    best
}
