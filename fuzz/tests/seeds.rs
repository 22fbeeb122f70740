//! Runs each fuzz target on a stable toolchain: on its seeds, which are what cargo-fuzz starts from
//! and what it once found, and then for a short while on inputs made from them by chance.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::Rng;

/// How long each target gets, after its seeds.
const TIME: Duration = Duration::from_secs(2);

/// The longest input made by chance, but for what a seed has.
const LONGEST: usize = 1024;

/// Repeats one input: its number. The search starts there.
const FROM: &str = "DMSIM_FUZZ_FROM";

#[test]
fn table_parse() {
    run("table_parse", fuzz::table_parse);
}

#[test]
fn table_text() {
    run("table_text", fuzz::table_text);
}

#[test]
fn control() {
    run("control", fuzz::control_plane);
}

#[test]
fn control_threads() {
    run("control_threads", fuzz::control_threads);
}

#[test]
fn frames() {
    run("frames", fuzz::frames);
}

#[test]
fn file() {
    run("file", fuzz::file);
}

#[test]
fn requests() {
    run("requests", fuzz::requests);
}

#[test]
fn ioctl() {
    run("ioctl", fuzz::ioctl);
}

#[test]
fn metadata() {
    run("metadata", fuzz::metadata_of_ours);
}

#[test]
fn bios() {
    run("bios", fuzz::bios);
}

#[test]
fn container() {
    run("container", fuzz::container);
}

#[test]
fn log_writes() {
    run("log_writes", fuzz::log_writes);
}

#[test]
fn partitions() {
    run("partitions", fuzz::partitions);
}

#[test]
fn signatures() {
    run("signatures", fuzz::signatures);
}

#[test]
fn whole() {
    run("whole", fuzz::whole);
}

fn run(target: &str, run: fn(&[u8])) {
    let seeds = seeds(target);
    for (path, seed) in &seeds {
        println!("{}", path.display());
        run(seed);
    }
    let from = std::env::var(FROM).ok().map(|number| number.parse().expect("a number"));
    let (first, started) = (from.unwrap_or(0), Instant::now());
    let mut count = 0;
    while started.elapsed() < TIME {
        let input = input(first + count, &seeds);
        let last = Shown { target, number: first + count, input: &input };
        run(last.input);
        count += 1;
    }
    println!("{target}: inputs {first} to {} in {:.1?}", first + count - 1, started.elapsed());
}

/// Reads what is kept for a target, in the order of the names.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("a folder of seeds");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).expect("a seed"));
    paths.into_iter().map(read).collect()
}

/// Makes an input: a seed with some changes, or bytes alone.
fn input(number: u64, seeds: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let mut input = if rng.below(4) == 0 {
        (0..rng.below(256)).map(|_| rng.number() as u8).collect()
    } else {
        seeds[rng.below(seeds.len())].1.clone()
    };
    for _ in 0..rng.below(8) {
        let at = rng.below(input.len() + 1);
        let len = rng.below(8).min(input.len() - at);
        match rng.below(5) {
            0 => input[at..at + len].fill_with(|| rng.number() as u8),
            1 => drop(input.drain(at..at + len)),
            2 => input.insert(at, rng.number() as u8),
            3 => {
                let again = input[at..at + len].to_vec();
                input.splice(at..at, again);
            }
            _ => {
                let other = &seeds[rng.below(seeds.len())].1;
                let from = rng.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
    let longest = seeds.iter().map(|(_, seed)| seed.len()).fold(LONGEST, usize::max);
    input.truncate(longest);
    input
}

/// Shows the input when the target panics on it.
struct Shown<'a> {
    target: &'a str,
    number: u64,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Shown { target, number, input } = self;
            let test = format!("cargo test -p dmsim-fuzz --test seeds {target}");
            eprintln!("{target}: input {number}: {input:?}\nto repeat:\n{FROM}={number} {test}");
        }
    }
}
