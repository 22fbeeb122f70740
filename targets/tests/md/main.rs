//! Arrays of md: what their superblocks say while they are written, lose members, and after power cuts.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test --release -p dmsim-targets --test md` searches for ten minutes.

mod bios;
mod rig;
#[path = "../data/steps.rs"]
mod steps;

use sim_core::{Sector, Sectors};
use targets::md::assembly::{LeftOut, Mode, Resync, Taken, decide};
use testkit::{Damage, Entry, Explorer, Fault, FaultSpan, Plan, Rng, each_seed};

use crate::rig::{ARRAYS, DIRTY_SIZE, Rig, SETS, Shape};
use crate::steps::steps;

const TEST: &str = "-p dmsim-targets --test md";
const PLAN: Plan = Plan { listed: 4, random: 1, seed: 0 };

fn shape(seed: u64) -> Shape {
    Shape::of(ARRAYS[seed as usize % ARRAYS.len()])
}

/// As [`shape`], one of md's or of a BIOS's.
fn any_shape(seed: u64) -> Shape {
    match (seed as usize).checked_sub(ARRAYS.len()) {
        None => shape(seed),
        Some(nr) => Shape::of(SETS[nr % SETS.len()]),
    }
}

/// What may be torn by a power cut, one disk at a time: then it says nothing that is believed.
fn may_tear(name: &str, why: &str) -> bool {
    (name.ends_with("0.90") || name.starts_with("imsm")) && why.contains("a wrong checksum")
}

#[test]
fn after_a_power_cut_superblocks_that_say_clean_are_right_and_a_resync_mends_the_others() {
    let mut states = 0;
    each_seed(TEST, (ARRAYS.len() + SETS.len()) as u64, |seed| {
        let shape = any_shape(seed);
        let rig = Rig::new(&shape, seed);
        let mut legal = rig.legal();
        let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
        rig.record();
        rig.run(&steps(&mut Rng::new(seed), shape.len(), 8, 20), 1 + seed as usize % 2)?;
        rig.is_whole_and_clean()?;
        let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
        drop(rig);
        disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
        let plan = Plan { seed, ..PLAN };
        let cut = Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
            states += 1;
            let said = match shape.said(&disks, Mode::Careful) {
                Err(why) if shape.name.starts_with("imsm") && may_tear(&shape.name, &why) => {
                    return shape.has_torn_one(&disks);
                }
                said => said?,
            };
            if said.places.iter().any(|taken| !matches!(taken, Taken::InSync(_))) {
                return Err(format!("a member is not in sync: {:?}", said.places));
            }
            if said.resync == Resync::Nothing {
                shape.is_the_same(&disks).map_err(|why| format!("called clean: {why}"))?;
            }
            let rig = Rig::over(&shape, crash.at as u64, &disks);
            legal.check_power_cut(&rig.content()?)?;
            rig.idle()?;
            rig.suspend()?;
            rig.is_whole_and_clean()
        });
        cut.map(drop).map_err(|why| format!("{}: {why}", shape.name))
    });
    assert!(states > 0, "no power cut was tried");
    println!("{states} states");
}

/// Fails all that a disk is asked for.
fn break_down(rig: &Rig, member: usize) {
    let (lasts, damage) = (FaultSpan::ForGood, Damage::Error);
    rig.disks[member].inject(Fault::At { after: 0, lasts, damage });
}

#[test]
fn a_member_that_is_lost_is_known_to_be_and_comes_back_with_what_it_lacked() {
    let all = ARRAYS.len() + SETS.len();
    each_seed(TEST, 2 * all as u64, |seed| {
        let shape = any_shape(seed % all as u64);
        let why = |why: String| format!("{}: {why}", shape.name);
        let lost = seed as usize / all % shape.members;
        let rig = Rig::new(&shape, seed);
        let mut rng = Rng::new(seed);
        rig.run(&steps(&mut rng, shape.len(), 4, 20), 1).map_err(why)?;
        break_down(&rig, lost);
        rig.run(&steps(&mut rng, shape.len(), 8, 20), 1).map_err(why)?;
        // So that the loss is noticed whatever the steps are.
        rig.write_all().map_err(why)?;
        let content = rig.content().map_err(why)?;
        rig.suspend().map_err(why)?;
        rig.disks[lost].heal();
        let disks = rig.disks.clone();
        drop(rig);
        let said = shape.said(&disks, Mode::Careful).map_err(why)?;
        let is_back = said.places.iter().any(|taken| taken.member() == Some(lost));
        if is_back != shape.has_bitmap || said.resync != Resync::Nothing {
            return Err(why(format!("{:?}, {:?}", said.places, said.resync)));
        }
        let rig = Rig::over(&shape, seed, &disks);
        let now = rig.content().map_err(why)?;
        if now != content {
            return Err(why("it has brought back what was written over".to_owned()));
        }
        rig.idle().map_err(why)?;
        let whole = rig.suspend().and_then(|()| rig.is_whole_and_clean());
        match (shape.has_bitmap, whole) {
            (true, whole) => whole.map_err(why),
            (false, Err(_)) => Ok(()),
            (false, Ok(())) => Err(why("a stale member was taken for good".to_owned())),
        }
    });
}

#[test]
fn after_a_power_cut_a_member_that_was_lost_is_not_taken_for_good() {
    let mut states = 0;
    each_seed(TEST, (ARRAYS.len() + SETS.len()) as u64, |seed| {
        let shape = any_shape(seed);
        let (name, lost) = (&shape.name, seed as usize % shape.members);
        let rig = Rig::new(&shape, seed);
        let mut rng = Rng::new(seed);
        rig.run(&steps(&mut rng, shape.len(), 2, 20), 1)?;
        let mut legal = rig.legal();
        break_down(&rig, lost);
        let begin: Vec<usize> = rig.disks.iter().map(|disk| disk.checkpoint()).collect();
        drop(rig.sent.journal().take());
        rig.record();
        rig.write_all()?;
        let (disks, record) = (rig.disks.clone(), rig.sent.journal().take());
        drop(rig);
        disks[lost].heal();
        disks.iter().zip(begin).for_each(|(disk, at)| disk.rewind(at));
        let plan = Plan { seed, ..PLAN };
        let cut = Explorer::new(&disks, &record).run(plan, &mut legal, |crash, legal| {
            // Where others went on without it, they say so: mdadm goes by nothing else.
            if let Some(left_out) = shape.left_out(&disks)
                && left_out.iter().any(|(_, why)| matches!(why, LeftOut::Stale { .. }))
            {
                return Err("a disk was left behind that was not called failed".to_owned());
            }
            match Rig::try_over(&shape, crash.at as u64, &disks, &disks) {
                Ok(rig) => {
                    states += 1;
                    legal.check_power_cut(&rig.content()?)?;
                    rig.idle()?;
                    legal.check_power_cut(&rig.content()?)
                }
                // Parity may be wrong, and one is lost: nobody knows what it had.
                Err(why) if why.contains("while not clean") => Ok(()),
                // It is of several sectors, of which a power cut may leave a part.
                Err(why) if may_tear(name, &why) => Ok(()),
                Err(why) => Err(why),
            }
        });
        cut.map(drop).map_err(|why| format!("{}: {why}", shape.name))
    });
    assert!(states > 0, "no power cut was tried");
    println!("{states} states");
}

/// A power cut may leave a part of it.
#[test]
fn the_table_of_an_intel_set_is_written_on_one_disk_after_the_other() {
    for (seed, name) in [(0, "imsm5"), (1, "imsm10"), (2, "imsm5"), (3, "imsm1")] {
        let shape = Shape::of(name);
        let rig = Rig::new(&shape, seed);
        rig.record();
        rig.run(&steps(&mut Rng::new(seed), shape.len(), 8, 20), 2).expect("steps");
        let data_end = shape.layout.recovery_len().0;
        // Who was written, where in the record, and is not durable yet.
        let mut written: Vec<(u32, usize)> = Vec::new();
        let mut tables = 0;
        for (at, entry) in rig.sent.journal().take().into_iter().enumerate() {
            match entry {
                Entry::Write(write) if write.sector >= data_end => {
                    tables += 1;
                    let other = written.iter().any(|(disk, _)| *disk != write.disk);
                    assert!(!other, "{name}: two tables are written at once");
                    written.push((write.disk, at));
                }
                Entry::Flush { disk, covers } => {
                    written.retain(|(other, at)| *other != disk || *at >= covers);
                }
                Entry::Write(_) | Entry::Event { .. } => {}
            }
        }
        assert!(tables > shape.members, "{name}: no table was written");
    }
}

#[test]
fn a_resync_that_is_cut_off_is_known_not_to_be_over() {
    let mut cut_off = 0;
    for name in ["dirty-5-1.2", "dirtyb-5-1.2", "dirty-1-0.90", "dirtyb-1-0.90"] {
        for seed in 0..6 {
            let shape = Shape::of(name);
            let rig = Rig::new(&shape, seed);
            let disks = rig.disks.clone();
            for sector in DIRTY_SIZE - 8..DIRTY_SIZE {
                disks[1].fill(shape.data_offset + Sectors(sector), &[0xee; 512]);
            }
            rig.suspend().expect("a suspend");
            drop(rig);
            let said = decide(&shape.candidates(&disks), Mode::Careful).expect("an array");
            let is_the_same = shape.is_the_same(&disks);
            match said.resync {
                Resync::Nothing => is_the_same.unwrap_or_else(|why| panic!("{name}: {why}")),
                Resync::ByBitmap | Resync::From(_) => cut_off += 1,
            }
            let rig = Rig::over(&shape, 6, &disks);
            rig.idle().expect("a resync ends");
            rig.suspend().expect("a suspend");
            rig.is_whole_and_clean().unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
    assert!(cut_off > 0, "no resync was cut off");
}

#[test]
fn a_spare_is_filled_and_has_the_place_then() {
    for version in ["0.90", "1.2"] {
        let shape = Shape::of(&format!("spare-{version}"));
        let rig = Rig::new(&shape, 1);
        let disks = rig.disks.clone();
        let without: Vec<_> = [0, 2, 3].map(|nr| disks[nr].clone()).to_vec();
        rig.suspend().expect("a suspend");
        drop(rig);
        let rig = Rig::try_over(&shape, 2, &disks, &without).expect("an array");
        let content = rig.content().expect("content");
        rig.idle().expect("a recovery ends");
        assert_eq!(rig.content(), Ok(content));
        rig.suspend().expect("a suspend");
        drop(rig);
        let said = decide(&shape.candidates(&without), Mode::Careful).expect("an array");
        assert_eq!(
            said.places,
            [Taken::InSync(0), Taken::InSync(2), Taken::InSync(1)],
            "{version}"
        );
        // Who had the place before is no member any more, and nobody takes it for one.
        let refused = decide(&shape.candidates(&disks), Mode::Careful).map(|said| said.left_out);
        let left_out = refused.expect("an array");
        assert!(left_out.iter().any(|(nr, _)| *nr == 1), "{version}: {left_out:?}");
    }
}

#[test]
fn data_lies_where_the_superblock_says() {
    for name in ARRAYS {
        let shape = Shape::of(name);
        let rig = Rig::new(&shape, 3);
        rig.write_all().expect("writes");
        let content = rig.content().expect("content");
        for sector in 0..shape.len() {
            let place = shape.layout.places(Sector(sector))[0];
            let at = shape.data_offset + Sectors(place.sector.0);
            let found = rig.disks[place.leg].sector(at);
            assert!(found == content[sector as usize * 512..][..512], "{name}: sector {sector}");
        }
    }
}

#[test]
fn a_table_that_is_read_only_changes_nothing() {
    let shape = Shape::of("dirty-5-1.2");
    let rig = Rig::new(&shape, 1);
    rig.suspend().expect("a suspend");
    let disks = rig.disks.clone();
    drop(rig);
    let before: Vec<Vec<u8>> = disks.iter().map(|disk| disk.content()).collect();
    let rig = Rig::read_only(&shape, &disks);
    rig.content().expect("content");
    rig.write_all().expect_err("it is read-only");
    rig.idle().expect("an end");
    rig.suspend().expect("a suspend");
    assert!(disks.iter().map(|disk| disk.content()).eq(before), "something was written");
}

#[test]
fn lines_that_do_not_fit_the_array_are_refused() {
    let shape = Shape::of("raid5-1.2");
    let rig = Rig::new(&shape, 1);
    rig.suspend().expect("a suspend");
    let disks = rig.disks.clone();
    drop(rig);
    for (table, why) in [
        ("0 8 md 0 4 a b c d", "expected a length of"),
        ("0 72 md 0 2 a b", "not enough to start it"),
        ("0 72 md 0 2 a a", "has place 0, as another has"),
    ] {
        let told = Rig::refused(&disks, table);
        assert!(told.contains(why), "{told}");
    }
}
