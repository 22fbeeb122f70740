//! Whatever the words of a table line and the length of its key: an answer, and no panic.

use crypto::{IvUnit, SectorCipher, Spec};
use proptest::prelude::*;
use proptest::sample::select;

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

proptest! {
    #[test]
    fn any_words_and_any_key_get_an_answer(
        cipher in select(&CIPHERS[..]),
        mode in select(&MODES[..]),
        iv in select(&IVS[..]),
        capi: bool,
        key_len in prop_oneof![0_usize..130, Just(1024), Just(1040)],
        sector_size in select(vec![512_u32, 1024, 2048, 4096]),
        sector: u64,
    ) {
        let text = match capi {
            true => format!("capi:{mode}({cipher})-{iv}"),
            false => format!("{cipher}-{mode}-{iv}"),
        };
        if let Ok(spec) = Spec::parse(&text)
            && let Ok(cipher) =
                SectorCipher::new(&spec, &vec![7; key_len], sector_size, IvUnit::Large)
        {
            let mut data = vec![1; 3 * sector_size as usize];
            cipher.encrypt(sector, &mut data);
            cipher.decrypt(sector, &mut data);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(capi:)?[a-z0-9:(),-]{0,40}|.{0,200}") {
        match Spec::parse(&text) {
            Ok(spec) => prop_assert_eq!(spec.to_string(), text),
            Err(fault) => prop_assert!(!fault.kernel.is_empty() && !fault.detail.is_empty()),
        }
    }
}
