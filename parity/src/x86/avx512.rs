//! 64 bytes a register.

use std::arch::x86_64::*;

use super::memory::{load, store};
use super::tables::{HALVES, RESTING};
use crate::field::{POLYNOMIAL, Power};
use crate::job::{Job, Made, Onto};

type Register = __m512i;
const WIDE: usize = 4;
const XOR_WIDE: usize = 8;
/// Products with the lower halves of bytes, and with the upper ones.
type Factor = [Register; 2];

kernel!(#[target_feature(enable = "avx512f,avx512bw")]);
horner!(#[target_feature(enable = "avx512f,avx512bw")]);

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn zero() -> Register {
    _mm512_setzero_si512()
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn every(byte: u8) -> Register {
    _mm512_set1_epi8(byte as i8)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm512_xor_si512(a, b)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn xor3(a: Register, b: Register, c: Register) -> Register {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn double_add(q: Register, block: Register) -> Register {
    // See `RESTING`.
    let carry = _mm512_shuffle_epi8(every(POLYNOMIAL), q);
    xor3(_mm512_add_epi8(q, q), carry, block)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn factor(power: Power) -> Factor {
    let [lower, upper] = &HALVES[power.exponent()];
    [broadcast(lower), broadcast(upper)]
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn broadcast(table: &[u8; 16]) -> Register {
    let [table] = load(table, 0);
    _mm512_broadcast_i32x4(table)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn times(register: Register, [lower, upper]: Factor) -> Register {
    let half = every(0x0f);
    let low = _mm512_and_si512(register, half);
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(register), half);
    xor(_mm512_shuffle_epi8(lower, low), _mm512_shuffle_epi8(upper, high))
}
