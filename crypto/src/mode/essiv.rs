use super::{Iv, MAX_UNITS, Mode};
use crate::block::{Block, MAX_BLOCK};

/// The crypto API's `essiv(MODE(CIPHER),HASH)`: the iv that comes in is encrypted with the same
/// cipher under the hash of the key, then used by the mode within.
pub(crate) struct Essiv {
    inner: Box<dyn Mode>,
    salted: Box<dyn Block>,
    block: usize,
}

impl Essiv {
    pub(crate) fn new(inner: Box<dyn Mode>, salted: Box<dyn Block>, block: usize) -> Essiv {
        Essiv { inner, salted, block }
    }

    fn salt(&self, ivs: &[Iv], salted: &mut [Iv; MAX_UNITS]) {
        let mut blocks = [0; MAX_UNITS * MAX_BLOCK];
        let blocks = &mut blocks[..ivs.len() * self.block];
        for (block, iv) in blocks.chunks_exact_mut(self.block).zip(ivs) {
            block.copy_from_slice(&iv[..self.block]);
        }
        self.salted.encrypt(blocks);
        for (iv, block) in salted.iter_mut().zip(blocks.chunks_exact(self.block)) {
            iv[..self.block].copy_from_slice(block);
        }
    }
}

impl Mode for Essiv {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let mut salted = [[0; 32]; MAX_UNITS];
        self.salt(ivs, &mut salted);
        self.inner.encrypt(&salted[..ivs.len()], data);
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let mut salted = [[0; 32]; MAX_UNITS];
        self.salt(ivs, &mut salted);
        self.inner.decrypt(&salted[..ivs.len()], data);
    }
}
