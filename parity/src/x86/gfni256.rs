//! 32 bytes a register, and an instruction that multiplies.

use std::arch::x86_64::*;

use super::memory::{load, store};
use super::tables::MATRICES;
use crate::field::Power;
use crate::job::{Job, Made, Onto};

type Register = __m256i;
const WIDE: usize = 4;
const XOR_WIDE: usize = 8;
/// The matrix of a multiplication, in every lane.
type Factor = Register;

kernel!(#[target_feature(enable = "avx2,gfni")]);
weighted!(#[target_feature(enable = "avx2,gfni")]);

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn zero() -> Register {
    _mm256_setzero_si256()
}

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn xor3(a: Register, b: Register, c: Register) -> Register {
    xor(a, xor(b, c))
}

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn factor(power: Power) -> Factor {
    matrix(MATRICES[power.exponent()])
}

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn matrix(matrix: u64) -> Factor {
    _mm256_set1_epi64x(matrix as i64)
}

#[target_feature(enable = "avx2,gfni")]
#[inline]
fn times(register: Register, matrix: Factor) -> Register {
    _mm256_gf2p8affine_epi64_epi8::<0>(register, matrix)
}
