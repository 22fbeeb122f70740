//! Bios of 4 KiB in process: to the disk, through `linear`, and through the target. `linear, as a task`
//! tells what a bio costs that does not end on the spot, the executor's part of it among that.

use std::hint::black_box;

use bench::{Devices, bio};
use criterion::{Criterion, criterion_group, criterion_main};

fn bios(criterion: &mut Criterion) {
    let all = Devices::new();
    for (operation, is_read) in [("read_4k", true), ("write_4k", false)] {
        let mut group = criterion.benchmark_group(operation);
        for (name, device) in &all.devices {
            let mut buffer = [0; 4096];
            group.bench_function(*name, |bench| {
                bench.iter(|| all.send(&**device, black_box(bio(is_read, &mut buffer))));
            });
        }
        let (_, linear) = &all.devices[1];
        let mut buffer = [0; 4096];
        group.bench_function("linear, as a task", |bench| {
            bench.iter(|| all.send_as_task(&**linear, black_box(bio(is_read, &mut buffer))));
        });
        group.finish();
    }
}

criterion_group!(all, bios);
criterion_main!(all);
