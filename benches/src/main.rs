//! Runs dmsim's FUSE mount side by side with its peers, on the same image, in one run.
//!
//! `cargo run --release -p dmsim-benches --bin side-by-side` needs fio, and measures against those
//! of `qemu-storage-daemon` and `nbdfuse` with `nbdkit` that are installed. With `--luks1` the
//! image is a LUKS1 container that cryptsetup makes, decrypted by each program; `--snapshots` is a
//! snapshot beside qcow2 images, and needs `qemu-img`; `--mirrors` is mirrors beside one leg and
//! beside QEMU's quorums; `--raids` is RAID sets beside a linear device. Each row is a workload; each round runs every program in turn, so that a
//! machine whose speed drifts is fair to all. Printed are medians, and of the rounds' ratios the
//! median, the least and the most.

#![forbid(unsafe_code)]

mod fio;
mod mirrors;
mod peers;
mod raids;
mod snapshots;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fio::{Load, Places};
use peers::{Content, Peer};

/// Measures dmsim's FUSE mount against its peers.
#[derive(Parser)]
struct Options {
    /// The dmsim binary.
    #[arg(long, default_value = "target/release/dmsim")]
    dmsim: PathBuf,
    /// How often each program is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each row.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Size of the image, in MiB.
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// Make the image a LUKS1 container, and have each program decrypt it.
    #[arg(long)]
    luks1: bool,
    /// Measure snapshots of the image, beside qcow2 images over it.
    #[arg(long, conflicts_with = "luks1")]
    snapshots: bool,
    /// Measure mirrors of the image, beside a linear device and quorums.
    #[arg(long, conflicts_with_all = ["luks1", "snapshots"])]
    mirrors: bool,
    /// Measures RAID sets, beside a linear device.
    #[arg(long, conflicts_with_all = ["luks1", "snapshots", "mirrors"])]
    raids: bool,
    /// The folder for the image; memory, where nothing is said.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

/// A workload, as fio is told it.
struct Row {
    name: &'static str,
    rw: &'static str,
    block: u64,
    depth: u32,
}

const ROWS: [Row; 6] = [
    Row { name: "4 KiB random read, depth 1", rw: "randread", block: 4 << 10, depth: 1 },
    Row { name: "4 KiB random write, depth 1", rw: "randwrite", block: 4 << 10, depth: 1 },
    Row { name: "4 KiB random read, depth 32", rw: "randread", block: 4 << 10, depth: 32 },
    Row { name: "4 KiB random write, depth 32", rw: "randwrite", block: 4 << 10, depth: 32 },
    Row { name: "1 MiB read, depth 4", rw: "read", block: 1 << 20, depth: 4 },
    Row { name: "1 MiB write, depth 4", rw: "write", block: 1 << 20, depth: 4 },
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("side-by-side: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let peers = Peer::installed(&options.dmsim)?;
    let dir = tempfile::tempdir_in(&options.dir).map_err(|error| error.to_string())?;
    let image = dir.path().join("image");
    fill(&image, options.size)?;
    if options.snapshots {
        return snapshots::run(options, dir.path(), &image);
    }
    if options.mirrors {
        return mirrors::run(options, dir.path(), &image, &peers);
    }
    if options.raids {
        return raids::run(options, dir.path(), &image, &peers[0]);
    }
    let content = match options.luks1 {
        true => peers::luks1(dir.path(), &image)?,
        false => Content::Raw,
    };
    let entrant = |peer| Entrant { name: Peer::name(peer), peer, content: &content };
    let entrants: Vec<Entrant<'_>> = peers.iter().map(entrant).collect();
    let ratios: Vec<(usize, usize)> = (1..peers.len()).map(|peer| (0, peer)).collect();
    measure(options, dir.path(), &image, &entrants, &ratios)
}

/// A program with what it shows.
struct Entrant<'a> {
    name: &'static str,
    peer: &'a Peer,
    content: &'a Content,
}

/// Measures every row of all entrants in turn, and prints them with the ratios of some to others.
fn measure(
    options: &Options,
    dir: &Path,
    image: &Path,
    entrants: &[Entrant<'_>],
    of: &[(usize, usize)],
) -> Result<(), String> {
    // One list of figures for each row and entrant, in MiB/s.
    let mut figures = vec![vec![Vec::new(); entrants.len()]; ROWS.len()];
    for round in 1..=options.rounds {
        for (entrant, at) in entrants.iter().zip(0..) {
            eprintln!("round {round} of {}: {}", options.rounds, entrant.name);
            let served = entrant.peer.serve(dir, image, entrant.content)?;
            for (row, figures) in ROWS.iter().zip(&mut figures) {
                let Row { rw, block, depth, .. } = *row;
                let load = Load { rw, block, depth, places: Places::Anywhere };
                figures[at].push(fio::run(served.file(), &load, options.seconds)?);
            }
        }
    }
    print!("{:32}", "MiB/s (median)");
    entrants.iter().for_each(|entrant| print!("{:>22}", entrant.name));
    for &(one, other) in of {
        print!("{:>36}", format!("{} / {}", entrants[one].name, entrants[other].name));
    }
    println!();
    for (row, figures) in ROWS.iter().zip(&figures) {
        print!("{:32}", row.name);
        figures.iter().for_each(|figures| print!("{:>22.0}", median(figures)));
        of.iter().for_each(|&(one, other)| {
            print!("{:>36}", ratios(&figures[one], &figures[other]));
        });
        println!();
    }
    Ok(())
}

/// Makes an image without holes: every program reads real pages.
fn fill(image: &Path, mib: u64) -> Result<(), String> {
    write_blocks(File::create(image).map_err(|error| error.to_string())?, mib)
}

/// Writes so many MiB from where a file is on.
fn write_blocks(mut file: File, mib: u64) -> Result<(), String> {
    let block = vec![0x5a; 1 << 20];
    (0..mib).try_for_each(|_| file.write_all(&block)).map_err(|error| error.to_string())
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Returns the median of the rounds' ratios, and between which they lay.
fn ratios(ours: &[f64], theirs: &[f64]) -> String {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(one, other)| one / other).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2} ({least:.2}-{most:.2})", median(&ratios))
}
