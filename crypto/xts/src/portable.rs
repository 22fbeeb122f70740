//! AES-XTS on the `aes` crate, for processors without a kernel of our own.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc};

use crate::{BLOCK, Direction, Ivs};

type Block = Array<u8, U16>;

/// Blocks handed to the cipher at a time: a sector of 512 bytes, and a multiple of what the `aes`
/// crate takes at once on aarch64 and in software (8 and 4).
const GROUP: usize = 32;

/// Expanded keys; the `aes` crate overwrites them when they are dropped.
pub(crate) enum Portable {
    Aes128(Box<Pair<Aes128, Aes128Enc>>),
    Aes192(Box<Pair<Aes192, Aes192Enc>>),
    Aes256(Box<Pair<Aes256, Aes256Enc>>),
}

pub(crate) struct Pair<D, T> {
    data: D,
    tweak: T,
}

impl Portable {
    /// Expands a key of 32, 48 or 64 bytes.
    pub(crate) fn new(key: &[u8]) -> Portable {
        match key.len() {
            32 => Portable::Aes128(Pair::new(key)),
            48 => Portable::Aes192(Pair::new(key)),
            64 => Portable::Aes256(Pair::new(key)),
            len => unreachable!("a key of {len} bytes was refused before"),
        }
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
        match self {
            Portable::Aes128(pair) => pair.process(direction, ivs, from, to, unit),
            Portable::Aes192(pair) => pair.process(direction, ivs, from, to, unit),
            Portable::Aes256(pair) => pair.process(direction, ivs, from, to, unit),
        }
    }
}

impl<D, T> Pair<D, T>
where
    D: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt + KeyInit,
    T: BlockCipherEncrypt<BlockSize = U16> + KeyInit,
{
    fn new(key: &[u8]) -> Box<Pair<D, T>> {
        let (data, tweak) = key.split_at(key.len() / 2);
        let fits = "the halves have the cipher's key length";
        Box::new(Pair {
            data: D::new_from_slice(data).expect(fits),
            tweak: T::new_from_slice(tweak).expect(fits),
        })
    }

    fn process(
        &self,
        direction: Direction,
        ivs: &mut Ivs,
        from: Option<&[u8]>,
        to: &mut [u8],
        unit: usize,
    ) {
        let units = to.len() / unit;
        self.tweak.encrypt_blocks(Block::cast_slice_from_core_mut(&mut ivs[..units]));
        for (index, (to, iv)) in to.chunks_exact_mut(unit).zip(ivs).enumerate() {
            if let Some(from) = from {
                to.copy_from_slice(&from[index * unit..][..unit]);
            }
            let mut tweak = u128::from_le_bytes(*iv);
            let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
            assert!(rest.is_empty(), "a unit consists of whole blocks");
            for group in blocks.chunks_mut(GROUP) {
                tweak = self.group(direction, group, tweak);
            }
        }
    }

    /// Works on up to [`GROUP`] blocks from the tweak of the first, and returns the next tweak.
    fn group(&self, direction: Direction, blocks: &mut [[u8; BLOCK]], mut tweak: u128) -> u128 {
        let mut tweaks = [0; GROUP];
        for (block, slot) in blocks.iter_mut().zip(&mut tweaks) {
            *slot = tweak;
            whiten(block, tweak);
            tweak = double(tweak);
        }
        let data = Block::cast_slice_from_core_mut(blocks);
        match direction {
            Direction::Encrypt => self.data.encrypt_blocks(data),
            Direction::Decrypt => self.data.decrypt_blocks(data),
        }
        for (block, tweak) in blocks.iter_mut().zip(&tweaks) {
            whiten(block, *tweak);
        }
        tweak
    }
}

fn whiten(block: &mut [u8; BLOCK], tweak: u128) {
    *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
}

/// Multiplies by x in GF(2^128) with the polynomial of IEEE 1619, without a branch on the secret.
fn double(tweak: u128) -> u128 {
    let carry = 0u128.wrapping_sub(tweak >> 127);
    (tweak << 1) ^ (carry & 0x87)
}
