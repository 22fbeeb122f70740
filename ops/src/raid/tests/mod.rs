//! Every step of `raid create`, `assemble`, `replace` and `grow` made to fail, on a control plane in this
//! process.

mod grow;
mod parity;
mod reshape;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use daemon::Fault;
use sim_core::{Fails as Failing, Sectors};
use targets::raid::layout::Format;

use super::assemble::{self, Assemble};
use super::create::{self, Create};
use super::leg::META;
use super::replace::{self, Replace};
use super::{LegState, Set, check, fail, heal, remove, status, wait};
use crate::commands::{clear, remove as remove_device, resume};
use crate::devices::find;
use crate::rig::{Bench, Fails, SIZE};
use crate::watch::INTERRUPTED;

static GO_ON: AtomicBool = AtomicBool::new(false);

/// Makes an image that is all one byte behind a place for metadata.
fn image(bench: &Bench, name: &str, byte: u8) -> PathBuf {
    let path = bench.dir.path().join(name);
    let mut bytes = vec![0; META.bytes() as usize];
    bytes.resize((META + SIZE).bytes() as usize, byte);
    std::fs::write(&path, bytes).expect("room for it");
    path
}

fn images(bench: &Bench, count: usize) -> Vec<PathBuf> {
    (0..count).map(|leg| image(bench, &format!("leg{leg}"), 0)).collect()
}

fn ask(level: &str, images: &[PathBuf]) -> Create {
    let (level, name, images) = (level.to_owned(), "r".to_owned(), images.to_vec());
    Create { level, images, name, ..Create::default() }
}

fn make(bench: &mut Bench, ask: &Create, fails: Fails) -> Result<(), Fault> {
    let plan = create::plan(bench, ask)?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = create::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

fn put_together(bench: &mut Bench, images: &[PathBuf], fails: Fails) -> Result<(), Fault> {
    let ask = Assemble { images: images.to_vec(), name: "r".to_owned(), ..Assemble::default() };
    let plan = assemble::plan(bench, &ask)?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = assemble::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

fn another(leg: &str, image: &Path) -> Replace {
    let (leg, image) = (leg.to_owned(), image.to_owned());
    Replace { name: "r".to_owned(), leg, image, force: false, waits: true }
}

fn put_in(bench: &mut Bench, leg: &str, image: &Path, fails: Fails) -> Result<(), Fault> {
    let plan = replace::plan(bench, &another(leg, image))?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = replace::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

/// Returns what an image holds behind its metadata.
fn data(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("an image").split_off(META.bytes() as usize)
}

fn states(bench: &mut Bench) -> Vec<LegState> {
    status(bench, "r").expect("a set").legs.iter().map(|leg| leg.state).collect()
}

#[test]
fn whatever_fails_of_a_new_set_all_is_as_it_was() {
    for (level, legs, no_sync) in [
        ("raid0", 2, false),
        ("raid1", 2, true),
        ("raid10", 3, false),
        ("raid5", 3, true),
        ("6", 4, false),
    ] {
        for when in [Fails::At as fn(usize) -> Fails, Fails::After] {
            for at in 1.. {
                let mut bench = Bench::new();
                let mut images = images(&bench, legs);
                // One is made, and one held another set.
                images[0] = bench.dir.path().join("made");
                let mut old = std::fs::read(&images[1]).expect("an image");
                old[10] = 1;
                std::fs::write(&images[1], &old).expect("room for it");
                let size = Some((META + SIZE).bytes());
                let ask = Create { size, no_sync, force: true, ..ask(level, &images) };
                let records = bench.records();
                match make(&mut bench, &ask, when(at)) {
                    Ok(()) if bench.calls < at => break,
                    // An answer that was lost, and nothing else.
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {level}"),
                    Err(fault) => {
                        assert!(fault.why.contains("all is as it was"), "{level} {at}: {fault}");
                        assert_eq!(bench.records(), records, "step {at} of {level}");
                        assert!(!images[0].exists(), "step {at} left an image");
                        let now = std::fs::read(&images[1]).expect("an image");
                        assert!(now == old, "step {at} of {level} has changed an image");
                        make(&mut bench, &ask, Fails::Never).expect("a set");
                    }
                }
                wait(&mut bench, "r", &GO_ON).expect("it is synced");
                assert_eq!(states(&mut bench), vec![LegState::InSync; legs]);
                let device = find(&mut bench, "r").expect("no fault").expect("a device");
                assert!(!device.live[0].params.contains("nosync"), "step {at} of {level}");
            }
        }
    }
}

#[test]
fn whatever_fails_of_a_set_put_together_all_is_as_it_was() {
    for (level, legs) in [("raid0", 2), ("raid1", 3), ("raid10", 4), ("5", 3), ("raid6_nr", 5)] {
        for when in [Fails::At as fn(usize) -> Fails, Fails::After] {
            for at in 1.. {
                let mut bench = Bench::new();
                let mut images = images(&bench, legs);
                let before = bench.records();
                make(&mut bench, &ask(level, &images), Fails::Never).expect("a set");
                wait(&mut bench, "r", &GO_ON).expect("it is synced");
                let whole = status(&mut bench, "r").expect("a set");
                remove(&mut bench, "r").expect("nobody uses it");
                assert_eq!(bench.records(), before, "{level}");
                images.reverse();
                match put_together(&mut bench, &images, when(at)) {
                    Ok(()) if bench.calls < at => {
                        let now = status(&mut bench, "r").expect("a set");
                        let files = |set: &Set| -> Vec<_> {
                            set.legs.iter().map(|leg| leg.file.clone()).collect()
                        };
                        assert_eq!(files(&now), files(&whole), "{level}");
                        assert_eq!((now.size, now.chunk_size), (whole.size, whole.chunk_size));
                        break;
                    }
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {level}"),
                    Err(fault) => {
                        assert!(fault.why.contains("all is as it was"), "{level} {at}: {fault}");
                        assert_eq!(bench.records(), before, "step {at} of {level}");
                        put_together(&mut bench, &images, Fails::Never).expect("a set");
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_fails_of_a_replaced_leg_the_set_stays_good() {
    for (level, legs, failed) in [
        ("raid1", 2, false),
        ("raid1", 2, true),
        ("raid10", 4, false),
        ("raid5", 3, false),
        ("raid6", 4, true),
    ] {
        for when in [Fails::At as fn(usize) -> Fails, Fails::After] {
            for at in 1.. {
                let mut bench = Bench::new();
                let images: Vec<PathBuf> =
                    (0..legs).map(|leg| image(&bench, &format!("leg{leg}"), 7)).collect();
                let new = image(&bench, "new", 0);
                let no_sync = level.starts_with("raid1");
                let ask = Create { no_sync, force: true, ..ask(level, &images) };
                make(&mut bench, &ask, Fails::Never).expect("a set");
                wait(&mut bench, "r", &GO_ON).expect("it is synced");
                let lost = data(&images[1]);
                if failed {
                    fail(&mut bench, "r", "1", Failing::All).expect("a leg");
                    let found = check(&mut bench, "r", true, &GO_ON).expect("a look");
                    assert_eq!(found.expect("it waited").left_out, [1]);
                }
                let records = bench.records();
                let result = put_in(&mut bench, "1", &new, when(at));
                let device = find(&mut bench, "r").expect("no fault").expect("a device");
                assert!(!device.status.suspended, "step {at} of {level}");
                let over = bench.calls < at;
                match result {
                    Ok(()) if over => {}
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {level}"),
                    Err(fault) if fault.why.contains("is as it was") => {
                        assert_eq!(bench.records(), records, "step {at} of {level}");
                        put_in(&mut bench, "1", &new, Fails::Never).expect("a leg");
                    }
                    Err(fault) => {
                        let is_in = "the new leg is in its place, and is filled";
                        assert!(fault.why.contains(is_in), "{level} {at}: {fault}");
                        heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
                    }
                }
                wait(&mut bench, "r", &GO_ON).expect("it is synced");
                assert_eq!(states(&mut bench), vec![LegState::InSync; legs]);
                let device = find(&mut bench, "r").expect("no fault").expect("a device");
                assert!(!device.live[0].params.contains("rebuild"), "step {at} of {level}");
                assert!(data(&new) == lost, "step {at} of {level}: it lacks data");
                if over {
                    let names: Vec<String> =
                        bench.records().into_iter().map(|record| record.name).collect();
                    assert!(names.iter().all(|name| !name.ends_with("_new")), "{names:?}");
                    assert_eq!(names.len(), records.len());
                    break;
                }
            }
        }
    }
}

/// Does what a fault says is to be done first.
fn follow(bench: &mut Bench, fault: &Fault) {
    let words = fault.why.split('`').nth(1).and_then(|command| command.strip_prefix("dmsim "));
    match words.and_then(|words| words.split_once(' ')) {
        Some(("remove", name)) => remove_device(bench, name).expect("nobody uses it"),
        Some(("resume", name)) => resume(bench, name).expect("it was suspended"),
        Some(_) | None => panic!("no way on is told: {fault}"),
    }
}

#[test]
fn a_replacement_that_was_cut_off_can_be_made_again_as_it_is_told() {
    for at in 1.. {
        let mut bench = Bench::new();
        let images: Vec<PathBuf> =
            (0..2).map(|leg| image(&bench, &format!("leg{leg}"), 7)).collect();
        let ask = Create { no_sync: true, force: true, ..ask("raid1", &images) };
        make(&mut bench, &ask, Fails::Never).expect("a set");
        // It dies, and does not undo anything.
        let new = image(&bench, "new", 0);
        let cut_off = put_in(&mut bench, "1", &new, Fails::From(at));
        let over = cut_off.is_ok();
        let mut tries = 0;
        let other = image(&bench, "other", 0);
        while !over && let Err(fault) = put_in(&mut bench, "1", &other, Fails::Never) {
            tries += 1;
            assert!(tries < 6, "step {at}: {fault}");
            match fault.why.contains("is not in sync") || fault.why.contains("another table") {
                true => {
                    clear(&mut bench, "r").expect("a device");
                    heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
                }
                false => follow(&mut bench, &fault),
            }
        }
        wait(&mut bench, "r", &GO_ON).expect("it is synced");
        let device = find(&mut bench, "r").expect("no fault").expect("a device");
        assert!(!device.live[0].params.contains("rebuild"), "step {at}");
        let leg = if over { &new } else { &other };
        assert!(data(leg) == data(&images[0]), "step {at}: it lacks data");
        if over {
            break;
        }
    }
}

#[test]
fn an_interrupted_change_is_undone() {
    let mut bench = Bench::new();
    let images = images(&bench, 3);
    let records = bench.records();
    let plan = create::plan(&mut bench, &ask("raid1", &images[..2])).expect("a plan");
    let interrupted = AtomicBool::new(true);
    let fault = create::carry_out(&mut bench, &plan, &interrupted).expect_err("interrupted");
    assert_eq!((fault.status, bench.records()), (INTERRUPTED, records));
    create::carry_out(&mut bench, &plan, &GO_ON).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    let records = bench.records();
    let plan = replace::plan(&mut bench, &another("1", &images[2])).expect("a plan");
    let fault = replace::carry_out(&mut bench, &plan, &interrupted).expect_err("interrupted");
    assert_eq!((fault.status, bench.records()), (INTERRUPTED, records));
}

#[test]
fn every_layout_that_is_made_is_what_the_target_makes_of_it() {
    for format in [Format::Near, Format::Far, Format::Offset] {
        for (legs, copies) in [(2, 2), (3, 2), (4, 2), (5, 2), (3, 3), (5, 3)] {
            let mut bench = Bench::new();
            let images = images(&bench, legs);
            let (format, copies) = (Some(format), Some(copies));
            // No whole number of rows fits.
            let chunk = Some(32 << 10);
            let ask = Create { format, copies, chunk, ..ask("raid10", &images) };
            make(&mut bench, &ask, Fails::Never).unwrap_or_else(|why| panic!("{ask:?}: {why}"));
            wait(&mut bench, "r", &GO_ON).expect("it is synced");
            let made = status(&mut bench, "r").expect("a set");
            assert!(made.size.is_multiple_of(64), "{ask:?}: {}", made.size);
            assert!(made.size * copies.unwrap_or(0) as u64 <= SIZE.0 * legs as u64);
            remove(&mut bench, "r").expect("nobody uses it");
            put_together(&mut bench, &images, Fails::Never).expect("a set");
            assert_eq!(status(&mut bench, "r").expect("a set"), made);
        }
    }
}

#[test]
fn the_largest_bitmap_has_room_before_the_data() {
    use targets::raid::bitmap::{HEADER, OFFSET};
    let bits = 1_u64 << 21;
    assert!(OFFSET + HEADER as u64 + bits / 8 <= META.bytes());
    // And one of more bits is refused.
    let mut bench = Bench::new();
    let large = |name: &str| {
        let path = bench.dir.path().join(name);
        let file = std::fs::File::create(&path).expect("a new file");
        file.set_len(4 << 30).expect("it is sparse");
        path
    };
    let images = [large("a"), large("b")];
    let ask = Create { region_size: Some(1024), ..ask("raid1", &images) };
    let fault = make(&mut bench, &ask, Fails::Never).expect_err("too many bits");
    assert!(fault.why.contains("Supplied region size is too small"), "{fault}");
}

#[test]
fn what_makes_no_set_is_refused_in_words() {
    let mut bench = Bench::new();
    let good = images(&bench, 3);
    let full = image(&bench, "full", 1);
    let small = bench.file("small", 0, META);
    let missing = bench.dir.path().join("missing");
    let disk = bench.dir.path().join("disk");
    let bench_dir = bench.dir.path().to_owned();
    let (a, b) = (good[0].clone(), good[1].clone());
    let two = [a.clone(), b.clone()];
    let mut refused = |ask: Create, words: &str| {
        let records = bench.records();
        let fault = make(&mut bench, &ask, Fails::Never).expect_err(words);
        assert!(fault.to_string().contains(words), "{fault}");
        assert_eq!(bench.records(), records);
    };
    refused(ask("mirror", &two), "mirror: unknown level: expected raid0, raid1, raid10, raid4");
    refused(ask("raid1", std::slice::from_ref(&a)), "a raid1 takes 2 to 253 images, found 1");
    refused(ask("raid1", &[a.clone(), a.clone()]), "is there twice");
    let hard = bench_dir.join("hard");
    std::fs::hard_link(&a, &hard).expect("a link");
    refused(ask("raid1", &[a.clone(), hard]), "hard: is there twice");
    refused(ask("raid1", &[a.clone(), missing]), "no such file: --size SIZE makes it");
    refused(ask("raid1", &[a.clone(), small]), "is too small: a leg of this set needs");
    refused(ask("raid1", &[a.clone(), full]), "is not empty, and is left alone");
    refused(ask("raid1", &[a, disk]), "is in use by the table of `base`");
    let with = |level: &str, change: fn(&mut Create)| {
        let mut ask = ask(level, &two);
        change(&mut ask);
        ask
    };
    refused(with("raid1", |ask| ask.name = "base".to_owned()), "is there already");
    refused(with("raid1", |ask| ask.chunk = Some(4096)), "--chunk: means nothing for a raid1");
    refused(with("raid0", |ask| ask.chunk = Some(5120)), "--chunk: expected a power of two");
    refused(with("raid0", |ask| ask.no_sync = true), "--no-sync: means nothing for a raid0");
    refused(with("raid10", |ask| ask.copies = Some(3)), "takes 3 to 253 images, found 2");
    let twice = with("raid10_far", |ask| ask.format = Some(Format::Far));
    refused(twice, "raid10_far says it already");
    refused(with("raid10", |ask| ask.copies = Some(1)), "--copies: expected 2 at least");
    refused(with("raid10", |ask| ask.copies = Some(254)), "--copies: expected 253 at most");
    refused(with("raid1", |ask| ask.region_size = Some(3 << 10)), "power of 2");
    refused(with("raid1", |ask| ask.region_size = Some(1 << 40)), "--region-size: expected less");
    make(&mut bench, &ask("raid1", &two), Fails::Never).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    let fault = put_in(&mut bench, "nothing", &good[2], Fails::Never).expect_err("no leg");
    assert!(fault.why.contains("has no leg `nothing`; its legs are 0 (/"), "{fault}");
    remove(&mut bench, "r").expect("nobody uses it");
    let fault = make(&mut bench, &ask("raid1", &two), Fails::Never).expect_err("a set is there");
    assert!(fault.why.contains("is leg 0 of a raid1 of 2 legs, and is left alone"), "{fault}");
    let force = Create { force: true, ..ask("raid0", &two) };
    make(&mut bench, &force, Fails::Never).expect("a set");
    let fault = check(&mut bench, "r", true, &GO_ON).expect_err("no copies");
    assert!(fault.why.contains("is a raid0, which has no copies"), "{fault}");
}

#[test]
fn legs_that_do_not_belong_together_are_refused_in_words() {
    let mut bench = Bench::new();
    let one = images(&bench, 2);
    let others: Vec<PathBuf> =
        ["c", "d", "e", "new"].iter().map(|name| image(&bench, name, 0)).collect();
    make(&mut bench, &ask("raid1", &one), Fails::Never).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    put_in(&mut bench, "1", &others[3], Fails::Never).expect("a leg");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    remove(&mut bench, "r").expect("nobody uses it");
    make(&mut bench, &ask("raid10", &others[..3]), Fails::Never).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    remove(&mut bench, "r").expect("nobody uses it");
    let blank = image(&bench, "blank", 0);
    let copy = bench.dir.path().join("copy");
    std::fs::copy(&one[0], &copy).expect("room for it");
    let records = bench.records();
    let mut refused = |images: &[&PathBuf], words: &str| {
        let images: Vec<PathBuf> = images.iter().map(|image| (*image).clone()).collect();
        let fault = put_together(&mut bench, &images, Fails::Never).expect_err(words);
        assert!(fault.to_string().contains(words), "{fault}");
        assert_eq!(bench.records(), records);
    };
    refused(&[&one[0], &blank], "holds no leg of a set");
    refused(&[&one[0], &one[0]], "is there twice");
    refused(&[&one[0], &copy], "is leg 0, as is");
    refused(&[&one[0], &others[0]], "belongs to a raid");
    refused(&[&others[0]], "lacks some of its data: 1 of the 3 legs are there");
    // The one that was replaced.
    refused(&[&one[0], &one[1]], "It was replaced, or is an old copy: leave it out");
    // Each used alone, and then both.
    for alone in [&one[0], &others[3]] {
        put_together(&mut bench, std::slice::from_ref(alone), Fails::Never).expect("a set");
        assert_eq!(status(&mut bench, "r").expect("a set").health, "degraded");
        remove(&mut bench, "r").expect("nobody uses it");
    }
    let both = [one[0].clone(), others[3].clone()];
    let fault = put_together(&mut bench, &both, Fails::Never).expect_err("they differ");
    assert!(fault.why.contains("so that they differ"), "{fault}");
}

#[test]
fn a_leg_that_alone_has_some_of_the_data_stays() {
    let mut bench = Bench::new();
    let images = images(&bench, 2);
    let new = image(&bench, "new", 0);
    make(&mut bench, &ask("raid1", &images), Fails::Never).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    fail(&mut bench, "r", "1", Failing::All).expect("a leg");
    let found = check(&mut bench, "r", true, &GO_ON).expect("a look").expect("it waited");
    assert!(!found.compared, "{found:?}");
    assert_eq!(states(&mut bench), [LegState::InSync, LegState::Failed]);
    let records = bench.records();
    let fault = put_in(&mut bench, "0", &new, Fails::Never).expect_err("it has the data");
    let words = "leg 0 is the only one that has some of the data, as leg 1 is not in sync";
    assert!(fault.why.contains(words), "{fault}");
    assert_eq!(bench.records(), records);
    heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
    assert_eq!(states(&mut bench), [LegState::InSync; 2]);
    let small = bench.file("small", 0, META + Sectors(8));
    let fault = put_in(&mut bench, "1", &small, Fails::Never).expect_err("too small");
    assert!(fault.why.contains("is too small: it has 1028 KiB, and a leg needs 2 MiB"), "{fault}");
}
