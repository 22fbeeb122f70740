//! What Linux 6.12's dm-crypt wrote, written again and read back.

mod common;

use common::{KEY_SECTOR, hex, lines, number, pattern};
use crypto::{Fault, IvUnit, SectorCipher, Spec, hash::Hash};

/// Sectors of data, from the pattern's start.
const SECTORS: u64 = 128;
fn iv_unit(word: &str) -> IvUnit {
    match word {
        "512" => IvUnit::Sector512,
        "large" => IvUnit::Large,
        other => panic!("{other}"),
    }
}

/// Each line: specification, bytes of key, sector size, what the iv counts, iv_offset, and the
/// first half of the ciphertext's sha256.
#[test]
fn every_combination_gives_the_kernels_ciphertext_and_reads_it() {
    let (keys, data) = (pattern(KEY_SECTOR, 16), pattern(0, SECTORS));
    let sha256 = Hash::by_name("sha256").unwrap();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in lines(include_str!("data/kernel.txt")) {
        let [spec, key, sector_size, unit, iv_offset, expected] = line[..] else {
            panic!("{line:?}")
        };
        let parsed = Spec::parse(spec).unwrap_or_else(|fault| panic!("{spec}: {fault}"));
        let key = &keys[..number(key)];
        let cipher = SectorCipher::new(&parsed, key, number(sector_size), iv_unit(unit))
            .unwrap_or_else(|fault| panic!("{line:?}: {fault}"));
        let sector = number(iv_offset);
        let mut written = vec![0; data.len()];
        cipher.encrypt_to(sector, &data, &mut written);
        let digest = hex(&sha256.digest(&written)[..16]);
        let mut read = written;
        cipher.decrypt(sector, &mut read);
        if digest != expected {
            wrong.push(format!("{line:?}: written otherwise"));
        }
        if read != data {
            wrong.push(format!("{line:?}: read otherwise"));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows > 500, "only {rows} rows");
}

/// Each line: specification, bytes of key, sector size, then the kernel's text and its errno's
/// name, or `ok`.
#[test]
fn every_fault_has_the_kernels_text_and_errno() {
    let keys = pattern(KEY_SECTOR, 16);
    let mut wrong = Vec::new();
    for line in lines(include_str!("data/faults.txt")) {
        let [spec, key, sector_size, ref expected @ ..] = line[..] else { panic!("{line:?}") };
        let cipher = || -> Result<SectorCipher, Fault> {
            let spec = Spec::parse(spec)?;
            SectorCipher::new(&spec, &keys[..number(key)], number(sector_size), IvUnit::Sector512)
        };
        let found = match cipher() {
            Ok(_) => "ok".to_owned(),
            Err(fault) => {
                let errno = match fault.kind.errno() {
                    22 => "EINVAL",
                    2 => "ENOENT",
                    12 => "ENOMEM",
                    other => panic!("errno {other}"),
                };
                assert!(!fault.detail.is_empty() && !fault.detail.contains('\n'), "{line:?}");
                format!("{}|{errno}", fault.kernel)
            }
        };
        if found != expected.join("|") {
            wrong.push(format!("{line:?}: found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
