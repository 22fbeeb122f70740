//! Stacks whose opening does not go as it should: ended by a signal, killed, run beside another one.

mod ended;
mod looped;
mod members;
mod odd;
mod together;

use std::path::{Path, PathBuf};

use crate::harness::{Instance, sh, text, write_at};

pub(super) const MIB: u64 = 1 << 20;

/// Makes a disk with an MBR: places and lengths in sectors, all of the type of Linux.
pub(super) fn disk(path: &Path, bytes: u64, partitions: &[(u32, u32)]) {
    let file = std::fs::File::create(path).expect("a new file");
    file.set_len(bytes).expect("room for it");
    let mut sector = [0u8; 512];
    for (at, (start, len)) in partitions.iter().enumerate() {
        let entry = &mut sector[446 + 16 * at..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&len.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    write_at(path, 0, &sector).expect("room for it");
}

/// Makes a disk of two partitions, the second of which is LUKS1 whose key takes so many iterations; returns it and
/// the file of the passphrase.
pub(super) fn locked_disk(instance: &Instance, iterations: u32) -> [PathBuf; 2] {
    let [image, crypt, key] = ["disk.img", "crypt.img", "key"].map(|name| instance.path(name));
    std::fs::write(&key, "secret").expect("room for it");
    std::fs::File::create(&crypt).and_then(|file| file.set_len(4 * MIB)).expect("room for it");
    let words = ["luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000"];
    sh("cryptsetup", &[&words[..], &[text(&crypt), text(&key)]].concat());
    // The iterations of the first key slot, behind its state.
    write_at(&crypt, 212, &iterations.to_be_bytes()).expect("room for it");
    disk(&image, 8 * MIB, &[(2048, 2048), (4096, 8192)]);
    write_at(&image, 2 * MIB, &std::fs::read(&crypt).expect("an image")).expect("room for it");
    [image, key]
}
