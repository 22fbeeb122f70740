use zeroize::Zeroizing;

use crate::mode::Iv;

/// The ivs and the whitening of TrueCrypt's old CBC volumes ("tcw").
pub(crate) struct Tcw {
    seed: Zeroizing<[u8; 16]>,
    whitening: Zeroizing<[u8; 16]>,
    iv_size: usize,
}

/// Bytes of the key that go into the whitening.
pub(crate) const WHITENING: usize = 16;

impl Tcw {
    /// Takes what stands behind the ciphers' keys: a seed of `iv_size` bytes, 8 or 16, and 16
    /// bytes for the whitening.
    pub(crate) fn new(extra: &[u8], iv_size: usize) -> Tcw {
        let mut tcw =
            Tcw { seed: Zeroizing::new([0; 16]), whitening: Zeroizing::new([0; 16]), iv_size };
        let (seed, whitening) = extra.split_at(iv_size);
        tcw.seed[..iv_size].copy_from_slice(seed);
        tcw.whitening.copy_from_slice(whitening);
        tcw
    }

    pub(crate) fn iv(&self, number: u64) -> Iv {
        let mut iv = [0; 32];
        iv[..16].copy_from_slice(&with_number(&self.seed, number));
        iv[self.iv_size..].fill(0);
        iv
    }

    /// Puts the whitening over a sector's ciphertext, or takes it away.
    pub(crate) fn whiten(&self, number: u64, unit: &mut [u8]) {
        let mut parts = Zeroizing::new(with_number(&self.whitening, number));
        let mut sums = [0; 4];
        for (sum, part) in sums.iter_mut().zip(parts.as_chunks::<4>().0) {
            *sum = crc32(part);
        }
        let (first, second) = (sums[0] ^ sums[3], sums[1] ^ sums[2]);
        parts[..4].copy_from_slice(&first.to_le_bytes());
        parts[4..8].copy_from_slice(&second.to_le_bytes());
        for chunk in unit.as_chunks_mut::<8>().0 {
            chunk.iter_mut().zip(&parts[..8]).for_each(|(byte, white)| *byte ^= white);
        }
    }
}

fn with_number(seed: &[u8; 16], number: u64) -> [u8; 16] {
    let mut mixed = *seed;
    for half in mixed.as_chunks_mut::<8>().0 {
        *half = (u64::from_le_bytes(*half) ^ number).to_le_bytes();
    }
    mixed
}

/// The crypto API's `crc32`: it starts at zero and inverts nothing.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new_with_initial(u32::MAX);
    sum.update(bytes);
    !sum.finalize()
}
