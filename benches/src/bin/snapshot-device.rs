//! `snapshot-device`: `snapshot` and `snapshot-origin` devices in process, beside a bare image and
//! a linear device over it doing the same I/O, in turn, as times of one bio and as ratios.
//!
//! A first write is durable when it ends, as the kernel's is: beside it the image is also written
//! with FUA, at the same depth. On memory a flush costs nothing, and on a disk that others use no
//! run is as the one before: `--flush-us` makes each take its time. How many flushes a row's bios cost, and how many bios share a
//! commit, is counted afterwards, in a run of its own.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use backing::block_on;
use benches::{Counts, Instance, Kind};
use clap::Parser;
use futures_util::future::join_all;
use sim_core::{Bio, BlockDevice, Flags, Sector, Sectors};
use targets::snapshot::ChunkSize;
use targets::snapshot::store::format::Layout;

/// Measures snapshots in process.
#[derive(Parser)]
struct Options {
    /// How often each device is measured.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Milliseconds for each device in one round.
    #[arg(long, default_value_t = 30)]
    slice_ms: u64,
    /// Size of each image, in MiB: a power of two.
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// The folder for the images; memory, where nothing is said.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Microseconds that a flush takes at least: a disk of which every run finds the same.
    #[arg(long, default_value_t = 0)]
    flush_us: u64,
    /// Rows whose names have this in them.
    #[arg(long, default_value = "")]
    only: String,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
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
use Way::{Read, Write};

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
    for row in ROWS.iter().filter(|row| row.name.contains(&options.only)) {
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
            // What is not written yet costs its pages at the first write.
            let megabyte = vec![0; MIB as usize];
            (0..size / MIB).for_each(|at| submit(&*image, Bio::write(sector(at * MIB), &megabyte)));
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
        let load = Load { way, bio, depth, flags };
        let (bios, time) = load.run(device, &self.places(), slice);
        time.as_secs_f64() / bios as f64
    }

    fn places(&self) -> Places {
        let Row { bio, chunk, .. } = self.row;
        // A bio of less than a chunk goes to a chunk of its own.
        let places = Places::once(self.size, bio.max(chunk), bio, Order::Scattered);
        if self.row.is_first_write() { places } else { Places { again: true, ..places } }
    }
}

/// Measures all in turn, and prints a line.
fn measure(row: Row, options: &Options) {
    let (size, slice) = (options.size * MIB, Duration::from_millis(options.slice_ms));
    let instance = match options.flush_us {
        0 => Instance::with_threads(0),
        _ => Instance::counted(0, kind(row, options)),
    };
    let mut bench = Bench::new(row, instance, size, &options.dir);
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for round in 0..=options.rounds {
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
    let show = |Spread { least, median, most }| format!("{median:.2} ({least:.2}-{most:.2})");
    print!("{:50}{device:>9.2}{linear:>8.2}{image:>8.2}", row.name);
    print!("{:>9}", if durable.is_nan() { "-".to_owned() } else { format!("{durable:.2}") });
    print!("{:>20}{:>20}", show(ratio(1)), show(ratio(2)));
    match durable.is_nan() {
        true => print!("{:>12}", "-"),
        false => print!("{:>12.2}", ratio(3).median),
    }
    let (flushes, commits) = count(row, options);
    println!("{flushes:>9.3}{commits:>9.3}");
}

/// Returns how many flushes, and how many commits, there are for each bio.
fn count(row: Row, options: &Options) -> (f64, f64) {
    let kind = kind(row, options);
    let counts = kind.counts.clone();
    let instance = Instance::counted(0, kind);
    let mut bench = Bench::new(row, instance, options.size * MIB, &options.dir);
    bench.renew();
    let now = || (counts.flushes.load(Relaxed), counts.commits.load(Relaxed));
    let before = now();
    let Row { way, bio, depth, .. } = row;
    let load = Load { way, bio, depth, flags: Flags::default() };
    let places = Places { most: 4096, again: false, ..bench.places() };
    let (bios, _) = load.run(bench.device(), &places, Duration::MAX);
    let after = now();
    let each = |after: u64, before: u64| (after - before) as f64 / bios as f64;
    (each(after.0, before.0), each(after.1, before.1))
}

fn kind(row: Row, options: &Options) -> Kind {
    let chunk = ChunkSize::new(Sectors(row.chunk / 512), &[]).expect("a power of two");
    let flush = Duration::from_micros(options.flush_us);
    Kind { counts: Arc::new(Counts::default()), flush, layout: Layout::new(chunk) }
}

/// What is done to a device.
struct Load {
    way: Way,
    bio: u64,
    depth: usize,
    flags: Flags,
}

impl Load {
    /// Keeps so many bios under way, until the time is over or no place is left. Returns how many
    /// there were, and how long they took.
    fn run(&self, device: &dyn BlockDevice, places: &Places, slice: Duration) -> (u64, Duration) {
        let (began, bios) = (Instant::now(), Cell::new(0));
        let data = vec![0x5a; self.bio as usize];
        let client = async || {
            let mut buffer = data.clone();
            while began.elapsed() < slice {
                // Several bios for each look at the clock, which costs as much as a lookup.
                for _ in 0..if self.depth == 1 { 4 } else { 1 } {
                    let Some(sector) = places.next() else { return };
                    let bio = match self.way {
                        Read => Bio::read(sector, &mut buffer),
                        Write => Bio::write(sector, &data).with_flags(self.flags),
                    };
                    let result = match device.try_now(bio) {
                        Ok(result) => result,
                        Err(bio) => device.submit(bio).await,
                    };
                    result.expect("an image has no faults");
                    bios.set(bios.get() + 1);
                }
            }
        };
        match self.depth {
            1 => block_on(client()),
            depth => drop(block_on(join_all((0..depth).map(|_| client())))),
        }
        (bios.get(), began.elapsed())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Scattered,
}

/// The places of bios: each once, or again from the start.
struct Places {
    next: Cell<u64>,
    most: u64,
    /// Bytes from a place to the next; bytes of a bio.
    step: u64,
    bio: u64,
    count: u64,
    order: Order,
    again: bool,
}

impl Places {
    fn once(size: u64, step: u64, bio: u64, order: Order) -> Places {
        let count = size / step;
        Places { next: Cell::new(0), most: u64::MAX, step, bio, count, order, again: false }
    }

    fn next(&self) -> Option<Sector> {
        let nr = self.next.get();
        if nr >= self.most || (nr >= self.count && !self.again) {
            return None;
        }
        self.next.set(nr + 1);
        let place = match self.order {
            Order::Ascending => nr,
            Order::Scattered => scattered(nr, self.count),
        };
        // In a chunk that is larger than the bio, not always its first sectors.
        let within = (nr * 3) % (self.step / self.bio) * self.bio;
        Some(sector(place % self.count * self.step + within))
    }
}

/// Returns the place of a number in another order of a power of two of them: an odd factor and a
/// shift leave no two of them the same.
fn scattered(nr: u64, count: u64) -> u64 {
    let mixed = nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
    (mixed ^ mixed >> (count.ilog2() / 2 + 1)).wrapping_mul(0xd6e8_feb8_6659_fd93) % count
}

fn sector(bytes: u64) -> Sector {
    Sector(bytes / 512)
}

fn submit(device: &dyn BlockDevice, bio: Bio<'_>) {
    let result = match device.try_now(bio) {
        Ok(result) => result,
        Err(bio) => block_on(device.submit(bio)),
    };
    result.expect("an image has no faults");
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(figures: impl Iterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    Spread { least: sorted[0], median: sorted[sorted.len() / 2], most: sorted[sorted.len() - 1] }
}
