use chacha20::{XChaCha12, XChaCha20};
use cipher::{KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use zeroize::{Zeroize, Zeroizing};

use super::{Iv, Mode, Way, unit_size};
use crate::block::{Block, Cipher};

/// Adiantum (Crowley and Biggers, 2018): a whole unit is one wide block. Any 16 bytes change with
/// any other; the iv has 32 bytes.
pub(crate) struct Adiantum {
    stream: Stream,
    stream_key: Zeroizing<[u8; 32]>,
    cipher: Box<dyn Block>,
    header_key: Poly1305,
    poly_key: Poly1305,
    nh_key: Box<[u32; NH_KEY]>,
}

/// The stream cipher: XChaCha, so many rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    XChaCha12,
    XChaCha20,
}

impl Stream {
    pub(crate) fn by_name(name: &str) -> Option<Stream> {
        match name {
            "xchacha12" => Some(Stream::XChaCha12),
            "xchacha20" => Some(Stream::XChaCha20),
            _ => None,
        }
    }

    fn apply(self, key: &[u8; 32], nonce: &[u8; 24], data: &mut [u8]) {
        match self {
            Stream::XChaCha12 => {
                XChaCha12::new(key.into(), nonce.into()).apply_keystream(data);
            }
            Stream::XChaCha20 => {
                XChaCha20::new(key.into(), nonce.into()).apply_keystream(data);
            }
        }
    }
}

/// Words of a message that NH takes at once.
const NH_MESSAGE: usize = 256;
/// Sums that NH makes of a message, each with the key moved on by four words.
const NH_PASSES: usize = 4;
const NH_KEY: usize = NH_MESSAGE + 4 * (NH_PASSES - 1);

impl Adiantum {
    /// Derives the keys from the stream cipher's, of 32 bytes; `None` for another length.
    pub(crate) fn new(stream: Stream, cipher: Cipher, key: &[u8]) -> Option<Adiantum> {
        let stream_key = Zeroizing::new(<[u8; 32]>::try_from(key).ok()?);
        let mut derived = Zeroizing::new([0; 32 + 16 + 16 + 4 * NH_KEY]);
        let mut nonce = [0; 24];
        nonce[0] = 1;
        stream.apply(&stream_key, &nonce, &mut *derived);
        let (cipher_key, rest) = derived.split_at(32);
        let (header_key, rest) = rest.split_at(16);
        let (poly_key, nh) = rest.split_at(16);
        let mut nh_key = Box::new([0; NH_KEY]);
        for (word, bytes) in nh_key.iter_mut().zip(nh.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Some(Adiantum {
            stream,
            stream_key,
            cipher: cipher.with_key(cipher_key)?,
            header_key: poly1305(header_key),
            poly_key: poly1305(poly_key),
            nh_key,
        })
    }

    fn run(&self, iv: &Iv, unit: &mut [u8], way: Way) {
        let (left, right) = unit.split_last_chunk_mut::<16>().expect("a unit has 512 bytes");
        let header = self.hash_header(iv, left.len());
        let sum = header.wrapping_add(self.hash_message(left));
        let mut middle = u128::from_le_bytes(*right).wrapping_add(sum).to_le_bytes();
        let mut nonce = [0; 24];
        nonce[16] = 1;
        match way {
            Way::Encrypt => {
                self.cipher.encrypt(&mut middle);
                nonce[..16].copy_from_slice(&middle);
            }
            Way::Decrypt => {
                nonce[..16].copy_from_slice(&middle);
                self.cipher.decrypt(&mut middle);
            }
        }
        self.stream.apply(&self.stream_key, &nonce, left);
        let sum = header.wrapping_add(self.hash_message(left));
        *right = u128::from_le_bytes(middle).wrapping_sub(sum).to_le_bytes();
    }

    /// Hashes the length in bits and the iv.
    fn hash_header(&self, iv: &Iv, len: usize) -> u128 {
        let mut hash = self.header_key.clone();
        let mut header = [0; 48];
        header[..8].copy_from_slice(&(8 * len as u64).to_le_bytes());
        header[16..].copy_from_slice(iv);
        hash.update_padded(&header);
        u128::from_le_bytes(hash.finalize().into())
    }

    /// NHPoly1305: NH of each 1024 bytes, and Poly1305 over those.
    fn hash_message(&self, message: &[u8]) -> u128 {
        let mut hash = self.poly_key.clone();
        let mut sums = [0; 4096 / 1024 * 8 * NH_PASSES];
        let mut chunks = 0;
        for (chunk, sums) in message.chunks(4 * NH_MESSAGE).zip(sums.chunks_exact_mut(32)) {
            for (bytes, sum) in sums.as_chunks_mut::<8>().0.iter_mut().zip(self.nh(chunk)) {
                *bytes = sum.to_le_bytes();
            }
            chunks += 1;
        }
        hash.update_padded(&sums[..32 * chunks]);
        u128::from_le_bytes(hash.finalize().into())
    }

    fn nh(&self, message: &[u8]) -> [u64; NH_PASSES] {
        let mut sums = [0_u64; NH_PASSES];
        // Each unit of 16 bytes moves on by four words of the key, each pass by four more.
        let keys = self.nh_key.windows(4 * NH_PASSES).step_by(4);
        for (unit, key) in message.as_chunks::<16>().0.iter().zip(keys) {
            let word = |n: usize| {
                u32::from_le_bytes([unit[4 * n], unit[4 * n + 1], unit[4 * n + 2], unit[4 * n + 3]])
            };
            for (sum, key) in sums.iter_mut().zip(key.as_chunks::<4>().0) {
                let term = |n: usize| u64::from(word(n).wrapping_add(key[n]));
                *sum = sum.wrapping_add(term(0) * term(2)).wrapping_add(term(1) * term(3));
            }
        }
        sums
    }
}

/// Poly1305 as a hash: without the number that a message authentication adds at the end.
fn poly1305(key: &[u8]) -> Poly1305 {
    let mut whole = Zeroizing::new([0; 32]);
    whole[..16].copy_from_slice(key);
    Poly1305::new((&*whole).into())
}

impl Drop for Adiantum {
    fn drop(&mut self) {
        self.nh_key.zeroize();
    }
}

impl Mode for Adiantum {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            self.run(iv, unit, Way::Encrypt);
        }
    }

    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]) {
        let size = unit_size(ivs, data);
        for (iv, unit) in ivs.iter().zip(data.chunks_exact_mut(size)) {
            self.run(iv, unit, Way::Decrypt);
        }
    }
}
