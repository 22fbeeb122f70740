use crate::field::Power;

/// What a kernel computes, from the first byte of the buffers to the last. All of a job's buffers
/// have one length.
pub(crate) enum Job<'a> {
    /// Adds the sources to `dest`, or to zero.
    Xor { dest: &'a mut [u8], onto: Onto, sources: &'a [&'a [u8]] },
    /// Adds `by` times `source` to `dest`.
    ScaleAdd { dest: &'a mut [u8], by: Power, source: &'a [u8] },
    /// Brings P and Q from `old` to `new`, where Q counts that block `by` times.
    Replace { by: Power, old: &'a [u8], new: &'a [u8], p: &'a mut [u8], q: &'a mut [u8] },
    /// Q of `data`.
    Q { data: &'a [Option<&'a [u8]>], q: &'a mut [u8] },
    /// P and Q of `data`, and what is made of them.
    Sums { data: &'a [Option<&'a [u8]>], one: &'a mut [u8], other: &'a mut [u8], made: Made<'a> },
}

/// What a sum begins with.
#[derive(Clone, Copy)]
pub(crate) enum Onto {
    Zero,
    Dest,
}

/// What is made of P' and Q', the sums over the blocks that are there, in two buffers.
#[derive(Clone, Copy)]
pub(crate) enum Made<'a> {
    /// P' and Q' themselves.
    Syndromes,
    /// The one block that lacks, x = `by` · (Q + Q'), and P of all.
    DataAndP { q: &'a [u8], by: Power },
    /// The two blocks that lack, x = `by_p` · (P + P') + `by_q` · (Q + Q') and y = x + P + P'.
    TwoData { p: &'a [u8], q: &'a [u8], by_p: Power, by_q: Power },
}
