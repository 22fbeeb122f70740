//! `crypt-device [ROUNDS]`: a `crypt` device in process, beside the bare image below it and beside
//! libcrypto doing the same with that image (with `--features openssl`), in turn, as GB/s and as
//! ratios.
//!
//! One core: the process is kept on one processor. Two cores: two threads at once; and one thread
//! with bios so large that the device shares each between processors. Each figure is the best of
//! ROUNDS (20), so that a disturbed machine disturbs little.

#![forbid(unsafe_code)]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use benches::Instance;
use benches::ciphers::{Cipher, Way};
use benches::load::submit;
use rustix::thread::{CpuSet, sched_setaffinity};
use sim_core::{Bio, BlockDevice, Sector};

/// Time spent on one program in one round.
const SLICE: Duration = Duration::from_millis(30);

/// Size of the image, in bytes: larger than a cache, and no more than a disk's share of one.
const SIZE: u64 = 64 << 20;

/// What a row measures.
#[derive(Clone, Copy)]
struct Row {
    way: Way,
    unit: usize,
    bio: usize,
    threads: usize,
    cores: usize,
}

fn main() {
    let rounds = match std::env::args().nth(1).map(|word| word.parse()) {
        None => 20,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        Some(_) => {
            eprintln!("crypt-device: ROUNDS: expected a positive number");
            std::process::exit(2);
        }
    };
    println!(
        "{:44}{:>9}{:>9}{:>9}{:>14}{:>13}",
        "GB/s (best)", "crypt", "image", "openssl", "crypt/openssl", "crypt/image"
    );
    for (threads, cores) in [(1, 1), (2, 2), (1, 2)] {
        // Bios that one thread hands to two processors are large.
        let bios: &[usize] = if threads < cores { &[1 << 20] } else { &[4096, 65536, 1 << 20] };
        for way in [Way::Decrypt, Way::Encrypt] {
            for unit in [512, 4096] {
                for &bio in bios {
                    row(Row { way, unit, bio, threads, cores }, rounds);
                }
            }
        }
    }
}

/// Measures all three in turn, and prints a line.
fn row(row: Row, rounds: u32) {
    keep_on(row.cores);
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for an image");
    let instance = Instance::with_threads(row.cores);
    let image = instance.image(&dir.path().join("image"), "/dev/sda", SIZE);
    let key: String = (0..64).map(|byte| format!("{byte:02x}")).collect();
    let options = if row.unit == 512 { "" } else { " 1 sector_size:4096" };
    let crypt = instance.create(
        "crypt",
        &format!("0 {} crypt aes-xts-plain64 {key} 0 /dev/sda 0{options}", SIZE / 512),
    );
    let devices: [Arc<dyn BlockDevice>; 2] = [crypt, image];
    let mut best = [0f64; 3];
    for _ in 0..rounds {
        for (device, best) in devices.iter().zip(&mut best) {
            *best = best.max(rate(row, || through(device.clone(), row)));
        }
        if cfg!(feature = "openssl") {
            best[2] = best[2].max(rate(row, || by_libcrypto(devices[1].clone(), row)));
        }
    }
    let Row { way, unit, bio, threads, cores } = row;
    let what = match way {
        Way::Encrypt => "write",
        Way::Decrypt => "read",
    };
    let name = format!("{what} {} KiB, units of {unit}, {threads} thread, {cores} core", bio >> 10);
    let [crypt, image, openssl] = best;
    print!("{name:44}{crypt:>9.2}{image:>9.2}");
    match openssl > 0.0 {
        true => print!("{openssl:>9.2}{:>14.2}", crypt / openssl),
        false => print!("{:>9}{:>14}", "-", "-"),
    }
    println!("{:>13.2}", crypt / image);
}

/// Keeps this thread, and those that it starts, on so many processors.
fn keep_on(cores: usize) {
    let mut set = CpuSet::new();
    (0..cores).for_each(|cpu| set.set(cpu));
    sched_setaffinity(None, &set).expect("this machine has so many processors");
}

/// Runs work in so many threads for a while, and returns GB/s of all of them. `prepare` makes the
/// work of a thread: one bio a call.
fn rate(row: Row, prepare: impl Fn() -> Box<dyn FnMut()> + Sync) -> f64 {
    let start = Barrier::new(row.threads);
    let total: f64 = std::thread::scope(|scope| {
        let run = || {
            let mut work = prepare();
            work();
            start.wait();
            let (began, mut calls) = (Instant::now(), 0u32);
            while began.elapsed() < SLICE {
                (0..4).for_each(|_| work());
                calls += 4;
            }
            f64::from(calls) * row.bio as f64 / began.elapsed().as_secs_f64()
        };
        let threads: Vec<_> = (0..row.threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    total / 1e9
}

/// Reads or writes a device, one bio after another.
fn through(device: Arc<dyn BlockDevice>, row: Row) -> Box<dyn FnMut()> {
    let (mut buffer, mut at) = (vec![0x5a; row.bio], Places::default());
    Box::new(move || match row.way {
        Way::Decrypt => submit(&*device, Bio::read(at.next(row.bio), &mut buffer)),
        Way::Encrypt => submit(&*device, Bio::write(at.next(row.bio), &buffer)),
    })
}

/// Reads the image and has libcrypto decrypt it, or has libcrypto encrypt what is then written:
/// what a crypt device made of it would do at least.
fn by_libcrypto(image: Arc<dyn BlockDevice>, row: Row) -> Box<dyn FnMut()> {
    let mut ciphers = Cipher::all(row.way).into_iter();
    let mut cipher = ciphers.find(|cipher| cipher.name == "openssl").expect("the feature is on");
    let (mut from, mut to) = (vec![0x5a; row.bio], vec![0; row.bio]);
    let mut at = Places::default();
    Box::new(move || match row.way {
        Way::Decrypt => {
            submit(&*image, Bio::read(at.next(row.bio), &mut from));
            (cipher.work)(&from, &mut to, row.unit);
        }
        Way::Encrypt => {
            (cipher.work)(&from, &mut to, row.unit);
            submit(&*image, Bio::write(at.next(row.bio), &to));
        }
    })
}

/// The places of bios, one after another and around again.
#[derive(Default)]
struct Places(u64);

impl Places {
    fn next(&mut self, bytes: usize) -> Sector {
        let at = self.0;
        self.0 = (at + bytes as u64) % SIZE;
        Sector(at / 512)
    }
}
