//! Runs dmsim's FUSE mount side by side with its peers, on the same image, in one run.
//!
//! `cargo run --release -p dmsim-benches --bin side-by-side` needs fio, and measures against those
//! of `qemu-storage-daemon` and `nbdfuse` with `nbdkit` that are installed. With `--luks1` the
//! image is a LUKS1 container that cryptsetup makes, decrypted by each program; `--snapshots` is a
//! snapshot beside qcow2 images, and needs `qemu-img`. Each row is a workload; each round runs
//! every program in turn, so that a machine whose speed drifts is fair to all. Printed are medians,
//! and dmsim's ratio to each peer.

#![forbid(unsafe_code)]

mod fio;
mod peers;
mod snapshots;

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
    let content = match options.luks1 {
        true => peers::luks1(dir.path(), &image)?,
        false => Content::Raw,
    };
    // One list of figures for each row and peer, in MiB/s.
    let mut figures = vec![vec![Vec::new(); peers.len()]; ROWS.len()];
    for round in 1..=options.rounds {
        for (peer, at) in peers.iter().zip(0..) {
            eprintln!("round {round} of {}: {}", options.rounds, peer.name());
            let served = peer.serve(dir.path(), &image, &content)?;
            for (row, figures) in ROWS.iter().zip(&mut figures) {
                let Row { rw, block, depth, .. } = *row;
                let load = Load { rw, block, depth, places: Places::Anywhere };
                figures[at].push(fio::run(served.file(), &load, options.seconds)?);
            }
        }
    }
    print(&peers, &figures);
    Ok(())
}

/// Makes an image without holes: every program reads real pages.
fn fill(image: &Path, mib: u64) -> Result<(), String> {
    use std::io::Write;
    let mut file = std::fs::File::create(image).map_err(|error| error.to_string())?;
    let block = vec![0x5a; 1 << 20];
    (0..mib).try_for_each(|_| file.write_all(&block)).map_err(|error| error.to_string())
}

fn print(peers: &[Peer], figures: &[Vec<Vec<f64>>]) {
    print!("{:32}", "MiB/s (median)");
    for peer in peers {
        print!("{:>22}", peer.name());
    }
    for peer in &peers[1..] {
        print!("{:>30}", format!("dmsim / {}", peer.name()));
    }
    println!();
    for (row, figures) in ROWS.iter().zip(figures) {
        let medians: Vec<f64> = figures.iter().map(|figures| median(figures)).collect();
        print!("{:32}", row.name);
        medians.iter().for_each(|median| print!("{median:>22.0}"));
        medians[1..].iter().for_each(|peer| print!("{:>30.2}", medians[0] / peer));
        println!();
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
