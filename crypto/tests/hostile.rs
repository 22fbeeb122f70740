//! Whatever the words of a table line and the length of its key: an answer, and no panic.

use crypto::{IvUnit, SectorCipher, Spec};
use proptest::prelude::*;

const CIPHERS: [&str; 8] =
    ["aes", "serpent:2", "cipher_null", "des:64", "xchacha12,aes", "aes:8192", "", "nosuch"];
const MODES: [&str; 9] = ["cbc", "ctr", "ecb", "lrw", "pcbc", "xts", "adiantum", "plain", ""];
const IVS: [&str; 12] = [
    "plain",
    "plain64",
    "plain64be",
    "essiv:sha256",
    "essiv:md5",
    "benbi",
    "null",
    "eboiv",
    "lmk",
    "tcw",
    "elephant",
    "random",
];

/// Bytes of keys: what some cipher takes, alone or with what an iv mode adds, and near misses.
const KEYS: [usize; 20] =
    [0, 1, 7, 8, 16, 17, 24, 31, 32, 33, 34, 40, 48, 64, 80, 96, 129, 1024, 1040, 2080];

/// Makes every combination.
fn all() -> impl Iterator<Item = (String, usize)> {
    let texts = CIPHERS.iter().flat_map(|cipher| {
        let both = |mode: &str, iv: &str| {
            [format!("{cipher}-{mode}-{iv}"), format!("capi:{mode}({cipher})-{iv}")]
        };
        let modes = MODES.iter().flat_map(move |mode| IVS.iter().map(move |iv| both(mode, iv)));
        modes.flatten().collect::<Vec<_>>()
    });
    texts.flat_map(|text| KEYS.map(|key| (text.clone(), key)))
}

#[test]
fn any_words_and_any_key_get_an_answer() {
    let mut ciphers = 0;
    for (text, key_len) in all() {
        let Ok(spec) = Spec::parse(&text) else { continue };
        for sector_size in [512, 4096] {
            let key = vec![7; key_len];
            let Ok(cipher) = SectorCipher::new(&spec, &key, sector_size, IvUnit::Large) else {
                continue;
            };
            let mut data = vec![1; 3 * sector_size as usize];
            cipher.encrypt(u64::MAX - 10, &mut data);
            cipher.decrypt(u64::MAX - 10, &mut data);
            ciphers += 1;
        }
    }
    assert!(ciphers > 500, "only {ciphers} combinations are accepted");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(capi:)?[a-z0-9:(),-]{0,40}|.{0,200}") {
        match Spec::parse(&text) {
            Ok(spec) => prop_assert_eq!(spec.to_string(), text),
            Err(fault) => prop_assert!(!fault.kernel.is_empty() && !fault.detail.is_empty()),
        }
    }
}
