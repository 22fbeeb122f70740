//! Four blocks a register, 32 at a time: a sector of 512 bytes is one group.

use std::arch::x86_64::*;

use super::single::block;
use super::vaes256;
use super::{BLOCK, Ivs, Keys, RoundKeys, Span};

type Register = __m512i;
const LANES: usize = 4;
const VECTORS: usize = 8;
const KEYS_FIT: bool = true;

kernel!("avx512f,avx512bw,vaes,vpclmulqdq", narrower: vaes256::process::<ROUNDS, DECRYPT>);

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn key(key: &[u8; BLOCK]) -> Register {
    _mm512_broadcast_i32x4(block(key))
}

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm512_xor_si512(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn encrypt(blocks: Register, key: Register) -> Register {
    _mm512_aesenc_epi128(blocks, key)
}

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn encrypt_last(blocks: Register, key: Register) -> Register {
    _mm512_aesenclast_epi128(blocks, key)
}

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn decrypt(blocks: Register, key: Register) -> Register {
    _mm512_aesdec_epi128(blocks, key)
}

#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn decrypt_last(blocks: Register, key: Register) -> Register {
    _mm512_aesdeclast_epi128(blocks, key)
}

/// The tweaks of the first 32 blocks: T, xT, x²T, ... x³¹T.
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn first(tweak: __m128i) -> [Register; VECTORS] {
    let tweak = _mm512_broadcast_i32x4(tweak);
    let shifts = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);
    let back = _mm512_sub_epi64(_mm512_set1_epi64(64), shifts);
    let (low, carry) = (_mm512_sllv_epi64(tweak, shifts), _mm512_srlv_epi64(tweak, back));
    let t0 = carried(low, carry);
    let t1 = carried(_mm512_slli_epi64::<4>(t0), _mm512_srli_epi64::<60>(t0));
    let (t2, t3) = (times_x::<1, 15>(t0), times_x::<1, 15>(t1));
    let (t4, t5) = (times_x::<2, 14>(t0), times_x::<2, 14>(t1));
    let (t6, t7) = (times_x::<3, 13>(t0), times_x::<3, 13>(t1));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// The tweaks of the 32 blocks after these: each times x³².
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn next(tweaks: [Register; VECTORS]) -> [Register; VECTORS] {
    // Not a loop, which the compiler would leave one, with the tweaks in memory.
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tweaks;
    let (t0, t1) = (times_x::<4, 12>(t0), times_x::<4, 12>(t1));
    let (t2, t3) = (times_x::<4, 12>(t2), times_x::<4, 12>(t3));
    let (t4, t5) = (times_x::<4, 12>(t4), times_x::<4, 12>(t5));
    let (t6, t7) = (times_x::<4, 12>(t6), times_x::<4, 12>(t7));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// Multiplies by x to the power of `8 * LEFT`, for up to 8 bytes; `RIGHT` is `16 - LEFT`.
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn times_x<const LEFT: i32, const RIGHT: i32>(tweak: Register) -> Register {
    let (low, carry) = (_mm512_bslli_epi128::<LEFT>(tweak), _mm512_bsrli_epi128::<RIGHT>(tweak));
    xor(low, _mm512_clmulepi64_epi128::<0x00>(carry, polynomial()))
}

/// Puts the bits that were shifted out of each 64 into place: those of the lower half go to the
/// upper, those of the upper come back at the bottom as the polynomial says.
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn carried(low: Register, carry: Register) -> Register {
    let up = _mm512_bslli_epi128::<8>(carry);
    xor(xor(low, up), _mm512_clmulepi64_epi128::<0x01>(carry, polynomial()))
}

/// x⁷ + x² + x + 1, which x¹²⁸ is equal to.
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
#[inline]
fn polynomial() -> Register {
    _mm512_set1_epi64(0x87)
}
