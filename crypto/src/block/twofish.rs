//! Twofish (Schneier et al., 1998) with the key worked into tables, as the paper's section 4.2
//! has it ("full keying"): a hundred times as fast as a crate that computes each box again.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Block;

/// The cipher with its key: 40 words of round keys, and each byte's box with its column of the
/// MDS matrix.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Twofish {
    keys: [u32; 40],
    boxes: Box<[[u32; 256]; 4]>,
}

/// The nibble tables that the permutations q0 and q1 are made of.
const NIBBLES: [[[u8; 16]; 4]; 2] = [
    [
        [8, 1, 7, 13, 6, 15, 3, 2, 0, 11, 5, 9, 14, 12, 10, 4],
        [14, 12, 11, 8, 1, 2, 3, 5, 15, 4, 10, 6, 7, 0, 9, 13],
        [11, 10, 5, 14, 6, 13, 9, 0, 12, 8, 15, 3, 2, 4, 7, 1],
        [13, 7, 15, 4, 1, 2, 6, 14, 9, 11, 3, 0, 8, 5, 12, 10],
    ],
    [
        [2, 8, 11, 13, 15, 7, 6, 14, 3, 1, 9, 4, 0, 10, 12, 5],
        [1, 14, 2, 11, 4, 12, 3, 7, 6, 13, 10, 5, 15, 9, 0, 8],
        [4, 12, 7, 5, 1, 6, 9, 10, 0, 14, 13, 8, 2, 11, 3, 15],
        [11, 9, 5, 1, 12, 3, 13, 14, 6, 4, 7, 15, 2, 0, 8, 10],
    ],
];
const Q: [[u8; 256]; 2] = [permutation(&NIBBLES[0]), permutation(&NIBBLES[1])];

/// Which of q0 and q1 each byte passes: first, then after each word of key from the last one on.
const ORDER: [[usize; 4]; 5] =
    [[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0]];

const MDS: [[u8; 4]; 4] = [
    [0x01, 0xef, 0x5b, 0x5b],
    [0x5b, 0xef, 0xef, 0x01],
    [0xef, 0x5b, 0x01, 0xef],
    [0xef, 0x01, 0xef, 0x5b],
];
const MDS_FIELD: u16 = 0x169;

const RS: [[u8; 8]; 4] = [
    [0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e],
    [0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5],
    [0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19],
    [0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03],
];
const RS_FIELD: u16 = 0x14d;

impl Twofish {
    /// Sets up a key of 16, 24 or 32 bytes; `None` for others.
    pub(super) fn new(key: &[u8]) -> Option<Twofish> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return None;
        }
        let mut cipher = Twofish { keys: [0; 40], boxes: Box::new([[0; 256]; 4]) };
        let words = key.len() / 8;
        // Even words, odd words, and the words of the boxes from the last one back.
        let (mut even, mut odd, mut of_boxes) = ([[0; 4]; 4], [[0; 4]; 4], [[0; 4]; 4]);
        for (n, part) in key.as_chunks::<8>().0.iter().enumerate() {
            even[n].copy_from_slice(&part[..4]);
            odd[n].copy_from_slice(&part[4..]);
            of_boxes[words - 1 - n] = RS.map(|row| {
                let terms = row.iter().zip(part).map(|(a, b)| product(*a, *b, RS_FIELD));
                terms.fold(0, |sum, term| sum ^ term)
            });
        }
        for n in 0..20 {
            let a = h(2 * n as u8, &even[..words]);
            let b = h(2 * n as u8 + 1, &odd[..words]).rotate_left(8);
            cipher.keys[2 * n] = a.wrapping_add(b);
            cipher.keys[2 * n + 1] = a.wrapping_add(b).wrapping_add(b).rotate_left(9);
        }
        for (place, table) in cipher.boxes.iter_mut().enumerate() {
            for (byte, entry) in (0..=255).zip(table) {
                *entry = column(place, boxed(place, byte, &of_boxes[..words]));
            }
        }
        [even, odd, of_boxes].zeroize();
        Some(cipher)
    }

    fn g(&self, x: u32) -> u32 {
        let [a, b, c, d] = x.to_le_bytes().map(usize::from);
        self.boxes[0][a] ^ self.boxes[1][b] ^ self.boxes[2][c] ^ self.boxes[3][d]
    }

    /// What a round adds to the other half.
    fn f(&self, round: usize, a: u32, b: u32) -> (u32, u32) {
        let (a, b) = (self.g(a), self.g(b.rotate_left(8)));
        let sum = a.wrapping_add(b);
        let keys = &self.keys[2 * round + 8..2 * round + 10];
        (sum.wrapping_add(keys[0]), sum.wrapping_add(b).wrapping_add(keys[1]))
    }

    fn encrypt_block(&self, block: &mut [u8; 16]) {
        let [mut a, mut b, mut c, mut d] = load(block, &self.keys[..4]);
        for round in (0..16).step_by(2) {
            let (x, y) = self.f(round, a, b);
            c = (c ^ x).rotate_right(1);
            d = d.rotate_left(1) ^ y;
            let (x, y) = self.f(round + 1, c, d);
            a = (a ^ x).rotate_right(1);
            b = b.rotate_left(1) ^ y;
        }
        store(block, [c, d, a, b], &self.keys[4..8]);
    }

    fn decrypt_block(&self, block: &mut [u8; 16]) {
        let [mut c, mut d, mut a, mut b] = load(block, &self.keys[4..8]);
        for round in (0..16).step_by(2).rev() {
            let (x, y) = self.f(round + 1, c, d);
            a = a.rotate_left(1) ^ x;
            b = (b ^ y).rotate_right(1);
            let (x, y) = self.f(round, a, b);
            c = c.rotate_left(1) ^ x;
            d = (d ^ y).rotate_right(1);
        }
        store(block, [a, b, c, d], &self.keys[..4]);
    }
}

impl Block for Twofish {
    fn encrypt(&self, data: &mut [u8]) {
        let (blocks, rest) = data.as_chunks_mut();
        assert!(rest.is_empty(), "data is whole blocks");
        blocks.iter_mut().for_each(|block| self.encrypt_block(block));
    }

    fn decrypt(&self, data: &mut [u8]) {
        let (blocks, rest) = data.as_chunks_mut();
        assert!(rest.is_empty(), "data is whole blocks");
        blocks.iter_mut().for_each(|block| self.decrypt_block(block));
    }
}

/// Reads a block's words and whitens them.
fn load(block: &[u8; 16], keys: &[u32]) -> [u32; 4] {
    let words = block.as_chunks::<4>().0;
    std::array::from_fn(|n| u32::from_le_bytes(words[n]) ^ keys[n])
}

fn store(block: &mut [u8; 16], words: [u32; 4], keys: &[u32]) {
    for ((bytes, word), key) in block.as_chunks_mut().0.iter_mut().zip(words).zip(keys) {
        *bytes = (word ^ key).to_le_bytes();
    }
}

/// The paper's h of four equal bytes.
fn h(byte: u8, key: &[[u8; 4]]) -> u32 {
    (0..4).fold(0, |sum, place| sum ^ column(place, boxed(place, byte, key)))
}

/// One byte's way through the permutations and the words of a key.
fn boxed(place: usize, byte: u8, key: &[[u8; 4]]) -> u8 {
    let start = 4 - key.len();
    let steps = ORDER[start..4].iter().zip(key.iter().rev());
    let byte =
        steps.fold(byte, |byte, (order, word)| Q[order[place]][usize::from(byte)] ^ word[place]);
    Q[ORDER[4][place]][usize::from(byte)]
}

/// One column of the MDS matrix times a byte, as a little-endian word.
fn column(place: usize, byte: u8) -> u32 {
    u32::from_le_bytes(MDS.map(|row| product(row[place], byte, MDS_FIELD)))
}

/// Multiplies in GF(2^8) modulo `field`.
fn product(a: u8, b: u8, field: u16) -> u8 {
    let (mut power, mut sum) = (u16::from(a), 0);
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            sum ^= power;
        }
        power <<= 1;
        if power > 0xff {
            power ^= field;
        }
    }
    sum as u8
}

/// Makes a permutation of bytes from its nibble tables.
const fn permutation(nibbles: &[[u8; 16]; 4]) -> [u8; 256] {
    const fn mix(a: u8, b: u8) -> (usize, usize) {
        let turned = (b >> 1 | b << 3) & 15;
        ((a ^ b) as usize, (a ^ turned ^ (a << 3 & 15)) as usize)
    }
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (a, b) = mix(at as u8 >> 4, at as u8 & 15);
        let (a, b) = mix(nibbles[0][a], nibbles[1][b]);
        bytes[at] = nibbles[3][b] << 4 | nibbles[2][a];
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use twofish::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

    use super::*;

    proptest! {
        #[test]
        fn a_block_is_what_another_implementation_makes(
            key in proptest::collection::vec(any::<u8>(), 32),
            len in prop::sample::select(vec![16, 24, 32]),
            block: [u8; 16],
        ) {
            let other = twofish::Twofish::new_from_slice(&key[..len]).unwrap();
            let ours = Twofish::new(&key[..len]).unwrap();
            let (mut theirs, mut encrypted) = (block.into(), block);
            other.encrypt_block(&mut theirs);
            ours.encrypt(&mut encrypted);
            prop_assert_eq!(&theirs[..], &encrypted[..]);
            let (mut theirs, mut decrypted) = (block.into(), block);
            other.decrypt_block(&mut theirs);
            ours.decrypt(&mut decrypted);
            prop_assert_eq!(&theirs[..], &decrypted[..]);
        }
    }
}
