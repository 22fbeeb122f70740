use super::{BATCH, Iv, MAX_UNITS, Mode, Way, unit_size, xor};
use crate::block::Block;

/// XTS (IEEE 1619) of any cipher with blocks of 16 bytes.
pub(crate) struct Xts {
    data: Box<dyn Block>,
    tweak: Box<dyn Block>,
}

impl Xts {
    pub(crate) fn new(data: Box<dyn Block>, tweak: Box<dyn Block>) -> Xts {
        Xts { data, tweak }
    }

    fn run(&self, ivs: &[Iv], data: &mut [u8], way: Way) {
        let size = unit_size(ivs, data);
        let mut first = [0; MAX_UNITS * 16];
        let first = &mut first[..ivs.len() * 16];
        for (tweak, iv) in first.chunks_exact_mut(16).zip(ivs) {
            tweak.copy_from_slice(&iv[..16]);
        }
        self.tweak.encrypt(first);
        let (first, _) = first.as_chunks::<16>();
        let mut tweaks = [0; BATCH];
        for (tweak, unit) in first.iter().zip(data.chunks_exact_mut(size)) {
            let mut tweak = u128::from_le_bytes(*tweak);
            for batch in unit.chunks_mut(BATCH) {
                let tweaks = &mut tweaks[..batch.len()];
                for slot in tweaks.as_chunks_mut::<16>().0 {
                    *slot = tweak.to_le_bytes();
                    tweak = doubled(tweak);
                }
                xor(batch, tweaks);
                match way {
                    Way::Encrypt => self.data.encrypt(batch),
                    Way::Decrypt => self.data.decrypt(batch),
                }
                xor(batch, tweaks);
            }
        }
    }
}

/// Multiplies by x in the field of XTS: little-endian, x^128 = x^7 + x^2 + x + 1.
fn doubled(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

impl Mode for Xts {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        self.run(ivs, data, Way::Encrypt);
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        self.run(ivs, data, Way::Decrypt);
    }
}
