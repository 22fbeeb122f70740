//! The key expansion of FIPS 197, without a table that a cache would give away.

use std::arch::x86_64::*;

use super::single::block;
use super::{BLOCK, Keys, RoundKeys, Span};

/// Expands `key`, the data key followed by the tweak key.
#[target_feature(enable = "aes,sse2")]
pub(super) fn expand(key: &[u8], keys: &mut Keys) {
    let (data, tweak) = key.split_at(key.len() / 2);
    forward(tweak, &mut keys.tweak);
    let rounds = forward(data, &mut keys.encrypt);
    for round in 0..=rounds {
        let mut key = block(&keys.encrypt[rounds - round]);
        if round != 0 && round != rounds {
            key = _mm_aesimc_si128(key);
        }
        Span::in_place(&mut keys.decrypt[round]).store(0, [key]);
    }
}

/// Fills in the round keys for encryption, and returns the number of rounds.
#[target_feature(enable = "aes,sse2")]
fn forward(key: &[u8], keys: &mut RoundKeys) -> usize {
    let key_words = key.len() / 4;
    let rounds = key_words + 6;
    let words = keys.as_flattened_mut().as_chunks_mut::<4>().0;
    words.as_flattened_mut()[..key.len()].copy_from_slice(key);
    let mut constant = 1u8;
    for index in key_words..(rounds + 1) * BLOCK / 4 {
        let mut word = u32::from_le_bytes(words[index - 1]);
        if index % key_words == 0 {
            word = substitute(word).rotate_right(8) ^ u32::from(constant);
            constant = (constant << 1) ^ if constant & 0x80 == 0 { 0 } else { 0x1b };
        } else if key_words > 6 && index % key_words == 4 {
            word = substitute(word);
        }
        words[index] = (word ^ u32::from_le_bytes(words[index - key_words])).to_le_bytes();
    }
    rounds
}

/// SubWord: the S-box, byte by byte.
#[target_feature(enable = "aes,sse2")]
#[inline]
fn substitute(word: u32) -> u32 {
    let words = _mm_set1_epi32(word.cast_signed());
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(words)).cast_unsigned()
}
