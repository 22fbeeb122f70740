//! I/O on a device in process: how much of it, where, and what is made of its times.

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use backing::block_on;
use clap::Args;
use futures_util::future::join_all;
use sim_core::{Bio, BlockDevice, Flags, Sector};

use crate::{Commits, Counts, Instance, Kind};

const MIB: u64 = 1 << 20;

/// How devices are measured in process.
#[derive(Args)]
pub struct Runs {
    /// How often each device is measured.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// The folder for the images; memory, where nothing is said.
    #[arg(long, default_value = "/dev/shm")]
    pub dir: PathBuf,
    /// Microseconds that a flush takes at least: a disk of which every run finds the same.
    #[arg(long, default_value_t = 0)]
    flush_us: u64,
    /// Rows whose names have this in them.
    #[arg(long, default_value = "")]
    only: String,
}

impl Runs {
    /// Says whether a row is asked for.
    pub fn has(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// Makes an instance to measure times in: counting costs time, and so does what makes flushes
    /// slow, where none is.
    pub fn instance(&self, commits: Commits) -> Instance {
        match self.flush_us {
            0 => Instance::with_threads(0),
            _ => Instance::counted(0, self.kind(commits)),
        }
    }

    /// Returns the kind of images that count.
    pub fn kind(&self, commits: Commits) -> Kind {
        let flush = Duration::from_micros(self.flush_us);
        Kind { counts: Arc::new(Counts::default()), flush, commits }
    }
}

/// Which way data go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

/// What is done to a device.
pub struct Load {
    /// Reads or writes.
    pub way: Way,
    /// Bytes of a bio.
    pub bio: u64,
    /// How many are under way at a time.
    pub depth: usize,
    /// What writes bear.
    pub flags: Flags,
}

impl Load {
    /// Keeps so many bios under way, until the time is over or no place is left. Returns how many
    /// there were, and how long they took.
    ///
    /// # Panics
    /// When one fails.
    pub fn run(
        &self,
        device: &dyn BlockDevice,
        places: &Places,
        slice: Duration,
    ) -> (u64, Duration) {
        let (began, bios) = (Instant::now(), Cell::new(0));
        let data = vec![0x5a; self.bio as usize];
        let client = async || {
            let mut buffer = data.clone();
            while began.elapsed() < slice {
                // Several bios for each look at the clock, which costs as much as a lookup.
                for _ in 0..if self.depth == 1 { 4 } else { 1 } {
                    let Some(sector) = places.next() else { return };
                    let bio = match self.way {
                        Way::Read => Bio::read(sector, &mut buffer),
                        Way::Write => Bio::write(sector, &data).with_flags(self.flags),
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

    /// As [`run`](Self::run), and returns seconds a bio.
    pub fn seconds_a_bio(&self, device: &dyn BlockDevice, places: &Places, slice: Duration) -> f64 {
        let (bios, time) = self.run(device, places, slice);
        time.as_secs_f64() / bios as f64
    }

    /// As [`run`](Self::run) until no place is left, and returns what was counted meanwhile.
    pub fn count(&self, device: &dyn BlockDevice, places: &Places, counts: &Counts) -> Each {
        let now = || [&counts.flushes, &counts.commits].map(|count| count.load(Relaxed));
        let before = now();
        let (bios, _) = self.run(device, places, Duration::MAX);
        let after = now();
        let [flushes, commits] = [0, 1].map(|at| (after[at] - before[at]) as f64 / bios as f64);
        Each { flushes, commits }
    }
}

/// How much went to images for each bio.
#[derive(Clone, Copy)]
pub struct Each {
    /// Flushes.
    pub flushes: f64,
    /// Commits.
    pub commits: f64,
}

/// The order of places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Ascending,
    /// In no order that anybody foresees.
    Scattered,
}

/// The places of bios: each once, or again from the start.
pub struct Places {
    next: Cell<u64>,
    most: u64,
    /// Bytes from a place to the next; bytes of a bio.
    step: u64,
    bio: u64,
    count: u64,
    order: Order,
}

impl Places {
    /// Makes the places of bios of so many bytes, `step` bytes apart, on a device of `size`.
    pub fn once(size: u64, step: u64, bio: u64, order: Order) -> Places {
        let count = size / step;
        Places { next: Cell::new(0), most: count, step, bio, count, order }
    }

    /// Makes the first follow on the last.
    #[must_use]
    pub fn again(self) -> Places {
        Places { most: u64::MAX, ..self }
    }

    /// Leaves out all but so many.
    #[must_use]
    pub fn up_to(self, most: u64) -> Places {
        Places { most: self.count.min(most), ..self }
    }

    fn next(&self) -> Option<Sector> {
        let nr = self.next.get();
        if nr >= self.most {
            return None;
        }
        self.next.set(nr + 1);
        let place = match self.order {
            Order::Ascending => nr,
            Order::Scattered => scattered(nr, self.count),
        };
        // In a chunk that is larger than the bio, not always its first sectors.
        let within = (nr * 3) % (self.step / self.bio) * self.bio;
        Some(Sector((place % self.count * self.step + within) / 512))
    }
}

/// Returns the place of a number in another order of a power of two of them: an odd factor and a
/// shift leave no two of them the same.
fn scattered(nr: u64, count: u64) -> u64 {
    let mixed = nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
    (mixed ^ mixed >> (count.ilog2() / 2 + 1)).wrapping_mul(0xd6e8_feb8_6659_fd93) % count
}

/// Carries out one bio.
///
/// # Panics
/// When it fails.
pub fn submit(device: &dyn BlockDevice, bio: Bio<'_>) {
    // What is split ends in the future's first poll, where nothing waits.
    let result = match device.try_now(bio) {
        Ok(result) => result,
        Err(bio) => block_on(device.submit(bio)),
    };
    result.expect("an image has no faults");
}

/// Writes all of an image: what is not written yet costs its pages at the first write.
pub fn fill(image: &dyn BlockDevice) {
    let megabyte = vec![0; MIB as usize];
    for at in 0..image.size().bytes() / MIB {
        submit(image, Bio::write(Sector(at * MIB / 512), &megabyte));
    }
}

/// Between which figures those of all rounds lie. Printed as `median (least-most)`.
#[derive(Clone, Copy)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle.
    pub median: f64,
    /// The most.
    pub most: f64,
}

/// Sums up figures.
///
/// # Panics
/// When there are none.
pub fn spread(figures: impl Iterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    Spread { least: sorted[0], median: sorted[sorted.len() / 2], most: sorted[sorted.len() - 1] }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { least, median, most } = self;
        f.pad(&format!("{median:.2} ({least:.2}-{most:.2})"))
    }
}
