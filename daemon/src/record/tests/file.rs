//! The file: what a change costs, and what becomes of it when something fails.

use super::*;

#[test]
fn a_command_is_flushed_once_and_a_batch_is_flushed_once() {
    let rig = Rig::new();
    rig.run(create("first")).unwrap();
    let before = rig.folder.syncs();
    for command in [load("first", "0 8 zero"), resume("first"), rename("first", "a")] {
        let before = rig.folder.syncs();
        rig.run(command).unwrap();
        assert_eq!(rig.folder.syncs(), before + 1);
    }
    assert_eq!(rig.folder.syncs(), before + 3);
    let batch = rig.keeper.change();
    for n in 0..100 {
        rig.perform(create(&format!("d{n}"))).unwrap();
    }
    assert_eq!(rig.folder.syncs(), before + 3);
    block_on(rig.control.commit()).unwrap();
    drop(batch);
    assert_eq!(rig.folder.syncs(), before + 4);
    assert_eq!(read(&rig.folder).devices.len(), 101);
}

#[test]
fn a_command_that_changes_nothing_writes_nothing() {
    let rig = Rig::new();
    for command in [create("a"), load("a", "0 8 zero"), resume("a"), suspend("a")] {
        rig.run(command).unwrap();
    }
    let (syncs, written) = (rig.folder.syncs(), rig.folder.written());
    rig.run(suspend("a")).unwrap();
    rig.run(Command::TableClear { id: named("a") }).unwrap();
    rig.run(Command::ListDevices).unwrap();
    assert_eq!((rig.folder.syncs(), rig.folder.written()), (syncs, written));
}

#[test]
fn a_change_that_no_command_made_is_written_too() {
    let rig = Rig::new();
    rig.run(create("a")).unwrap();
    // As a device that was to be removed when it is closed.
    rig.perform(remove("a")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !read(&rig.folder).devices.is_empty() {
        assert!(std::time::Instant::now() < deadline, "it is not on record");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Writes down a device with a long table and then `changes` changes of it, and returns how many
/// bytes the changes took.
fn bytes_of(changes: u64) -> u64 {
    let rig = Rig::over(&Simulated::default(), 1 << 14);
    let table: Vec<String> = (0..10_000).map(|n| format!("{n} 1 zero")).collect();
    for command in [create("a"), load("a", &table.join("\n")), resume("a")] {
        rig.run(command).unwrap();
    }
    let before = rig.folder.written();
    for n in 0..changes {
        rig.run(if n % 2 == 0 { suspend("a") } else { resume("a") }).unwrap();
    }
    rig.folder.written() - before
}

#[test]
fn ten_thousand_changes_cost_what_they_change_however_long_the_table_is() {
    let (half, all) = (bytes_of(5_000), bytes_of(10_000));
    assert!(all < 10_000 * 500, "{all} bytes");
    assert!(all < half * 5 / 2, "{half} bytes, then {all}");
}

#[test]
fn a_file_that_is_written_anew_stays_small_and_says_the_same() {
    let folder = Simulated::default();
    let rig = Rig::over(&folder, 4096);
    for command in life() {
        rig.run(command).unwrap();
    }
    for n in 0..2000 {
        rig.run(if n % 2 == 0 { suspend("a") } else { resume("a") }).unwrap();
        let len = folder.bytes(NAME).len();
        assert!(len < 3 * 4096, "{len} bytes after {n} changes");
    }
    assert_eq!(read(&folder), rig.there());
    // What is past stays past, in its order, and what is new beside it.
    let rig = Rig::over(&folder, 4096);
    let past = rig.past();
    rig.run(create("z")).unwrap();
    for n in 0..200 {
        rig.run(rename(if n % 2 == 0 { "z" } else { "y" }, if n % 2 == 0 { "y" } else { "z" }))
            .unwrap();
    }
    assert_eq!(rig.past(), past);
    assert_eq!(rig.there().devices.len(), 1);
    let rig = Rig::over(&folder, 4096);
    assert_eq!(rig.keeper.past().unwrap().devices[0].device.name, "z", "the last comes first");
    assert_eq!(rig.past().devices.len(), past.devices.len() + 1);
}

#[test]
fn the_power_may_go_at_any_step_of_writing_anew() {
    for step in 1.. {
        let folder = Simulated::default();
        let rig = Rig::over(&folder, 1024);
        let mut there = vec![rig.there()];
        for command in life() {
            rig.run(command).unwrap();
            there.push(rig.there());
        }
        let before = folder.operations();
        folder.fail(step, true);
        let mut told = there.len() - 1;
        for n in 0..40 {
            let on_record = rig.run(if n % 2 == 0 { suspend("a") } else { resume("a") });
            there.push(rig.there());
            if on_record.is_ok() {
                told = there.len() - 1;
            }
        }
        let cuts = folder.after_a_cut();
        for cut in cuts {
            let found = read(&cut);
            assert!(there[told..].contains(&found), "step {step}: {found:?}");
        }
        if folder.operations() - before < step {
            assert!(step > 85, "it was written anew on the way");
            return;
        }
    }
}

#[test]
fn whatever_fails_once_is_told_and_made_good_by_the_next_change() {
    for step in 1.. {
        let folder = Simulated::default();
        let rig = Rig::over(&folder, 1024);
        folder.fail(step, false);
        let mut failed = 0;
        let more = (0..20).map(|n| if n % 2 == 0 { suspend("a") } else { resume("a") });
        for command in life().into_iter().chain(more) {
            match rig.run(command) {
                Ok(()) => assert_eq!(read(&folder.after_a_cut()[0]), rig.there(), "step {step}"),
                Err(why) => {
                    assert!(why.contains(NAME), "{why}");
                    failed += 1;
                }
            }
        }
        assert!(failed <= 1, "step {step}: {failed} commands");
        if folder.operations() < step {
            assert_eq!(failed, 0);
            return;
        }
    }
}

#[test]
fn a_record_that_was_moved_away_is_written_where_it_was() {
    let rig = Rig::new();
    rig.run(create("a")).unwrap();
    super::super::folder::Folder::rename(&rig.folder, NAME, "away").unwrap();
    rig.run(create("b")).unwrap();
    assert_eq!(read(&rig.folder), rig.there());
    assert_eq!(rig.folder.names(), ["away", NAME]);
}

#[test]
fn a_keeper_that_is_closed_leaves_the_record_alone() {
    let rig = Rig::new();
    rig.run(create("a")).unwrap();
    let before = rig.there();
    rig.keeper.close();
    rig.run(remove("a")).unwrap();
    rig.run(create("b")).unwrap();
    assert_eq!(read(&rig.folder), before);
    rig.keeper.reopen();
    rig.run(create("c")).unwrap();
    assert_eq!(read(&rig.folder), rig.there());
    assert_eq!(rig.there().devices.len(), 2);
}

#[test]
fn a_batch_that_does_not_end_keeps_nothing_from_the_record_for_long() {
    let folder = Simulated::default();
    let (keeper, _) = Keeper::open_in(Box::new(folder.clone()), None, MARGIN).unwrap();
    let rig = Rig::around(keeper.with_patience(std::time::Duration::from_millis(5)), &folder);
    let _never_ends = rig.keeper.change();
    for name in ["a", "b"] {
        rig.perform(create(name)).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while read(&folder) != rig.there() {
            assert!(std::time::Instant::now() < deadline, "it is not on record");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
