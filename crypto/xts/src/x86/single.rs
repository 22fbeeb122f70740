//! Block by block, for units that fit no other kernel; and what `aesni` shares with this.

use std::arch::x86_64::*;

use super::{BLOCK, Ivs, Keys, RoundKeys, Span};

pub(super) type Register = __m128i;
const LANES: usize = 1;
const VECTORS: usize = 1;
const KEYS_FIT: bool = false;

kernel!("aes,pclmulqdq,sse2", narrower: none);

/// Takes the units which are no whole number of blocks: there are none.
fn none(_: &Keys, _: &mut Ivs, _: &Span<'_>, unit: usize) {
    unreachable!("a unit of {unit} bytes is not of blocks");
}

#[target_feature(enable = "sse2")]
#[inline]
fn first(tweak: Register) -> [Register; VECTORS] {
    [tweak]
}

#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
fn next([tweak]: [Register; VECTORS]) -> [Register; VECTORS] {
    [times_x::<1, 63>(tweak)]
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
pub(super) fn key(key: &[u8; BLOCK]) -> Register {
    block(key)
}

#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn xor(a: Register, b: Register) -> Register {
    _mm_xor_si128(a, b)
}

#[target_feature(enable = "aes")]
#[inline]
pub(super) fn encrypt(block: Register, key: Register) -> Register {
    _mm_aesenc_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
pub(super) fn encrypt_last(block: Register, key: Register) -> Register {
    _mm_aesenclast_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
pub(super) fn decrypt(block: Register, key: Register) -> Register {
    _mm_aesdec_si128(block, key)
}

#[target_feature(enable = "aes")]
#[inline]
pub(super) fn decrypt_last(block: Register, key: Register) -> Register {
    _mm_aesdeclast_si128(block, key)
}

/// Multiplies by x to the power of `LEFT`, up to 63; `RIGHT` is `64 - LEFT`.
#[target_feature(enable = "aes,pclmulqdq,sse2")]
#[inline]
pub(super) fn times_x<const LEFT: i32, const RIGHT: i32>(tweak: Register) -> Register {
    let (low, carry) = (_mm_slli_epi64::<LEFT>(tweak), _mm_srli_epi64::<RIGHT>(tweak));
    // What leaves the lower half goes to the upper; what leaves the upper comes back at the
    // bottom as the polynomial says.
    let up = _mm_bslli_si128::<8>(carry);
    xor(xor(low, up), _mm_clmulepi64_si128::<0x01>(carry, polynomial()))
}

/// x⁷ + x² + x + 1, which x¹²⁸ is equal to.
#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn polynomial() -> Register {
    _mm_set1_epi64x(0x87)
}
