use super::{BATCH, Iv, MAX_UNITS, Mode, unit_size, xor};
use crate::block::{Block, MAX_BLOCK};

/// Cipher block chaining. Encryption is a chain in each unit, so the units go side by side:
/// block n of all of them in one call of the cipher.
pub(crate) struct Cbc {
    cipher: Box<dyn Block>,
    block: usize,
}

impl Cbc {
    pub(crate) fn new(cipher: Box<dyn Block>, block: usize) -> Cbc {
        Cbc { cipher, block }
    }

    fn decrypt_unit(&self, iv: &Iv, unit: &mut [u8]) {
        let block = self.block;
        let mut last = *iv;
        let mut from = [0; BATCH];
        for batch in unit.chunks_mut(BATCH) {
            let from = &mut from[..batch.len()];
            from.copy_from_slice(batch);
            self.cipher.decrypt(batch);
            xor(&mut batch[..block], &last[..block]);
            xor(&mut batch[block..], &from[..from.len() - block]);
            last[..block].copy_from_slice(&from[from.len() - block..]);
        }
    }
}

impl Mode for Cbc {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let (block, size) = (self.block, unit_size(ivs, data));
        let mut chain = [0; MAX_UNITS * MAX_BLOCK];
        let chain = &mut chain[..ivs.len() * block];
        for (last, iv) in chain.chunks_exact_mut(block).zip(ivs) {
            last.copy_from_slice(&iv[..block]);
        }
        for at in (0..size).step_by(block) {
            for (last, unit) in chain.chunks_exact_mut(block).zip(data.chunks_exact(size)) {
                xor(last, &unit[at..at + block]);
            }
            self.cipher.encrypt(chain);
            for (last, unit) in chain.chunks_exact(block).zip(data.chunks_exact_mut(size)) {
                unit[at..at + block].copy_from_slice(last);
            }
        }
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            self.decrypt_unit(iv, unit);
        }
    }
}
