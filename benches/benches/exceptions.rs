//! The exceptions of a snapshot in memory, ten million of them, and a store that has as many.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use benches::Instance;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use sim_core::Sectors;
use targets::snapshot::store::format::{ENTRY, Entry, Header, Layout, VERSION};
use targets::snapshot::{ChunkSize, ExceptionTable};

const EXCEPTIONS: u64 = 10_000_000;

/// Chunks of the largest origin: 4 TiB in chunks of 4 KiB.
const ORIGIN: u64 = 1 << 30;

/// Which chunks have exceptions.
#[derive(Clone, Copy)]
enum Chunks {
    InOrder,
    /// More than half of an origin's, in no order.
    Dense,
    /// One in a hundred of an origin's, in no order.
    Scattered,
}

impl Chunks {
    const ALL: [(&'static str, Chunks); 3] =
        [("in_order", Chunks::InOrder), ("dense", Chunks::Dense), ("scattered", Chunks::Scattered)];

    /// Returns the chunk of an exception, another for each.
    fn old(self, nr: u64) -> u64 {
        match self {
            Chunks::InOrder => nr,
            Chunks::Dense => mixed(nr, 24),
            Chunks::Scattered => mixed(nr, 30),
        }
    }

    fn table(self) -> ExceptionTable {
        let mut table = ExceptionTable::new();
        for nr in 0..EXCEPTIONS {
            table.insert(self.old(nr), nr + 2).expect("each chunk comes once");
        }
        table
    }
}

/// Returns the place of a number in another order of those of so many bits: odd factors and a
/// shift leave no two of them the same.
fn mixed(nr: u64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    let half = nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
    (half ^ half >> (bits / 2 + 1)).wrapping_mul(0xd6e8_feb8_6659_fd93) & mask
}

/// Numbers below a limit, in an order that the hardware does not foresee.
struct Anyhow(u64);

impl Anyhow {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 24) % limit
    }
}

/// What this machine takes for one word of so much memory that says where the next one is: no
/// lookup that leaves the caches, and waits for what it finds, is faster.
fn memory(criterion: &mut Criterion) {
    let count = 1u64 << 25;
    // All of them in one ring: the factor is one more than a multiple of four, the rest odd.
    let step = |at: u64| at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7f) % count;
    let words: Vec<u64> = (0..count).map(step).collect();
    let mut at = 0;
    criterion.bench_function("memory/any", |bench| {
        bench.iter(|| {
            at = words[at as usize];
            at
        });
    });
}

fn lookups(criterion: &mut Criterion) {
    for (name, chunks) in Chunks::ALL {
        let table = chunks.table();
        let bytes = table.heap_bytes() as f64 / table.len() as f64;
        println!("{name}: {bytes:.2} bytes an exception");
        let mut group = criterion.benchmark_group("exception_lookup");
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        let mut numbers = Anyhow(1);
        // The places are made beforehand, so that none of their making is measured.
        let mut olds: Vec<u64> =
            (0..1 << 20).map(|_| chunks.old(numbers.below(EXCEPTIONS))).collect();
        let mut each = |id: &str, olds: &[u64]| {
            let mut at = 0;
            group.bench_function(BenchmarkId::new(id, name), |bench| {
                bench.iter(|| {
                    at = (at + 1) % olds.len();
                    black_box(table.lookup(black_box(olds[at])))
                });
            });
        };
        each("any", &olds);
        olds.sort_unstable();
        each("ascending", &olds);
        group.finish();
    }
}

fn inserts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exception_insert");
    group.sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_secs(3));
    for (name, chunks) in Chunks::ALL {
        // Time for each of ten million, growth and all; what it takes to drop them is not in it.
        group.bench_function(name, |bench| {
            bench.iter_custom(|iters| {
                let times = (0..iters).map(|_| {
                    let began = Instant::now();
                    let table = chunks.table();
                    let time = began.elapsed();
                    drop(table);
                    time
                });
                times.sum::<Duration>() / EXCEPTIONS as u32
            });
        });
    }
    group.finish();
}

/// Writes a store of ten million exceptions, as sparse as its chunks of data allow.
fn write_store(path: &Path, chunks: Chunks, layout: Layout) -> u64 {
    let chunk = layout.chunk().sectors();
    let size = (layout.area(EXCEPTIONS.div_ceil(layout.entries())) + 1) * chunk.bytes();
    let file = std::fs::File::create(path).expect("a new file");
    file.set_len(size).expect("a large file");
    let header = Header { valid: true, version: VERSION, chunk_size: chunk };
    file.write_all_at(&header.to_bytes(), 0).expect("a header");
    let (mut new, mut nr) = (0, 0);
    for area in 0.. {
        let mut bytes = Vec::with_capacity(chunk.bytes() as usize);
        while nr < EXCEPTIONS && bytes.len() < layout.entries() as usize * ENTRY {
            new = layout.data_at_or_after(new + 1);
            bytes.extend(Entry { old: chunks.old(nr), new }.to_bytes());
            nr += 1;
        }
        file.write_all_at(&bytes, layout.area_sector(area).0 * 512).expect("an area");
        if nr == EXCEPTIONS {
            return size;
        }
    }
    unreachable!("the areas are enough")
}

/// The table of a snapshot whose store has ten million exceptions, loaded.
fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store_load");
    group.sample_size(10).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_secs(10));
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for a store");
    for chunk in [4096, 65536] {
        let size = ChunkSize::new(Sectors(chunk / 512), &[]).expect("a chunk size");
        for (name, chunks) in Chunks::ALL {
            let cow = dir.path().join("cow");
            write_store(&cow, chunks, Layout::new(size));
            let origin = dir.path().join("origin");
            let bytes = ORIGIN * chunk;
            std::fs::File::create(&origin)
                .and_then(|file| file.set_len(bytes))
                .expect("a sparse origin");
            let (origin, cow) = (origin.display(), cow.display());
            let line = format!("0 {} snapshot {origin} {cow} P {}", bytes / 512, chunk / 512);
            group.bench_function(BenchmarkId::new(name, format!("{}KiB", chunk >> 10)), |bench| {
                bench.iter_batched(
                    Instance::new,
                    // Dropping the instance is not measured: it is returned.
                    |instance| {
                        instance.create("snapshot", &line);
                        instance
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(all, memory, lookups, inserts, load);
criterion_main!(all);
