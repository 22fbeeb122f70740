use crate::field::Power;

/// What a kernel computes, from the first byte of the buffers to the last. All of a job's buffers
/// have one length.
pub(crate) enum Job<'a> {
    /// Sets `dest` to the sum of the sources.
    Xor { dest: &'a mut [u8], sources: &'a [&'a [u8]] },
    /// Adds the sources to `dest`.
    XorInto { dest: &'a mut [u8], sources: &'a [&'a [u8]] },
    /// Adds `by` times `source` to `dest`.
    ScaleAdd { dest: &'a mut [u8], by: Power, source: &'a [u8] },
    /// Brings P and Q from `old` to `new`, where Q counts that block `by` times.
    Replace { by: Power, old: &'a [u8], new: &'a [u8], p: &'a mut [u8], q: &'a mut [u8] },
    /// P and Q of `data`.
    Syndromes { data: &'a [Option<&'a [u8]>], p: &'a mut [u8], q: &'a mut [u8] },
    /// Q of `data`.
    Q { data: &'a [Option<&'a [u8]>], q: &'a mut [u8] },
    /// The one block that `data` lacks from Q, and P of all: with Q' of what is there,
    /// x = `by` · (Q + Q').
    DataAndP {
        data: &'a [Option<&'a [u8]>],
        q: &'a [u8],
        by: Power,
        x: &'a mut [u8],
        p: &'a mut [u8],
    },
    /// The two blocks that `data` lacks: with P' and Q' of what is there,
    /// x = `by_p` · (P + P') + `by_q` · (Q + Q'), and y = x + P + P'.
    TwoData {
        data: &'a [Option<&'a [u8]>],
        p: &'a [u8],
        q: &'a [u8],
        by_p: Power,
        by_q: Power,
        x: &'a mut [u8],
        y: &'a mut [u8],
    },
}
