//! Things that are counted as long as they last, however they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// How many there are.
pub(super) type Count = Arc<AtomicUsize>;

/// One of those that are counted.
pub(super) struct Counted(Count);

impl Counted {
    /// Counts one more.
    pub(super) fn new(count: &Count) -> Counted {
        count.fetch_add(1, SeqCst);
        Counted(count.clone())
    }

    /// Returns how many there are.
    pub(super) fn count(count: &Count) -> usize {
        count.load(SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_a_panic_is_counted_no_more() {
        let count = Count::default();
        for _ in 0..3 {
            let counted = Counted::new(&count);
            assert_eq!(Counted::count(&count), 1, "none is left of the one before");
            let panics = std::thread::spawn(move || {
                let _counted = counted;
                panic!("planted");
            });
            assert!(panics.join().is_err());
        }
        assert_eq!(Counted::count(&count), 0);
    }
}
