//! `snapshot-device`: `snapshot` and `snapshot-origin` devices in process, beside a bare image and
//! a linear device over it doing the same I/O, in turn, as times of one bio and as ratios.
//!
//! A first write is durable when it ends, as the kernel's is: beside it the image is also written
//! with FUA, at the same depth. On memory a flush costs nothing, and on a disk that others use no
//! run is as the one before: `--flush-us` makes each take its time. How many flushes a row's bios
//! cost, and how many bios share a commit, is counted afterwards, in a run of its own.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benches::load::Way::{self, Read, Write};
use benches::load::{Each, Load, Order, Places, Runs, fill, spread, submit};
use benches::{Commits, Instance};
use clap::Parser;
use sim_core::{Bio, BlockDevice, Flags, Sector, Sectors};
use targets::snapshot::ChunkSize;
use targets::snapshot::store::format::Layout;

/// Measures snapshots in process.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    runs: Runs,
    /// Milliseconds for each device in one round.
    #[arg(long, default_value_t = 30)]
    slice_ms: u64,
    /// Size of each image, in MiB: a power of two.
    #[arg(long, default_value_t = 64)]
    size: u64,
}

/// What a row measures.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    device: Device,
    way: Way,
    chunks: Chunks,
    /// Bytes of a chunk.
    chunk: u64,
    /// Bytes of a bio.
    bio: u64,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Snapshot,
    /// With so many snapshots.
    Origin(usize),
}

/// The chunks that bios go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunks {
    /// Without exceptions.
    Fresh,
    /// With exceptions that were made in the order of the chunks.
    InOrder,
    /// With exceptions that were made in no order.
    Scattered,
}

use Chunks::{Fresh, InOrder, Scattered};
use Device::{Origin, Snapshot};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("write 4 KiB, chunk 4 KiB", Snapshot, Write, Scattered, 4 * KIB, 4 * KIB, 1),
    row("write 4 KiB, chunk 64 KiB", Snapshot, Write, Scattered, 64 * KIB, 4 * KIB, 1),
    row("write 64 KiB, chunk 64 KiB", Snapshot, Write, Scattered, 64 * KIB, 64 * KIB, 1),
    row("write 64 KiB, chunk 4 KiB, in order", Snapshot, Write, InOrder, 4 * KIB, 64 * KIB, 1),
    row("write 64 KiB, chunk 4 KiB, scattered", Snapshot, Write, Scattered, 4 * KIB, 64 * KIB, 1),
    row("read 4 KiB, chunk 4 KiB", Snapshot, Read, Scattered, 4 * KIB, 4 * KIB, 1),
    row("read through 4 KiB, chunk 4 KiB", Snapshot, Read, Fresh, 4 * KIB, 4 * KIB, 1),
    row("read through 64 KiB, chunk 4 KiB", Snapshot, Read, Fresh, 4 * KIB, 64 * KIB, 1),
    row("first write 4 KiB, chunk 4 KiB, depth 1", Snapshot, Write, Fresh, 4 * KIB, 4 * KIB, 1),
    row("first write 4 KiB, chunk 4 KiB, depth 32", Snapshot, Write, Fresh, 4 * KIB, 4 * KIB, 32),
    row("first write 512 B, chunk 4 KiB, depth 1", Snapshot, Write, Fresh, 4 * KIB, 512, 1),
    row("first write 512 B, chunk 4 KiB, depth 32", Snapshot, Write, Fresh, 4 * KIB, 512, 32),
    row("first write 4 KiB, chunk 64 KiB, depth 1", Snapshot, Write, Fresh, 64 * KIB, 4 * KIB, 1),
    row("first write 4 KiB, chunk 64 KiB, depth 32", Snapshot, Write, Fresh, 64 * KIB, 4 * KIB, 32),
    row("first write 1 MiB, chunk 4 KiB, depth 1", Snapshot, Write, Fresh, 4 * KIB, MIB, 1),
    row("first write 1 MiB, chunk 64 KiB, depth 1", Snapshot, Write, Fresh, 64 * KIB, MIB, 1),
    row("origin, 0 snapshots: write 4 KiB", Origin(0), Write, Scattered, 4 * KIB, 4 * KIB, 1),
    row("origin, 1 snapshot: write 4 KiB", Origin(1), Write, Scattered, 4 * KIB, 4 * KIB, 1),
    row("origin, 8 snapshots: write 4 KiB", Origin(8), Write, Scattered, 4 * KIB, 4 * KIB, 1),
    row("origin, 1 snapshot: first write 4 KiB", Origin(1), Write, Fresh, 4 * KIB, 4 * KIB, 1),
    row("origin, 8 snapshots: first write 4 KiB", Origin(8), Write, Fresh, 4 * KIB, 4 * KIB, 1),
    row("origin, 1 snapshot: first write 4 KiB, depth 32", Origin(1), Write, Fresh, 4 * KIB, 4 * KIB, 32),
    row("origin, 8 snapshots: first write 4 KiB, depth 32", Origin(8), Write, Fresh, 4 * KIB, 4 * KIB, 32),
];

const fn row(
    name: &'static str,
    device: Device,
    way: Way,
    chunks: Chunks,
    chunk: u64,
    bio: u64,
    depth: usize,
) -> Row {
    Row { name, device, way, chunks, chunk, bio, depth }
}

impl Row {
    fn is_first_write(self) -> bool {
        self.way == Write && self.chunks == Fresh
    }

    /// What counts as a commit: a write to a store's metadata.
    fn commits(self) -> Commits {
        let chunk = ChunkSize::new(Sectors(self.chunk / 512), &[]).expect("a power of two");
        Commits::Stores(Layout::new(chunk))
    }

    fn snapshots(self) -> usize {
        match self.device {
            Snapshot => 1,
            Origin(snapshots) => snapshots,
        }
    }
}

fn main() {
    let options = Options::parse();
    assert!(options.size.is_power_of_two(), "--size: expected a power of two");
    println!(
        "{:50}{:>9}{:>8}{:>8}{:>9}{:>20}{:>20}{:>12}{:>9}{:>9}",
        "us a bio (median), ratios of speed",
        "device",
        "linear",
        "image",
        "img FUA",
        "device/linear",
        "device/image",
        "/image FUA",
        "flushes",
        "commits"
    );
    for row in ROWS.iter().filter(|row| options.runs.has(row.name)) {
        measure(*row, &options);
    }
}

/// A device with what it is measured beside.
struct Bench {
    instance: Instance,
    row: Row,
    size: u64,
    cows: Vec<Arc<dyn BlockDevice>>,
    device: Option<Arc<dyn BlockDevice>>,
    linear: Arc<dyn BlockDevice>,
    plain: Arc<dyn BlockDevice>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(row: Row, instance: Instance, size: u64, dir: &Path) -> Bench {
        let dir = tempfile::tempdir_in(dir).expect("a folder for images");
        let image = |name: &str, size| {
            let image = instance.image(&dir.path().join(name), &format!("/dev/{name}"), size);
            fill(&*image);
            image
        };
        let (_origin, plain) = (image("origin", size), image("plain", size));
        let cow = size + size / 64 + MIB;
        let cows = (0..row.snapshots()).map(|nr| image(&format!("cow{nr}"), cow)).collect();
        let linear = instance.create("linear", &format!("0 {} linear /dev/plain 0", size / 512));
        let device = None;
        Bench { instance, row, size, cows, device, linear, plain, _dir: dir }
    }

    /// Makes the device anew, with stores that have no exception.
    fn renew(&mut self) {
        let (sectors, chunk) = (self.size / 512, self.row.chunk / 512);
        if self.device.take().is_some() {
            self.instance.remove("origin");
            (0..self.cows.len()).for_each(|nr| self.instance.remove(&format!("snapshot{nr}")));
        }
        let origin = format!("0 {sectors} snapshot-origin /dev/origin");
        let mut device = self.instance.create("origin", &origin);
        for (nr, cow) in self.cows.iter().enumerate() {
            submit(&**cow, Bio::write(Sector::ZERO, &[0; 4096]));
            let table = format!("0 {sectors} snapshot /dev/origin /dev/cow{nr} P {chunk}");
            let snapshot = self.instance.create(&format!("snapshot{nr}"), &table);
            if self.row.device == Snapshot {
                device = snapshot;
            }
        }
        self.device = Some(device);
        let (order, step) = match self.row.chunks {
            Fresh => return,
            InOrder => (Order::Ascending, MIB),
            Scattered => (Order::Scattered, self.row.chunk),
        };
        if self.cows.is_empty() {
            return;
        }
        let places = Places::once(self.size, step, step, order);
        let load = Load { way: Write, bio: step, depth: 32, flags: Flags::default() };
        load.run(self.device(), &places, Duration::MAX);
    }

    fn device(&self) -> &dyn BlockDevice {
        &**self.device.as_ref().expect("it was made")
    }

    /// Returns seconds a bio.
    fn run(&self, device: &dyn BlockDevice, flags: Flags, slice: Duration) -> f64 {
        let Row { way, bio, depth, .. } = self.row;
        Load { way, bio, depth, flags }.seconds_a_bio(device, &self.places(), slice)
    }

    fn places(&self) -> Places {
        let Row { bio, chunk, .. } = self.row;
        // A bio of less than a chunk goes to a chunk of its own.
        let places = Places::once(self.size, bio.max(chunk), bio, Order::Scattered);
        if self.row.is_first_write() { places } else { places.again() }
    }
}

/// Measures all in turn, and prints a line.
fn measure(row: Row, options: &Options) {
    let (size, slice) = (options.size * MIB, Duration::from_millis(options.slice_ms));
    let instance = options.runs.instance(row.commits());
    let mut bench = Bench::new(row, instance, size, &options.runs.dir);
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for round in 0..=options.runs.rounds {
        if round == 0 || row.is_first_write() {
            bench.renew();
        }
        let (plain, fua) = (Flags::default(), Flags { fua: true, ..Flags::default() });
        let device = bench.run(bench.device(), plain, slice);
        let linear = bench.run(&*bench.linear, plain, slice);
        let image = bench.run(&*bench.plain, plain, slice);
        let durable = match row.is_first_write() {
            true => bench.run(&*bench.plain, fua, slice),
            false => f64::NAN,
        };
        // The first round is for warmth.
        if round > 0 {
            rounds.push([device, linear, image, durable]);
        }
    }
    drop(bench);
    let [device, linear, image, durable] =
        [0, 1, 2, 3].map(|nr| spread(rounds.iter().map(|round| round[nr] * 1e6)).median);
    let ratio = |nr: usize| spread(rounds.iter().map(|round| round[nr] / round[0]));
    print!("{:50}{device:>9.2}{linear:>8.2}{image:>8.2}", row.name);
    print!("{:>9}", if durable.is_nan() { "-".to_owned() } else { format!("{durable:.2}") });
    print!("{:>20}{:>20}", ratio(1), ratio(2));
    match durable.is_nan() {
        true => print!("{:>12}", "-"),
        false => print!("{:>12.2}", ratio(3).median),
    }
    let Each { flushes, commits } = count(row, options);
    println!("{flushes:>9.3}{commits:>9.3}");
}

fn count(row: Row, options: &Options) -> Each {
    let kind = options.runs.kind(row.commits());
    let counts = kind.counts.clone();
    let instance = Instance::counted(0, kind);
    let mut bench = Bench::new(row, instance, options.size * MIB, &options.runs.dir);
    bench.renew();
    let Row { way, bio, depth, .. } = row;
    let load = Load { way, bio, depth, flags: Flags::default() };
    load.count(bench.device(), &bench.places().up_to(4096), &counts)
}
