use std::arch::x86_64::{__m128i, __m256i, __m512i};
use std::marker::PhantomData;

/// A register of blocks: any bits are a value of it.
pub(super) trait Register: Copy {}
impl Register for __m128i {}
impl Register for __m256i {}
impl Register for __m512i {}

/// Bytes that are read at one place and written at another, which may be the same.
pub(super) struct Span<'a> {
    from: *const u8,
    to: *mut u8,
    len: usize,
    borrowed: PhantomData<(&'a [u8], &'a mut [u8])>,
}

impl<'a> Span<'a> {
    /// Reads from `from` and writes to `to`.
    pub(super) fn apart(from: &'a [u8], to: &'a mut [u8]) -> Span<'a> {
        assert_eq!(from.len(), to.len(), "the buffers differ in length");
        Span { from: from.as_ptr(), to: to.as_mut_ptr(), len: to.len(), borrowed: PhantomData }
    }

    /// Reads and writes `data`.
    pub(super) fn in_place(data: &'a mut [u8]) -> Span<'a> {
        let (to, len) = (data.as_mut_ptr(), data.len());
        Span { from: to, to, len, borrowed: PhantomData }
    }

    /// Bytes of the span.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Loads registers from `at` bytes into the span on.
    #[inline(always)]
    pub(super) fn load<R: Register, const N: usize>(&self, at: usize) -> [R; N] {
        self.check(at, size_of::<[R; N]>());
        let place = self.from.wrapping_add(at).cast::<[R; N]>();
        // SAFETY: `check` found that so many bytes lie there; they are borrowed and initialised
        // for as long as the span lives, and any bytes are registers.
        unsafe { place.read_unaligned() }
    }

    /// Stores registers from `at` bytes into the span on.
    #[inline(always)]
    pub(super) fn store<R: Register, const N: usize>(&self, at: usize, registers: [R; N]) {
        self.check(at, size_of::<[R; N]>());
        let place = self.to.wrapping_add(at).cast::<[R; N]>();
        // SAFETY: `check` found that so many bytes lie there; they are borrowed mutably for as
        // long as the span lives, and no reference to them exists meanwhile.
        unsafe { place.write_unaligned(registers) }
    }

    #[inline(always)]
    fn check(&self, at: usize, bytes: usize) {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.len);
        assert!(inside, "{bytes} bytes at {at} of {}", self.len);
    }
}
