//! A gate that bios pass: counts those inside, can be closed, and tells when it is empty.

use crate::Signal;
use crate::sync::primitives::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Set while nobody may enter.
const CLOSED: u64 = 1 << 63;
/// Set when nobody will ever enter again.
const GONE: u64 = 1 << 62;
/// Which of the two counts whoever enters now is in.
const TURN: u64 = 1 << 61;
/// Bits of one count; the other lies above it.
const COUNT_BITS: u32 = 30;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Counts who is inside, and keeps others out while it is closed.
///
/// The order of a close and an enter is decided by one atomic word, so a closer that has seen
/// the gate empty knows that nobody is inside. There are two counts in it: who enters is counted
/// in one of them, and [`turned_over`](Self::turned_over) waits for the other.
#[derive(Debug, Default)]
pub struct Gate {
    word: AtomicU64,
    /// Somebody waits for those who were inside, while others enter.
    turning: AtomicBool,
    waiting: Signal,
}

/// The right to be inside a [`Gate`]; leaves it when dropped.
#[derive(Debug)]
#[must_use]
pub struct Pass<'a> {
    gate: &'a Gate,
    /// What one is in the count that it was counted in.
    one: u64,
}

/// The gate will never open again.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Gate {
    /// Enters, unless the gate is closed.
    pub fn try_enter(&self) -> Option<Pass<'_>> {
        // Look first: to step in and out of a closed gate wakes those who wait for it, and one
        // who waits to enter would wake itself for ever.
        let word = self.word.load(SeqCst);
        if word & (CLOSED | GONE) != 0 {
            return None;
        }
        let one = one(word);
        if self.word.fetch_add(one, SeqCst) & (CLOSED | GONE) == 0 {
            return Some(Pass { gate: self, one });
        }
        self.leave(one);
        None
    }

    /// Enters as soon as the gate is open.
    pub async fn enter(&self) -> Result<Pass<'_>, Gone> {
        self.until(|word| if word & GONE != 0 { Some(Err(Gone)) } else { self.try_enter().map(Ok) })
            .await
    }

    /// Keeps everybody out from now on; those inside stay.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, SeqCst);
    }

    /// Lets everybody in who waits.
    pub fn open(&self) {
        self.word.fetch_and(!CLOSED, SeqCst);
        self.wake();
    }

    /// Turns everybody away who waits or comes.
    pub fn demolish(&self) {
        self.word.fetch_or(GONE, SeqCst);
        self.wake();
    }

    /// Returns how many are inside.
    pub fn inside(&self) -> u64 {
        inside(self.word.load(SeqCst))
    }

    /// Waits until nobody is inside.
    pub async fn drained(&self) {
        self.until(|word| (inside(word) == 0).then_some(())).await;
    }

    /// Waits until everybody who was inside when it was called has left. Others may enter
    /// meanwhile. Whoever is inside must not wait for it.
    pub async fn turned_over(&self) {
        // One after the other: of two who change turns in alternation, one would wait for the same
        // count twice.
        let _turning = self.waiting.until(|| Turning::begin(self)).await;
        // Twice: one who looked which count is in turn before the first change, and was counted
        // after it, is in the count that the second change waits for.
        for _ in 0..2 {
            let before = one(self.word.fetch_xor(TURN, SeqCst));
            self.until(|word| ((word / before) & COUNT == 0).then_some(())).await;
        }
    }

    async fn until<T>(&self, mut ready: impl FnMut(u64) -> Option<T>) -> T {
        self.waiting.until(|| ready(self.word.load(SeqCst))).await
    }

    fn leave(&self, one: u64) {
        let before = self.word.fetch_sub(one, SeqCst);
        // Only a gate that is closed, or turned over, has someone who waits for it to be empty.
        let last = (before / one) & COUNT == 1;
        if last && (before & (CLOSED | GONE) != 0 || self.turning.load(SeqCst)) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waiting.notify();
    }
}

/// Returns what one is in the count that is in turn.
fn one(word: u64) -> u64 {
    if word & TURN == 0 { 1 } else { 1 << COUNT_BITS }
}

fn inside(word: u64) -> u64 {
    (word & COUNT) + (word >> COUNT_BITS & COUNT)
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.one);
    }
}

/// The one who waits for those who were inside.
struct Turning<'a>(&'a Gate);

impl Turning<'_> {
    /// Begins, unless somebody else is at it.
    fn begin(gate: &Gate) -> Option<Turning<'_>> {
        let is_free = !gate.turning.swap(true, SeqCst);
        is_free.then(|| Turning(gate))
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        self.0.turning.store(false, SeqCst);
        self.0.wake();
    }
}
