//! Every backend against arithmetic byte by byte, and every loss recovered.

use std::ops::Range;

use parity::{Backend, MOST_BLOCKS, Parity};
use proptest::prelude::*;

/// As one learns it: shift, and add where a bit is set.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
        b >>= 1;
    }
    product
}

fn power(k: usize) -> u8 {
    (0..k).fold(1, |power, _| multiply(power, 2))
}

fn backends() -> Vec<(Backend, Parity)> {
    let with = |backend| (backend, Parity::with_backend(backend));
    Backend::available().into_iter().map(with).collect()
}

/// Pseudo-random bytes: proptest would take longer to draw them than the kernels take.
fn noise(mut state: u64, len: usize) -> Vec<u8> {
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Data blocks at odd places of one large buffer.
#[derive(Debug)]
struct Case {
    len: usize,
    seed: u64,
    memory: Vec<u8>,
    blocks: Vec<Option<Range<usize>>>,
}

impl Case {
    /// Makes `count` blocks; those in `zeros` (by place) are none.
    fn new(count: usize, len: usize, seed: u64, zeros: impl Fn(usize) -> bool) -> Case {
        let step = |k: usize| k * (len + 64) + (seed as usize).wrapping_mul(k + 1) % 64;
        let block = |k| (!zeros(k)).then(|| step(k)..step(k) + len);
        let memory = noise(seed, step(0).max(64) + count * (len + 128));
        Case { len, seed, memory, blocks: (0..count).map(block).collect() }
    }

    fn data(&self) -> Vec<Option<&[u8]>> {
        let block = |block: &Option<Range<usize>>| Some(&self.memory[block.clone()?]);
        self.blocks.iter().map(block).collect()
    }

    fn without(&self, lost: &[usize]) -> Vec<Option<&[u8]>> {
        let mut data = self.data();
        lost.iter().for_each(|lost| data[*lost] = None);
        data
    }

    fn block(&self, k: usize) -> Vec<u8> {
        self.data()[k].map_or(vec![0; self.len], <[u8]>::to_vec)
    }

    fn p(&self) -> Vec<u8> {
        self.sum(|_| 1)
    }

    fn q(&self) -> Vec<u8> {
        self.sum(power)
    }

    fn sum(&self, times: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut sum = vec![0; self.len];
        for (k, block) in self.data().into_iter().enumerate() {
            let times = times(k);
            for (sum, byte) in sum.iter_mut().zip(block.into_iter().flatten()) {
                *sum ^= multiply(*byte, times);
            }
        }
        sum
    }

    /// What `work` makes of buffers that hold `before`, at odd places; it must touch nothing else.
    fn at_work<const N: usize>(
        &self,
        before: [&[u8]; N],
        work: impl FnOnce([&mut [u8]; N]),
    ) -> [Vec<u8>; N] {
        const EDGE: u8 = 0xa5;
        let start = |index: usize| (self.seed >> 32) as usize % 61 + index;
        let mut index = 0;
        let mut buffers = before.map(|before| {
            let mut buffer = vec![EDGE; start(index) + self.len + 64];
            buffer[start(index)..][..self.len].copy_from_slice(before);
            index += 1;
            buffer
        });
        let mut index = 0;
        work(buffers.each_mut().map(|buffer| {
            index += 1;
            &mut buffer[start(index - 1)..][..self.len]
        }));
        let mut index = 0;
        buffers.map(|mut buffer| {
            let found: Vec<u8> = buffer.drain(start(index)..start(index) + self.len).collect();
            index += 1;
            assert!(buffer.iter().all(|byte| *byte == EDGE), "the buffer was left");
            found
        })
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let count = prop_oneof![12 => 1usize..=20, 1 => 21usize..=MOST_BLOCKS];
    // The ends of every width, a disk's blocks, and anything.
    let len = prop_oneof![
        2 => 0usize..=300,
        2 => 300usize..=3000,
        1 => prop_oneof![Just(512usize), Just(4096)],
    ];
    // One bit a block, of which all, half or none are set.
    let zeros = prop_oneof![Just(0u64), any::<u64>(), Just(u64::MAX)];
    (count, len, any::<u64>(), zeros).prop_map(|(count, len, seed, zeros)| {
        Case::new(count, len, seed, |k| zeros >> (k % 64) & 1 == 1)
    })
}

/// Short of the whole buffers, which nobody can read: the first byte that differs.
fn same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len());
    let differs = (0..found.len()).find(|at| found[*at] != expected[*at]);
    let shown = differs.map(|at| (at, found[at], expected[at]));
    assert_eq!(shown, None, "{what}: byte, found, expected, of {} bytes", found.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_backend_makes_p_and_q_as_byte_by_byte(case in cases()) {
        let (old, p, q) = (noise(case.seed + 1, case.len), case.p(), case.q());
        for (name, parity) in backends() {
            let data = case.data();
            let [found_p, found_q] =
                case.at_work([&old, &old], |[p, q]| parity.syndromes(&data, p, q));
            same(&found_p, &p, &format!("{name}: P"));
            same(&found_q, &q, &format!("{name}: Q"));
            let [found_q] = case.at_work([&old], |[found]| parity.q(&data, found));
            same(&found_q, &q, &format!("{name}: Q alone"));
            let sources: Vec<&[u8]> = data.into_iter().flatten().collect();
            let [found] = case.at_work([&old], |[dest]| parity.xor(dest, &sources));
            let expected: Vec<u8> = p.iter().zip(&old).map(|(p, old)| p ^ old).collect();
            same(&found, &expected, &format!("{name}: xor"));
            if !sources.is_empty() {
                let [found] = case.at_work([&old], |[dest]| parity.xor_to(dest, &sources));
                same(&found, &p, &format!("{name}: xor_to"));
            }
        }
    }

    #[test]
    fn every_backend_brings_p_and_q_up_to_date(case in cases(), k in 0..MOST_BLOCKS) {
        let k = k % case.blocks.len();
        let (old, new) = (case.block(k), noise(case.seed + 1, case.len));
        let (p, q) = (case.p(), case.q());
        let by = power(k);
        let scaled = |byte: u8| multiply(by, byte);
        for (name, parity) in backends() {
            let [taken_out] = case.at_work([&q], |[q]| parity.scale_add(q, k, &old));
            let expected: Vec<u8> = (0..case.len).map(|at| q[at] ^ scaled(old[at])).collect();
            same(&taken_out, &expected, &format!("{name}: scale_add"));
            let [put_in] = case.at_work([&taken_out], |[q]| parity.scale_add(q, k, &new));
            let [found_p, found_q] =
                case.at_work([&p, &q], |[p, q]| parity.replace(k, &old, &new, p, q));
            let change: Vec<u8> = (0..case.len).map(|at| old[at] ^ new[at]).collect();
            let expected: Vec<u8> = (0..case.len).map(|at| p[at] ^ change[at]).collect();
            same(&found_p, &expected, &format!("{name}: P of replace"));
            let expected: Vec<u8> = (0..case.len).map(|at| q[at] ^ scaled(change[at])).collect();
            same(&found_q, &expected, &format!("{name}: Q of replace"));
            same(&put_in, &expected, &format!("{name}: scale_add again"));
        }
    }

    #[test]
    fn every_backend_recovers_what_is_lost(case in cases(), x in 0..MOST_BLOCKS, y in 0..MOST_BLOCKS) {
        let blocks = case.blocks.len();
        let (x, y) = (x % blocks, y % blocks);
        let old = noise(case.seed + 1, case.len);
        for (name, parity) in backends() {
            recover(&case, (name, parity), [x, y], &case.p(), &case.q(), &old);
        }
    }
}

/// Loses what lies at two places, which may be one, and has it back.
fn recover(
    case: &Case,
    (name, parity): (Backend, Parity),
    [x, y]: [usize; 2],
    p: &[u8],
    q: &[u8],
    old: &[u8],
) {
    let data = case.without(&[x]);
    let [found, found_p] = case.at_work([old, old], |[block, p]| {
        parity.recover_data_and_p(&data, x, q, block, p);
    });
    same(&found, &case.block(x), &format!("{name}: block {x}, lost with P"));
    same(&found_p, p, &format!("{name}: P, lost with block {x}"));
    if x == y {
        return;
    }
    let data = case.without(&[x, y]);
    let [found_x, found_y] = case.at_work([old, old], |[block_x, block_y]| {
        parity.recover_two_data(&data, [x, y], p, q, [block_x, block_y]);
    });
    same(&found_x, &case.block(x), &format!("{name}: block {x}, lost with {y}"));
    same(&found_y, &case.block(y), &format!("{name}: block {y}, lost with {x}"));
}

#[test]
fn every_pair_of_every_set_is_recovered() {
    for blocks in (1..=14).chain([MOST_BLOCKS]) {
        let case = Case::new(blocks, if blocks == MOST_BLOCKS { 1 } else { 67 }, 7, |k| k == 3);
        let (p, q, old) = (case.p(), case.q(), vec![0x77; case.len]);
        for backend in backends() {
            for x in 0..blocks {
                for y in 0..blocks {
                    recover(&case, backend, [x, y], &p, &q, &old);
                }
            }
        }
    }
}

#[test]
fn q_counts_a_block_as_in_the_known_table() {
    // 2ᵏ, from H. Peter Anvin's "The mathematics of RAID-6" and from any table of logarithms for
    // 0x11d; 2²⁵⁵ is 1 again.
    let known = [(0, 1), (1, 2), (7, 128), (8, 0x1d), (9, 0x3a), (25, 3), (128, 0x85), (254, 0x8e)];
    for (name, parity) in backends() {
        for (k, expected) in known {
            let mut data: Vec<Option<&[u8]>> = vec![None; k + 1];
            data[k] = Some(&[1]);
            let (mut p, mut q) = ([0], [0]);
            parity.syndromes(&data, &mut p, &mut q);
            assert_eq!((p, q), ([1], [expected]), "{name}: block {k}");
            let mut scaled = [0];
            parity.scale_add(&mut scaled, k, &[1]);
            assert_eq!(scaled, [expected], "{name}: 2 to the power of {k}");
        }
        let mut again = [0];
        parity.scale_add(&mut again, 1, &[0x8e]);
        assert_eq!(again, [1], "{name}: 2 to the power of 255");
    }
}

#[test]
fn the_functions_do_as_the_fastest_backend_does() {
    let case = Case::new(6, 1000, 3, |k| k == 2);
    let (data, p, q, new) = (case.data(), case.p(), case.q(), noise(4, case.len));
    let mut found = [vec![9; case.len], vec![9; case.len]];
    let [one, other] = &mut found;
    parity::syndromes(&data, one, other);
    assert_eq!(found, [p.clone(), q.clone()]);
    let [one, other] = &mut found;
    parity::replace(4, data[4].unwrap(), &new, one, other);
    parity::replace(4, &new, data[4].unwrap(), one, other);
    parity::scale_add(other, 5, data[5].unwrap());
    parity::xor(one, &[data[5].unwrap()]);
    let [short_p, short_q] = &mut [vec![9; case.len], vec![9; case.len]];
    parity::q(&data[..5], short_q);
    parity::xor_to(
        short_p,
        &[data[0].unwrap(), data[1].unwrap(), data[3].unwrap(), data[4].unwrap()],
    );
    assert_eq!(found, [short_p.clone(), short_q.clone()]);
    let [one, other] = &mut found;
    parity::recover_two_data(&case.without(&[1, 4]), [4, 1], &p, &q, [one, other]);
    assert_eq!(found, [case.block(4), case.block(1)]);
    let [one, other] = &mut found;
    parity::recover_data_and_p(&case.without(&[5]), 5, &q, one, other);
    assert_eq!(found, [case.block(5), p]);
}
