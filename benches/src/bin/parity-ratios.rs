//! `parity-ratios [ROUNDS]`: the parity of RAID-5 and RAID-6 on one core, by us and by ISA-L in
//! turn, as GB/s of data and as ratios. Each figure is the best of ROUNDS (60), so that a disturbed
//! machine disturbs little.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use benches::parities::{Maker, Stripe, Work};

/// Time spent on one implementation in one round.
const SLICE: Duration = Duration::from_millis(2);

fn main() {
    let rounds = match std::env::args().nth(1).map(|word| word.parse()) {
        None => 60,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("parity-ratios: ROUNDS: expected a positive number");
            std::process::exit(2);
        }
    };
    for work in [Work::Pq, Work::P, Work::Recover] {
        let makers = Maker::all(work);
        for block in [4096, 65536] {
            for disks in [4, 6, 8, 12, 16] {
                row(work, &makers, disks, block, rounds);
            }
        }
    }
}

/// Measures all implementations, turn by turn, and prints a block of lines.
fn row(work: Work, makers: &[Maker], disks: usize, block: usize, rounds: u32) {
    let mut stripe = Stripe::new(disks, block);
    let mut best = vec![f64::INFINITY; makers.len()];
    for _ in 0..rounds {
        for (maker, best) in makers.iter().zip(&mut best) {
            *best = best.min(seconds_a_call(&mut *maker.ready(work, &mut stripe)));
        }
    }
    println!("{work:?}, {disks} disks, blocks of {} KiB", block / 1024);
    let reference = makers.iter().position(|maker| maker.name == "isal");
    for (maker, seconds) in makers.iter().zip(&best) {
        print!("  {:9} {:6.2} GB/s", maker.name, stripe.bytes() as f64 / seconds / 1e9);
        match reference {
            Some(reference) => println!("  {:5.2} x isal", best[reference] / seconds),
            None => println!(),
        }
    }
}

fn seconds_a_call(run: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let mut calls = 0u32;
    while start.elapsed() < SLICE {
        // Several calls for each look at the clock, which costs as much as a small block.
        for _ in 0..16 {
            run();
        }
        calls += 16;
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}
