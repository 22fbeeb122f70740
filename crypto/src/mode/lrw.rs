use zeroize::Zeroize;

use super::{BATCH, Iv, Mode, Way, unit_size, xor};
use crate::block::Block;

/// LRW (Liskov, Rivest, Wagner; IEEE P1619 before it chose XTS): block i is masked with
/// K2 x i in GF(2^128), big-endian. The iv is the first block's i.
pub(crate) struct Lrw {
    cipher: Box<dyn Block>,
    key: u128,
    /// At n: K2 times 2^(n+1) - 1, what the mask changes by where i ends in n ones.
    steps: Box<[u128; 128]>,
}

impl Lrw {
    pub(crate) fn new(cipher: Box<dyn Block>, key: [u8; 16]) -> Lrw {
        let key = u128::from_be_bytes(key);
        let mut steps = Box::new([0; 128]);
        let (mut power, mut sum) = (key, 0);
        for step in steps.iter_mut() {
            sum ^= power;
            power = doubled(power);
            *step = sum;
        }
        Lrw { cipher, key, steps }
    }

    fn run(&self, ivs: &[Iv], data: &mut [u8], way: Way) {
        let size = unit_size(ivs, data);
        let mut masks = [0; BATCH];
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            let (first, _) = iv.split_first_chunk::<16>().expect("an iv has 32 bytes");
            let mut index = u128::from_be_bytes(*first);
            let mut mask = product(self.key, index);
            for batch in unit.chunks_mut(BATCH) {
                let masks = &mut masks[..batch.len()];
                for slot in masks.as_chunks_mut::<16>().0 {
                    *slot = mask.to_be_bytes();
                    mask ^= self.steps[index.trailing_ones().min(127) as usize];
                    index = index.wrapping_add(1);
                }
                xor(batch, masks);
                match way {
                    Way::Encrypt => self.cipher.encrypt(batch),
                    Way::Decrypt => self.cipher.decrypt(batch),
                }
                xor(batch, masks);
            }
        }
    }
}

impl Drop for Lrw {
    fn drop(&mut self) {
        self.key.zeroize();
        self.steps.zeroize();
    }
}

fn doubled(of: u128) -> u128 {
    (of << 1) ^ ((of >> 127) * 0x87)
}

/// Multiplies in GF(2^128), x^128 = x^7 + x^2 + x + 1.
fn product(a: u128, b: u128) -> u128 {
    let (mut power, mut sum) = (a, 0);
    for bit in 0..128 {
        sum ^= power * (b >> bit & 1);
        power = doubled(power);
    }
    sum
}

impl Mode for Lrw {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        self.run(ivs, data, Way::Encrypt);
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        self.run(ivs, data, Way::Decrypt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_difference_of_two_products() {
        let key = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978;
        let cipher = crate::block::Cipher::Aes.with_key(&[0; 16]).unwrap();
        let lrw = Lrw::new(cipher, u128::to_be_bytes(key));
        for index in [0, 1, 2, 3, 7, 8, 0xffff, u128::from(u64::MAX), u128::MAX >> 1, u128::MAX] {
            let next = index.wrapping_add(1);
            let step = lrw.steps[index.trailing_ones().min(127) as usize];
            assert_eq!(product(key, index) ^ step, product(key, next), "{index:#x}");
        }
    }
}
