//! How many crash states a second one core goes through, in memory.
//!
//! `cargo run --release -p dmsim-testkit --example crash_rate [seconds]`

#[path = "../tests/planted/lock.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod lock;
#[path = "../tests/planted/shadow.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod shadow;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sim_core::{Bio, Registry, Sector, Sectors};
use testkit::conformance::{Part, Suite};
use testkit::{Entry, Event, Explorer, Journal, Legal, Plan, SimDisk, World, send};

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let time = Duration::from_secs(seconds);
    let linear = Registry::new().with::<targets::Linear>();
    let plain = rate(time, |seed| plain(&linear, seed));
    println!("linear, each state held against the legal versions: {plain:.0} states/s");
    for (name, suite) in [
        ("linear", Suite::new(linear.clone(), "0 64 linear a 10")),
        (
            "shadow (with metadata)",
            Suite::of::<shadow::Shadow<{ shadow::NONE }>>("0 64 shadow a 8"),
        ),
    ] {
        let restarts = rate(time, |seed| {
            suite
                .crash_states(seed)
                .unwrap_or_else(|error| panic!("{:?} {seed}: {error}", Part::Crash))
        });
        println!("{name}, each state restarted and read back: {restarts:.0} states/s");
    }
}

fn rate(time: Duration, mut states: impl FnMut(u64) -> u64) -> f64 {
    let (started, mut count) = (Instant::now(), 0);
    for seed in 0.. {
        if started.elapsed() >= time {
            break;
        }
        count += states(seed);
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Writes and flushes through a linear device, then makes the states and holds every sector that
/// the device has against the legal versions, where it lies on the disk.
fn plain(registry: &Registry, seed: u64) -> u64 {
    const SIZE: u64 = 16;
    const START: u64 = 10;
    let world = World::new(seed, registry.clone());
    let disks: Vec<Arc<SimDisk>> = vec![world.add_disk(Sectors(64))];
    let device = world.set_up(0, &format!("0 {SIZE} linear a {START}"));
    let journal = Arc::new(Journal::default());
    let begin = disks[0].checkpoint();
    disks[0].record(journal.clone());
    let event = |event| journal.push(Entry::Event { device: 0, event });
    for id in 1..40u64 {
        let (sector, len) = (id * 7 % (SIZE - 2), 1 + id % 3);
        let data: Arc<[u8]> = vec![id as u8; len as usize * 512].into();
        let result = if id % 8 == 0 {
            event(Event::Flush { id });
            world.sim.block_on(send(device.clone(), Bio::flush()))
        } else {
            event(Event::Write { id, sector, len, data: Some(data.clone()) });
            world.sim.block_on(send(device.clone(), Bio::write(Sector(sector), &data)))
        };
        event(Event::End { id, ok: result.is_ok(), fua: false });
    }
    let record = journal.take();
    disks[0].rewind(begin);
    let mut legal = Legal::new(&[0; SIZE as usize * 512]);
    let plan = Plan { listed: 200, random: 100, seed };
    let check = |_, legal: &Legal| {
        disks[0].look(Sector(START), Sectors(SIZE), |content| {
            let mut sectors = (0..).zip(content.chunks_exact(512));
            match sectors.find(|(sector, bytes)| !legal.after_power_cut(*sector, bytes)) {
                None => Ok(()),
                Some((sector, bytes)) => Err(legal.explain(sector, bytes)),
            }
        })
    };
    let states = Explorer::new(&disks, &record).run(plan, &mut legal, check);
    black_box(states.expect("linear loses nothing"))
}
