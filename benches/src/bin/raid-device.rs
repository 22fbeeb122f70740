//! `raid-device`: sets of `raid` in process, beside one linear device, and beside plain images that
//! get the same I/O, in turn: times of one bio, and how many times as long the set takes. And checks
//! and rebuilds, beside reads of all images, and writes of the one that is rebuilt.
//!
//! The same I/O is for a write of a whole stripe: each chunk, and those with parity, to its image;
//! for a small write: what it has to read, and what it has to write. Parity is not computed there.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::load::Way::{self, Read, Write};
use benches::load::{Load, Order, Places, Runs, fill, spread, submit};
use benches::{Commits, Instance};
use clap::Parser;
use sim_core::{Bio, BlockDevice, Flags, MappedDevice, Sector};

/// Measures sets of `raid` in process.
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

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const CHUNK: u64 = 64 * KIB;

/// A kind of set.
#[derive(Clone, Copy)]
struct Set {
    kind: &'static str,
    legs: u64,
    /// Chunks of a stripe that are not data.
    more: u64,
    /// Legs that are left out.
    missing: u64,
}

const fn set(kind: &'static str, legs: u64, more: u64) -> Set {
    Set { kind, legs, more, missing: 0 }
}

impl Set {
    const fn without(self, missing: u64) -> Set {
        Set { missing, ..self }
    }

    fn data(&self) -> u64 {
        self.legs - self.more
    }

    fn name(&self) -> String {
        let lost = match self.missing {
            0 => String::new(),
            lost => format!(" without {lost}"),
        };
        format!("{} of {}{lost}", self.kind, self.legs)
    }
}

/// What a row of bios measures.
struct Row {
    set: Set,
    way: Way,
    /// Bytes of a bio; none for a whole stripe.
    bio: Option<u64>,
}

const fn row(set: Set, way: Way, bio: Option<u64>) -> Row {
    Row { set, way, bio }
}

const RAID0: Set = set("raid0", 4, 0);
const RAID1: Set = set("raid1", 2, 1);
const RAID10: Set = set("raid10", 4, 2);
const RAID5: Set = set("raid5_ls", 4, 1);
const RAID5_8: Set = set("raid5_ls", 8, 1);
const RAID6: Set = set("raid6_zr", 6, 2);
const RAID6_8: Set = set("raid6_zr", 8, 2);

const ROWS: &[Row] = &[
    row(RAID0, Read, Some(4 * KIB)),
    row(RAID0, Read, Some(64 * KIB)),
    row(RAID1, Read, Some(4 * KIB)),
    row(RAID10, Read, Some(4 * KIB)),
    row(RAID10, Read, Some(64 * KIB)),
    row(RAID5, Read, Some(4 * KIB)),
    row(RAID5, Read, Some(64 * KIB)),
    row(RAID6, Read, Some(64 * KIB)),
    row(RAID5.without(1), Read, Some(64 * KIB)),
    row(RAID6.without(2), Read, Some(64 * KIB)),
    row(RAID0, Write, Some(4 * KIB)),
    row(RAID1, Write, Some(4 * KIB)),
    row(RAID10, Write, Some(4 * KIB)),
    row(RAID5, Write, Some(4 * KIB)),
    row(RAID5_8, Write, Some(4 * KIB)),
    row(RAID6, Write, Some(4 * KIB)),
    row(RAID5, Write, None),
    row(RAID5_8, Write, None),
    row(RAID6, Write, None),
    row(RAID6_8, Write, None),
];

const SYNCS: &[Set] = &[RAID1, RAID10, RAID5, RAID5_8, RAID6, RAID6_8];

fn main() {
    let options = Options::parse();
    assert!(options.size.is_power_of_two(), "--size: expected a power of two");
    println!(
        "{:42}{:>9}{:>9}{:>9}{:>26}{:>26}{:>12}",
        "us a bio (median), ratios of time",
        "set",
        "linear",
        "images",
        "set/linear",
        "set/images",
        "us above"
    );
    for row in ROWS {
        let bio = row.bio.map_or("a stripe".to_owned(), |bio| format!("{} KiB", bio / KIB));
        let way = if row.way == Read { "read" } else { "write" };
        let name = format!("{way} {bio}, {}", row.set.name());
        if options.runs.has(&name) {
            measure(&name, row, &options);
        }
    }
    println!(
        "{:42}{:>9}{:>9}{:>26}",
        "MiB/s of all legs (median), ratio of speed", "set", "images", "set/images"
    );
    for set in SYNCS {
        for rebuild in [false, true] {
            let what = if rebuild { "rebuild" } else { "check" };
            let name = format!("{what}, {}", set.name());
            if options.runs.has(&name) {
                measure_sync(&name, *set, rebuild, &options);
            }
        }
    }
}

/// A set, and the images that it lies on.
struct Bench {
    instance: Instance,
    set: Set,
    legs: Vec<Arc<dyn BlockDevice>>,
    /// Bytes of each leg.
    size: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(set: Set, options: &Options) -> Bench {
        let instance = options.runs.instance(Commits::Log);
        let dir = tempfile::tempdir_in(&options.runs.dir).expect("a folder for images");
        let image = |name: String, size: u64| {
            let image = instance.image(&dir.path().join(&name), &format!("/dev/{name}"), size);
            fill(&*image);
            image
        };
        let size = options.size * MIB;
        let legs = (0..set.legs).map(|nr| {
            image(format!("meta{nr}"), MIB);
            image(format!("leg{nr}"), size)
        });
        let legs = legs.collect();
        // As much as the set has: what is near in the caches is so for both.
        image("plain".to_owned(), size * set.data());
        let bench = Bench { instance, set, legs, size, _dir: dir };
        // All legs are the same: so are all copies, and parity is made right.
        bench.create("raid", false, "");
        bench.wait();
        bench
    }

    fn create(&self, name: &str, degraded: bool, more: &str) -> Arc<MappedDevice> {
        let Set { kind, legs, missing, .. } = self.set;
        let missing = if degraded { missing } else { 0 };
        let chunk = if kind == "raid1" { 0 } else { CHUNK / 512 };
        let devices = (0..legs).map(|leg| match leg < missing {
            true => " - -".to_owned(),
            false => format!(" /dev/meta{leg} /dev/leg{leg}"),
        });
        let devices: String = devices.collect();
        let count = 1 + more.split_whitespace().count();
        let len = self.len() / 512;
        let table = format!("0 {len} raid {kind} {count} {chunk}{more} {legs}{devices}");
        self.instance.create(name, &table)
    }

    fn len(&self) -> u64 {
        self.size * self.set.data()
    }

    fn wait(&self) {
        self.instance.wait("raid", |status| status.contains(" idle "));
    }

    /// Does to the images what the set has to do for a bio.
    fn same_io(&self, row: &Row, nr: u64, buffer: &mut [u8]) {
        let len = row.bio.unwrap_or(CHUNK);
        let at = Sector(nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (self.size / len) * len / 512);
        let part = &mut buffer[..len as usize];
        let leg = |leg: u64| &*self.legs[(leg % self.set.legs) as usize];
        let (parities, has_parity) = (self.set.more, self.set.kind.contains(['5', '6']));
        match (row.way, row.bio) {
            (Read, _) if self.set.missing > 0 => {
                // As many as tell what one had.
                (0..self.set.data()).for_each(|of| submit(leg(nr + of), Bio::read(at, part)));
            }
            (Read, _) => submit(leg(nr), Bio::read(at, part)),
            (Write, None) => {
                (0..self.set.legs).for_each(|of| submit(leg(of), Bio::write(at, part)));
            }
            (Write, Some(_)) if has_parity => {
                // The old data and parity, or the other data.
                let reads = (1 + parities).min(self.set.data() - 1);
                (0..reads).for_each(|of| submit(leg(nr + of), Bio::read(at, part)));
                (0..=parities).for_each(|of| submit(leg(nr + of), Bio::write(at, part)));
            }
            (Write, Some(_)) => {
                let copies = if parities > 0 { 2 } else { 1 };
                (0..copies).for_each(|of| submit(leg(nr + of), Bio::write(at, part)));
            }
        }
    }
}

/// Measures all in turn, and prints a line.
fn measure(name: &str, row: &Row, options: &Options) {
    let bench = Bench::new(row.set, options);
    let degraded = row.set.missing > 0;
    if degraded {
        bench.instance.remove("raid");
        bench.create("raid", true, "");
    }
    let control = &bench.instance.control;
    let device = control.device(&sim_core::control::Id::Name("raid".to_owned()));
    let device = device.expect("it was made");
    let linear = format!("0 {} linear /dev/plain 0", bench.len() / 512);
    let linear = bench.instance.create("linear", &linear);
    let slice = Duration::from_millis(options.slice_ms);
    let stripe = CHUNK * row.set.data();
    let load = |bio| Load { way: row.way, bio, depth: 1, flags: Flags::default() };
    let run = |device: &dyn BlockDevice, bio: u64| {
        // As many places as a power of two.
        let size = bio << (bench.len() / bio).ilog2();
        let places = Places::once(size, bio, bio, Order::Scattered).again();
        load(bio).seconds_a_bio(device, &places, slice)
    };
    let mut buffer = vec![0x5a; CHUNK as usize];
    let mut rounds: Vec<[f64; 3]> = Vec::new();
    for round in 0..=options.runs.rounds {
        let set = run(&*device, row.bio.unwrap_or(stripe));
        let linear = run(&*linear, row.bio.unwrap_or(stripe));
        let (began, mut bios) = (Instant::now(), 0);
        while began.elapsed() < slice {
            (0..4).for_each(|nr| bench.same_io(row, bios + nr, &mut buffer));
            bios += 4;
        }
        let images = began.elapsed().as_secs_f64() / bios as f64;
        // The first round is for warmth.
        if round > 0 {
            rounds.push([set, linear, images]);
        }
    }
    print!("{name:42}");
    for nr in 0..3 {
        print!("{:>9.2}", spread(rounds.iter().map(|round| round[nr] * 1e6)).median);
    }
    for nr in 1..3 {
        print!("{:>26}", spread(rounds.iter().map(|round| round[0] / round[nr])));
    }
    let above = spread(rounds.iter().map(|round| (round[0] - round[2]) * 1e6));
    println!("{:>12.2}", above.median);
}

/// Measures a check or a rebuild of the first leg, and the I/O that it has to do, in turn.
fn measure_sync(name: &str, set: Set, rebuild: bool, options: &Options) {
    const PIECE: usize = 128 << 10;
    let bench = Bench::new(set, options);
    // A rebuild reads what tells the rest, and writes one leg.
    let reads = match (rebuild, set.kind.contains(['5', '6'])) {
        (true, true) => set.data(),
        (true, false) => 1,
        (false, _) => set.legs,
    };
    let mut buffer = vec![0; PIECE];
    let mut rounds: Vec<[f64; 2]> = Vec::new();
    for round in 0..=options.runs.rounds {
        let began = Instant::now();
        if rebuild {
            bench.instance.remove("raid");
            bench.create("raid", false, " rebuild 0");
        } else {
            bench.instance.message("raid", "check");
        }
        bench.wait();
        let took = began.elapsed().as_secs_f64();
        let began = Instant::now();
        for at in (0..bench.size).step_by(PIECE) {
            let at = Sector(at / 512);
            for leg in 0..reads {
                let leg = (leg + u64::from(rebuild)) % set.legs;
                submit(&*bench.legs[leg as usize], Bio::read(at, &mut buffer));
            }
            if rebuild {
                submit(&*bench.legs[0], Bio::write(at, &buffer));
            }
        }
        let plain = began.elapsed().as_secs_f64();
        if round > 0 {
            rounds.push([took, plain]);
        }
    }
    let all = (reads + u64::from(rebuild)) * options.size;
    print!("{name:42}");
    for nr in 0..2 {
        print!("{:>9.0}", spread(rounds.iter().map(|round| all as f64 / round[nr])).median);
    }
    println!("{:>26}", spread(rounds.iter().map(|round| round[1] / round[0])));
}
