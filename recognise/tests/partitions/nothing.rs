//! What is no partition table.

use crate::support::{Image, MIB, checked, entry, gpt, have, mbr};

fn is_none(what: &str, bytes: &[u8]) {
    for sector_size in [None, Some(512), Some(4096)] {
        let found = checked(bytes, sector_size);
        assert!(matches!(found, Ok(None)), "{what}: {found:?}");
    }
}

#[test]
fn boot_sectors_of_file_systems() {
    for words in [
        &["mkfs.vfat", "-F", "12"][..],
        &["mkfs.vfat", "-F", "16", "-S", "2048"],
        &["mkfs.vfat", "-F", "32"],
        &["mkfs.ntfs", "-F", "-q", "-Q"],
        &["mkfs.exfat"],
    ] {
        if !have(&words[..1]) {
            continue;
        }
        let image = Image::empty(if words.contains(&"12") { 4 * MIB } else { 64 * MIB });
        image.tool(words[0], &[&words[1..], &["IMAGE"]].concat());
        let bytes = image.bytes();
        assert_eq!(bytes[510..512], [0x55, 0xaa], "{words:?}");
        is_none(&format!("{words:?}"), &bytes);
        // As where the area of the entries has something in it.
        let mut used = bytes.clone();
        entry(&mut used, 0, 0, 0x83, 64, 64);
        is_none(&format!("{words:?}, with an entry"), &used);
        // And over a disk that had a GPT, of which the backup is left.
        let old = gpt(512, (bytes.len() / 512) as u64, &[(100, 200)]);
        let mut over = bytes.clone();
        let backup = bytes.len() - 2 * 512;
        over[backup..].copy_from_slice(&old[backup..]);
        is_none(&format!("{words:?}, over a GPT"), &over);
    }
}

#[test]
fn whole_disks_without_a_table() {
    is_none("nothing", &[]);
    is_none("a few bytes", &[0x55; 100]);
    is_none("zeros", &[0; 65536]);
    let mut loader = vec![0x90; 65536];
    loader[..3].copy_from_slice(b"\xeb\x63\x90");
    loader[440..510].fill(0);
    loader[510..512].copy_from_slice(&[0x55, 0xaa]);
    is_none("a boot loader with an empty table", &loader);
    // What is at the place of the flags of a boot sector without a table.
    let mut code = mbr();
    code[446 + 16] = 0x33;
    is_none("code", &code);
    let mut aix = mbr();
    aix[..4].copy_from_slice(&[0xc9, 0xc2, 0xd4, 0xc1]);
    is_none("AIX", &aix);
    let mut bitlocker = mbr();
    bitlocker[..11].copy_from_slice(b"\xeb\x58\x90-FVE-FS-");
    is_none("BitLocker", &bitlocker);
    let mut unsigned = mbr();
    unsigned[511] = 0;
    is_none("no signature", &unsigned);
    let mut far = vec![0; 65536];
    entry(&mut far, 0, 0, 0x83, 1 << 30, 8);
    is_none("an entry that begins past the end", &far);
}

#[test]
fn a_table_with_a_boot_loader_is_one() {
    let mut image = mbr();
    image[..440].fill(0x90);
    image[..3].copy_from_slice(b"\xeb\x63\x90");
    assert!(checked(&image, None).unwrap().is_some());
}

#[test]
fn file_systems_made_over_a_disk_with_a_gpt() {
    for words in [
        &["mkfs.ext4", "-q", "-F"][..],
        &["mkfs.vfat"],
        &["mkfs.exfat"],
        &["mkfs.ntfs", "-F", "-q", "-Q"],
    ] {
        if !have(&words[..1]) {
            continue;
        }
        let image = Image::empty(64 * MIB);
        image.write(0, &gpt(512, 64 * MIB / 512, &[(100, 200)]));
        image.tool(words[0], &[&words[1..], &["IMAGE"]].concat());
        is_none(&format!("{words:?}"), &image.bytes());
    }
}
