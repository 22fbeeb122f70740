//! Measures how fast sectors are encrypted and decrypted, and keys derived, on one core.
//!
//! `cargo run --release -p dmsim-crypto --example speed [SPEC BYTES_OF_KEY]`

use std::time::{Duration, Instant};

use crypto::hash::Hash;
use crypto::{IvUnit, SectorCipher, Spec};

/// Data in one call: a bio of 256 KiB.
const BIO: usize = 256 << 10;
const SPECS: [(&str, usize); 20] = [
    ("aes-xts-plain64", 64),
    ("aes-xts-essiv:sha256", 64),
    ("aes-cbc-plain64", 32),
    ("aes-cbc-essiv:sha256", 32),
    ("aes-cbc-eboiv", 32),
    ("aes-cbc-elephant", 64),
    ("aes:64-cbc-lmk", 1024),
    ("aes-cbc-tcw", 64),
    ("aes-ctr-plain64", 32),
    ("aes-lrw-benbi", 48),
    ("aes-ecb", 32),
    ("serpent-xts-plain64", 64),
    ("twofish-xts-plain64", 64),
    ("camellia-xts-plain64", 64),
    ("cast6-xts-plain64", 64),
    ("serpent-cbc-plain64", 32),
    ("blowfish-cbc-plain64", 32),
    ("des3_ede-cbc-plain64", 24),
    ("xchacha12,aes-adiantum-plain64", 32),
    ("xchacha20,aes-adiantum-plain64", 32),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("{:34} {:>6} {:>10} {:>10}  MB/s", "", "sector", "encrypt", "decrypt");
    match &arguments[..] {
        [spec, key] => measure(spec, key.parse().expect("a number of bytes")),
        _ => {
            SPECS.iter().for_each(|(spec, key)| measure(spec, *key));
            derive();
        }
    }
}

fn measure(spec: &str, key_len: usize) {
    let parsed = Spec::parse(spec).expect("a good specification");
    let key: Vec<u8> = (0..key_len).map(|n| n as u8).collect();
    for sector_size in [512, 4096] {
        let Ok(cipher) = SectorCipher::new(&parsed, &key, sector_size, IvUnit::Sector512) else {
            continue;
        };
        let from = vec![0x5a; BIO];
        let mut to = vec![0; BIO];
        let encrypt = megabytes_a_second(|| cipher.encrypt_to(0, &from, &mut to));
        let decrypt = megabytes_a_second(|| cipher.decrypt(0, &mut to));
        println!("{spec:34} {sector_size:>6} {encrypt:>10.0} {decrypt:>10.0}");
    }
}

/// The best of several short runs: a machine that is busy is no slower cipher.
fn megabytes_a_second(mut run: impl FnMut()) -> f64 {
    let mut best = 0_f64;
    for _ in 0..8 {
        let start = Instant::now();
        let mut bios = 0;
        while start.elapsed() < Duration::from_millis(25) {
            run();
            bios += 1;
        }
        best = best.max((bios * BIO) as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    best
}

fn derive() {
    for name in ["sha1", "sha256", "sha512", "ripemd160", "whirlpool", "blake2s-256", "streebog512"]
    {
        let hash = Hash::by_name(name).expect("a known hash");
        let iterations = 100_000;
        let start = Instant::now();
        hash.pbkdf2(b"passphrase", &[7; 32], iterations, &mut vec![0; hash.len()]);
        let rate = f64::from(iterations) / start.elapsed().as_secs_f64();
        println!("pbkdf2 {name:14} {rate:>12.0} iterations/s");
    }
}
