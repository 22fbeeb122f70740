//! What a recorder is shown: the last note of a device is of its last state, however an operation
//! ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sim_core::control::{Command, Noted, Recorder, WhenOpen};
use sim_core::{BoxFuture, Held, Sector, Sectors, parse_table};
use testkit::{Rng, World, id};

/// What was noted last of each device.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<u32, String>>);

impl Recorder for Notes {
    fn note(&self, minor: u32, device: Option<Noted<'_>>) {
        let mut notes = self.0.lock().expect("no test panics with the lock");
        match device {
            None => drop(notes.remove(&minor)),
            Some(device) => {
                let text = |table: Option<sim_core::control::NotedTable<'_>>| {
                    table.and_then(|table| table.record()).map(|table| table.targets)
                };
                let (live, inactive) = (text(device.live), text(device.inactive));
                let line = format!(
                    "{} {:?} {live:?} {inactive:?} {} {:?} {:?}",
                    device.name, device.uuid, device.suspended, device.read_ahead, device.node
                );
                notes.insert(minor, line);
            }
        }
    }
    fn commit(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What would be noted now.
fn now(world: &World) -> BTreeMap<u32, String> {
    let line = |record: sim_core::control::Record| {
        let text = |table: Option<sim_core::control::RecordedTable>| table.map(|t| t.targets);
        let (live, inactive) = (text(record.live), text(record.inactive));
        let line = format!(
            "{} {:?} {live:?} {inactive:?} {} {:?} {:?}",
            record.name, record.uuid, record.suspended, record.read_ahead, record.node
        );
        (record.minor, line)
    };
    world.control.records().into_iter().map(line).collect()
}

fn command(rng: &mut Rng) -> Command {
    let minor = rng.below(4) as u32;
    let id = id(minor);
    match rng.below(12) {
        0 => Command::DevCreate { name: format!("d{minor}"), uuid: None, minor: Some(minor) },
        1 => Command::DevRemove { id, open: [WhenOpen::Refuse, WhenOpen::Defer][rng.below(2)] },
        2..=4 => {
            const TABLES: [&str; 5] = [
                "0 8 linear 7:0 0",
                "0 8 linear 253:0 0",
                "0 8 linear 253:1 0",
                "0 8 mirror core 1 8 2 7:0 0 7:0 64",
                "0 8 linear 7:0 9999",
            ];
            let lines = parse_table(TABLES[rng.below(TABLES.len())]).expect("a table").into_iter();
            let targets = lines.map(|(_, line)| line).collect();
            let access = sim_core::Access::ReadWrite;
            Command::TableLoad { id, access, targets, base: "/".into() }
        }
        5..=7 => Command::DevResume { id, held: Held::Flush },
        8 => Command::DevSuspend { id, held: Held::NoFlush },
        9 => Command::TableClear { id },
        10 => Command::SetReadAhead { id, sectors: Sectors(rng.below(9) as u64 * 8) },
        _ => Command::TargetMsg {
            id,
            sector: Sector(0),
            message: "resync_rate 100".into(),
            slot: sim_core::control::Slot::Live,
        },
    }
}

#[test]
fn the_notes_are_what_is_there_after_every_operation_whether_it_ends_or_is_given_up() {
    for seed in 0..400 {
        let world = World::new(seed, targets::registry());
        world.add_disk(Sectors(1024));
        let notes = Arc::new(Notes::default());
        world.control.record_with(notes.clone());
        let mut rng = Rng::new(seed);
        for step in 0..40 {
            let command = command(&mut rng);
            let shown = format!("seed {seed}, step {step}: {command:?}");
            if rng.below(3) == 0 {
                // Given up after a few polls: whatever waited is undone.
                let control = world.control.clone();
                let mut polls = rng.below(4);
                let mut future = Box::pin(async move { control.execute(command).await.is_ok() });
                world.sim.block_on(std::future::poll_fn(|cx| {
                    let polled = future.as_mut().poll(cx).is_ready();
                    polls = polls.saturating_sub(1);
                    match polled || polls == 0 {
                        true => std::task::Poll::Ready(()),
                        false => {
                            cx.waker().wake_by_ref();
                            std::task::Poll::Pending
                        }
                    }
                }));
            } else if let Err(stuck) = world.sim.try_block_on(world.control.execute(command)) {
                panic!("{shown}: {stuck}");
            }
            let found = notes.0.lock().expect("no test panics with the lock").clone();
            assert_eq!(found, now(&world), "{shown}");
        }
    }
}
