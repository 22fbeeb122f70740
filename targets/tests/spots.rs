//! Where targets say that their sectors lie is where they write them, and read them from; and the other way
//! round.

#![allow(clippy::unwrap_used, reason = "a test may")]

use sim_core::control::{Answer, Command};
use sim_core::{Bio, DevNumber, Located, Sector, Sectors, Shown};
use testkit::{World, id, send};

const DISK: Sectors = Sectors(2048);

fn world(disks: usize, table: &str) -> World {
    let world = World::new(0, targets::registry());
    (0..disks).for_each(|_| drop(world.add_disk(DISK)));
    world.set_up(0, table);
    world
}

fn locate(world: &World, sector: u64) -> Located {
    match world.execute(Command::Locate { id: id(0), sector: Sector(sector) }) {
        Ok(Answer::Located(located)) => located,
        other => panic!("sector {sector}: {other:?}"),
    }
}

fn shown(world: &World, below: DevNumber, sector: Sector) -> Vec<Shown> {
    match world.execute(Command::Shows { id: id(0), below, sector }) {
        Ok(Answer::Shows(shows)) => {
            assert!(shows.notes.is_empty(), "{shows:?}");
            shows.shown
        }
        other => panic!("{other:?}"),
    }
}

fn write(world: &World, sector: u64, len: u64, byte: u8) {
    let data = vec![byte; (len * 512) as usize];
    world.sim.block_on(send(world.device(0), Bio::write(Sector(sector), &data))).unwrap();
}

/// Writes each sector with a byte of its own, and finds it in each place that is named, parity left out;
/// each place shows the sector, and so does each parity.
fn check(disks: usize, table: &str, roles: &[&str]) {
    let world = world(disks, table);
    let size = sim_core::BlockDevice::size(&*world.device(0)).0;
    let mut seen: Vec<String> = Vec::new();
    let mut run_end = 0;
    for sector in 0..size {
        write(&world, sector, 1, (sector % 251 + 1) as u8);
    }
    world.sim.run_until_idle().unwrap();
    let mut before: Option<Located> = None;
    for sector in 0..size {
        let located = locate(&world, sector);
        assert!(!located.spots.is_empty(), "{table}: sector {sector}: {located:?}");
        for spot in &located.spots {
            let content = world.disk(spot.below.minor).sector(spot.sector);
            if !spot.role.contains("parity") {
                assert_eq!(
                    content,
                    vec![(sector % 251 + 1) as u8; 512],
                    "{table}: {sector}: {spot:?}"
                );
            }
            let shown = shown(&world, spot.below, spot.sector);
            let named = shown.iter().filter(|shown| shown.sector == Sector(sector));
            assert_eq!(
                named.map(|shown| &shown.role).collect::<Vec<_>>(),
                [&spot.role],
                "{table}: {spot:?}"
            );
            seen.push(spot.role.clone());
        }
        // Within a run all go on side by side.
        if let Some(before) = before.filter(|_| sector < run_end) {
            let on = |located: &Located, by: u64| {
                let spots = located.spots.iter();
                spots.map(|spot| (spot.below, spot.sector.0 + by)).collect::<Vec<_>>()
            };
            assert_eq!(on(&located, 0), on(&before, 1), "{table}: sector {sector}");
        }
        run_end = sector + located.run.0;
        before = Some(located);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, roles, "{table}");
}

#[test]
fn sectors_are_where_they_are_said_to_be() {
    check(1, "0 64 linear a 10", &["data"]);
    check(1, "0 8 linear a 100\n8 8 linear a 50", &["data"]);
    check(3, "0 60 striped 3 5 a 0 b 7 c 1", &["stripe 0", "stripe 1", "stripe 2"]);
    check(1, "0 24 unstriped 3 8 1 a 8", &["data"]);
    check(2, "0 64 switch 2 8 0 a 0 b 4", &["path 0", "path 1"]);
    check(2, "0 64 mirror core 2 8 nosync 2 a 3 b 0", &["leg 0", "leg 1"]);
    check(1, "0 64 delay a 3 0", &["data"]);
    check(1, "0 64 flakey a 4 1 0", &["data"]);
    check(1, "0 64 dust a 4 512", &["data"]);
    check(1, "0 64 ebs a 8 8", &["data"]);
    check(1, "0 64 snapshot-origin a", &["data"]);
}

#[test]
fn raid_sets_say_where_data_and_parity_lie() {
    // Metadata lies on the disks behind those with data.
    let table = |kind: &str, len: u64, args: &str, count: usize| {
        let disk = |nr: usize| "abcdefghij".as_bytes()[nr] as char;
        let legs = (0..count).map(|nr| match kind {
            "raid0" => format!(" - {}", disk(nr)),
            _ => format!(" {} {}", disk(count + nr), disk(nr)),
        });
        format!("0 {len} raid {kind} {args} {count}{}", legs.collect::<String>())
    };
    let leg = |what: &str, legs: &[usize]| {
        legs.iter().map(|leg| format!("{what}, leg {leg}")).collect::<Vec<_>>()
    };
    let roles = |parts: &[Vec<String>]| parts.concat();
    let check = |count: usize, table: String, roles: Vec<String>| {
        check(2 * count, &table, &roles.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(2, table("raid0", 64, "1 8", 2), leg("data", &[0, 1]));
    check(2, table("raid1", 64, "3 0 region_size 8", 2), leg("copy", &[0, 1]));
    check(
        3,
        table("raid10", 96, "7 8 region_size 8 raid10_copies 2 raid10_format near", 3),
        roles(&[leg("copy 0", &[0, 1, 2]), leg("copy 1", &[0, 1, 2])]),
    );
    check(
        3,
        table("raid5_ls", 64, "3 8 region_size 8", 3),
        roles(&[leg("data", &[0, 1, 2]), leg("parity P", &[0, 1, 2])]),
    );
    check(
        5,
        table("raid6_zr", 120, "3 8 region_size 8", 5),
        roles(&[
            leg("data", &[0, 1, 2, 3, 4]),
            leg("parity P", &[0, 1, 2, 3, 4]),
            leg("parity Q", &[0, 1, 2, 3, 4]),
        ]),
    );
}

#[test]
fn a_snapshot_tells_exceptions_from_its_origin() {
    let world = world(2, "0 64 snapshot a b P 8");
    write(&world, 20, 1, 7);
    world.sim.run_until_idle().unwrap();
    let (exception, origin) = (locate(&world, 20), locate(&world, 3));
    assert_eq!(exception.spots.len(), 1);
    let spot = &exception.spots[0];
    assert_eq!((spot.below.minor, &*spot.role), (1, "exception of chunk 2"));
    assert_eq!(world.disk(1).sector(spot.sector), vec![7; 512]);
    assert_eq!(exception.run, Sectors(4));
    let back = shown(&world, spot.below, spot.sector);
    assert_eq!(back.iter().map(|shown| shown.sector).collect::<Vec<_>>(), [Sector(20)]);
    assert_eq!((origin.spots[0].below.minor, &*origin.spots[0].role), (0, "origin"));
    assert_eq!(origin.spots[0].sector, Sector(3));
    // Of the origin's chunk 2 the snapshot has a copy of its own; of its other chunks it has none.
    assert!(shown(&world, origin.spots[0].below, Sector(20)).is_empty());
    assert_eq!(shown(&world, origin.spots[0].below, Sector(3)).len(), 1);
    // The header of the store is no sector of the snapshot.
    assert!(shown(&world, spot.below, Sector(0)).is_empty());
}

#[test]
fn what_lies_nowhere_is_said_in_words() {
    let world = world(1, "0 8 zero\n8 8 error\n16 8 linear a 0");
    assert_eq!(locate(&world, 1).notes, ["reads give zeros, and writes are dropped"]);
    assert_eq!(locate(&world, 9).notes, ["every read and write fails"]);
    assert_eq!(locate(&world, 15).start, Sector(8));
    let past = world.execute(Command::Locate { id: id(0), sector: Sector(24) }).unwrap_err();
    assert_eq!(past.why.as_deref(), Some("sector 24 is past its end: it has 24 sectors"));
    assert_eq!(locate(&world, 23).spots[0].sector, Sector(7));
    let far = world.execute(Command::Locate { id: id(0), sector: Sector(u64::MAX) });
    assert!(far.is_err(), "{far:?}");
}
