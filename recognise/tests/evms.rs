//! Headers of EVMS, written here by the documented layout.

#![allow(clippy::unwrap_used, reason = "it is a test, its helpers too")]

use proptest::prelude::*;
use recognise::Error;
use recognise::evms::{self, Feature, Header};

const VOLUME: u32 = 8112 << 16 | 4 << 12;
const DRIVE_LINK: u32 = VOLUME | 1;
const RELOCATION: u32 = VOLUME | 6;
const SNAPSHOT: u32 = 8112 << 16 | 5 << 12 | 104;

/// CRC-32 bit by bit, without the inversion at the end.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ if sum & 1 != 0 { 0xedb8_8320 } else { 0 };
    bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

fn header(feature: u32, sequence: u64, name: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(&0x5441_4546u32.to_le_bytes());
    header[8] = 3;
    header[32..36].copy_from_slice(&2u32.to_le_bytes());
    header[36..40].copy_from_slice(&feature.to_le_bytes());
    header[40..48].copy_from_slice(&sequence.to_le_bytes());
    header[48] = 6;
    header[88] = 77;
    header[104..107].copy_from_slice(b"obj");
    header[232..232 + name.len()].copy_from_slice(name.as_bytes());
    sealed(header)
}

fn sealed(mut header: Vec<u8>) -> Vec<u8> {
    header[4..8].fill(0);
    let sum = checksum(&header);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    header
}

/// An object of 100 sectors that ends with these.
fn object(second: &[u8], first: &[u8]) -> Vec<u8> {
    [&vec![0; 98 * 512], second, first].concat()
}

fn read(second: &[u8], first: &[u8]) -> Result<Option<Header>, Error> {
    evms::read(&object(second, first))
}

#[test]
fn a_volume_is_the_object_but_for_headers_and_padding() {
    let whole = header(VOLUME, 1, "/dev/evms/home");
    let found = read(&whole, &whole).unwrap().unwrap();
    assert_eq!(found.feature, Feature::Volume);
    assert_eq!((found.object.as_str(), found.volume.as_str()), ("obj", "/dev/evms/home"));
    assert_eq!((found.serial, found.complete, found.len), (77, true, 100));
    assert_eq!(found.linear(), Some(92));
    assert_eq!(found.to_string(), "EVMS volume object `obj` volume `/dev/evms/home`");
}

#[test]
fn other_features_are_named_and_not_opened() {
    for (id, name) in [
        (DRIVE_LINK, "EVMS drive link"),
        (RELOCATION, "EVMS bad block relocation"),
        (SNAPSHOT, "EVMS snapshot"),
        (1, "EVMS feature 0x00000001"),
    ] {
        let whole = header(id, 1, "");
        let found = read(&whole, &whole).unwrap().unwrap();
        assert_eq!(found.feature.to_string(), name);
        assert_eq!(found.linear(), None);
    }
}

#[test]
fn the_later_of_the_copies_that_are_whole_counts() {
    let name = |second: &[u8], first: &[u8]| read(second, first).unwrap().unwrap().volume;
    let (old, new) = (header(VOLUME, 1, "old"), header(VOLUME, 2, "new"));
    assert_eq!(name(&old, &new), "new");
    assert_eq!(name(&new, &old), "new");
    assert_eq!(name(&header(VOLUME, 1, "same"), &old), "old");
    let mut damaged = new.clone();
    damaged[300] ^= 1;
    assert_eq!(name(&old, &damaged), "old");
    assert_eq!(name(&old, &[0; 512]), "old");
    // A checksum that is not to be verified.
    damaged[4..8].copy_from_slice(&0x3141_5926u32.to_le_bytes());
    assert_eq!(name(&old, &damaged), "new");
}

#[test]
fn what_is_none_and_what_is_damaged() {
    assert_eq!(read(&[0; 512], &[0; 512]).unwrap(), None);
    assert_eq!(evms::read(&vec![0; 700]).unwrap(), None);
    let mut damaged = header(VOLUME, 1, "");
    damaged[60] = 1;
    assert!(read(&damaged, &damaged).unwrap_err().to_string().contains("checksum"));
    damaged[8] = 4;
    let other = sealed(damaged.clone());
    assert!(read(&other, &other).unwrap_err().to_string().contains("version 4.0"));
    damaged[8] = 3;
    damaged[48] = 98;
    let long = sealed(damaged);
    assert!(read(&long, &long).unwrap_err().to_string().contains("98 sectors of padding"));
}

proptest! {
    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((0usize..512, any::<u8>()), 0..6),
        cut in 0usize..3000,
    ) {
        let mut damaged = header(VOLUME, 1, "volume");
        for (at, value) in changes {
            damaged[at] = value;
        }
        let damaged = sealed(damaged);
        let object = object(&damaged, &damaged);
        if let Ok(Some(found)) = evms::read(&object[cut..].to_vec()) {
            prop_assert!(found.linear().is_none_or(|len| len < found.len));
            let _ = found.to_string();
        }
    }
}
