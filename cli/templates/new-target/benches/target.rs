//! Reads of 4 KiB in process: of the disk, through `linear`, and through the target.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sim_core::{Bio, BlockDevice, Sector, Sectors};
use testkit::{Speed, World};

use crate_name::TargetName;

/// 16 MiB.
const SIZE: u64 = 32_768;

fn reads(criterion: &mut Criterion) {
    let world = World::new(0, targets::registry().with::<TargetName>());
    let disk = world.add_disk(Sectors(SIZE));
    disk.set_speed(Speed::AtOnce);
    let linear = world.set_up(0, &format!("0 {SIZE} linear 7:0 0"));
    let target = world.set_up(1, &format!("0 {SIZE} target-word 7:0 0"));
    let mut group = criterion.benchmark_group("read_4k");
    group.bench_function("disk", |bench| bench.iter(|| read(&*disk)));
    group.bench_function("linear", |bench| bench.iter(|| read(&*linear)));
    group.bench_function("target-word", |bench| bench.iter(|| read(&*target)));
    group.finish();
}

fn read(device: &dyn BlockDevice) {
    let mut buffer = [0; 4096];
    let bio = Bio::read(black_box(Sector(SIZE / 2)), &mut buffer);
    match device.try_now(bio) {
        Ok(result) => result.expect("a disk without faults"),
        Err(_) => panic!("a target that awaits something is not ready at once: use `submit`"),
    }
    black_box(buffer);
}

criterion_group!(all, reads);
criterion_main!(all);
