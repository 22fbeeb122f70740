//! Each hash gives what other programs compute.

mod common;

use common::{KEY_SECTOR, hex, lines, pattern};
use crypto::hash::Hash;

#[test]
fn digests_hmacs_and_derived_keys_are_those_of_other_programs() {
    let (data, keys) = (pattern(0, 1), pattern(KEY_SECTOR, 1));
    let mut hashes = 0;
    for line in lines(include_str!("data/hashes.txt")) {
        let [name, digest, hmac, derived] = line[..] else { panic!("{line:?}") };
        let hash = Hash::by_name(name).unwrap_or_else(|| panic!("{name} is known"));
        assert_eq!(hex(&hash.digest(&data[..300])), digest, "{name}");
        let mut of_parts = vec![0; hash.len()];
        hash.digest_of(&[&data[..1], &[], &data[1..130], &data[130..300]], &mut of_parts);
        assert_eq!(hex(&of_parts), digest, "{name} of parts");
        assert_eq!(hex(&hash.hmac(&keys[..200], &data[..300])[..16]), hmac, "{name}");
        let mut key = [0; 75];
        hash.pbkdf2(&keys[..20], &data[..17], 7, &mut key);
        assert_eq!(hex(&key[75 - 32..]), derived, "{name}");
        hashes += 1;
    }
    assert_eq!(hashes, 21);
}

/// RFC 6986, example 1: its digests are printed from the last byte to the first.
#[test]
fn streebog_is_that_of_its_rfc() {
    let message = b"012345678901234567890123456789012345678901234567890123456789012";
    let digest = |name| hex(&Hash::by_name(name).unwrap().digest(message));
    assert_eq!(
        digest("stribog512"),
        "1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa\
         00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48"
    );
    assert_eq!(
        digest("streebog256"),
        "9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500"
    );
}

#[test]
fn a_hash_has_the_kernels_name_and_cryptsetups() {
    let name = |name| Hash::by_name(name).map(Hash::name);
    assert_eq!(name("ripemd160"), Some("rmd160"));
    assert_eq!(name("RIPEMD160"), Some("rmd160"));
    assert_eq!(name("whirlpool"), Some("wp512"));
    assert_eq!(name("blake2s-256"), Some("blake2s-256"));
    assert_eq!(name("sha257"), None);
    assert_eq!(Hash::by_kernel_name("ripemd160"), None);
    assert_eq!(Hash::by_kernel_name("SHA256"), None);
    assert_eq!(Hash::by_kernel_name("blake2s-256"), None);
    assert!(Hash::by_kernel_name("rmd160").is_some());
}
