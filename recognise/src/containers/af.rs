//! The anti-forensic splitter of LUKS: a key spread over thousands of stripes, so that the loss of
//! any one of them loses the key.

use crypto::hash::Hash;
use zeroize::Zeroizing;

/// How many stripes every LUKS header has.
pub(crate) const STRIPES: u32 = 4000;

/// Returns how many bytes a key of `key_bytes` takes in its area, whole sectors.
pub(crate) fn area_bytes(key_bytes: u32) -> u64 {
    (u64::from(key_bytes) * u64::from(STRIPES)).next_multiple_of(512)
}

/// Merges stripes of `key_bytes` each into the key (TKS1, "AFmerge"): all but the last are hashed
/// into one another.
///
/// # Panics
/// When `material` is not `stripes` times `key_bytes` long, or there is no stripe.
pub(crate) fn merge(
    hash: Hash,
    material: &[u8],
    key_bytes: usize,
    stripes: usize,
) -> Zeroizing<Vec<u8>> {
    assert_eq!(material.len(), key_bytes * stripes, "stripes of one size");
    let (mixed, last) = material.split_at(key_bytes * (stripes - 1));
    let mut key = Zeroizing::new(vec![0; key_bytes]);
    for stripe in mixed.chunks_exact(key_bytes) {
        xor(&mut key, stripe);
        diffuse(hash, &mut key);
    }
    xor(&mut key, last);
    key
}

/// Replaces each piece as long as the digest by the hash of its number and itself.
fn diffuse(hash: Hash, key: &mut [u8]) {
    let mut input = Zeroizing::new(Vec::with_capacity(4 + hash.len()));
    for (number, piece) in (0u32..).zip(key.chunks_mut(hash.len())) {
        input.clear();
        input.extend(number.to_be_bytes());
        input.extend(&*piece);
        let digest = Zeroizing::new(hash.digest(&input));
        piece.copy_from_slice(&digest[..piece.len()]);
    }
}

fn xor(key: &mut [u8], stripe: &[u8]) {
    for (byte, with) in key.iter_mut().zip(stripe) {
        *byte ^= with;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::hex;

    #[test]
    fn stripes_merge_to_the_check_values() {
        let sha256 = Hash::by_name("sha256").unwrap();
        let whole: Vec<u8> = (0..64).chain((0xc0..=0xff).rev()).chain([0; 64]).collect();
        assert_eq!(
            hex(&merge(sha256, &whole, 64, 3)),
            "fe6ccfa85899d3392b5fed4db71935769d80ad84c13a3b46eb6a15337586eaca\
             4d55aef4284bd667629881cbc75878a3d5abfd8b0ba1a267a864d290af38dd85"
        );
        let short: Vec<u8> = (0..192).map(|i| (i % 251) as u8).collect();
        assert_eq!(
            hex(&merge(sha256, &short, 48, 4)),
            "3d2361950ca72046d1e6a80d0cf5b4d6e83f45b6e620fd1aebd7be5a6e77896b\
             3b87878c8e8085357ddd02940b2fbf18"
        );
    }

    #[test]
    fn an_area_is_whole_sectors() {
        assert_eq!([16, 32, 64, 33].map(area_bytes), [64000, 128000, 256000, 132096]);
    }
}
