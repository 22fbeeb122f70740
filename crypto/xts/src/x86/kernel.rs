//! The algorithm, for registers of any width.

/// Defines `process` for a width. The module that calls this has the width's primitives:
/// `Register` and its `LANES` (blocks), `VECTORS` (registers worked on at a time), whether the
/// round `KEYS_FIT` into registers beside them, `key` (a round key in every lane), `xor`,
/// `encrypt`, `encrypt_last`, `decrypt`, `decrypt_last`, `first` (the tweaks of a unit's first
/// group) and `next` (those of the following group). Units which are no whole number of groups go
/// to the kernel named after `narrower`; a disk never has them.
macro_rules! kernel {
    ($features:literal, narrower: $narrower:path) => {
        /// Bytes worked on at a time.
        const GROUP: usize = VECTORS * LANES * BLOCK;

        /// IVs encrypted at a time: as many as fill the pipeline, whatever the width.
        const IVS: usize = 8;

        /// Encrypts `ivs`, and then each unit of `span` under its own.
        #[target_feature(enable = $features)]
        pub(super) fn process<const ROUNDS: usize, const DECRYPT: bool>(
            keys: &Keys,
            ivs: &mut Ivs,
            span: &Span<'_>,
            unit: usize,
        ) {
            // A call in the loop below would push the round keys out of their registers.
            if !unit.is_multiple_of(GROUP) {
                return $narrower(keys, ivs, span, unit);
            }
            let units = span.len() / unit;
            for some in ivs[..units.next_multiple_of(IVS)].chunks_exact_mut(IVS) {
                encrypt_ivs::<ROUNDS>(&keys.tweak, some.as_flattened_mut());
            }
            let keys = if DECRYPT { &keys.decrypt } else { &keys.encrypt };
            for (index, iv) in ivs[..units].iter().enumerate() {
                one_unit::<ROUNDS, DECRYPT>(keys, iv, span, index * unit, unit);
            }
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn encrypt_ivs<const ROUNDS: usize>(keys: &RoundKeys, ivs: &mut [u8]) {
            let keys = anew(keys);
            let span = Span::in_place(ivs);
            let mut blocks: [Register; IVS / LANES] = span.load(0);
            let first = key(&keys[0]);
            for block in &mut blocks {
                *block = xor(*block, first);
            }
            for round in &keys[1..ROUNDS] {
                let round = key(round);
                for block in &mut blocks {
                    *block = encrypt(*block, round);
                }
            }
            let last = key(&keys[ROUNDS]);
            for block in &mut blocks {
                *block = encrypt_last(*block, last);
            }
            span.store(0, blocks);
        }

        /// Hides where the keys come from, in a width whose registers do not hold them all: the
        /// compiler would load them once and put them on the stack, where nobody wipes them.
        #[inline(always)]
        fn anew(keys: &RoundKeys) -> &RoundKeys {
            if KEYS_FIT { keys } else { std::hint::black_box(keys) }
        }

        /// Works on one unit; `tweak` is its IV, encrypted.
        #[target_feature(enable = $features)]
        #[inline]
        fn one_unit<const ROUNDS: usize, const DECRYPT: bool>(
            keys: &RoundKeys,
            tweak: &[u8; BLOCK],
            span: &Span<'_>,
            mut at: usize,
            unit: usize,
        ) {
            let end = at + unit;
            let mut tweaks = first(block(tweak));
            loop {
                group::<ROUNDS, DECRYPT>(keys, &tweaks, span, at);
                at += GROUP;
                if at == end {
                    return;
                }
                tweaks = next(tweaks);
            }
        }

        /// Works on one group of blocks, which stay in registers from the first round to the last.
        #[target_feature(enable = $features)]
        #[inline]
        fn group<const ROUNDS: usize, const DECRYPT: bool>(
            keys: &RoundKeys,
            tweaks: &[Register; VECTORS],
            span: &Span<'_>,
            at: usize,
        ) {
            let keys = anew(keys);
            let mut blocks: [Register; VECTORS] = span.load(at);
            let first = key(&keys[0]);
            for (block, tweak) in blocks.iter_mut().zip(tweaks) {
                *block = xor(*block, xor(*tweak, first));
            }
            for round in &keys[1..ROUNDS] {
                let round = key(round);
                for block in &mut blocks {
                    *block = if DECRYPT { decrypt(*block, round) } else { encrypt(*block, round) };
                }
            }
            // The last round ends by adding its key, so the tweak is added along with it.
            let last = key(&keys[ROUNDS]);
            for (block, tweak) in blocks.iter_mut().zip(tweaks) {
                let last = xor(*tweak, last);
                *block =
                    if DECRYPT { decrypt_last(*block, last) } else { encrypt_last(*block, last) };
            }
            span.store(at, blocks);
        }
    };
}
