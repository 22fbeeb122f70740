//! BitLocker volumes made by hand: what opens them, and what is refused in which words.

#[cfg(test)]
#[path = "support/bitlocker.rs"]
mod by_hand;

use std::sync::LazyLock;

use by_hand::{HEADER, IMAGE, METADATA, PASSPHRASE, RECOVERY, VOLUME, Volume};
use crypto::Secret;
use proptest::prelude::*;
use recognise::Error;
use recognise::containers::{Container, Data, Limits, Unlock, Unlocked};

fn unlock(image: &[u8], key: &[u8]) -> Result<Unlocked, Error> {
    unlock_how(image, key, &Unlock::default())
}

fn unlock_how(image: &[u8], key: &[u8], how: &Unlock) -> Result<Unlocked, Error> {
    let data = Data::with_header(image.len() as u64);
    recognise::containers::probe(&image)?.unlock(&image, data, &Secret::new(key.to_vec()), how)
}

/// The volume of most tests: its protectors take a second to make.
static USUAL: LazyLock<Vec<u8>> = LazyLock::new(|| Volume::default().image());

/// One whose key is quickly found.
fn quick() -> Volume {
    Volume { protections: vec![0x0200], ..Volume::default() }
}

fn refused(volume: &Volume, error: &str) {
    let found =
        unlock(&volume.image(), &by_hand::startup_file(VOLUME)).expect_err(error).to_string();
    assert!(found.contains(error), "{found}");
}

#[test]
fn a_passphrase_a_recovery_key_and_a_startup_key_open() {
    let recovery = format!("{RECOVERY}\n");
    for (slot, key) in [
        (0, PASSPHRASE.as_bytes()),
        (1, RECOVERY.as_bytes()),
        (1, recovery.as_bytes()),
        (2, &by_hand::startup_file(VOLUME)),
    ] {
        let unlocked = unlock(&USUAL, key).unwrap();
        assert_eq!(unlocked.key_slot, Some(slot));
        assert_eq!(unlocked.sectors(), IMAGE as u64 / 512);
    }
    let other = RECOVERY.replace("000011", "000022");
    for wrong in ["", "pass", "000001-000011-720885-111111-222222-333333-444444-555555", &other] {
        let error = unlock(&USUAL, wrong.as_bytes());
        assert!(matches!(error, Err(Error::WrongPassphrase { key_slot: None })), "{error:?}");
    }
    let second = Unlock { key_slot: Some(1), ..Unlock::default() };
    let error = unlock_how(&USUAL, PASSPHRASE.as_bytes(), &second);
    assert!(matches!(error, Err(Error::WrongPassphrase { key_slot: Some(1) })), "{error:?}");
    let fourth = Unlock { key_slot: Some(3), ..Unlock::default() };
    let error = unlock_how(&USUAL, PASSPHRASE.as_bytes(), &fourth);
    assert!(matches!(error, Err(Error::NoSuchKeySlot { key_slot: 3, .. })), "{error:?}");
}

#[test]
fn the_first_sectors_come_from_elsewhere_and_metadata_read_as_zeros() {
    let lines = |volume: &Volume| -> Vec<String> {
        let unlocked = unlock(&volume.image(), &by_hand::startup_file(VOLUME)).unwrap();
        let key = Secret::new(volume.key.clone()).to_hex();
        let line =
            |line: &recognise::containers::Line| line.table_line("dev").replace(&*key, "KEY");
        unlocked.lines().iter().map(line).collect()
    };
    let (crypt, size) = ("crypt aes-xts-plain64 KEY", METADATA.map(|offset| offset / 512));
    let header = HEADER.0 / 512;
    let expected = [
        format!("0 16 {crypt} {header} dev {header}"),
        format!("16 240 {crypt} 16 dev 16"),
        format!("{} 128 zero", size[0]),
        format!("384 128 {crypt} 384 dev 384"),
        format!("{} 128 zero", size[1]),
        format!("640 128 {crypt} 640 dev 640"),
        format!("{} 128 zero", size[2]),
        format!("896 128 {crypt} 896 dev 896"),
        format!("{header} 16 zero"),
        format!("1040 240 {crypt} 1040 dev 1040"),
    ];
    assert_eq!(lines(&quick()), expected);
    let large = lines(&Volume { sector_size: 4096, to_go: true, ..quick() });
    let options = "2 sector_size:4096 iv_large_sectors";
    assert_eq!(large[0], format!("0 16 {crypt} {header} dev {header} {options}"));
    assert_eq!(large.len(), expected.len());
}

#[test]
fn each_cipher_has_its_key() {
    let bytes = |count: u8| (0..count).collect::<Vec<u8>>();
    let halves = [&bytes(64)[..16], &bytes(64)[32..48]].concat();
    for (number, in_metadata, cipher, key) in [
        (0x8000, bytes(64), "aes-cbc-elephant", halves),
        (0x8001, bytes(64), "aes-cbc-elephant", bytes(64)),
        (0x8002, bytes(16), "aes-cbc-eboiv", bytes(16)),
        (0x8003, bytes(32), "aes-cbc-eboiv", bytes(32)),
        (0x8004, bytes(32), "aes-xts-plain64", bytes(32)),
        (0x8005, bytes(64), "aes-xts-plain64", bytes(64)),
    ] {
        let image = Volume { cipher: number, key: in_metadata, ..quick() }.image();
        let unlocked = unlock(&image, &by_hand::startup_file(VOLUME)).unwrap();
        let line = unlocked.lines()[0].table_line("dev");
        let expected = format!("0 16 crypt {cipher} {} 1024 dev 1024", *Secret::new(key).to_hex());
        assert_eq!(*line, expected);
    }
    refused(&Volume { cipher: 0x8006, ..quick() }, "cipher `0x8006`");
    refused(&Volume { key: bytes(31), ..quick() }, "volume key: expected 32 bytes, found 31");
}

#[test]
fn a_clear_key_opens_without_any() {
    let image = Volume { protections: vec![0], ..quick() }.image();
    assert_eq!(unlock(&image, b"").unwrap().key_slot, Some(0));
}

#[test]
fn what_cannot_be_opened_is_refused_in_words() {
    refused(&Volume { forged: true, ..quick() }, "changed by somebody who did not have the key");
    refused(&Volume { state: 5, ..quick() }, "a volume in state 5, next 5");
    let tpm = Volume { protections: vec![0x0100, 0x1000], ..quick() };
    refused(&tpm, "(VMK protected with TPM, VMK protected with smart card) is not supported");
    refused(&Volume { sector_size: 1024, ..quick() }, "a sector size of 1024 bytes");
    let other = unlock(&quick().image(), &by_hand::startup_file([1; 16]));
    assert!(matches!(other, Err(Error::DamagedHeader { .. })), "{other:?}");

    let mut image = quick().image();
    image[160..176]
        .copy_from_slice(b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8");
    let error = unlock(&image, b"").unwrap_err().to_string();
    assert!(error.contains("encrypt-on-write"), "{error}");
    image[1] = 0x52;
    let error = unlock(&image, b"").unwrap_err().to_string();
    assert!(error.contains("Vista"), "{error}");
    let cheap = Limits { pbkdf2_iterations: 1_000_000, ..Limits::default() };
    let how = Unlock { limits: cheap, ..Unlock::default() };
    let error = unlock_how(&USUAL, b"", &how);
    assert!(matches!(error, Err(Error::TooCostly { figure: 0x10_0000, .. })), "{error:?}");
}

#[test]
fn a_damaged_copy_of_the_metadata_is_passed_over() {
    let mut image = quick().image();
    let file = by_hand::startup_file(VOLUME);
    for (copy, offset) in METADATA.into_iter().enumerate() {
        image[offset as usize + 100] ^= 1;
        match unlock(&image, &file) {
            Ok(unlocked) => assert_eq!((copy < 2, unlocked.warnings.len()), (true, copy + 1)),
            Err(error) => {
                assert_eq!(copy, 2);
                assert!(error.to_string().contains("metadata at 131072: checksum"), "{error}");
            }
        }
    }
    // A copy that was moved is another volume's.
    let mut image = quick().image();
    image[176..184].copy_from_slice(&METADATA[1].to_le_bytes());
    let error = unlock(&image, &file).unwrap_err().to_string();
    assert!(error.contains("metadata at 262144: it says that it is at 131072"), "{error}");
}

#[test]
fn the_dump_names_what_protects_the_volume() {
    let Container::BitLocker(volume) = recognise::containers::probe(&*USUAL).unwrap() else {
        panic!("not BitLocker")
    };
    assert_eq!(volume.description.as_deref(), Some("by hand"));
    let dump = volume.to_string();
    for part in [
        "GUID:         \t11111111-1111-1111-1111-111111111111\n",
        "Created:      \t2019-12-31 21:06:40 UTC\n",
        " 1: VMK\n\tGUID:       \t22222222-2222-2222-2222-222222222222\n",
        "\tProtection: \tVMK protected with recovery passphrase\n",
        " 3: Volume header\n\tOffset: \t524288 [bytes]\n",
    ] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_the_metadata_are_read_or_refused(
        changes in prop::collection::vec((0usize..600, any::<u8>()), 1..5),
        boot in prop::option::of((0usize..512, any::<u8>())),
    ) {
        let mut image = quick().image();
        if let Some((at, byte)) = boot {
            image[at] = byte;
        }
        let start = METADATA[0] as usize;
        for (at, byte) in changes {
            image[start + at] = byte;
        }
        let size = usize::from(u16::from_le_bytes([image[start + 8], image[start + 9]])) * 16;
        if let Some(block) = image.get(start..start + size) {
            let crc = crc32fast::hash(block).to_le_bytes();
            image[start + size + 4..start + size + 8].copy_from_slice(&crc);
        }
        if let Ok(container) = recognise::containers::probe(&image) {
            let _ = container.dump().to_string();
            let limits = Limits { pbkdf2_iterations: 10, ..Limits::default() };
            let how = Unlock { limits, ..Unlock::default() };
            let _ = unlock_how(&image, &by_hand::startup_file(VOLUME), &how);
        }
    }
}
