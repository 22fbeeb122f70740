//! The mapping itself, in process: layers, lookups, and loading a large table.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use backing::block_on;
use benches::Instance;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sim_core::control::{Command, Id};
use sim_core::{
    Bio, BlockDevice, FaultKind, FaultPlan, FaultRule, MappedDevice, Sector, Sectors, TargetSpec,
    parse_table,
};

const MIB: u64 = 1 << 20;

/// Reads 4 KiB after 4 KiB, in an order that the hardware does not foresee.
struct Reader {
    buffer: Vec<u8>,
    at: u64,
    blocks: u64,
}

impl Reader {
    fn new(size: Sectors) -> Reader {
        Reader { buffer: vec![0; 4096], at: 1, blocks: size.0 / 8 }
    }

    fn read(&mut self, device: &dyn BlockDevice) {
        self.at = self.at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let sector = Sector((self.at >> 33) % self.blocks * 8);
        let bio = Bio::read(sector, &mut self.buffer);
        let result = device.try_now(bio).unwrap_or_else(|bio| block_on(device.submit(bio)));
        result.expect("the image can be read");
    }
}

fn scratch() -> tempfile::TempDir {
    // Memory, so that nothing but our own work is measured.
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }
        .expect("a temporary folder")
}

/// 4 KiB reads through linear layers, against the bare image.
fn layers(criterion: &mut Criterion) {
    let (dir, instance) = (scratch(), Instance::new());
    let image = instance.image(&dir.path().join("a.img"), "/dev/sda", 64 * MIB);
    let size = image.size();
    let mut group = criterion.benchmark_group("read_4k");
    let mut reader = Reader::new(size);
    group.bench_function("bare", |bench| bench.iter(|| reader.read(&*image)));
    let mut below = "/dev/sda".to_owned();
    for layer in 1..=10 {
        let name = format!("layer{layer}");
        let device = instance.create(&name, &format!("0 {size} linear {below} 0"));
        below = name;
        if ![1, 4, 10].contains(&layer) {
            continue;
        }
        let id = BenchmarkId::new("flattened", layer);
        group.bench_function(id, |bench| bench.iter(|| reader.read(&*device)));
        fold(&instance, layer, false);
        let id = BenchmarkId::new("layer_by_layer", layer);
        group.bench_function(id, |bench| bench.iter(|| reader.read(&*device)));
        fold(&instance, layer, true);
    }
    group.finish();
}

/// What it costs that a device is looked at: 4 KiB reads through one linear layer while there are
/// statistics, and while a fault is armed that never strikes.
fn hooks(criterion: &mut Criterion) {
    let (dir, instance) = (scratch(), Instance::new());
    let size = instance.image(&dir.path().join("a.img"), "/dev/sda", 64 * MIB).size();
    let mut group = criterion.benchmark_group("hooks");
    let mut reader = Reader::new(size);
    let device = |name: &str| instance.create(name, &format!("0 {size} linear /dev/sda 0"));
    let off = device("off");
    group.bench_function("none", |bench| bench.iter(|| reader.read(&*off)));
    for (name, message) in [
        ("statistics", "@stats_create - /1"),
        ("precise-statistics", "@stats_create - /1 1 precise_timestamps"),
        ("a-histogram", "@stats_create - /1 1 histogram:1,10,100"),
        ("a-hundred-areas", "@stats_create - /100"),
    ] {
        let device = device(name);
        instance.message(name, message);
        group.bench_function(name, |bench| bench.iter(|| reader.read(&*device)));
    }
    for (name, start) in [("a-fault-armed", None), ("a-fault-elsewhere", Some(Sector(size.0 - 1)))]
    {
        let device = device(name);
        let rule = FaultRule {
            start,
            nth: start.is_none().then_some(u64::MAX),
            ..FaultRule::new(FaultKind::Error)
        };
        let plan = Some(FaultPlan { seed: Some(0), rules: vec![rule] });
        let id = Id::Name(name.to_owned());
        let command = Command::SetFaults { id, below: None, plan, replaces: false };
        block_on(instance.control.execute(command)).expect("a plan");
        group.bench_function(name, |bench| bench.iter(|| reader.read(&*device)));
    }
    group.finish();
}

fn fold(instance: &Instance, layers: usize, folding: bool) {
    for shown in instance.control.shown().iter().take(layers) {
        shown.device.set_folding(folding);
    }
    // From the bottom up: a map is folded from those below it.
    let mut devices = instance.control.shown();
    devices.sort_by_key(|shown| shown.device.minor());
    devices.iter().for_each(|shown| shown.device.set_folding(folding));
}

/// `count` lines of 8 sectors that no two neighbours of can be folded into one.
fn lines(count: u64) -> Vec<TargetSpec> {
    let line = |index: u64| TargetSpec {
        start: Sector(index * 8),
        len: Sectors(8),
        target_type: "linear".to_owned(),
        params: format!("/dev/sda {}", (count - 1 - index) * 8).into(),
    };
    (0..count).map(line).collect()
}

/// Where a sector lies, in tables of more and more lines.
fn lookup(criterion: &mut Criterion) {
    let (dir, instance) = (scratch(), Instance::new());
    instance.image(&dir.path().join("a.img"), "/dev/sda", 4096 * MIB);
    let mut group = criterion.benchmark_group("lookup");
    for count in [1, 1_000, 1_000_000] {
        let device: std::sync::Arc<MappedDevice> =
            instance.create_from(&format!("lines{count}"), lines(count));
        let mut at = 1u64;
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| {
                at = at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                black_box(device.flat_place(Sector((at >> 33) % (count * 8))))
            });
        });
    }
    group.finish();
}

/// A table of a million lines: its text read, loaded, and swapped in.
fn load(criterion: &mut Criterion) {
    let (dir, instance) = (scratch(), Instance::new());
    instance.image(&dir.path().join("a.img"), "/dev/sda", 4096 * MIB);
    let text: String = lines(1_000_000).iter().map(|line| format!("{line}\n")).collect();
    let mut group = criterion.benchmark_group("million_lines");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    let mut count = 0;
    group.bench_function("parse_load_resume", |bench| {
        bench.iter(|| {
            let parsed = parse_table(&text).expect("a table");
            let lines = parsed.into_iter().map(|(_, spec)| spec).collect();
            count += 1;
            instance.create_from(&format!("big{count}"), lines);
            instance.remove(&format!("big{count}"));
        });
    });
    group.finish();
}

criterion_group!(all, layers, hooks, lookup, load);
criterion_main!(all);
