//! `delay` and `flakey`, by the clock of the simulation.

use std::sync::Arc;
use std::time::Duration;

use sim_core::{Bio, BlkError, Flags, Held, Sector};
use testkit::{Started, send};

use crate::rig::Rig;

const MS: Duration = Duration::from_millis(1);
const HOUR: &str = "3600000";

/// Tells whether something took as long as that, and the steps of the simulation.
fn took(time: Duration, asked: Duration) -> bool {
    (asked..asked + MS).contains(&time)
}

#[test]
fn each_kind_of_bio_is_held_for_its_own_time() {
    let rig = Rig::new(1, "0 64 delay a 0 20 a 0 300 a 0 4000");
    let (read, time) = rig.takes(|| rig.read(0));
    assert!(read.is_ok() && took(time, 20 * MS), "a read took {time:?}");
    for (bio, asked) in [
        (Bio::write(Sector(0), &[1; 512]), 300 * MS),
        (Bio::discard(Sector(0), sim_core::Sectors(8)), 300 * MS),
        (Bio::flush(), 4000 * MS),
    ] {
        let what = format!("{bio:?}");
        let (result, time) = rig.takes(|| rig.send(bio));
        assert!(result.is_ok() && took(time, asked), "{what} took {time:?}");
    }
}

/// Sends a write, and does not wait for its end.
fn start(rig: &Rig, sector: u64) -> Started<sim_core::BlkResult> {
    let device = rig.world.device(0);
    rig.world.sim.start(format!("write {sector}"), async move {
        let data: Arc<[u8]> = [sector as u8; 512].into();
        send(device, Bio::write(Sector(sector), &data)).await
    })
}

#[test]
fn a_suspend_lets_all_go_that_are_held_and_a_resume_holds_again() {
    for (seed, held) in [(0, Held::Flush), (1, Held::NoFlush), (2, Held::Flush)] {
        let rig = Rig::new(seed, &format!("0 64 delay a 0 0 a 0 {HOUR}"));
        let writes: Vec<_> = (1..5).map(|sector| start(&rig, sector)).collect();
        // The reads find their way past them, and give the writes time to be held.
        (0..20).for_each(|_| assert!(rig.read(0).is_ok()));
        assert_eq!(rig.status(), "0 4 0");
        let (suspended, time) = rig.takes(|| rig.world.suspend(0, held));
        assert!(suspended.is_ok() && time < 1000 * MS, "the suspend took {time:?}");
        assert!(writes.iter().all(|write| write.take() == Some(Ok(()))));
        assert_eq!((rig.status().as_str(), rig.disks[0].counts().writes), ("0 0 0", 4));
        rig.world.resume(0).expect("resumed");
        let (written, time) = rig.takes(|| rig.write(9, 9));
        assert!(written.is_ok() && took(time, Duration::from_secs(3600)), "it took {time:?}");
    }
}

#[test]
fn flakey_is_up_and_down_in_turn_from_when_it_was_made() {
    let rig = Rig::new(3, "0 64 flakey a 0 2 1");
    let second = Duration::from_secs(1);
    rig.sleep(second / 2);
    for (nr, is_up) in [true, true, false, true, true, false, true].into_iter().enumerate() {
        let expected = if is_up { Ok(()) } else { Err(BlkError::Io) };
        assert_eq!(rig.write(0, 1), expected, "in second {nr}");
        assert_eq!(rig.read(0).map(drop), expected, "in second {nr}");
        rig.sleep(second);
    }
}

#[test]
fn a_byte_of_reads_is_another_and_the_disk_has_it_right() {
    let rig = Rig::new(4, "0 64 flakey a 0 0 9 5 corrupt_bio_byte 3 r 7 0");
    rig.write(0, 1).expect("written");
    let read = rig.read(0).expect("read");
    assert!(read[2] == 7 && read.iter().filter(|byte| **byte == 1).count() == 511);
    assert_eq!(rig.disks[0].sector(Sector(0)), [1; 512]);
}

#[test]
fn a_byte_of_the_writes_with_the_flag_is_another() {
    // Of writes with FUA.
    let rig = Rig::new(5, "0 64 flakey a 0 0 9 5 corrupt_bio_byte 512 w 7 131073");
    rig.write(0, 1).expect("written");
    assert_eq!(rig.disks[0].sector(Sector(0)), [1; 512]);
    let flags = Flags { fua: true, ..Flags::default() };
    rig.send(Bio::write(Sector(0), &[1; 512]).with_flags(flags)).expect("written");
    let on_disk = rig.disks[0].sector(Sector(0));
    assert!(on_disk[511] == 7 && on_disk[..511] == [1; 511]);
}

/// Which of 200 sectors are not what was written, with a probability for reads and one for writes.
fn spoilt(seed: u64, features: &str) -> Vec<(u64, Vec<u8>)> {
    let rig = Rig::new(seed, &format!("0 1024 flakey a 0 0 9 {features}"));
    let spoilt = (0..200).filter_map(|sector| {
        rig.write(sector, 5).expect("written");
        let read = rig.read(sector).expect("read");
        let others = read.iter().filter(|byte| **byte != 5).count();
        assert!(others <= 2, "one byte of a bio");
        (others > 0).then(|| (sector, read.to_vec()))
    });
    spoilt.collect()
}

#[test]
fn random_bytes_are_others_as_often_as_asked_and_repeat_with_the_seed() {
    for features in ["2 random_read_corrupt 250000000", "2 random_write_corrupt 250000000"] {
        let found = spoilt(7, features);
        assert!((25..80).contains(&found.len()), "{features}: {} of 200", found.len());
        assert_eq!(found, spoilt(7, features), "the seed repeats it");
        assert_ne!(found, spoilt(8, features));
    }
    // One value of 256 is that which was there.
    assert!(spoilt(9, "2 random_read_corrupt 1000000000").len() > 190);
    assert!(spoilt(9, "2 random_read_corrupt 1").is_empty());
}
