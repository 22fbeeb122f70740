use super::{BATCH, Iv, Mode, unit_size, xor};
use crate::block::Block;

/// Counter mode: the iv is the first counter, one big-endian number of a block's length.
pub(crate) struct Ctr {
    cipher: Box<dyn Block>,
    block: usize,
}

impl Ctr {
    pub(crate) fn new(cipher: Box<dyn Block>, block: usize) -> Ctr {
        Ctr { cipher, block }
    }

    fn run(&self, iv: &Iv, unit: &mut [u8]) {
        let block = self.block;
        // The counter's bytes at the end of sixteen; a shorter one wraps where its bytes end.
        let mut counter = [0; 16];
        counter[16 - block..].copy_from_slice(&iv[..block]);
        let mut counter = u128::from_be_bytes(counter);
        let mut stream = [0; BATCH];
        for batch in unit.chunks_mut(BATCH) {
            let stream = &mut stream[..batch.len()];
            for slot in stream.chunks_exact_mut(block) {
                slot.copy_from_slice(&counter.to_be_bytes()[16 - block..]);
                counter = counter.wrapping_add(1);
            }
            self.cipher.encrypt(stream);
            xor(batch, stream);
        }
    }
}

impl Mode for Ctr {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            self.run(iv, unit);
        }
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        self.encrypt(ivs, data);
    }
}
