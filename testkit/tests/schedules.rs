//! Schedules: every one of a small case, those that find a race soonest, and their text.

use std::sync::Arc;

use sim_core::{Bio, BlockDevice, Sector, Sectors};
use testkit::{Run, Schedule, Sim, SimDisk, exhaustive, shrink};

/// Two tasks that each add one to a sector by reading and writing it: wrong if they overlap.
fn racing(schedule: &Schedule) -> Run {
    let sim = Sim::with(schedule);
    let disk = SimDisk::new(sim.handle(), 0, Sectors(1));
    for name in ["first", "second"] {
        let disk = disk.clone();
        sim.start(name, add_one(disk));
    }
    sim.run_until_idle().expect("an end");
    let count = disk.sector(Sector(0))[0];
    let result = if count == 2 { Ok(()) } else { Err(format!("{count} of 2")) };
    (result, sim.choices())
}

async fn add_one(disk: Arc<SimDisk>) {
    let mut sector = [0; 512];
    disk.submit(Bio::read(Sector(0), &mut sector)).await.expect("healthy");
    sector[0] += 1;
    disk.submit(Bio::write(Sector(0), &sector)).await.expect("healthy");
}

#[test]
fn all_schedules_of_a_small_case_are_tried() {
    let alone = |schedule: &Schedule| {
        let sim = Sim::with(schedule);
        let disk = SimDisk::new(sim.handle(), 0, Sectors(1));
        for _ in 0..2 {
            let disk = disk.clone();
            sim.start("flush", async move { disk.submit(Bio::flush()).await });
        }
        sim.run_until_idle().expect("an end");
        (Ok(()), sim.choices())
    };
    // Each flush takes three steps: its task starts, its I/O ends, its task goes on. So many ways
    // there are to put twice three in a row: 6 over 3.
    assert_eq!(exhaustive(0, 1000, alone), Ok(Some(20)));
    assert_eq!(exhaustive(0, 19, alone), Ok(None));
}

#[test]
fn a_race_is_found_and_its_schedule_repeats_it() {
    let (schedule, why) = exhaustive(0, 1000, racing).expect_err("the race");
    assert_eq!(why, "1 of 2");
    let text = schedule.to_string();
    assert_eq!(text.parse(), Ok(schedule.clone()), "{text}");
    assert_eq!(racing(&schedule).0, Err(why));
}

#[test]
fn random_and_priority_schedules_find_the_race_and_shrink() {
    for kind in [Schedule::Random, Schedule::Priority] {
        let failing = (0..50).map(kind).find(|schedule| racing(schedule).0.is_err());
        let failing = failing.expect("a race among fifty");
        let (error, made) = racing(&failing);
        let (small, _) = shrink(failing.seed(), &made, error.unwrap_err(), racing);
        let Schedule::Exact { choices, .. } = &small else { panic!("exact, not {small}") };
        assert!(choices.len() <= made.len() && racing(&small).0.is_err(), "{failing}: {small}");
        assert!(choices.iter().filter(|way| **way != 0).count() <= 3, "{small}");
    }
}

#[test]
fn the_text_of_a_schedule_is_read_back() {
    for text in ["random 17", "priority 3", "exact 5 0.2.1", "exact 5 -"] {
        assert_eq!(text.parse::<Schedule>().map(|schedule| schedule.to_string()), Ok(text.into()));
    }
    assert!("exact 5 0.x".parse::<Schedule>().is_err());
}
