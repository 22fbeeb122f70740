//! Parity with the vector instructions of x86-64.
//!
//! The algorithms of `kernel.rs` in several widths. [`ssse3`], [`avx2`] and [`avx512`] multiply by
//! looking up halves of bytes, [`gfni256`] and [`gfni512`] by an instruction for it. Unsafe code
//! is here for two reasons only: [`memory`] is reached through pointers, and a kernel may be
//! called only where the processor has its instructions.

mod avx2;
mod avx512;
mod gfni256;
mod gfni512;
mod memory;
mod ssse3;
mod tables;

use crate::Backend;
use crate::job::Job;

/// A kernel that this processor has.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(unsafe fn(Job<'_>));

impl Kernel {
    /// Picks a kernel.
    ///
    /// # Panics
    /// When the processor lacks the instructions of `backend`.
    pub(crate) fn new(backend: Backend) -> Kernel {
        assert!(backend.is_available(), "this processor has no {backend}");
        Kernel(match backend {
            Backend::Portable => unreachable!("the portable kernel is none of these"),
            Backend::Ssse3 => ssse3::run,
            Backend::Avx2 => avx2::run,
            Backend::Gfni256 => gfni256::run,
            Backend::Avx512 => avx512::run,
            Backend::Gfni512 => gfni512::run,
        })
    }

    pub(crate) fn run(self, job: Job<'_>) {
        // SAFETY: `new` has asked for the instructions that this kernel uses.
        unsafe { (self.0)(job) }
    }
}
