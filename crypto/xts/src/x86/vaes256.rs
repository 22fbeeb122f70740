//! Two blocks a register, 16 at a time.

use std::arch::x86_64::*;

use super::aesni;
use super::single::block;
use super::{BLOCK, Ivs, Keys, RoundKeys, Span};

type Register = __m256i;
const LANES: usize = 2;
const VECTORS: usize = 8;
const KEYS_FIT: bool = false;

kernel!("avx2,vaes,vpclmulqdq", narrower: aesni::process::<ROUNDS, DECRYPT>);

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn key(key: &[u8; BLOCK]) -> Register {
    _mm256_broadcastsi128_si256(block(key))
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn encrypt(blocks: Register, key: Register) -> Register {
    _mm256_aesenc_epi128(blocks, key)
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn encrypt_last(blocks: Register, key: Register) -> Register {
    _mm256_aesenclast_epi128(blocks, key)
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn decrypt(blocks: Register, key: Register) -> Register {
    _mm256_aesdec_epi128(blocks, key)
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn decrypt_last(blocks: Register, key: Register) -> Register {
    _mm256_aesdeclast_epi128(blocks, key)
}

/// The tweaks of the first 16 blocks: T, xT, x²T, ... x¹⁵T.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn first(tweak: __m128i) -> [Register; VECTORS] {
    let tweak = _mm256_broadcastsi128_si256(tweak);
    let (left, right) = (_mm256_set_epi64x(1, 1, 0, 0), _mm256_set_epi64x(63, 63, 64, 64));
    let (low, carry) = (_mm256_sllv_epi64(tweak, left), _mm256_srlv_epi64(tweak, right));
    let t0 = carried(low, carry);
    let t1 = carried(_mm256_slli_epi64::<2>(t0), _mm256_srli_epi64::<62>(t0));
    let t2 = carried(_mm256_slli_epi64::<4>(t0), _mm256_srli_epi64::<60>(t0));
    let t3 = carried(_mm256_slli_epi64::<4>(t1), _mm256_srli_epi64::<60>(t1));
    let (t4, t5) = (times_x::<1, 15>(t0), times_x::<1, 15>(t1));
    let (t6, t7) = (times_x::<1, 15>(t2), times_x::<1, 15>(t3));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// The tweaks of the 16 blocks after these: each times x¹⁶.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn next(tweaks: [Register; VECTORS]) -> [Register; VECTORS] {
    // Not a loop, which the compiler would leave one, with the tweaks in memory.
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tweaks;
    let (t0, t1) = (times_x::<2, 14>(t0), times_x::<2, 14>(t1));
    let (t2, t3) = (times_x::<2, 14>(t2), times_x::<2, 14>(t3));
    let (t4, t5) = (times_x::<2, 14>(t4), times_x::<2, 14>(t5));
    let (t6, t7) = (times_x::<2, 14>(t6), times_x::<2, 14>(t7));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// Multiplies by x to the power of `8 * LEFT`, for up to 8 bytes; `RIGHT` is `16 - LEFT`.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn times_x<const LEFT: i32, const RIGHT: i32>(tweak: Register) -> Register {
    let (low, carry) = (_mm256_bslli_epi128::<LEFT>(tweak), _mm256_bsrli_epi128::<RIGHT>(tweak));
    xor(low, _mm256_clmulepi64_epi128::<0x00>(carry, polynomial()))
}

/// Puts the bits that were shifted out of each 64 into place: those of the lower half go to the
/// upper, those of the upper come back at the bottom as the polynomial says.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn carried(low: Register, carry: Register) -> Register {
    let up = _mm256_bslli_epi128::<8>(carry);
    xor(xor(low, up), _mm256_clmulepi64_epi128::<0x01>(carry, polynomial()))
}

/// x⁷ + x² + x + 1, which x¹²⁸ is equal to.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
#[inline]
fn polynomial() -> Register {
    _mm256_set1_epi64x(0x87)
}
