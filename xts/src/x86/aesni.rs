//! One block a register, eight at a time; and the blocks that are left over at any width.

use std::arch::x86_64::*;

use super::{BLOCK, Ivs, Keys, RoundKeys, Span};

type Register = __m128i;
const LANES: usize = 1;
const VECTORS: usize = 8;

kernel!("aes,pclmulqdq,sse2");

/// Works block by block from `at` to `end`; `tweak` is that of the first block.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
pub(super) fn tail<const ROUNDS: usize, const DECRYPT: bool>(
    keys: &RoundKeys,
    mut tweak: __m128i,
    span: &Span<'_>,
    at: usize,
    end: usize,
) {
    for at in (at..end).step_by(BLOCK) {
        let [mut block] = span.load(at);
        block = xor(block, xor(tweak, key(&keys[0])));
        for round in &keys[1..ROUNDS] {
            let round = key(round);
            block = if DECRYPT { decrypt(block, round) } else { encrypt(block, round) };
        }
        let last = xor(tweak, key(&keys[ROUNDS]));
        block = if DECRYPT { decrypt_last(block, last) } else { encrypt_last(block, last) };
        span.store(at, [block]);
        tweak = times_bit::<1, 63>(tweak);
    }
}

/// Loads a block.
#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn block(bytes: &[u8; BLOCK]) -> __m128i {
    // SAFETY: the reference is to 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
fn key(key: &[u8; BLOCK]) -> Register {
    block(key)
}

#[target_feature(enable = "sse2")]
#[inline]
fn xor(a: Register, b: Register) -> Register {
    _mm_xor_si128(a, b)
}

#[target_feature(enable = "aes")]
#[inline]
fn encrypt(block: Register, key: Register) -> Register {
    _mm_aesenc_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
fn encrypt_last(block: Register, key: Register) -> Register {
    _mm_aesenclast_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
fn decrypt(block: Register, key: Register) -> Register {
    _mm_aesdec_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
fn decrypt_last(block: Register, key: Register) -> Register {
    _mm_aesdeclast_si128(block, key)
}

#[target_feature(enable = "sse2")]
#[inline]
fn lane(block: Register) -> __m128i {
    block
}

/// The tweaks of the first eight blocks: T, xT, x²T, ... x⁷T.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn first(t0: __m128i) -> [Register; VECTORS] {
    let t1 = times_bit::<1, 63>(t0);
    let (t2, t3) = (times_bit::<2, 62>(t0), times_bit::<2, 62>(t1));
    let (t4, t5) = (times_bit::<4, 60>(t0), times_bit::<4, 60>(t1));
    let (t6, t7) = (times_bit::<4, 60>(t2), times_bit::<4, 60>(t3));
    [t0, t1, t2, t3, t4, t5, t6, t7]
}

/// The tweaks of the eight blocks after these: each times x⁸.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn next(mut tweaks: [Register; VECTORS]) -> [Register; VECTORS] {
    for tweak in &mut tweaks {
        let (low, carry) = (_mm_bslli_si128::<1>(*tweak), _mm_bsrli_si128::<15>(*tweak));
        *tweak = xor(low, _mm_clmulepi64_si128::<0x00>(carry, polynomial()));
    }
    tweaks
}

/// Multiplies by x to the power of `LEFT`, up to 63; `RIGHT` is `64 - LEFT`.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn times_bit<const LEFT: i32, const RIGHT: i32>(tweak: Register) -> Register {
    let (low, carry) = (_mm_slli_epi64::<LEFT>(tweak), _mm_srli_epi64::<RIGHT>(tweak));
    // What leaves the lower half goes to the upper; what leaves the upper comes back at the
    // bottom as the polynomial says.
    let up = _mm_bslli_si128::<8>(carry);
    xor(xor(low, up), _mm_clmulepi64_si128::<0x01>(carry, polynomial()))
}

/// x⁷ + x² + x + 1, which x¹²⁸ is equal to.
#[target_feature(enable = "sse2")]
#[inline]
fn polynomial() -> Register {
    _mm_set1_epi64x(0x87)
}
