//! LUKS1 headers made by hand: what is refused, and in which words.

use crypto::Secret;
use crypto::hash::Hash;
use proptest::prelude::*;
use recognise::Error;
use recognise::containers::{Data, Limits, Unlock, Unlocked};

/// The data's first sector; eight key slots of 125 sectors lie before it.
const PAYLOAD: u32 = 2048;
const IMAGE: usize = (PAYLOAD as usize + 8) * 512;
const SALT: [u8; 32] = [3; 32];

/// Returns an image whose first key slot opens with the empty passphrase: its cipher is none, and
/// its key material all zeros.
fn image() -> Vec<u8> {
    let sha256 = Hash::by_name("sha256").expect("SHA-256 is known");
    let mut key = [0; 16];
    for _ in 0..3999 {
        let mixed = sha256.digest(&[&[0; 4], &key[..]].concat());
        key.copy_from_slice(&mixed[..16]);
    }
    let mut digest = [0; 20];
    sha256.pbkdf2(&key, &SALT, 5, &mut digest);
    let mut image = vec![0; IMAGE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"LUKS\xba\xbe\x00\x01cipher_null");
    put(40, b"ecb");
    put(72, b"sha256");
    put(104, &PAYLOAD.to_be_bytes());
    put(108, &16u32.to_be_bytes());
    put(112, &digest);
    put(132, &SALT);
    put(164, &5u32.to_be_bytes());
    for slot in 0..8 {
        let (at, state) = (208 + 48 * slot, if slot == 0 { 0x00ac_71f3u32 } else { 0xdead });
        put(at, &state.to_be_bytes());
        put(at + 4, &7u32.to_be_bytes());
        put(at + 40, &(8 + 128 * slot as u32).to_be_bytes());
        put(at + 44, &4000u32.to_be_bytes());
    }
    image
}

fn unlock(image: &[u8], passphrase: &str) -> Result<Unlocked, Error> {
    let data = Data::with_header(image.len() as u64);
    let limits = Limits { pbkdf2_iterations: 100, ..Limits::default() };
    let how = Unlock { limits, ..Unlock::default() };
    let passphrase = Secret::new(passphrase.into());
    recognise::containers::probe(&image)?.unlock(&image, data, &passphrase, &how)
}

#[test]
fn a_null_cipher_opens_with_the_empty_passphrase_alone() {
    let unlocked = unlock(&image(), "").unwrap();
    let line = unlocked.lines()[0].table_line("dev");
    assert_eq!((&**line, unlocked.key_slot), ("0 8 crypt cipher_null-ecb - 0 dev 2048", Some(0)));
    let error = unlock(&image(), "any");
    assert!(matches!(error, Err(Error::WrongPassphrase { key_slot: None })), "{error:?}");
}

#[test]
fn damaged_headers_are_refused_with_the_place() {
    let number = |value: u32| value.to_be_bytes().to_vec();
    for (at, bytes, error) in [
        (6, vec![0, 3], "version: expected 2, found 3"),
        (108, number(0), "key bytes: expected 1 to 512, found 0"),
        (108, number(u32::MAX), "key bytes: expected 1 to 512, found 4294967295"),
        (108, number(64), "key slots 0 and 1 overlap"),
        (72, b"nohash".to_vec(), "header: unknown hash `nohash`"),
        (8, b"nocipher\0\0\0".to_vec(), "header: cipher `nocipher-ecb`"),
        (104, number(0), "the header is a detached one"),
        (104, number(1024), "key slot 7: sectors 904 to 1029 reach into the data at sector 1024"),
        (104, number(2056), "the data device: 1052672 bytes, expected at least 1053184"),
        (164, number(101), "digest: PBKDF2 iterations of 101 is above the limit of 100"),
        (164, number(0), "digest: 0 iterations of PBKDF2"),
        (208, number(1), "key slot 0: state: expected 0xac71f3 or 0xdead, found 0x1"),
        (212, number(u32::MAX), "key slot 0: PBKDF2 iterations of 4294967295"),
        (248, number(1), "key slot 0: key material at sector 1 is in the header"),
        (248, number(u32::MAX), "key slot 0: sectors 4294967295 to 4294967420 reach into"),
        (252, number(4001), "key slot 0: stripes: expected 4000, found 4001"),
        (112, vec![0; 20], "no key available with this passphrase"),
    ] {
        let mut image = image();
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        let found = unlock(&image, "").expect_err(error).to_string();
        assert!(found.contains(error), "{at}: {found}");
    }
}

#[test]
fn a_key_slot_past_the_end_of_a_detached_header_is_refused() {
    let mut image = image();
    image[104..108].fill(0);
    image[248..252].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = recognise::containers::probe(&image);
    let needed = (u64::from(u32::MAX) + 125) * 512;
    assert!(matches!(error, Err(Error::TooSmall { needed: found, .. }) if found == needed));
}

proptest! {
    #[test]
    fn any_bytes_in_a_header_are_read_or_refused(
        changes in prop::collection::vec((8usize..592, any::<u8>()), 1..6),
    ) {
        let mut image = image();
        for (at, byte) in changes {
            image[at] = byte;
        }
        if let Ok(container) = recognise::containers::probe(&image) {
            let dump = container.dump().to_string();
            prop_assert!(!dump.contains('\u{1b}'), "control characters: {dump}");
        }
        if let Ok(unlocked) = unlock(&image, "") {
            prop_assert!(unlocked.sectors() <= IMAGE as u64 / 512);
        }
    }
}
