//! AES-256-XTS over buffers in memory, on one core: ours, and others' in the same run.
//!
//! `--features openssl` adds libcrypto, by which the goal is set. `crypt-ratios` prints the same
//! comparison as ratios, measured turn by turn.

use benches::ciphers::{Cipher, Way};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn units(criterion: &mut Criterion) {
    for way in [Way::Encrypt, Way::Decrypt] {
        for unit in [512, 4096] {
            let name = format!("{way:?}_{unit}").to_lowercase();
            let mut group = criterion.benchmark_group(name);
            for kib in [4, 64, 1024] {
                let (from, mut to) = (vec![0x5a; kib << 10], vec![0; kib << 10]);
                group.throughput(Throughput::Bytes((kib << 10) as u64));
                for mut cipher in Cipher::all(way) {
                    let id = BenchmarkId::new(&cipher.name, format!("{kib}KiB"));
                    group.bench_function(id, |bench| {
                        bench.iter(|| (cipher.work)(&from, &mut to, unit));
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group!(crypt, units);
criterion_main!(crypt);
