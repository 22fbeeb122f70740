//! Ciphers that the recorded kernel had no module for, by their standards' own examples.

mod common;

use common::hex;
use crypto::{IvUnit, Secret, SectorCipher, Spec};

/// Encrypts 32 equal blocks with `ecb`; each gives the example's ciphertext.
fn check(cipher: &str, key: &str, plain: &str, expected: &str) {
    let bytes = |hex| Secret::from_hex(hex).expect("hex digits").expose().to_vec();
    let spec = Spec::parse(&format!("{cipher}-ecb")).expect("a known cipher");
    let cipher = SectorCipher::new(&spec, &bytes(key), 512, IvUnit::Sector512).expect("a good key");
    let mut data = bytes(plain).repeat(32);
    cipher.encrypt(0, &mut data);
    assert_eq!(hex(&data), expected.repeat(32), "{spec}");
    cipher.decrypt(0, &mut data);
    assert_eq!(hex(&data), plain.repeat(32), "{spec}");
}

/// RFC 5794, appendix A.
#[test]
fn aria_is_that_of_its_rfc() {
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let plain = "00112233445566778899aabbccddeeff";
    check("aria", &key[..32], plain, "d718fbd6ab644c739da95f3be6451778");
    check("aria", &key[..48], plain, "26449c1805dbe7aa25a468ce263a9e79");
    check("aria", key, plain, "f92bd7c79fb72e2f2b8f80c1972d24fc");
}

/// GB/T 32907-2016, example 1.
#[test]
fn sm4_is_that_of_its_standard() {
    let key = "0123456789abcdeffedcba9876543210";
    check("sm4", key, key, "681edf34d206965e86b3e94f536e4246");
}
