//! The parity of RAID-5 and RAID-6 over buffers in memory, on one core: ours, and ISA-L's in the
//! same run where it is installed. `parity-ratios` prints the same comparison as ratios, measured
//! turn by turn.

use benches::parities::{Maker, Stripe, Work};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn stripes(criterion: &mut Criterion) {
    for work in [Work::Pq, Work::P, Work::Recover] {
        let makers = Maker::all(work);
        for kib in [4, 64] {
            let name = format!("{work:?}_{kib}KiB").to_lowercase();
            let mut group = criterion.benchmark_group(name);
            for disks in [4, 6, 8, 12, 16] {
                let mut stripe = Stripe::new(disks, kib << 10);
                group.throughput(Throughput::Bytes(stripe.bytes() as u64));
                for maker in &makers {
                    let id = BenchmarkId::new(&maker.name, format!("{disks}disks"));
                    let mut run = maker.ready(work, &mut stripe);
                    group.bench_function(id, |bench| bench.iter(&mut run));
                }
            }
            group.finish();
        }
    }
}

criterion_group!(parity, stripes);
criterion_main!(parity);
