//! 16 bytes a register.

use std::arch::x86_64::*;

use super::memory::{load, store};
use super::tables::{HALVES, RESTING};
use crate::field::{POLYNOMIAL, Power};
use crate::job::{Job, Made, Onto};

type Register = __m128i;
const WIDE: usize = 4;
const XOR_WIDE: usize = 8;
/// Products with the lower halves of bytes, and with the upper ones.
type Factor = [Register; 2];

kernel!(#[target_feature(enable = "ssse3")]);
horner!(#[target_feature(enable = "ssse3")]);

#[target_feature(enable = "ssse3")]
#[inline]
fn zero() -> Register {
    _mm_setzero_si128()
}

#[target_feature(enable = "ssse3")]
#[inline]
fn every(byte: u8) -> Register {
    _mm_set1_epi8(byte as i8)
}

#[target_feature(enable = "ssse3")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm_xor_si128(a, b)
}

#[target_feature(enable = "ssse3")]
#[inline]
fn xor3(a: Register, b: Register, c: Register) -> Register {
    xor(xor(a, b), c)
}

#[target_feature(enable = "ssse3")]
#[inline]
fn double_add(q: Register, block: Register) -> Register {
    // See `RESTING`.
    let carry = _mm_shuffle_epi8(every(POLYNOMIAL), q);
    xor3(_mm_add_epi8(q, q), carry, block)
}

#[target_feature(enable = "ssse3")]
#[inline]
fn factor(power: Power) -> Factor {
    let [lower, upper] = &HALVES[power.exponent()];
    [broadcast(lower), broadcast(upper)]
}

#[target_feature(enable = "ssse3")]
#[inline]
fn broadcast(table: &[u8; 16]) -> Register {
    let [table] = load(table, 0);
    table
}

#[target_feature(enable = "ssse3")]
#[inline]
fn times(register: Register, [lower, upper]: Factor) -> Register {
    let half = every(0x0f);
    let low = _mm_and_si128(register, half);
    let high = _mm_and_si128(_mm_srli_epi16::<4>(register), half);
    xor(_mm_shuffle_epi8(lower, low), _mm_shuffle_epi8(upper, high))
}
