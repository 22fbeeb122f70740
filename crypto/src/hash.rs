//! Hashes by the names that the kernel and cryptsetup have for them.

use blake2::{Blake2b, Blake2s};
use digest::block_api::BlockSizeUser;
use digest::consts::{U16, U20, U28, U32, U48, U64};
use digest::{Digest, FixedOutputReset};
use hmac::{KeyInit, Mac, SimpleHmac};

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(Function);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Blake2b160,
    Blake2b256,
    Blake2b384,
    Blake2b512,
    Blake2s128,
    Blake2s160,
    Blake2s224,
    Blake2s256,
    Md5,
    Ripemd160,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    Sm3,
    Streebog256,
    Streebog512,
    Whirlpool,
}

use Function::*;

/// Each function with its names: the kernel's, if it has one, and what cryptsetup's libraries
/// call it besides.
const ALL: [(Function, Option<&str>, &[&str]); 23] = [
    (Blake2b160, Some("blake2b-160"), &[]),
    (Blake2b256, Some("blake2b-256"), &[]),
    (Blake2b384, Some("blake2b-384"), &[]),
    (Blake2b512, Some("blake2b-512"), &[]),
    (Blake2s128, None, &["blake2s-128"]),
    (Blake2s160, None, &["blake2s-160"]),
    (Blake2s224, None, &["blake2s-224"]),
    (Blake2s256, None, &["blake2s-256"]),
    (Md5, Some("md5"), &[]),
    (Ripemd160, Some("rmd160"), &["ripemd160"]),
    (Sha1, Some("sha1"), &[]),
    (Sha224, Some("sha224"), &[]),
    (Sha256, Some("sha256"), &[]),
    (Sha384, Some("sha384"), &[]),
    (Sha512, Some("sha512"), &[]),
    (Sha3_224, Some("sha3-224"), &[]),
    (Sha3_256, Some("sha3-256"), &[]),
    (Sha3_384, Some("sha3-384"), &[]),
    (Sha3_512, Some("sha3-512"), &[]),
    (Sm3, Some("sm3"), &[]),
    (Streebog256, Some("streebog256"), &["stribog256"]),
    (Streebog512, Some("streebog512"), &["stribog512"]),
    (Whirlpool, Some("wp512"), &["whirlpool"]),
];

/// Calls a generic function with the type that a [`Hash`] stands for.
macro_rules! with_type {
    ($hash:expr, $call:ident($($argument:expr),*)) => {
        match $hash.0 {
            Blake2b160 => $call::<Blake2b<U20>>($($argument),*),
            Blake2b256 => $call::<Blake2b<U32>>($($argument),*),
            Blake2b384 => $call::<Blake2b<U48>>($($argument),*),
            Blake2b512 => $call::<Blake2b<U64>>($($argument),*),
            Blake2s128 => $call::<Blake2s<U16>>($($argument),*),
            Blake2s160 => $call::<Blake2s<U20>>($($argument),*),
            Blake2s224 => $call::<Blake2s<U28>>($($argument),*),
            Blake2s256 => $call::<Blake2s<U32>>($($argument),*),
            Md5 => $call::<md5::Md5>($($argument),*),
            Ripemd160 => $call::<ripemd::Ripemd160>($($argument),*),
            Sha1 => $call::<sha1::Sha1>($($argument),*),
            Sha224 => $call::<sha2::Sha224>($($argument),*),
            Sha256 => $call::<sha2::Sha256>($($argument),*),
            Sha384 => $call::<sha2::Sha384>($($argument),*),
            Sha512 => $call::<sha2::Sha512>($($argument),*),
            Sha3_224 => $call::<sha3::Sha3_224>($($argument),*),
            Sha3_256 => $call::<sha3::Sha3_256>($($argument),*),
            Sha3_384 => $call::<sha3::Sha3_384>($($argument),*),
            Sha3_512 => $call::<sha3::Sha3_512>($($argument),*),
            Sm3 => $call::<sm3::Sm3>($($argument),*),
            Streebog256 => $call::<streebog::Streebog256>($($argument),*),
            Streebog512 => $call::<streebog::Streebog512>($($argument),*),
            Whirlpool => $call::<whirlpool::Whirlpool>($($argument),*),
        }
    };
}

impl Hash {
    /// Finds a hash by any of its names, in either case: `sha256`, `ripemd160`, `rmd160`, ...
    pub fn by_name(name: &str) -> Option<Hash> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let mut all = ALL.iter();
        let found = all.find(|(_, kernel, others)| {
            kernel.is_some_and(is) || others.iter().any(|other| is(other))
        });
        found.map(|known| Hash(known.0))
    }

    /// Finds a hash by the crypto API's name alone, as a table line spells it.
    pub fn by_kernel_name(name: &str) -> Option<Hash> {
        ALL.iter().find(|known| known.1 == Some(name)).map(|known| Hash(known.0))
    }

    /// Returns the name: the crypto API's, or cryptsetup's where the kernel has none.
    pub fn name(self) -> &'static str {
        let (_, kernel, others) =
            ALL.iter().find(|known| known.0 == self.0).expect("every hash is in the list");
        kernel.unwrap_or_else(|| others[0])
    }

    /// Returns the bytes of a digest.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        with_type!(self, output_size())
    }

    /// Hashes `data`.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        let mut digest = vec![0; self.len()];
        self.digest_of(&[data], &mut digest);
        digest
    }

    /// Hashes `parts`, one after the other, into `out`, which is [`Hash::len`] bytes.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn digest_of(self, parts: &[&[u8]], out: &mut [u8]) {
        with_type!(self, digest_of(parts, out));
    }

    /// Computes the HMAC of `data` under `key`, as RFC 2104.
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        with_type!(self, hmac(key, data))
    }

    /// Fills `out` with PBKDF2 over this hash's HMAC, as RFC 8018. `iterations` of zero counts as
    /// one. The time is `iterations` for each [`Hash::len`] bytes: whoever takes the number from
    /// a file bounds it first.
    pub fn pbkdf2(self, passphrase: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        with_type!(self, derive(passphrase, salt, iterations, out));
    }
}

fn output_size<D: Digest>() -> usize {
    <D as Digest>::output_size()
}

fn digest_of<D: Digest>(parts: &[&[u8]], out: &mut [u8]) {
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    out.copy_from_slice(&hash.finalize());
}

fn hmac<D>(key: &[u8], data: &[u8]) -> Vec<u8>
where
    D: Digest + BlockSizeUser + FixedOutputReset,
{
    let mut mac = <SimpleHmac<D> as KeyInit>::new_from_slice(key).expect("any key length will do");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn derive<D>(passphrase: &[u8], salt: &[u8], iterations: u32, out: &mut [u8])
where
    D: Digest + BlockSizeUser + Clone,
{
    pbkdf2::pbkdf2::<SimpleHmac<D>>(passphrase, salt, iterations, out)
        .expect("any key length will do");
}
