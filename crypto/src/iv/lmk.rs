use md5::block_api::compress;
use zeroize::Zeroizing;

use crate::mode::Iv;

/// loop-AES's ivs ("lmk"): MD5 over all of a sector but its first block, and the sector's number.
/// Version 3 hashes a seed before.
pub(crate) struct Lmk {
    seed: Option<Zeroizing<[u8; 64]>>,
    iv_size: usize,
}

/// MD5's state before the first block (RFC 1321).
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// The length that loop-AES hashes with the number, in bits: a sector less 9 bytes.
const LENGTH: u32 = 4024;

impl Lmk {
    /// `seed` is the key behind the ciphers' keys, of which the first 16 bytes count.
    pub(crate) fn new(seed: Option<&[u8]>, iv_size: usize) -> Lmk {
        let seed = seed.map(|key| {
            let mut seed = Zeroizing::new([0; 64]);
            let len = key.len().min(16);
            seed[..len].copy_from_slice(&key[..len]);
            seed
        });
        Lmk { seed, iv_size }
    }

    /// The iv of a plaintext sector of 512 bytes.
    pub(crate) fn iv(&self, number: u64, unit: &[u8]) -> Iv {
        let mut state = START;
        if let Some(seed) = &self.seed {
            compress(&mut state, std::slice::from_ref(seed));
        }
        // 496 bytes of data and 16 of the number: eight blocks, and no padding after them.
        let mut message = Zeroizing::new([0; 512]);
        message[..496].copy_from_slice(&unit[16..]);
        let high = (number >> 32) as u32 & 0x00ff_ffff | 0x8000_0000;
        for (at, word) in [(496, number as u32), (500, high), (504, LENGTH)] {
            message[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        compress(&mut state, message.as_chunks::<64>().0);
        let mut iv = [0; 32];
        for (bytes, word) in iv.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_le_bytes();
        }
        iv
    }

    /// Finishes a sector that was decrypted with an iv of zeros: all but its first block is
    /// right, and from that comes the iv that was missing.
    pub(crate) fn after_decryption(&self, number: u64, unit: &mut [u8]) {
        let iv = self.iv(number, unit);
        unit.iter_mut().zip(&iv[..self.iv_size]).for_each(|(byte, iv)| *byte ^= iv);
    }
}
