//! The algorithms, for registers of any width.

/// Runs a block for all of `$len` bytes, with `$at` as the place and `$n` registers at a time:
/// `$wide`, and one by one at the end, where the last one may be cut short by the buffers' end.
macro_rules! strips {
    ($len:expr, $wide:expr, $at:ident, $n:ident, $body:block) => {{
        let len = $len;
        let mut $at = 0;
        while len - $at >= $wide * size_of::<Register>() {
            const $n: usize = $wide;
            $body
            $at += $wide * size_of::<Register>();
        }
        while $at < len {
            const $n: usize = 1;
            $body
            $at += size_of::<Register>();
        }
    }};
}

/// Defines `run` for a width. The module that calls this has the width's primitives: `Register`,
/// how many of them are worked on at a time (`WIDE`, and `XOR_WIDE` where there is but one sum),
/// `load` and `store` (which pad and cut a single register at the end of a buffer), `zero`, `xor`,
/// `xor3`, a `Factor`, `factor` (that of a power) and `times`; and `sums`, by `horner!` or
/// `weighted!`.
macro_rules! kernel {
    ($(#[$features:meta])?) => {
        /// Carries out a job.
        $(#[$features])?
        pub(super) fn run(job: Job<'_>) {
            match job {
                Job::Xor { dest, onto, sources } => strips!(dest.len(), XOR_WIDE, at, N, {
                    let start = match onto {
                        Onto::Zero => [zero(); N],
                        Onto::Dest => load(dest, at),
                    };
                    let sum = sum::<N>(sources, start, at);
                    store(dest, at, sum);
                }),
                Job::ScaleAdd { dest, by, source } => {
                    let by = factor(by);
                    strips!(dest.len(), WIDE, at, N, {
                        let source = scaled::<N>(load(source, at), by);
                        let sum = added::<N>(load(dest, at), source);
                        store(dest, at, sum);
                    });
                }
                Job::Replace { by, old, new, p, q } => {
                    let by = factor(by);
                    strips!(p.len(), WIDE, at, N, {
                        let change = added::<N>(load(old, at), load(new, at));
                        let sum = added::<N>(load(p, at), change);
                        store(p, at, sum);
                        let sum = added::<N>(load(q, at), scaled(change, by));
                        store(q, at, sum);
                    });
                }
                Job::Q { data, q } => strips!(q.len(), WIDE, at, N, {
                    let [_, sum_q] = sums::<N, false>(data, at);
                    store(q, at, sum_q);
                }),
                Job::Sums { data, one, other, made } => strips!(one.len(), WIDE, at, N, {
                    // One call for whatever is made of it, so that the compiler puts it in place.
                    let [sum_p, sum_q] = sums::<N, true>(data, at);
                    let (made_one, made_other) = match made {
                        Made::Syndromes => (sum_p, sum_q),
                        Made::DataAndP { q, by } => {
                            let lost = scaled(added(load(q, at), sum_q), factor(by));
                            (lost, added(sum_p, lost))
                        }
                        Made::TwoData { p, q, by_p, by_q } => {
                            let lost_p = added(load(p, at), sum_p);
                            let lost_q = scaled(added(load(q, at), sum_q), factor(by_q));
                            let lost = added(scaled(lost_p, factor(by_p)), lost_q);
                            (lost, added(lost, lost_p))
                        }
                    };
                    store(one, at, made_one);
                    store(other, at, made_other);
                }),
            }
        }

        /// Adds registers of each source to `sum`.
        $(#[$features])?
        #[inline]
        fn sum<const N: usize>(
            sources: &[&[u8]],
            mut sum: [Register; N],
            at: usize,
        ) -> [Register; N] {
            let (pairs, single) = sources.as_chunks::<2>();
            for [one, other] in pairs {
                let (one, other): ([Register; N], [Register; N]) =
                    (load(one, at), load(other, at));
                for index in 0..N {
                    sum[index] = xor3(sum[index], one[index], other[index]);
                }
            }
            match single {
                [one] => added(sum, load(one, at)),
                _ => sum,
            }
        }

        $(#[$features])?
        #[inline]
        fn added<const N: usize>(
            mut registers: [Register; N],
            others: [Register; N],
        ) -> [Register; N] {
            for index in 0..N {
                registers[index] = xor(registers[index], others[index]);
            }
            registers
        }

        $(#[$features])?
        #[inline]
        fn scaled<const N: usize>(mut registers: [Register; N], by: Factor) -> [Register; N] {
            for register in &mut registers {
                *register = times(*register, by);
            }
            registers
        }
    };
}

/// Defines `sums`, P (where it is asked for) and Q of registers of all blocks, by Horner's rule:
/// from the last block to the first, Q is doubled and the block added. The module has
/// `double_add(q, block)`, which may be off by a constant, as long as a Q that begins `RESTING` too
/// high ends so, and `every` (a byte in all lanes).
macro_rules! horner {
    ($(#[$features:meta])?) => {
        $(#[$features])?
        #[inline]
        fn sums<const N: usize, const P: bool>(
            data: &[Option<&[u8]>],
            at: usize,
        ) -> [[Register; N]; 2] {
            let resting = every(RESTING);
            let (mut p, data) = match data.split_last() {
                Some((Some(last), data)) => (load(last, at), data),
                _ => ([zero(); N], data),
            };
            let mut q = added(p, [resting; N]);
            for block in data.iter().rev() {
                match block {
                    Some(block) => {
                        let block: [Register; N] = load(block, at);
                        for index in 0..N {
                            if P {
                                p[index] = xor(p[index], block[index]);
                            }
                            q[index] = double_add(q[index], block[index]);
                        }
                    }
                    None => {
                        for q in &mut q {
                            *q = double_add(*q, zero());
                        }
                    }
                }
            }
            [p, added(q, [resting; N])]
        }
    };
}

/// Defines `sums` by adding each block times its power, where a multiplication costs no more than
/// any other instruction. The module has `matrix`, the factor for one of `MATRICES`.
macro_rules! weighted {
    ($(#[$features:meta])?) => {
        $(#[$features])?
        #[inline]
        fn sums<const N: usize, const P: bool>(
            data: &[Option<&[u8]>],
            at: usize,
        ) -> [[Register; N]; 2] {
            let (mut p, mut q) = ([zero(); N], [zero(); N]);
            let (pairs, single) = data.as_chunks::<2>();
            let (powers, _) = MATRICES.as_chunks::<2>();
            for ([one, other], [power, next]) in pairs.iter().zip(powers) {
                match (one, other) {
                    (Some(one), Some(other)) => {
                        let (one, other): ([Register; N], [Register; N]) =
                            (load(one, at), load(other, at));
                        let (power, next) = (matrix(*power), matrix(*next));
                        for index in 0..N {
                            let (one, other) = (one[index], other[index]);
                            if P {
                                p[index] = xor3(p[index], one, other);
                            }
                            q[index] = xor3(q[index], times(one, power), times(other, next));
                        }
                    }
                    (Some(one), None) => weigh::<N, P>(&mut p, &mut q, one, matrix(*power), at),
                    (None, Some(other)) => weigh::<N, P>(&mut p, &mut q, other, matrix(*next), at),
                    (None, None) => {}
                }
            }
            if let [Some(one)] = single {
                let power = MATRICES[data.len() - 1];
                weigh::<N, P>(&mut p, &mut q, one, matrix(power), at);
            }
            [p, q]
        }

        $(#[$features])?
        #[inline]
        fn weigh<const N: usize, const P: bool>(
            p: &mut [Register; N],
            q: &mut [Register; N],
            block: &[u8],
            power: Factor,
            at: usize,
        ) {
            let block: [Register; N] = load(block, at);
            if P {
                *p = added(*p, block);
            }
            *q = added(*q, scaled(block, power));
        }
    };
}
