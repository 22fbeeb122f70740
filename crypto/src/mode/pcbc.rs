use super::{Iv, Mode, unit_size, xor};
use crate::block::{Block, MAX_BLOCK};

/// Propagating cipher block chaining: what goes on to the next block is plaintext XOR ciphertext.
pub(crate) struct Pcbc {
    cipher: Box<dyn Block>,
    block: usize,
}

impl Pcbc {
    pub(crate) fn new(cipher: Box<dyn Block>, block: usize) -> Pcbc {
        Pcbc { cipher, block }
    }
}

impl Mode for Pcbc {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            let mut carry = *iv;
            let carry = &mut carry[..self.block];
            for block in unit.chunks_exact_mut(self.block) {
                xor(carry, block);
                let plain = saved(block);
                block.copy_from_slice(carry);
                self.cipher.encrypt(block);
                carry.copy_from_slice(&plain[..self.block]);
                xor(carry, block);
            }
        }
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            let mut carry = *iv;
            let carry = &mut carry[..self.block];
            for block in unit.chunks_exact_mut(self.block) {
                let from = saved(block);
                self.cipher.decrypt(block);
                xor(block, carry);
                carry.copy_from_slice(&from[..self.block]);
                xor(carry, block);
            }
        }
    }
}

fn saved(block: &[u8]) -> [u8; MAX_BLOCK] {
    let mut saved = [0; MAX_BLOCK];
    saved[..block.len()].copy_from_slice(block);
    saved
}
