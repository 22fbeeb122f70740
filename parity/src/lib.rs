//! The parity of RAID-5 and RAID-6, as fast as the processor allows.
//!
//! P is the sum (XOR) of the data blocks, Q the sum of the blocks times powers of 2:
//! Q = Σ 2ᵏ · Dₖ in GF(2⁸) modulo x⁸ + x⁴ + x³ + x² + 1 (0x11d), where k is a block's place, from
//! 0: what md, btrfs and ISA-L compute, after H. Peter Anvin's "The mathematics of RAID-6".
//!
//! A block is `None` where it is nothing but zeros, as md counts the places of P and Q themselves
//! in the layouts of DDF, or where it is lost. Buffers may have any length and lie anywhere; all
//! of a call have the same length.
//!
//! Which instructions are used is found out once, see [`Backend`]; [`Parity`] is for those who
//! want others. The kernels are our own because no crate has all of this: the closest,
//! `rusty_erasure` 0.4, makes P and Q with AVX2 at most, knows neither blocks of zeros nor
//! how to recover from P and Q, and needs a newer Rust than we do.

#![deny(unsafe_code)]

use std::fmt;
use std::sync::LazyLock;

#[macro_use]
mod kernel;
mod backend;
mod field;
mod job;
mod portable;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86;

pub use backend::Backend;
use field::{ORDER, Power};
use job::{Job, Made, Onto};

/// Data blocks that one Q can tell apart.
pub const MOST_BLOCKS: usize = ORDER;

/// What each of this crate's functions uses.
static FASTEST: LazyLock<Parity> = LazyLock::new(|| Parity::with_backend(Backend::fastest()));

/// As [`Parity::xor`], by the fastest backend.
pub fn xor(dest: &mut [u8], sources: &[&[u8]]) {
    FASTEST.xor(dest, sources);
}

/// As [`Parity::xor_to`], by the fastest backend.
pub fn xor_to(dest: &mut [u8], sources: &[&[u8]]) {
    FASTEST.xor_to(dest, sources);
}

/// As [`Parity::syndromes`], by the fastest backend.
pub fn syndromes(data: &[Option<&[u8]>], p: &mut [u8], q: &mut [u8]) {
    FASTEST.syndromes(data, p, q);
}

/// As [`Parity::q`], by the fastest backend.
pub fn q(data: &[Option<&[u8]>], q: &mut [u8]) {
    FASTEST.q(data, q);
}

/// As [`Parity::scale_add`], by the fastest backend.
pub fn scale_add(dest: &mut [u8], k: usize, source: &[u8]) {
    FASTEST.scale_add(dest, k, source);
}

/// As [`Parity::replace`], by the fastest backend.
pub fn replace(k: usize, old: &[u8], new: &[u8], p: &mut [u8], q: &mut [u8]) {
    FASTEST.replace(k, old, new, p, q);
}

/// As [`Parity::recover_data_and_p`], by the fastest backend.
pub fn recover_data_and_p(
    data: &[Option<&[u8]>],
    x: usize,
    q: &[u8],
    block: &mut [u8],
    p: &mut [u8],
) {
    FASTEST.recover_data_and_p(data, x, q, block, p);
}

/// As [`Parity::recover_two_data`], by the fastest backend.
pub fn recover_two_data(
    data: &[Option<&[u8]>],
    lost: [usize; 2],
    p: &[u8],
    q: &[u8],
    blocks: [&mut [u8]; 2],
) {
    FASTEST.recover_two_data(data, lost, p, q, blocks);
}

/// Computes parity with one backend.
#[derive(Clone, Copy)]
pub struct Parity(Kernel);

#[derive(Clone, Copy)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    X86(x86::Kernel),
}

impl Parity {
    /// Takes a backend of the caller's choice, for tests and measurements.
    ///
    /// # Panics
    /// When this processor does not have what `backend` needs, see [`Backend::available`].
    pub fn with_backend(backend: Backend) -> Parity {
        Parity(match backend {
            Backend::Portable => Kernel::Portable,
            #[cfg(target_arch = "x86_64")]
            wide => Kernel::X86(x86::Kernel::new(wide)),
            #[cfg(not(target_arch = "x86_64"))]
            wide => panic!("this processor has no {wide}"),
        })
    }

    /// Adds the sources to `dest`. A lost data block is P with all others added.
    ///
    /// # Panics
    /// When the buffers differ in length.
    pub fn xor(&self, dest: &mut [u8], sources: &[&[u8]]) {
        same_len(dest.len(), sources);
        self.run(Job::Xor { dest, onto: Onto::Dest, sources });
    }

    /// Sets `dest` to the sum of the sources: P, or a lost data block.
    ///
    /// # Panics
    /// When the buffers differ in length, or there is no source.
    pub fn xor_to(&self, dest: &mut [u8], sources: &[&[u8]]) {
        assert!(!sources.is_empty(), "a sum of nothing");
        same_len(dest.len(), sources);
        self.run(Job::Xor { dest, onto: Onto::Zero, sources });
    }

    /// Sets P and Q to those of `data`.
    ///
    /// # Panics
    /// When the buffers differ in length, or there are no blocks or more than [`MOST_BLOCKS`].
    pub fn syndromes(&self, data: &[Option<&[u8]>], p: &mut [u8], q: &mut [u8]) {
        check(data, p.len());
        same_len(p.len(), &[q]);
        self.sums(data, [p, q], Made::Syndromes);
    }

    /// Sets Q alone.
    ///
    /// # Panics
    /// As [`Parity::syndromes`].
    pub fn q(&self, data: &[Option<&[u8]>], q: &mut [u8]) {
        check(data, q.len());
        self.run(Job::Q { data: used(data), q });
    }

    /// Adds 2ᵏ times `source` to `dest`: puts block `k` into a Q, or takes it out of one.
    ///
    /// # Panics
    /// When the buffers differ in length, or `k` is not below [`MOST_BLOCKS`].
    pub fn scale_add(&self, dest: &mut [u8], k: usize, source: &[u8]) {
        same_len(dest.len(), &[source]);
        self.run(Job::ScaleAdd { dest, by: place(k), source });
    }

    /// Brings P and Q up to date where block `k` changes from `old` to `new`.
    ///
    /// # Panics
    /// As [`Parity::scale_add`].
    pub fn replace(&self, k: usize, old: &[u8], new: &[u8], p: &mut [u8], q: &mut [u8]) {
        same_len(p.len(), &[q, old, new]);
        self.run(Job::Replace { by: place(k), old, new, p, q });
    }

    /// Recovers data block `x` from Q and the other data, and P with it.
    ///
    /// # Panics
    /// As [`Parity::syndromes`], and when `data` has a block at `x` or does not reach there.
    pub fn recover_data_and_p(
        &self,
        data: &[Option<&[u8]>],
        x: usize,
        q: &[u8],
        block: &mut [u8],
        p: &mut [u8],
    ) {
        check(data, p.len());
        same_len(p.len(), &[q, block]);
        let by = lost(data, x).inverse();
        self.sums(data, [block, p], Made::DataAndP { q, by });
    }

    /// Recovers the two data blocks at the places `lost`, from P, Q and the other data.
    ///
    /// # Panics
    /// As [`Parity::syndromes`], and when the places are one, or `data` has a block there or does
    /// not reach there.
    pub fn recover_two_data(
        &self,
        data: &[Option<&[u8]>],
        [x, y]: [usize; 2],
        p: &[u8],
        q: &[u8],
        [block_x, block_y]: [&mut [u8]; 2],
    ) {
        check(data, p.len());
        same_len(p.len(), &[q, block_x, block_y]);
        assert_ne!(x, y, "two lost blocks at one place");
        let (x, y) = (lost(data, x), lost(data, y));
        // What is missing from P is Dx + Dy, and from Q it is 2ˣ · Dx + 2ʸ · Dy. Divided by 2ˣ and
        // with 2ʸ⁻ˣ times the first added, that is (1 + 2ʸ⁻ˣ) · Dx.
        let apart = y.times(x.inverse());
        let share = apart.plus_one().inverse();
        let (by_p, by_q) = (apart.times(share), x.inverse().times(share));
        self.sums(data, [block_x, block_y], Made::TwoData { p, q, by_p, by_q });
    }

    fn sums(&self, data: &[Option<&[u8]>], [one, other]: [&mut [u8]; 2], made: Made<'_>) {
        self.run(Job::Sums { data: used(data), one, other, made });
    }

    fn run(&self, job: Job<'_>) {
        match self.0 {
            Kernel::Portable => portable::run(job),
            #[cfg(target_arch = "x86_64")]
            Kernel::X86(kernel) => kernel.run(job),
        }
    }
}

impl fmt::Debug for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parity").finish_non_exhaustive()
    }
}

fn check(data: &[Option<&[u8]>], len: usize) {
    let blocks = data.len();
    assert!((1..=MOST_BLOCKS).contains(&blocks), "{blocks} data blocks of 1 to {MOST_BLOCKS}");
    for block in data.iter().flatten() {
        assert_eq!(block.len(), len, "the buffers differ in length");
    }
}

fn same_len(len: usize, others: &[&[u8]]) {
    assert!(others.iter().all(|other| other.len() == len), "the buffers differ in length");
}

fn place(k: usize) -> Power {
    assert!(k < MOST_BLOCKS, "block {k} of at most {MOST_BLOCKS}");
    Power::new(k)
}

fn lost(data: &[Option<&[u8]>], k: usize) -> Power {
    assert!(data.get(k).is_some_and(Option::is_none), "block {k} is not lost");
    place(k)
}

/// Leaves out zeros at the end, which count for nothing.
fn used<'a>(data: &'a [Option<&'a [u8]>]) -> &'a [Option<&'a [u8]>] {
    let len = data.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    &data[..len]
}
