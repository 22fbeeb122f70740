//! What is encrypted comes back, and each unit stands by itself.

use crypto::{IvUnit, SectorCipher, Spec};
use proptest::prelude::*;

/// Specifications with a key length each.
const SPECS: [(&str, usize); 18] = [
    ("aes-xts-plain64", 64),
    ("aes-xts-plain64", 48),
    ("aes-xts-essiv:sha256", 64),
    ("aes-cbc-plain", 16),
    ("aes-cbc-essiv:sha256", 32),
    ("aes-cbc-eboiv", 32),
    ("aes-ecb", 24),
    ("aes-ctr-plain64be", 32),
    ("aes-lrw-benbi", 48),
    ("serpent-xts-plain64", 64),
    ("blowfish-pcbc-null", 56),
    ("aes:4-cbc-plain64", 64),
    ("aes-cbc-elephant", 32),
    ("aes:2-cbc-lmk", 33 + 15),
    ("serpent:4-cbc-lmk", 35),
    ("aes-cbc-tcw", 64),
    ("xchacha12,aes-adiantum-plain64", 32),
    ("cipher_null-ecb", 0),
];

fn cipher(spec: &str, key: &[u8], sector_size: u32, iv_unit: IvUnit) -> SectorCipher {
    let spec = Spec::parse(spec).expect("a good specification");
    SectorCipher::new(&spec, key, sector_size, iv_unit).expect("a good key")
}

proptest! {
    #[test]
    fn a_unit_is_encrypted_by_itself_and_comes_back(
        which in 0..SPECS.len(),
        shift in 0_u32..4,
        large: bool,
        units in 1_usize..20,
        start: u64,
        data in proptest::collection::vec(any::<u8>(), 20 * 4096),
        key in proptest::collection::vec(any::<u8>(), 64),
        changed: proptest::sample::Index,
    ) {
        let (spec, key_len) = SPECS[which];
        let shift = if spec.ends_with("lmk") || spec.ends_with("tcw") { 0 } else { shift };
        let unit = 512_usize << shift;
        let iv_unit = if large { IvUnit::Large } else { IvUnit::Sector512 };
        let cipher = cipher(spec, &key[..key_len], unit as u32, iv_unit);
        let plain = &data[..units * unit];
        let sector = start & !((1 << shift) - 1);

        let mut whole = vec![0; plain.len()];
        cipher.encrypt_to(sector, plain, &mut whole);
        let mut by_unit = plain.to_vec();
        for (n, unit) in by_unit.chunks_mut(unit).enumerate() {
            cipher.encrypt(sector.wrapping_add((n << shift) as u64), unit);
        }
        prop_assert!(whole == by_unit, "one call and one call a unit differ");

        let at = changed.index(whole.len());
        let mut broken = whole.clone();
        cipher.decrypt(sector, &mut whole);
        prop_assert!(whole == plain, "it came back otherwise");
        broken[at] ^= 0x10;
        cipher.decrypt(sector, &mut broken);
        for (n, (read, wrote)) in broken.chunks(unit).zip(plain.chunks(unit)).enumerate() {
            prop_assert_eq!(read != wrote, n == at / unit, "a change reached another unit");
        }
    }
}
