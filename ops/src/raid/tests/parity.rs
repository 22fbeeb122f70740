//! Sets with parity: what of their workflows is otherwise than with copies.

use std::os::unix::fs::FileExt;

use daemon::fault::USAGE;
use sim_core::SECTOR_SIZE;
use targets::raid::superblock::Superblock;

use super::super::{Source, repair};
use super::*;

/// Makes a set, and waits until it is in sync.
fn made(bench: &mut Bench, level: &str, images: &[PathBuf]) {
    make(bench, &ask(level, images), Fails::Never).unwrap_or_else(|why| panic!("{level}: {why}"));
    wait(bench, "r", &GO_ON).expect("it is synced");
}

/// Makes legs fail, and has the set notice: every leg is read.
fn lose(bench: &mut Bench, legs: &[&str]) {
    for leg in legs {
        fail(bench, "r", leg, Failing::All).expect("a leg");
    }
    // It is refused in the end where no parity is left over.
    let _ = check(bench, "r", true, &GO_ON);
}

fn fault<T: std::fmt::Debug>(result: Result<T, Fault>, words: &str) -> Fault {
    let fault = result.expect_err(words);
    assert!(fault.to_string().contains(words), "{fault}");
    fault
}

#[test]
fn every_level_is_made_of_whole_chunks_with_the_kernels_type() {
    for (level, legs, name, raid_type, may_lose) in [
        ("4", 3, "raid4", "raid4", 1),
        ("raid5", 2, "raid5", "raid5_ls", 1),
        ("raid5_n", 4, "raid5", "raid5_n", 1),
        ("6", 4, "raid6", "raid6_zr", 2),
        ("raid6_ra_6", 5, "raid6", "raid6_ra_6", 2),
    ] {
        let mut bench = Bench::new();
        let images = images(&bench, legs);
        // The last leg has half a chunk more than the others.
        let file = std::fs::File::options().write(true).open(&images[legs - 1]).expect("a file");
        file.set_len((META + SIZE).bytes() + (32 << 10)).expect("room");
        made(&mut bench, level, &images);
        let set = status(&mut bench, "r").expect("a set");
        assert_eq!((set.level, set.raid_type, set.may_lose), (name, raid_type, may_lose));
        assert_eq!((set.parities, set.copies, set.format), (may_lose, None, None));
        assert_eq!((set.size, set.chunk_size), (SIZE.0 * (legs - may_lose) as u64, 128));
        remove(&mut bench, "r").expect("nobody uses it");
        let mut images = images;
        images.rotate_left(1);
        put_together(&mut bench, &images, Fails::Never).expect("a set");
        assert_eq!(status(&mut bench, "r").expect("a set"), set);
    }
}

#[test]
fn what_fits_no_level_with_parity_is_refused_with_a_way_out() {
    let mut bench = Bench::new();
    let good = images(&bench, 4);
    let mut refused = |ask: Create, words: &str| {
        let records = bench.records();
        let fault = fault(make(&mut bench, &ask, Fails::Never), words);
        assert_eq!((fault.status, bench.records()), (USAGE, records));
    };
    refused(ask("raid6", &good[..3]), "a raid6 takes 4 to 253 images, found 3");
    refused(ask("5", &good[..1]), "a raid5 takes 2 to 253 images, found 1");
    refused(ask("raid4", &[]), "a raid4 takes 2 to 253 images, found 0");
    refused(ask("raid7", &good), "raid7: unknown level: expected raid0,");
    let with = |level: &str, change: fn(&mut Create)| {
        let mut ask = ask(level, &good);
        change(&mut ask);
        ask
    };
    let large = with("raid5", |ask| ask.chunk = Some(64 << 20));
    refused(large, "--chunk: expected a power of two, 4K to 32M");
    refused(with("raid6_n_6", |ask| ask.copies = Some(2)), "--copies: means nothing for a raid6");
    refused(with("raid4", |ask| ask.format = Some(Format::Far)), "nothing for a raid4: leave it");
    refused(
        with("raid6", |ask| ask.no_sync = true),
        "--no-sync: a raid6 is used by all its parity",
    );
}

#[test]
fn a_repair_goes_by_what_the_level_has() {
    let mut bench = Bench::new();
    let all = images(&bench, 5);
    made(&mut bench, "raid5", &all[..3]);
    let file = std::fs::File::options().write(true).open(&all[1]).expect("an image");
    file.write_all_at(&[1], META.bytes() + 5000).expect("an image");
    let found = check(&mut bench, "r", true, &GO_ON).expect("a look").expect("it waited");
    assert_eq!((found.level, found.has_parity, found.differing), ("raid5", true, 8));
    let wrong = repair(&mut bench, "r", Some(Source::Copy), true, &GO_ON);
    let fault_of = |wrong, words| assert_eq!(fault(wrong, words).status, USAGE);
    fault_of(wrong, "--from copy: a raid5 keeps no copies, but parity: `--from parity`");
    let found = repair(&mut bench, "r", Some(Source::Parity), true, &GO_ON);
    let found = found.expect("a repair").expect("it waited");
    assert_eq!((found.differing, found.repaired), (8, true));
    let found = check(&mut bench, "r", true, &GO_ON).expect("a look").expect("it waited");
    assert_eq!(found.differing, 0);
    remove(&mut bench, "r").expect("nobody uses it");
    made(&mut bench, "raid1", &all[3..]);
    let wrong = repair(&mut bench, "r", Some(Source::Parity), true, &GO_ON);
    fault_of(wrong, "--from parity: a raid1 keeps copies, and no parity: `--from copy`");
    repair(&mut bench, "r", Some(Source::Copy), true, &GO_ON).expect("nothing differs");
}

#[test]
fn legs_that_are_lost_are_told_with_what_to_do() {
    let mut bench = Bench::new();
    let all = images(&bench, 7);
    made(&mut bench, "raid6", &all[..5]);
    lose(&mut bench, &["1"]);
    let set = status(&mut bench, "r").expect("a set");
    assert_eq!((set.health, set.may_lose), ("degraded", 1));
    // Q is left over.
    let found = check(&mut bench, "r", true, &GO_ON).expect("a look").expect("it waited");
    assert_eq!((found.differing, found.left_out), (0, vec![1]));
    lose(&mut bench, &["3"]);
    assert_eq!(status(&mut bench, "r").expect("a set").may_lose, 0);
    let words = "legs 1, 3 are not in sync, and without that no parity is left over";
    fault(check(&mut bench, "r", true, &GO_ON), words);
    fault(repair(&mut bench, "r", None, false, &GO_ON), "`dmsim raid replace r 1 IMAGE`");
    let one_more = put_in(&mut bench, "0", &all[5], Fails::Never);
    fault(one_more, "leg 0 is one more than a raid6 can do without, as leg 1 is not in sync");
    // One is replaced, the other comes back.
    put_in(&mut bench, "1", &all[5], Fails::Never).expect("a leg");
    fault(wait(&mut bench, "r", &GO_ON), "leg 3 has failed: `dmsim heal r` tries again");
    let in_sync = LegState::InSync;
    assert_eq!(states(&mut bench), [in_sync, in_sync, in_sync, LegState::Failed, in_sync]);
    heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
    assert_eq!(states(&mut bench), [in_sync; 5]);
    remove(&mut bench, "r").expect("nobody uses it");
    // Two may be missing, and no more.
    let few: Vec<PathBuf> = [&all[4], &all[2], &all[0]].map(Clone::clone).to_vec();
    put_together(&mut bench, &few, Fails::Never).expect("a set");
    fault(
        fail(&mut bench, "r", "1", Failing::All),
        "leg 1 is missing already: `dmsim raid replace",
    );
    fault(wait(&mut bench, "r", &GO_ON), "leg 1 is missing: `dmsim raid replace r 1 IMAGE`");
    remove(&mut bench, "r").expect("nobody uses it");
    let too_few = put_together(&mut bench, &few[..2], Fails::Never);
    fault(
        too_few,
        "2 of the 5 legs are there, and those in sync among them have not all of it: name \
                    the images of more of the legs 0, 1, 3, too",
    );
}

#[test]
fn a_set_whose_parity_was_never_right_is_put_together_without_a_leg_by_force_alone() {
    let mut bench = Bench::new();
    let images = images(&bench, 3);
    made(&mut bench, "raid5", &images);
    remove(&mut bench, "r").expect("nobody uses it");
    // As where the first resync was cut off at once.
    for image in &images {
        let file = std::fs::File::options().read(true).write(true).open(image).expect("a file");
        let mut bytes = [0; SECTOR_SIZE as usize];
        file.read_exact_at(&mut bytes, 0).expect("a superblock");
        let mut superblock = Superblock::read(&bytes).expect("a superblock");
        superblock.resync_offset = 0;
        superblock.write(&mut bytes);
        file.write_all_at(&bytes, 0).expect("a superblock");
    }
    let records = bench.records();
    let refused = put_together(&mut bench, &images[1..], Fails::Never);
    fault(refused, "is a raid5 whose parity was never made right as a whole");
    assert_eq!(bench.records(), records);
    let images = images[1..].to_vec();
    let by_force = Assemble { images, name: "r".to_owned(), force: true, ..Assemble::default() };
    assemble::assemble(&mut bench, &by_force, &GO_ON).expect("a set");
    assert_eq!(status(&mut bench, "r").expect("a set").health, "degraded");
    let device = find(&mut bench, "r").expect("no fault").expect("a device");
    assert!(!device.live[0].params.contains("sync"), "{}", device.live[0].params);
    remove(&mut bench, "r").expect("nobody uses it");
    let ask = Assemble { force: false, ..by_force };
    assemble::assemble(&mut bench, &ask, &GO_ON).expect("it is as right as it can be by now");
}

#[test]
fn a_leg_of_another_set_that_was_made_the_same_way_is_refused() {
    let mut bench = Bench::new();
    let all = images(&bench, 7);
    for set in [&all[..3], &all[3..6]] {
        made(&mut bench, "raid5", set);
        remove(&mut bench, "r").expect("nobody uses it");
    }
    let mixed: Vec<PathBuf> = [&all[0], &all[1], &all[5]].map(Clone::clone).to_vec();
    fault(put_together(&mut bench, &mixed, Fails::Never), "is of another set than ");
    // A leg that took another's place is of the set, too.
    put_together(&mut bench, &mixed[..2], Fails::Never).expect("a set");
    put_in(&mut bench, "2", &all[6], Fails::Never).expect("a leg");
    remove(&mut bench, "r").expect("nobody uses it");
    let mixed: Vec<PathBuf> = [&all[3], &all[4], &all[6]].map(Clone::clone).to_vec();
    fault(put_together(&mut bench, &mixed, Fails::Never), "is of another set than ");
    let whole: Vec<PathBuf> = [&all[6], &all[1], &all[0]].map(Clone::clone).to_vec();
    put_together(&mut bench, &whole, Fails::Never).expect("a set");
    assert_eq!(states(&mut bench), [LegState::InSync; 3]);
}

#[test]
fn an_image_that_is_larger_than_the_others_is_told_of() {
    let mut bench = Bench::new();
    let all = images(&bench, 3);
    let file = std::fs::File::options().write(true).open(&all[1]).expect("a file");
    file.set_len(64 << 20).expect("it is sparse");
    let plan = create::plan(&mut bench, &ask("raid5", &all)).expect("a plan");
    let [odd] = &plan.odd[..] else { panic!("one is larger: {:?}", plan.odd) };
    assert!(odd.contains("leg1: no more of it is used than the 2 MiB that "), "{odd}");
    file.set_len((META + SIZE).bytes()).expect("it is cut");
    assert_eq!(create::plan(&mut bench, &ask("raid5", &all)).expect("a plan").odd, [""; 0]);
    let asked = Create { size: Some(8 << 20), ..ask("raid5", &all) };
    let odd = create::plan(&mut bench, &asked).expect("a plan").odd;
    assert!(odd[0].contains("leg2 (2 MiB): there already, and not made 8 MiB long"), "{odd:?}");
    let asked = Create { size: Some((META + SIZE).bytes()), ..asked };
    assert_eq!(create::plan(&mut bench, &asked).expect("a plan").odd, [""; 0]);
}

#[test]
fn whatever_fails_of_a_set_with_a_journal_its_image_is_as_it_was() {
    for at in 1.. {
        let mut bench = Bench::new();
        let all = images(&bench, 3);
        let journal = bench.file("journal", 7, Sectors(16 << 11));
        let ask = Create { journal: Some(journal.clone()), force: true, ..ask("raid5", &all) };
        let (records, before) = (bench.records(), std::fs::read(&journal).expect("an image"));
        match make(&mut bench, &ask, Fails::At(at)) {
            Ok(()) if bench.calls < at => break,
            Ok(()) => panic!("step {at} failed, and nobody noticed"),
            Err(fault) => {
                assert!(fault.why.contains("all is as it was"), "step {at}: {fault}");
                assert_eq!(bench.records(), records, "step {at}");
                let now = std::fs::read(&journal).expect("an image");
                assert!(now == before, "step {at} has changed the journal's image");
            }
        }
    }
}
