//! `crypt-ratios [ROUNDS]`: AES-256-XTS on one core, by us and by others in turn, as GB/s and as
//! ratios. Each figure is the best of ROUNDS (60), so that a disturbed machine disturbs little.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::ciphers::{Cipher, Way};

/// Time spent on one implementation in one round.
const SLICE: Duration = Duration::from_millis(2);

fn main() {
    let rounds = match std::env::args().nth(1).map(|word| word.parse()) {
        None => 60,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("crypt-ratios: ROUNDS: expected a positive number");
            std::process::exit(2);
        }
    };
    for way in [Way::Encrypt, Way::Decrypt] {
        for unit in [512, 4096] {
            for size in [4096, 65536, 1 << 20] {
                row(way, unit, size, rounds);
            }
        }
    }
}

/// Measures all implementations, turn by turn, and prints a block of lines.
fn row(way: Way, unit: usize, size: usize, rounds: u32) {
    let (from, mut to) = (vec![0x5a; size], vec![0; size]);
    let mut ciphers = Cipher::all(way);
    let mut best = vec![f64::INFINITY; ciphers.len()];
    for _ in 0..rounds {
        for (cipher, best) in ciphers.iter_mut().zip(&mut best) {
            *best = best.min(seconds_a_call(cipher, &from, &mut to, unit));
        }
    }
    println!("{way:?}, units of {unit}, {} KiB a call", size / 1024);
    let reference = ciphers.iter().position(|cipher| cipher.name == "openssl");
    for (cipher, seconds) in ciphers.iter().zip(&best) {
        print!("  {:9} {:6.2} GB/s", cipher.name, size as f64 / seconds / 1e9);
        match reference {
            Some(reference) => println!("  {:5.2} x openssl", best[reference] / seconds),
            None => println!(),
        }
    }
}

fn seconds_a_call(cipher: &mut Cipher, from: &[u8], to: &mut [u8], unit: usize) -> f64 {
    let start = Instant::now();
    let mut calls = 0u32;
    while start.elapsed() < SLICE {
        // Several calls for each look at the clock, which costs as much as a sector.
        for _ in 0..8 {
            (cipher.work)(black_box(from), black_box(&mut *to), unit);
        }
        calls += 8;
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}
