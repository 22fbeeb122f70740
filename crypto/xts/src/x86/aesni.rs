//! One block a register, eight at a time.

use std::arch::x86_64::*;

use super::single::*;
use super::{BLOCK, Ivs, Keys, RoundKeys, Span, single};

const LANES: usize = 1;
const VECTORS: usize = 8;
const KEYS_FIT: bool = false;

kernel!("aes,pclmulqdq,sse2", narrower: single::process::<ROUNDS, DECRYPT>);

/// The tweaks of the first eight blocks: T, xT, x²T, ... x⁷T.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn first(t0: __m128i) -> [Register; VECTORS] {
    let t1 = times_x::<1, 63>(t0);
    let (t2, t3) = (times_x::<2, 62>(t0), times_x::<2, 62>(t1));
    let (t4, t5) = (times_x::<4, 60>(t0), times_x::<4, 60>(t1));
    let (t6, t7) = (times_x::<4, 60>(t2), times_x::<4, 60>(t3));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// The tweaks of the eight blocks after these: each times x⁸.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn next(tweaks: [Register; VECTORS]) -> [Register; VECTORS] {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tweaks;
    let (t0, t1, t2, t3) = (times_byte(t0), times_byte(t1), times_byte(t2), times_byte(t3));
    let (t4, t5, t6, t7) = (times_byte(t4), times_byte(t5), times_byte(t6), times_byte(t7));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// Multiplies by x⁸.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn times_byte(tweak: Register) -> Register {
    let (low, carry) = (_mm_bslli_si128::<1>(tweak), _mm_bsrli_si128::<15>(tweak));
    xor(low, _mm_clmulepi64_si128::<0x00>(carry, polynomial()))
}
