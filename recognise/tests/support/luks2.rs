//! LUKS2 headers made by hand, to have any field say anything.

use crypto::hash::Hash;
use crypto::{IvUnit, SectorCipher, Spec};
use serde_json::{Value, json};

/// The size of one copy of the header in bytes.
pub(crate) const COPY: usize = 16384;
/// The start of the key slot's area, and its size.
pub(crate) const AREA: (usize, usize) = (32768, 131_072);
/// The start of the data.
pub(crate) const DATA: usize = AREA.0 + AREA.1;
/// The size of an image.
pub(crate) const IMAGE: usize = DATA + 65536;

pub(crate) const PASSPHRASE: &[u8] = b"by hand";
pub(crate) const VOLUME_KEY: [u8; 32] = *b"this is the volume key, 32 bytes";
const SALT: [u8; 32] = [0x5a; 32];
const ITERATIONS: u32 = 7;
const BASE64_SALT: &str = "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=";

/// Returns the JSON of a header with one key slot and one segment.
pub(crate) fn json() -> Value {
    json!({
        "keyslots": {"0": {
            "type": "luks2", "key_size": 32,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {
                "type": "raw", "offset": AREA.0.to_string(), "size": AREA.1.to_string(),
                "encryption": "aes-xts-plain64", "key_size": 32
            },
            "kdf": {
                "type": "pbkdf2", "hash": "sha256", "iterations": ITERATIONS, "salt": BASE64_SALT
            }
        }},
        "tokens": {},
        "segments": {"0": {
            "type": "crypt", "offset": DATA.to_string(), "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 512
        }},
        "digests": {"0": {
            "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256",
            "iterations": ITERATIONS, "salt": BASE64_SALT, "digest": base64(&digest())
        }},
        "config": {"json_size": (COPY - 4096).to_string(), "keyslots_size": AREA.1.to_string()}
    })
}

/// Returns an image with both copies of this header, and a key slot that opens.
pub(crate) fn image(json: &Value) -> Vec<u8> {
    let mut image = vec![0; IMAGE];
    image[AREA.0..][..128_000].copy_from_slice(&key_material());
    put(&mut image, 0, 3, json.to_string().as_bytes());
    put(&mut image, COPY, 3, json.to_string().as_bytes());
    image
}

/// Puts a copy of a header into an image, with a checksum that is right.
pub(crate) fn put(image: &mut [u8], at: usize, seqid: u64, json: &[u8]) {
    let copy = &mut image[at..at + COPY];
    copy.fill(0);
    copy[..6].copy_from_slice(if at == 0 { b"LUKS\xba\xbe" } else { b"SKUL\xba\xbe" });
    copy[7] = 2;
    copy[8..16].copy_from_slice(&(COPY as u64).to_be_bytes());
    copy[16..24].copy_from_slice(&seqid.to_be_bytes());
    copy[72..78].copy_from_slice(b"sha256");
    copy[168..172].copy_from_slice(b"uuid");
    copy[256..264].copy_from_slice(&(at as u64).to_be_bytes());
    copy[4096..4096 + json.len()].copy_from_slice(json);
    seal(image, at);
}

/// Makes the checksum of a copy right.
pub(crate) fn seal(image: &mut [u8], at: usize) {
    let copy = &mut image[at..at + COPY];
    copy[448..512].fill(0);
    let checksum = sha256().digest(copy);
    copy[448..480].copy_from_slice(&checksum);
}

fn sha256() -> Hash {
    Hash::by_name("sha256").unwrap()
}

fn digest() -> [u8; 32] {
    let mut digest = [0; 32];
    sha256().pbkdf2(&VOLUME_KEY, &SALT, ITERATIONS, &mut digest);
    digest
}

/// The volume key split into 4000 stripes, all but the last of them zeros, and encrypted.
fn key_material() -> Vec<u8> {
    let mut mixed = [0; 32];
    for _ in 0..3999 {
        let input = [&[0; 4], &mixed[..]].concat();
        mixed.copy_from_slice(&sha256().digest(&input));
    }
    let mut material = vec![0; 128_000];
    for (at, (byte, key)) in mixed.iter().zip(VOLUME_KEY).enumerate() {
        material[3999 * 32 + at] = byte ^ key;
    }
    let mut key = [0; 32];
    sha256().pbkdf2(PASSPHRASE, &SALT, ITERATIONS, &mut key);
    let spec = Spec::parse("aes-xts-plain64").unwrap();
    let cipher = SectorCipher::new(&spec, &key, 512, IvUnit::Sector512).unwrap();
    cipher.encrypt(0, &mut material);
    material
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
