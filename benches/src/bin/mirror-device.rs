//! `mirror-device`: `mirror` devices in process, beside a linear device over one image doing the
//! same I/O, in turn, as times of one bio and as ratios: how many times as long a mirror takes. And
//! the resync, beside copies of the same image.
//!
//! A first write waits until its region is marked in the log, durably: beside it one is measured
//! whose region is marked, and one of the linear device with FUA, which waits for a flush as well.
//! On memory a flush costs nothing: `--flush-us` makes each take its time.
//!
//! A resync runs on all processors, or on one. What it is beside is one thread that reads and
//! writes 1 MiB after 1 MiB with `pread` and `pwrite`, or through the devices that the mirror's
//! legs are; and `std::io::copy`, which leaves it to the kernel where it can.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::load::Way::{self, Read, Write};
use benches::load::{Each, Load, Order, Places, Runs, Spread, fill, spread, submit};
use benches::{Commits, Instance};
use clap::Parser;
use sim_core::{Bio, BlockDevice, Flags, Sector};

/// Measures mirrors in process.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    runs: Runs,
    /// Milliseconds for each device in one round: fewer than for which a region keeps its mark.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100))]
    slice_ms: u64,
    /// Size of each image, in MiB: a power of two.
    #[arg(long, default_value_t = 512)]
    size: u64,
}

/// What a row of bios measures.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    legs: usize,
    log: Log,
    way: Way,
    /// Bytes of a bio.
    bio: u64,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    /// In memory: no region has to be marked.
    Core,
    /// On an image; each write goes to a region that is clean.
    Disk,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Bytes of a region.
const REGION: u64 = 512 * KIB;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("write 4 KiB, 2 legs", 2, Log::Core, Write, 4 * KIB, 1),
    row("write 4 KiB, 3 legs", 3, Log::Core, Write, 4 * KIB, 1),
    row("write 1 MiB, 2 legs", 2, Log::Core, Write, MIB, 1),
    row("write 1 MiB, 3 legs", 3, Log::Core, Write, MIB, 1),
    row("read 4 KiB, 2 legs", 2, Log::Core, Read, 4 * KIB, 1),
    row("read 1 MiB, 2 legs", 2, Log::Core, Read, MIB, 1),
    row("read 4 KiB, 3 legs", 3, Log::Core, Read, 4 * KIB, 1),
    row("read 1 MiB, 3 legs", 3, Log::Core, Read, MIB, 1),
    row("first write 4 KiB, 2 legs, depth 1", 2, Log::Disk, Write, 4 * KIB, 1),
    row("first write 4 KiB, 2 legs, depth 32", 2, Log::Disk, Write, 4 * KIB, 32),
    row("first write 4 KiB, 3 legs, depth 1", 3, Log::Disk, Write, 4 * KIB, 1),
    row("first write 4 KiB, 3 legs, depth 32", 3, Log::Disk, Write, 4 * KIB, 32),
];

const fn row(name: &'static str, legs: usize, log: Log, way: Way, bio: u64, depth: usize) -> Row {
    Row { name, legs, log, way, bio, depth }
}

/// What a row of the resync measures.
struct Resync {
    name: &'static str,
    legs: usize,
    /// Threads that may copy; zero is one for each processor.
    threads: usize,
}

const RESYNCS: &[Resync] = &[
    Resync { name: "resync, 2 legs, all processors", legs: 2, threads: 0 },
    Resync { name: "resync, 2 legs, one thread", legs: 2, threads: 1 },
    Resync { name: "resync, 3 legs, all processors", legs: 3, threads: 0 },
    Resync { name: "resync, 3 legs, one thread", legs: 3, threads: 1 },
];

fn main() {
    let options = Options::parse();
    assert!(options.size.is_power_of_two(), "--size: expected a power of two");
    println!(
        "{:42}{:>9}{:>9}{:>9}{:>9}{:>26}{:>26}{:>26}{:>9}{:>9}",
        "us a bio (median), ratios of time",
        "mirror",
        "marked",
        "linear",
        "lin. FUA",
        "mirror/marked",
        "mirror/linear",
        "mirror/linear FUA",
        "flushes",
        "commits"
    );
    for row in ROWS.iter().filter(|row| options.runs.has(row.name)) {
        measure(*row, &options);
    }
    println!(
        "{:42}{:>9}{:>9}{:>9}{:>9}{:>26}{:>26}{:>26}",
        "MiB/s (median), ratios of speed",
        "resync",
        "pread",
        "devices",
        "io::copy",
        "resync/pread",
        "resync/devices",
        "resync/io::copy"
    );
    for row in RESYNCS.iter().filter(|row| options.runs.has(row.name)) {
        measure_resync(row, &options);
    }
}

/// The images of a mirror.
struct Images {
    legs: Vec<Arc<dyn BlockDevice>>,
    dir: tempfile::TempDir,
    size: u64,
}

impl Images {
    fn new(instance: &Instance, legs: usize, options: &Options) -> Images {
        let (size, dir) = (options.size * MIB, tempfile::tempdir_in(&options.runs.dir));
        let dir = dir.expect("a folder for images");
        let legs = (0..legs).map(|nr| image(instance, dir.path(), &format!("leg{nr}"), size));
        Images { legs: legs.collect(), dir, size }
    }

    fn path(&self, leg: usize) -> PathBuf {
        self.dir.path().join(format!("leg{leg}"))
    }

    /// Returns the table of a mirror with this log.
    fn table(&self, log: &str) -> String {
        let legs: String = (0..self.legs.len()).map(|nr| format!(" /dev/leg{nr} 0")).collect();
        format!("0 {} mirror {log} {}{legs}", self.size / 512, self.legs.len())
    }
}

fn image(instance: &Instance, dir: &Path, name: &str, size: u64) -> Arc<dyn BlockDevice> {
    let image = instance.image(&dir.join(name), &format!("/dev/{name}"), size);
    fill(&*image);
    image
}

/// A mirror with what it is measured beside.
struct Bench {
    instance: Instance,
    row: Row,
    images: Images,
    mirror: Option<Arc<dyn BlockDevice>>,
    linear: Arc<dyn BlockDevice>,
}

impl Bench {
    fn new(row: Row, instance: Instance, options: &Options) -> Bench {
        let images = Images::new(&instance, row.legs, options);
        image(&instance, images.dir.path(), "plain", images.size);
        image(&instance, images.dir.path(), "log", MIB);
        let table = format!("0 {} linear /dev/plain 0", images.size / 512);
        let linear = instance.create("linear", &table);
        Bench { instance, row, images, mirror: None, linear }
    }

    /// Makes the mirror anew, with all regions in sync and clean.
    fn renew(&mut self) {
        if self.mirror.take().is_some() {
            self.instance.remove("mirror");
        }
        let region = REGION / 512;
        let table = self.images.table(&match self.row.log {
            Log::Core => format!("core 2 {region} nosync"),
            Log::Disk => format!("disk 3 /dev/log {region} nosync"),
        });
        self.mirror = Some(self.instance.create("mirror", &table));
    }

    fn mirror(&self) -> &dyn BlockDevice {
        &**self.mirror.as_ref().expect("it was made")
    }

    fn load(&self, flags: Flags) -> Load {
        let Row { way, bio, depth, .. } = self.row;
        Load { way, bio, depth, flags }
    }

    /// Returns the places of bios: where regions have to be marked, each in one of its own.
    fn places(&self) -> Places {
        let (size, bio) = (self.images.size, self.row.bio);
        match self.row.log {
            Log::Core => Places::once(size, bio, bio, Order::Scattered).again(),
            Log::Disk => Places::once(size, REGION, bio, Order::Scattered),
        }
    }

    /// Marks every region.
    fn mark_all(&self) {
        let load = Load { depth: 256, ..self.load(Flags::default()) };
        load.run(self.mirror(), &self.places(), Duration::MAX);
    }
}

/// Measures all in turn, and prints a line.
fn measure(row: Row, options: &Options) {
    let slice = Duration::from_millis(options.slice_ms);
    let mut bench = Bench::new(row, options.runs.instance(Commits::Log), options);
    let (plain, fua) = (Flags::default(), Flags { fua: true, ..Flags::default() });
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for round in 0..=options.runs.rounds {
        bench.renew();
        let run = |device: &dyn BlockDevice, flags| {
            bench.load(flags).seconds_a_bio(device, &bench.places(), slice)
        };
        let mirror = run(bench.mirror(), plain);
        let marked = match row.log {
            Log::Core => f64::NAN,
            Log::Disk => {
                bench.mark_all();
                run(bench.mirror(), plain)
            }
        };
        let linear = run(&*bench.linear, plain);
        let durable = match row.log {
            Log::Core => f64::NAN,
            Log::Disk => run(&*bench.linear, fua),
        };
        // The first round is for warmth.
        if round > 0 {
            rounds.push([mirror, marked, linear, durable]);
        }
    }
    drop(bench);
    print!("{:42}", row.name);
    for nr in 0..4 {
        cell(9, spread(rounds.iter().map(|round| round[nr] * 1e6)), |spread| {
            format!("{:.2}", spread.median)
        });
    }
    for nr in 1..4 {
        let ratio = spread(rounds.iter().map(|round| round[0] / round[nr]));
        cell(26, ratio, |spread| spread.to_string());
    }
    let Each { flushes, commits } = count(row, options);
    println!("{flushes:>9.3}{commits:>9.3}");
}

/// Prints one cell of a table, or a stroke where nothing was measured.
fn cell(width: usize, spread: Spread, text: impl Fn(Spread) -> String) {
    match spread.median.is_nan() {
        true => print!("{:>width$}", "-"),
        false => print!("{:>width$}", text(spread)),
    }
}

fn count(row: Row, options: &Options) -> Each {
    let kind = options.runs.kind(Commits::Log);
    let counts = kind.counts.clone();
    let mut bench = Bench::new(row, Instance::counted(0, kind), options);
    bench.renew();
    bench.load(Flags::default()).count(bench.mirror(), &bench.places().up_to(4096), &counts)
}

/// Measures a resync and what it is beside in turn, and prints a line.
fn measure_resync(row: &Resync, options: &Options) {
    let instance = Instance::with_threads(row.threads);
    let images = Images::new(&instance, row.legs, options);
    let table = images.table(&format!("core 2 {} sync", REGION / 512));
    let regions = images.size / REGION;
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for round in 0..=options.runs.rounds {
        let resync = time(|| {
            instance.create("mirror", &table);
            let in_sync = format!(" {regions}/{regions} ");
            instance.wait("mirror", |status| status.contains(&in_sync));
        });
        instance.remove("mirror");
        let (pread, devices) = (time(|| copy_files(&images)), time(|| copy_devices(&images)));
        let kernel = time(|| copy_in_kernel(&images));
        if round > 0 {
            rounds.push([resync, pread, devices, kernel]);
        }
    }
    print!("{:42}", row.name);
    for nr in 0..4 {
        let speed = spread(rounds.iter().map(|round| options.size as f64 / round[nr]));
        print!("{:>9.0}", speed.median);
    }
    for nr in 1..4 {
        print!("{:>26}", spread(rounds.iter().map(|round| round[nr] / round[0])));
    }
    println!();
}

/// Returns how many seconds something takes.
fn time(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// Copies the first image to the others with `pread` and `pwrite`.
fn copy_files(images: &Images) {
    let (from, to) = open(images);
    let mut buffer = vec![0; MIB as usize];
    for at in (0..images.size).step_by(MIB as usize) {
        from.read_exact_at(&mut buffer, at).expect("an image can be read");
        for to in &to {
            to.write_all_at(&buffer, at).expect("an image can be written");
        }
    }
}

/// Copies the first image to the others as the devices that they are.
fn copy_devices(images: &Images) {
    let [from, to @ ..] = &images.legs[..] else { unreachable!("a mirror has legs") };
    let mut buffer = vec![0; MIB as usize];
    for at in (0..images.size).step_by(MIB as usize) {
        let sector = Sector(at / 512);
        submit(&**from, Bio::read(sector, &mut buffer));
        to.iter().for_each(|to| submit(&**to, Bio::write(sector, &buffer)));
    }
}

/// Copies the first image to the others with `std::io::copy`.
fn copy_in_kernel(images: &Images) {
    for leg in 1..images.legs.len() {
        let (mut from, to) = open(images);
        io::copy(&mut from, &mut &to[leg - 1]).expect("an image can be copied");
    }
}

fn open(images: &Images) -> (File, Vec<File>) {
    let from = File::open(images.path(0)).expect("an image can be opened");
    let to = (1..images.legs.len()).map(|leg| {
        let to = File::options().write(true).open(images.path(leg));
        to.expect("an image can be opened")
    });
    (from, to.collect())
}
