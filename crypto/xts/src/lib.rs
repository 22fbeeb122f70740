//! AES-XTS over whole disk sectors, as fast as the processor allows.
//!
//! XTS as in IEEE 1619-2007, without ciphertext stealing: what dm-crypt's `aes-xts-*` and the key
//! slots of LUKS use. A call takes any number of units (sectors) of one size, so that the
//! processor's pipeline stays full over their borders, and asks for the IV of each.
//!
//! Which instructions are used is found out when a key is set, see [`Backend`].

#![deny(unsafe_code)]

use std::fmt;

mod backend;
mod portable;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86;

pub use backend::Backend;
use portable::Portable;

/// Bytes of an AES block, and of an IV.
const BLOCK: usize = 16;

/// Units whose IVs are encrypted together.
const BATCH: usize = 16;

/// The IVs of a batch; the slots past its last unit hold anything.
type Ivs = [[u8; BLOCK]; BATCH];

/// Encrypts and decrypts units of data with one pair of AES keys.
///
/// The expanded keys lie on the heap and are overwritten when this is dropped.
pub struct AesXts(Cipher);

enum Cipher {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    X86(Box<x86::Xts>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// Says that a key has a length which AES-XTS does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLen(
    /// Bytes that were given.
    pub usize,
);

impl fmt::Display for KeyLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AES-XTS key: expected 32, 48 or 64 bytes, found {}", self.0)
    }
}

impl std::error::Error for KeyLen {}

impl AesXts {
    /// Expands `key`, the data key followed by the tweak key: 32, 48 or 64 bytes for AES-128,
    /// AES-192 or AES-256. Equal halves are accepted, as dm-crypt accepts them.
    ///
    /// # Errors
    /// [`KeyLen`] for any other length.
    pub fn new(key: &[u8]) -> Result<AesXts, KeyLen> {
        AesXts::with_backend(Backend::fastest(), key)
    }

    /// Does the same with a backend of the caller's choice, for tests and measurements.
    ///
    /// # Errors
    /// [`KeyLen`] as [`AesXts::new`].
    ///
    /// # Panics
    /// When this processor does not have what `backend` needs, see [`Backend::available`].
    pub fn with_backend(backend: Backend, key: &[u8]) -> Result<AesXts, KeyLen> {
        if ![32, 48, 64].contains(&key.len()) {
            return Err(KeyLen(key.len()));
        }
        let cipher = match backend {
            Backend::Portable => Cipher::Portable(Portable::new(key)),
            #[cfg(target_arch = "x86_64")]
            wide => Cipher::X86(x86::Xts::new(wide, key)),
            #[cfg(not(target_arch = "x86_64"))]
            wide => panic!("this processor has no {wide}"),
        };
        Ok(AesXts(cipher))
    }

    /// Names the backend in use: `vaes512`, `vaes256`, `aesni` or `portable`.
    pub fn backend(&self) -> &'static str {
        match &self.0 {
            Cipher::Portable(_) => Backend::Portable.name(),
            #[cfg(target_arch = "x86_64")]
            Cipher::X86(xts) => xts.backend().name(),
        }
    }

    /// Encrypts whole units from `from` to `to`; `iv(i)` is the IV of the i-th unit of this call,
    /// before its encryption with the tweak key.
    ///
    /// # Panics
    /// When `unit` is not a positive multiple of 16 bytes, the buffers differ in length, or their
    /// length is not a multiple of `unit`.
    pub fn encrypt_to(
        &self,
        from: &[u8],
        to: &mut [u8],
        unit: usize,
        iv: impl Fn(u64) -> [u8; 16],
    ) {
        self.run(Direction::Encrypt, Some(from), to, unit, iv);
    }

    /// Encrypts whole units in place, otherwise as [`AesXts::encrypt_to`].
    ///
    /// # Panics
    /// As [`AesXts::encrypt_to`].
    pub fn encrypt(&self, data: &mut [u8], unit: usize, iv: impl Fn(u64) -> [u8; 16]) {
        self.run(Direction::Encrypt, None, data, unit, iv);
    }

    /// Decrypts whole units from `from` to `to`; `iv(i)` as for [`AesXts::encrypt_to`].
    ///
    /// # Panics
    /// As [`AesXts::encrypt_to`].
    pub fn decrypt_to(
        &self,
        from: &[u8],
        to: &mut [u8],
        unit: usize,
        iv: impl Fn(u64) -> [u8; 16],
    ) {
        self.run(Direction::Decrypt, Some(from), to, unit, iv);
    }

    /// Decrypts whole units in place, otherwise as [`AesXts::decrypt_to`].
    ///
    /// # Panics
    /// As [`AesXts::encrypt_to`].
    pub fn decrypt(&self, data: &mut [u8], unit: usize, iv: impl Fn(u64) -> [u8; 16]) {
        self.run(Direction::Decrypt, None, data, unit, iv);
    }

    /// Works batch by batch, from `from` or in place.
    fn run(
        &self,
        direction: Direction,
        from: Option<&[u8]>,
        to: &mut [u8],
        unit: usize,
        iv: impl Fn(u64) -> [u8; 16],
    ) {
        assert!(unit > 0 && unit.is_multiple_of(BLOCK), "a unit of {unit} bytes is not of blocks");
        assert!(to.len().is_multiple_of(unit), "{} bytes are not units of {unit}", to.len());
        if let Some(from) = from {
            assert_eq!(from.len(), to.len(), "the buffers differ in length");
        }
        let mut ivs: Ivs = [[0; BLOCK]; BATCH];
        let step = unit.saturating_mul(BATCH);
        for (batch, to) in to.chunks_mut(step).enumerate() {
            let (at, first) = (batch * step, batch * BATCH);
            let units = to.len() / unit;
            for (index, slot) in ivs[..units].iter_mut().enumerate() {
                *slot = iv((first + index) as u64);
            }
            let from = from.map(|from| &from[at..][..to.len()]);
            match &self.0 {
                Cipher::Portable(xts) => xts.process(direction, &mut ivs, from, to, unit),
                #[cfg(target_arch = "x86_64")]
                Cipher::X86(xts) => xts.process(direction, &mut ivs, from, to, unit),
            }
        }
    }
}

impl fmt::Debug for AesXts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesXts").field("backend", &self.backend()).finish_non_exhaustive()
    }
}
