use std::arch::x86_64::{__m128i, __m256i, __m512i};

/// A register of bytes: any bits are a value of it.
pub(super) trait Register: Copy {}
impl Register for __m128i {}
impl Register for __m256i {}
impl Register for __m512i {}

/// Loads registers from `at` bytes into the buffer on; one register alone is filled up with zeros
/// where the buffer ends before it.
#[inline(always)]
pub(super) fn load<R: Register, const N: usize>(bytes: &[u8], at: usize) -> [R; N] {
    if !is_inside(bytes, at, size_of::<[R; N]>()) {
        // Not where there are many: a call in their loop would push the sums out of the registers,
        // and values in this message would be put on the stack in each turn.
        assert!(N == 1, "several registers at the end of a buffer");
        return load_end(&bytes[at..]);
    }
    let place = bytes.as_ptr().wrapping_add(at).cast::<[R; N]>();
    // SAFETY: so many bytes lie there, borrowed and initialised, and any bytes are registers.
    unsafe { place.read_unaligned() }
}

/// Stores registers from `at` bytes into the buffer on; of one register alone, what the buffer
/// has room for.
#[inline(always)]
pub(super) fn store<R: Register, const N: usize>(bytes: &mut [u8], at: usize, registers: [R; N]) {
    if !is_inside(bytes, at, size_of::<[R; N]>()) {
        assert!(N == 1, "several registers at the end of a buffer");
        return store_end(&mut bytes[at..], registers);
    }
    let place = bytes.as_mut_ptr().wrapping_add(at).cast::<[R; N]>();
    // SAFETY: so many bytes lie there, borrowed mutably.
    unsafe { place.write_unaligned(registers) }
}

#[inline(always)]
fn is_inside(bytes: &[u8], at: usize, size: usize) -> bool {
    at.checked_add(size).is_some_and(|end| end <= bytes.len())
}

/// Bytes of the widest register.
const WIDEST: usize = size_of::<__m512i>();

#[cold]
fn load_end<R: Register, const N: usize>(end: &[u8]) -> [R; N] {
    let mut padded = [0; WIDEST];
    padded[..end.len()].copy_from_slice(end);
    load(&padded, 0)
}

#[cold]
fn store_end<R: Register, const N: usize>(end: &mut [u8], registers: [R; N]) {
    let mut padded = [0; WIDEST];
    store(&mut padded, 0, registers);
    end.copy_from_slice(&padded[..end.len()]);
}
