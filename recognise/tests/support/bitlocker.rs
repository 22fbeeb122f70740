//! BitLocker volumes made by hand.

use aes::Aes256;
use ccm::aead::{Aead as _, KeyInit as _};
use ccm::consts::{U12, U16};
use crypto::hash::Hash;

/// Where the three copies of the metadata are, and the first sectors.
pub(crate) const METADATA: [u64; 3] = [0x20000, 0x40000, 0x60000];
pub(crate) const HEADER: (u64, u64) = (0x80000, 8192);
pub(crate) const IMAGE: usize = 0xa0000;

pub(crate) const PASSPHRASE: &str = "p\u{e4}ss \u{1f511}";
pub(crate) const RECOVERY: &str = "000000-000011-720885-111111-222222-333333-444444-555555";
pub(crate) const VOLUME: [u8; 16] = [0x11; 16];
const STARTUP: [u8; 16] = [0x22; 16];
const MASTER_KEY: [u8; 32] = [0x33; 32];
const STARTUP_KEY: [u8; 32] = [0x44; 32];
const SALT: [u8; 16] = [0x55; 16];

/// What the volume is like.
pub(crate) struct Volume {
    /// The number of its cipher.
    pub(crate) cipher: u16,
    /// The volume key as the metadata hold it.
    pub(crate) key: Vec<u8>,
    pub(crate) sector_size: u16,
    /// Its state, now and next; 4 is encrypted.
    pub(crate) state: u16,
    pub(crate) to_go: bool,
    /// Numbers of what protects the master key.
    pub(crate) protections: Vec<u16>,
    /// Whether the metadata are changed after their digest was made.
    pub(crate) forged: bool,
}

impl Default for Volume {
    fn default() -> Volume {
        Volume {
            cipher: 0x8004,
            key: (0..32).collect(),
            sector_size: 512,
            state: 4,
            to_go: false,
            protections: vec![0x2000, 0x0800, 0x0200],
            forged: false,
        }
    }
}

impl Volume {
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = vec![0; IMAGE];
        image[..3].copy_from_slice(b"\xeb\x58\x90");
        image[3..11].copy_from_slice(if self.to_go { b"MSWIN4.1" } else { b"-FVE-FS-" });
        image[11..13].copy_from_slice(&self.sector_size.to_le_bytes());
        let at = if self.to_go { 424 } else { 160 };
        image[at..at + 16]
            .copy_from_slice(b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01");
        let (mut metadata, mut validation) = self.metadata();
        if self.forged {
            metadata[40 + 64] ^= 1;
            validation[4..8].copy_from_slice(&crc32fast::hash(&metadata).to_le_bytes());
        }
        for (copy, offset) in METADATA.into_iter().enumerate() {
            image[at + 16 + 8 * copy..][..8].copy_from_slice(&offset.to_le_bytes());
            let offset = offset as usize;
            image[offset..][..metadata.len()].copy_from_slice(&metadata);
            image[offset + metadata.len()..][..88].copy_from_slice(&validation);
        }
        image
    }

    fn metadata(&self) -> (Vec<u8>, Vec<u8>) {
        let protectors = self.protections.iter().flat_map(|protection| protector(*protection));
        let place = [HEADER.0.to_le_bytes(), HEADER.1.to_le_bytes()].concat();
        let name: Vec<u8> = "by hand\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut entries: Vec<u8> = protectors.collect();
        entries.extend(entry(3, 5, &seal(&MASTER_KEY, &key_entry(&self.key))));
        entries.extend(entry(7, 2, &name));
        entries.extend(entry(0xf, 0xf, &place));
        let used = 48 + entries.len();
        let mut block = vec![0; (64 + used).next_multiple_of(16)];
        let size = (block.len() / 16) as u16;
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"-FVE-FS-");
        put(8, &size.to_le_bytes());
        put(10, &2u16.to_le_bytes());
        put(12, &self.state.to_le_bytes());
        put(14, &self.state.to_le_bytes());
        put(16, &(IMAGE as u64).to_le_bytes());
        for (copy, offset) in METADATA.into_iter().enumerate() {
            put(32 + 8 * copy, &offset.to_le_bytes());
        }
        put(64, &(used as u32).to_le_bytes());
        put(80, &VOLUME);
        put(64 + 36, &self.cipher.to_le_bytes());
        put(64 + 40, &132_223_000_000_000_000u64.to_le_bytes());
        put(112, &entries);

        let digest = sha256().digest(&block);
        let mut datum = vec![44, 0, 0, 0, 1, 0, 0, 0, 5, 0x20, 0, 0];
        datum.extend(digest);
        let sealed = entry(0, 5, &seal(&MASTER_KEY, &datum));
        let mut validation = vec![88, 0, 2, 0];
        validation.extend(crc32fast::hash(&block).to_le_bytes());
        validation.extend(sealed);
        (block, validation)
    }
}

/// The content of the file that opens the startup key's protector.
pub(crate) fn startup_file(volume: [u8; 16]) -> Vec<u8> {
    let mut inner = vec![0; 24];
    inner.extend(entry(0, 2, b"E\0x\0\0\0"));
    inner.extend(entry(0x19, 0x17, &volume));
    inner.extend(entry(0, 1, &[&[0; 4], &STARTUP_KEY[..]].concat()));
    let outer = entry(6, 9, &inner);
    let mut file = vec![0; 48];
    file[..4].copy_from_slice(&(48 + outer.len() as u32).to_le_bytes());
    file[4..8].copy_from_slice(&1u32.to_le_bytes());
    file[16..32].copy_from_slice(&STARTUP);
    file.extend(outer);
    file
}

fn protector(protection: u16) -> Vec<u8> {
    let sealed = |key: &[u8]| entry(0, 5, &seal(key, &key_entry(&MASTER_KEY)));
    let mut value = STARTUP.to_vec();
    value.extend([0; 10]);
    value.extend(protection.to_le_bytes());
    match protection {
        0x2000 => {
            let wide: Vec<u8> = PASSPHRASE.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let first = sha256().digest(&sha256().digest(&wide));
            value.extend(entry(0, 3, &[&[0; 4], &SALT[..]].concat()));
            value.extend(sealed(&stretch(&first)));
        }
        0x0800 => {
            let numbers = RECOVERY.split('-').map(|part| part.parse::<u32>().unwrap() / 11);
            let bytes: Vec<u8> = numbers.flat_map(|number| (number as u16).to_le_bytes()).collect();
            value.extend(entry(0, 3, &[&[0; 4], &SALT[..]].concat()));
            value.extend(sealed(&stretch(&sha256().digest(&bytes))));
        }
        0x0000 => {
            value.extend(entry(0, 1, &[&[0; 4], &STARTUP_KEY[..]].concat()));
            value.extend(sealed(&STARTUP_KEY));
        }
        _ => value.extend(sealed(&STARTUP_KEY)),
    }
    entry(2, 8, &value)
}

fn entry(role: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let size = (8 + value.len()) as u16;
    let mut entry: Vec<u8> = [size, role, kind, 1].into_iter().flat_map(u16::to_le_bytes).collect();
    entry.extend(value);
    entry
}

fn key_entry(key: &[u8]) -> Vec<u8> {
    let mut entry = (12 + key.len() as u16).to_le_bytes().to_vec();
    entry.extend([0, 0, 1, 0, 1, 0, 3, 0x20, 0, 0]);
    entry.extend(key);
    entry
}

/// Encrypts: the nonce, the tag, then the value.
fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let nonce = [9; 12];
    let cipher = ccm::Ccm::<Aes256, U16, U12>::new_from_slice(key).unwrap();
    let sealed = cipher.encrypt(&nonce.into(), value).unwrap();
    let (value, tag) = sealed.split_at(value.len());
    [&nonce, tag, value].concat()
}

fn stretch(first: &[u8]) -> Vec<u8> {
    let mut last = vec![0; 32];
    for count in 0..0x10_0000u64 {
        let state = [&last[..], first, &SALT, &count.to_le_bytes()].concat();
        last = sha256().digest(&state);
    }
    last
}

fn sha256() -> Hash {
    Hash::by_name("sha256").unwrap()
}
