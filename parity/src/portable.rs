//! Words of 64 bits, for processors without a kernel of our own.

use crate::field::{POLYNOMIAL, Power};
use crate::job::{Job, Made, Onto};

type Register = u64;
/// The compiler takes several words at a time where it has instructions for it.
const WIDE: usize = 8;
const XOR_WIDE: usize = 8;
type Factor = u8;
const RESTING: u8 = 0;

kernel!();
horner!();

#[inline]
fn load<const N: usize>(bytes: &[u8], at: usize) -> [Register; N] {
    if N == 1 && bytes.len() - at < 8 {
        let mut padded = [0; 8];
        padded[..bytes.len() - at].copy_from_slice(&bytes[at..]);
        return [u64::from_ne_bytes(padded); N];
    }
    let (words, _) = bytes[at..][..N * 8].as_chunks::<8>();
    std::array::from_fn(|index| u64::from_ne_bytes(words[index]))
}

#[inline]
fn store<const N: usize>(bytes: &mut [u8], at: usize, registers: [Register; N]) {
    let len = if N == 1 { (bytes.len() - at).min(8) } else { N * 8 };
    let words = registers.map(u64::to_ne_bytes);
    bytes[at..][..len].copy_from_slice(&words.as_flattened()[..len]);
}

fn zero() -> Register {
    0
}

fn every(byte: u8) -> Register {
    u64::from_ne_bytes([byte; 8])
}

fn xor(a: Register, b: Register) -> Register {
    a ^ b
}

fn xor3(a: Register, b: Register, c: Register) -> Register {
    a ^ b ^ c
}

#[inline]
fn double_add(q: Register, block: Register) -> Register {
    double(q) ^ block
}

#[inline]
fn double(word: u64) -> u64 {
    let high = word & every(0x80);
    // A byte of ones for each byte whose highest bit is set.
    let carry = (high << 1).wrapping_sub(high >> 7);
    ((word ^ high) << 1) ^ (carry & every(POLYNOMIAL))
}

fn factor(power: Power) -> Factor {
    power.element()
}

#[inline]
fn times(mut word: Register, by: Factor) -> Register {
    let mut product = 0;
    for bit in 0..8 {
        // All ones where the bit is set.
        product ^= word & u64::from(by >> bit & 1).wrapping_neg();
        word = double(word);
    }
    product
}
