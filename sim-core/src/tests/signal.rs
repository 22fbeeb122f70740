use futures_util::FutureExt;

use crate::Outcome;

#[test]
fn an_outcome_is_the_same_for_all_who_wait() {
    let outcome = Outcome::new();
    let (mut one, mut other) = (Box::pin(outcome.wait()), Box::pin(outcome.wait()));
    assert_eq!((one.as_mut().now_or_never(), other.as_mut().now_or_never()), (None, None));
    outcome.set(7);
    assert_eq!((one.now_or_never(), other.now_or_never()), (Some(7), Some(7)));
    assert_eq!(outcome.wait().now_or_never(), Some(7));
}
