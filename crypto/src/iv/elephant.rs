use zeroize::Zeroize;

use crate::block::{Block, Cipher};

/// BitLocker's Elephant: a key of the sector's own, then diffusers A and B, between the plaintext
/// and CBC. (N. Ferguson, "AES-CBC + Elephant diffuser", 2006.)
pub(crate) struct Elephant {
    cipher: Box<dyn Block>,
}

/// How far a word is rotated, by the two lowest bits of its place.
const ROTATE_A: [u32; 4] = [9, 0, 13, 0];
const ROTATE_B: [u32; 4] = [0, 10, 0, 25];
const CYCLES_A: usize = 5;
const CYCLES_B: usize = 3;

/// Words of the largest unit.
const WORDS: usize = 4096 / 4;

impl Elephant {
    /// Takes the tweak key; `None` where AES takes none of its length.
    pub(crate) fn new(key: &[u8]) -> Option<Elephant> {
        Some(Elephant { cipher: Cipher::Aes.with_key(key)? })
    }

    /// Does what stands before encryption. `offset` is the unit's place in bytes.
    pub(crate) fn encrypt(&self, offset: u64, unit: &mut [u8]) {
        self.xor_sector_key(offset, unit);
        on_words(unit, |words| {
            for _ in 0..CYCLES_A {
                a(words, Way::Back);
            }
            for _ in 0..CYCLES_B {
                b(words, Way::Back);
            }
        });
    }

    /// Undoes it, after decryption.
    pub(crate) fn decrypt(&self, offset: u64, unit: &mut [u8]) {
        on_words(unit, |words| {
            for _ in 0..CYCLES_B {
                b(words, Way::Forth);
            }
            for _ in 0..CYCLES_A {
                a(words, Way::Forth);
            }
        });
        self.xor_sector_key(offset, unit);
    }

    fn xor_sector_key(&self, offset: u64, unit: &mut [u8]) {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&offset.to_le_bytes());
        key[16..24].copy_from_slice(&offset.to_le_bytes());
        key[31] = 0x80;
        self.cipher.encrypt(&mut key);
        for chunk in unit.as_chunks_mut::<32>().0 {
            chunk.iter_mut().zip(&key).for_each(|(byte, key)| *byte ^= key);
        }
        key.zeroize();
    }
}

/// Which way a diffuser goes: forth is how the paper defines it, for decryption.
#[derive(Clone, Copy)]
enum Way {
    Forth,
    Back,
}

/// Diffuser A: word i takes in the words 2 and 5 before it.
fn a(words: &mut [u32], way: Way) {
    cycle(words, way, words.len() - 2, words.len() - 5, &ROTATE_A);
}

/// Diffuser B: word i takes in the words 2 and 5 after it.
fn b(words: &mut [u32], way: Way) {
    cycle(words, way, 2, 5, &ROTATE_B);
}

/// One cycle over the words, which are a power of two in number, as a ring.
fn cycle(words: &mut [u32], way: Way, near: usize, far: usize, rotate: &[u32; 4]) {
    let ring = words.len() - 1;
    let term = |words: &[u32], i: usize| {
        words[(i + near) & ring] ^ words[(i + far) & ring].rotate_left(rotate[i & 3])
    };
    match way {
        Way::Forth => {
            for i in 0..words.len() {
                words[i] = words[i].wrapping_add(term(words, i));
            }
        }
        Way::Back => {
            for i in (0..words.len()).rev() {
                words[i] = words[i].wrapping_sub(term(words, i));
            }
        }
    }
}

/// Runs over a unit's little-endian words.
fn on_words(unit: &mut [u8], run: impl FnOnce(&mut [u32])) {
    let mut words = [0; WORDS];
    let words = &mut words[..unit.len() / 4];
    for (word, bytes) in words.iter_mut().zip(unit.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    run(words);
    for (word, bytes) in words.iter().zip(unit.as_chunks_mut::<4>().0) {
        *bytes = word.to_le_bytes();
    }
}
