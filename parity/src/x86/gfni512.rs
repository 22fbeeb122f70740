//! 64 bytes a register, and an instruction that multiplies.

use std::arch::x86_64::*;

use super::memory::{load, store};
use super::tables::MATRICES;
use crate::field::Power;
use crate::job::{Job, Made, Onto};

type Register = __m512i;
const WIDE: usize = 4;
const XOR_WIDE: usize = 8;
/// The matrix of a multiplication, in every lane.
type Factor = Register;

kernel!(#[target_feature(enable = "avx512f,avx512bw,gfni")]);
weighted!(#[target_feature(enable = "avx512f,avx512bw,gfni")]);

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn zero() -> Register {
    _mm512_setzero_si512()
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm512_xor_si512(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn xor3(a: Register, b: Register, c: Register) -> Register {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn factor(power: Power) -> Factor {
    matrix(MATRICES[power.exponent()])
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn matrix(matrix: u64) -> Factor {
    _mm512_set1_epi64(matrix as i64)
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn times(register: Register, matrix: Factor) -> Register {
    _mm512_gf2p8affine_epi64_epi8::<0>(register, matrix)
}
