//! Where ivs come from: dm-crypt's generators, from the number of a unit to its iv.

mod elephant;
mod lmk;
mod tcw;

pub(crate) use elephant::Elephant;
pub(crate) use lmk::Lmk;
pub(crate) use tcw::{Tcw, WHITENING};

use crate::mode::{Iv, Mode};
use crate::spec::IvMode;

/// A generator that needs the number alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbered {
    /// Little-endian, the low 32 bits: it starts over after 2 TiB of 512-byte sectors.
    Plain,
    /// Little-endian.
    Plain64,
    /// Big-endian, in the last 8 of so many bytes.
    Plain64Be { iv_size: usize },
    /// The number of the unit's first cipher block, counted from one; big-endian at the end.
    Benbi { iv_size: usize, shift: u32 },
    /// Zeros.
    Null,
}

impl Numbered {
    /// `iv_size` is dm-crypt's: the algorithm's, and 8 at least.
    pub(crate) fn new(mode: IvMode, iv_size: usize, block_size: usize) -> Option<Numbered> {
        Some(match mode {
            IvMode::Plain => Numbered::Plain,
            IvMode::Plain64 => Numbered::Plain64,
            IvMode::Plain64Be => Numbered::Plain64Be { iv_size },
            // Counts blocks in 512 bytes, whatever the sector size.
            IvMode::Benbi => Numbered::Benbi { iv_size, shift: 9 - block_size.ilog2() },
            IvMode::Null => Numbered::Null,
            IvMode::Eboiv | IvMode::Elephant | IvMode::Lmk | IvMode::Tcw | IvMode::Random => {
                return None;
            }
        })
    }

    pub(crate) fn iv(self, number: u64) -> Iv {
        let mut iv = [0; 32];
        match self {
            Numbered::Plain => iv[..4].copy_from_slice(&number.to_le_bytes()[..4]),
            Numbered::Plain64 => iv[..8].copy_from_slice(&number.to_le_bytes()),
            Numbered::Plain64Be { iv_size } => {
                iv[iv_size - 8..iv_size].copy_from_slice(&number.to_be_bytes());
            }
            Numbered::Benbi { iv_size, shift } => {
                let block = (number << shift).wrapping_add(1);
                iv[iv_size - 8..iv_size].copy_from_slice(&block.to_be_bytes());
            }
            Numbered::Null => {}
        }
        iv
    }
}

/// A generator with all it needs. Some look at the data, and some change it: that is done around
/// the mode, a unit at a time.
pub(crate) enum Generator {
    Numbered(Numbered),
    /// The unit's byte offset, encrypted as data with the bulk key.
    Eboiv {
        iv_size: usize,
    },
    /// The same iv, and a diffuser on the plaintext.
    Elephant(Elephant, usize),
    /// A hash of the plaintext.
    Lmk(Lmk),
    /// A seed and the number, and a whitening on the ciphertext.
    Tcw(Tcw),
}

impl Generator {
    /// Makes the iv a unit is written with, and does to the data what is done before encryption.
    pub(crate) fn before_encryption(&self, number: u64, unit: &mut [u8], bulk: &dyn Mode) -> Iv {
        match self {
            Generator::Numbered(numbered) => numbered.iv(number),
            Generator::Eboiv { iv_size } => eboiv(number, unit, *iv_size, bulk),
            Generator::Elephant(elephant, iv_size) => {
                elephant.encrypt(offset(number, unit), unit);
                eboiv(number, unit, *iv_size, bulk)
            }
            Generator::Lmk(lmk) => lmk.iv(number, unit),
            Generator::Tcw(tcw) => tcw.iv(number),
        }
    }

    /// Does what is done after encryption.
    pub(crate) fn after_encryption(&self, number: u64, unit: &mut [u8]) {
        match self {
            Generator::Tcw(tcw) => tcw.whiten(number, unit),
            Generator::Numbered(_)
            | Generator::Eboiv { .. }
            | Generator::Elephant(..)
            | Generator::Lmk(_) => {}
        }
    }

    /// Makes the iv a unit is read with, and does to the data what is done before decryption.
    pub(crate) fn before_decryption(&self, number: u64, unit: &mut [u8], bulk: &dyn Mode) -> Iv {
        match self {
            Generator::Numbered(numbered) => numbered.iv(number),
            Generator::Eboiv { iv_size } | Generator::Elephant(_, iv_size) => {
                eboiv(number, unit, *iv_size, bulk)
            }
            // Unknown until the rest of the sector has been decrypted.
            Generator::Lmk(_) => [0; 32],
            Generator::Tcw(tcw) => {
                tcw.whiten(number, unit);
                tcw.iv(number)
            }
        }
    }

    /// Does what is done after decryption.
    pub(crate) fn after_decryption(&self, number: u64, unit: &mut [u8]) {
        match self {
            Generator::Elephant(elephant, _) => elephant.decrypt(offset(number, unit), unit),
            Generator::Lmk(lmk) => lmk.after_decryption(number, unit),
            Generator::Numbered(_) | Generator::Eboiv { .. } | Generator::Tcw(_) => {}
        }
    }
}

/// Where a unit lies, in bytes, as eboiv and elephant count: right with `iv_large_sectors` only.
fn offset(number: u64, unit: &[u8]) -> u64 {
    number.wrapping_mul(unit.len() as u64)
}

fn eboiv(number: u64, unit: &[u8], iv_size: usize, bulk: &dyn Mode) -> Iv {
    let mut iv = [0; 32];
    bulk.encrypt(&[Numbered::Plain64.iv(offset(number, unit))], &mut iv[..iv_size]);
    iv
}
