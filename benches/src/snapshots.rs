//! `side-by-side --snapshots`: a snapshot with a persistent store, beside a qcow2 image over a raw
//! backing file, with clusters as large as the chunks.
//!
//! When dmsim's first write of a chunk has ended, it is durable: that is the kernel's rule. qcow2
//! promises nothing before a flush. So qcow2 is measured as it comes, and twice with that promise:
//! exported with `writethrough`, where the program flushes after each write; and as it comes with
//! a client that waits for as many writes as it has under way, and then calls `fdatasync`.

use std::path::Path;

use crate::fio::{Batch, Load, Places};
use crate::peers::{Content, Peer, Served};
use crate::{Options, fio, median, ratios};

/// A program with what its client does.
struct Entrant {
    name: &'static str,
    peer: Peer,
    end: Batch,
}

/// What a row measures.
#[derive(Clone, Copy)]
enum Row {
    /// Chunks that were never written.
    Through {
        depth: u32,
    },
    FirstWrite {
        depth: u32,
    },
    /// 1 MiB after 1 MiB, through the device.
    FirstWriteLarge,
    /// Chunks that were written.
    Read {
        depth: u32,
    },
    Write {
        depth: u32,
    },
}

/// The rows of one chunk size. Those before the first large write use a fresh store, and so do
/// those from it on.
const ROWS: [Row; 9] = [
    Row::Through { depth: 1 },
    Row::Through { depth: 32 },
    Row::FirstWrite { depth: 1 },
    Row::FirstWrite { depth: 32 },
    Row::FirstWriteLarge,
    Row::Write { depth: 1 },
    Row::Write { depth: 32 },
    Row::Read { depth: 1 },
    Row::Read { depth: 32 },
];

const MIB: u64 = 1 << 20;

impl Row {
    fn name(self) -> String {
        match self {
            Row::Through { depth } => format!("4 KiB random read through, depth {depth}"),
            Row::FirstWrite { depth } => format!("4 KiB random first write, depth {depth}"),
            Row::FirstWriteLarge => "1 MiB first write, depth 4".to_owned(),
            Row::Read { depth } => format!("4 KiB random read of written, depth {depth}"),
            Row::Write { depth } => format!("4 KiB random later write, depth {depth}"),
        }
    }

    /// Tells whether it makes a difference when a write is durable.
    fn is_first_write(self) -> bool {
        matches!(self, Row::FirstWrite { .. } | Row::FirstWriteLarge)
    }
}

/// Measures all rows with chunks of 4 KiB and of 64 KiB.
pub(crate) fn run(options: &Options, dir: &Path, image: &Path) -> Result<(), String> {
    let dmsim = Peer::Dmsim(options.dmsim.clone());
    let entrants = [
        Entrant { name: "dmsim", peer: dmsim, end: Batch::Endless },
        Entrant { name: "qcow2", peer: Peer::QemuStorageDaemon, end: Batch::Endless },
        Entrant { name: "writethrough", peer: Peer::QemuWritethrough, end: Batch::Endless },
        Entrant { name: "fdatasync", peer: Peer::QemuStorageDaemon, end: Batch::Synced },
    ];
    for chunk in [4 << 10, 64 << 10] {
        // One list of figures for each row and program, in MiB/s.
        let mut figures = vec![vec![Vec::new(); entrants.len()]; ROWS.len()];
        for round in 1..=options.rounds {
            for (entrant, at) in entrants.iter().zip(0..) {
                eprintln!("chunk {chunk}, round {round} of {}: {}", options.rounds, entrant.name);
                let mut turn = Turn { options, dir, image, chunk, entrant, served: None };
                for (row, figures) in ROWS.iter().zip(&mut figures) {
                    figures[at].extend(turn.measure(*row)?);
                }
            }
        }
        print(chunk, &entrants, &figures);
    }
    Ok(())
}

/// One program's turn.
struct Turn<'a> {
    options: &'a Options,
    dir: &'a Path,
    image: &'a Path,
    chunk: u64,
    entrant: &'a Entrant,
    served: Option<Served>,
}

impl Turn<'_> {
    /// Returns MiB/s; nothing for a row whose figure is that of the same program before.
    fn measure(&mut self, row: Row) -> Result<Option<f64>, String> {
        let as_it_comes = self.entrant.end == Batch::Endless
            && !matches!(self.entrant.peer, Peer::QemuWritethrough);
        if !row.is_first_write() && !as_it_comes {
            return Ok(None);
        }
        if self.served.is_none() || matches!(row, Row::FirstWriteLarge) {
            // The one before goes first: both show their file in the same place.
            self.served = None;
            let content = Content::Snapshot { chunk: self.chunk };
            self.served = Some(self.entrant.peer.serve(self.dir, self.image, &content)?);
        }
        let file = self.served.as_ref().expect("it was started").file();
        let (size, seconds) = (self.options.size * MIB, self.options.seconds);
        let (dir, end) = (self.dir, self.entrant.end);
        let offsets = match row {
            Row::FirstWrite { depth } => first_writes(size, self.chunk, depth),
            Row::FirstWriteLarge => (0..size / MIB).map(|nr| nr * MIB).collect(),
            Row::Through { .. } | Row::Read { .. } | Row::Write { .. } => Vec::new(),
        };
        let (rw, block, depth, places) = match row {
            Row::Through { depth } | Row::Read { depth } => {
                ("randread", 4096, depth, Places::Anywhere)
            }
            Row::Write { depth } => ("randwrite", 4096, depth, Places::Anywhere),
            Row::FirstWrite { depth } => {
                ("randwrite", 4096, depth, Places::List { offsets: &offsets, dir, end })
            }
            Row::FirstWriteLarge => ("write", MIB, 4, Places::List { offsets: &offsets, dir, end }),
        };
        let rate = fio::run(file, &Load { rw, block, depth, places }, seconds)?;
        if matches!(row, Row::FirstWriteLarge) && as_it_comes {
            // Whatever there was no time for: the rows below are about written chunks.
            let load = Load { rw: "write", block: MIB, depth: 4, places: Places::Through };
            fio::run(file, &load, u32::MAX >> 8)?;
        }
        Ok(Some(rate))
    }
}

/// Returns the chunks of one half of the device in no order: one half is for depth 1.
fn first_writes(size: u64, chunk: u64, depth: u32) -> Vec<u64> {
    let count = size / chunk / 2;
    let half = if depth == 1 { 0 } else { count };
    let mut chunks: Vec<u64> = (half..half + count).collect();
    let mut state = 1u64;
    for at in (1..chunks.len()).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        chunks.swap(at, (state >> 33) as usize % (at + 1));
    }
    chunks.into_iter().map(|nr| nr * chunk).collect()
}

fn print(chunk: u64, entrants: &[Entrant], figures: &[Vec<Vec<f64>>]) {
    print!("{:44}", format!("chunk {} KiB, MiB/s (median)", chunk >> 10));
    entrants.iter().for_each(|entrant| print!("{:>14}", entrant.name));
    for entrant in &entrants[1..] {
        print!("{:>28}", format!("dmsim / {}", entrant.name));
    }
    println!();
    for (row, figures) in ROWS.iter().zip(figures) {
        print!("{:44}", row.name());
        for figures in figures {
            match figures.is_empty() {
                true => print!("{:>14}", "-"),
                false => print!("{:>14.1}", median(figures)),
            }
        }
        for peer in &figures[1..] {
            match peer.is_empty() {
                true => print!("{:>28}", "-"),
                false => print!("{:>28}", ratios(&figures[0], peer)),
            }
        }
        println!();
    }
}
