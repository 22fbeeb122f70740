//! Where ivs come from: dm-crypt's generators, from the number of a unit to its iv.

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
}

impl Generator {
    /// Makes the iv a unit is written with, and does to the data what is done before encryption.
    pub(crate) fn before_encryption(&self, number: u64, unit: &mut [u8], bulk: &dyn Mode) -> Iv {
        match self {
            Generator::Numbered(numbered) => numbered.iv(number),
            Generator::Eboiv { iv_size } => eboiv(number, unit.len(), *iv_size, bulk),
        }
    }

    /// Does what is done after encryption.
    pub(crate) fn after_encryption(&self, _number: u64, _unit: &mut [u8]) {
        match self {
            Generator::Numbered(_) | Generator::Eboiv { .. } => {}
        }
    }

    /// Makes the iv a unit is read with, and does to the data what is done before decryption.
    pub(crate) fn before_decryption(&self, number: u64, unit: &mut [u8], bulk: &dyn Mode) -> Iv {
        match self {
            Generator::Numbered(numbered) => numbered.iv(number),
            Generator::Eboiv { iv_size } => eboiv(number, unit.len(), *iv_size, bulk),
        }
    }

    /// Does what is done after decryption.
    pub(crate) fn after_decryption(&self, _number: u64, _unit: &mut [u8]) {
        match self {
            Generator::Numbered(_) | Generator::Eboiv { .. } => {}
        }
    }
}

fn eboiv(number: u64, unit_size: usize, iv_size: usize, bulk: &dyn Mode) -> Iv {
    let offset = number.wrapping_mul(unit_size as u64);
    let mut iv = [0; 32];
    bulk.encrypt(&[Numbered::Plain64.iv(offset)], &mut iv[..iv_size]);
    iv
}
