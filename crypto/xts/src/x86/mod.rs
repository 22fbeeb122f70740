//! AES-XTS with the AES instructions of x86-64.
//!
//! One kernel in three widths: [`aesni`], [`vaes256`] and [`vaes512`] say how a register of one,
//! two or four blocks is loaded, enciphered and multiplied; `kernel.rs` is the algorithm.
//! Unsafe code is here for two reasons only: memory is reached through the pointers of a
//! [`Span`], and a kernel may be called only where the processor has its instructions.

#[macro_use]
mod kernel;
mod aesni;
mod schedule;
mod single;
mod span;
mod vaes256;
mod vaes512;

use zeroize::Zeroize;

use crate::{BLOCK, Backend, Direction, Ivs};
use span::Span;

/// Round keys; those of AES-128 and AES-192 leave the last ones unused.
type RoundKeys = [[u8; BLOCK]; 15];

/// The three schedules that XTS needs.
#[derive(Zeroize)]
#[repr(align(64))]
struct Keys {
    /// For data on its way to the disk.
    encrypt: RoundKeys,
    /// For data on its way back: the equivalent inverse cipher of FIPS 197.
    decrypt: RoundKeys,
    /// For IVs.
    tweak: RoundKeys,
}

/// Encrypts the IVs of a batch, and then its units under them.
type Kernel = unsafe fn(&Keys, &mut Ivs, &Span<'_>, usize);

/// One pair of keys, and the kernels for it.
pub(crate) struct Xts {
    backend: Backend,
    encrypt: Kernel,
    decrypt: Kernel,
    keys: Keys,
}

impl Xts {
    /// Expands a key of 32, 48 or 64 bytes, on the heap from the start.
    ///
    /// # Panics
    /// When the processor lacks the instructions of `backend`.
    pub(crate) fn new(backend: Backend, key: &[u8]) -> Box<Xts> {
        assert!(backend.is_available(), "this processor has no {backend}");
        let (encrypt, decrypt) = kernels(backend, key.len());
        let none = [[0; BLOCK]; 15];
        let keys = Keys { encrypt: none, decrypt: none, tweak: none };
        let mut xts = Box::new(Xts { backend, encrypt, decrypt, keys });
        // SAFETY: every backend that is available here includes AES-NI.
        unsafe { schedule::expand(key, &mut xts.keys) };
        xts
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// Encrypts `ivs`, and then the units of `to` under them, taken from `from` or in place.
    pub(crate) fn process(
        &self,
        direction: Direction,
        ivs: &mut Ivs,
        from: Option<&[u8]>,
        to: &mut [u8],
        unit: usize,
    ) {
        let kernel = match direction {
            Direction::Encrypt => self.encrypt,
            Direction::Decrypt => self.decrypt,
        };
        let span = match from {
            Some(from) => Span::apart(from, to),
            None => Span::in_place(to),
        };
        // SAFETY: `new` has asked for the instructions that this kernel uses.
        unsafe { kernel(&self.keys, ivs, &span, unit) };
    }
}

impl Drop for Xts {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

/// The kernels, encryption first, of a backend for keys (both halves) of `key_bytes`.
fn kernels(backend: Backend, key_bytes: usize) -> (Kernel, Kernel) {
    macro_rules! pair {
        ($width:ident, $rounds:literal) => {
            ($width::process::<$rounds, false>, $width::process::<$rounds, true>)
        };
    }
    match (backend, key_bytes) {
        (Backend::AesNi, 32) => pair!(aesni, 10),
        (Backend::AesNi, 48) => pair!(aesni, 12),
        (Backend::AesNi, 64) => pair!(aesni, 14),
        (Backend::Vaes256, 32) => pair!(vaes256, 10),
        (Backend::Vaes256, 48) => pair!(vaes256, 12),
        (Backend::Vaes256, 64) => pair!(vaes256, 14),
        (Backend::Vaes512, 32) => pair!(vaes512, 10),
        (Backend::Vaes512, 48) => pair!(vaes512, 12),
        (Backend::Vaes512, 64) => pair!(vaes512, 14),
        (backend, bytes) => unreachable!("no kernel of {backend} for a key of {bytes} bytes"),
    }
}
