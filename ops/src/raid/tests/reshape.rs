//! `raid grow` of sets whose data moves: every step made to fail, cut off for good, and each state in which
//! a power cut leaves labels and superblocks.

use std::cell::Cell;
use std::os::unix::fs::FileExt;

use super::*;
use crate::raid::grow::{self, Grow};
use crate::raid::leg::label::Label;
use crate::raid::leg::ring::Ring;
use crate::raid::leg::{HEADS, places};
use crate::raid::state::{layout, line_of};
use crate::raid::steps::Done;
use crate::watch::Watch;
use sim_core::Sector;
use targets::raid::superblock::{Reshape, Superblock};

const LEVELS: [(&str, usize); 4] = [("raid5", 3), ("raid6", 4), ("raid10", 3), ("raid4", 3)];

fn more(images: &[PathBuf], waits: bool) -> Grow {
    Grow { name: "r".to_owned(), images: images.to_vec(), force: true, waits }
}

fn add(bench: &mut Bench, images: &[PathBuf], fails: Fails) -> Result<(), Fault> {
    let plan = grow::plan(bench, &more(images, true))?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = grow::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

fn path(bench: &Bench, leg: usize) -> PathBuf {
    bench.dir.path().join(format!("leg{leg}"))
}

fn all(bench: &Bench, legs: usize) -> Vec<PathBuf> {
    (0..legs).map(|leg| path(bench, leg)).collect()
}

/// Makes a set whose legs are full of bytes that are no others' again, and an image or more.
fn filled(level: &str, legs: usize, new: usize) -> Bench {
    let mut bench = Bench::new();
    for leg in 0..legs {
        let image = image(&bench, &format!("leg{leg}"), 0);
        let mut bytes = vec![0; META.bytes() as usize];
        bytes.extend(
            (0..SIZE.bytes()).map(|at| ((at / 512) * 31 + at * 7 + leg as u64 * 101) as u8),
        );
        std::fs::write(image, bytes).expect("room for it");
    }
    for leg in legs..legs + new {
        image(&bench, &format!("leg{leg}"), 0);
    }
    let no_sync = ["raid4", "raid5"].contains(&level);
    let ask = Create { no_sync, force: true, ..ask(level, &all(&bench, legs)) };
    make(&mut bench, &ask, Fails::Never).expect("a set");
    wait(&mut bench, "r", &GO_ON).expect("it is synced");
    bench
}

/// Reads the set from its images, as the tables of the legs' devices have it.
fn content(bench: &mut Bench) -> Vec<u8> {
    let device = find(bench, "r").expect("no fault").expect("a device");
    let line = line_of(bench, &device).expect("no fault").expect("a set");
    let lengths = line.lengths(device.size()).expect("lengths");
    let layout = layout(&line, lengths.device).expect("a layout");
    let mut legs = Vec::new();
    for leg in status(bench, "r").expect("a set").legs {
        let name = format!("r_rimage_{}", leg.leg);
        let file = leg.file.expect("a file");
        let bytes = std::fs::read(file).expect("an image");
        let device = find(bench, &name).expect("no fault").expect("a device");
        let places = places(&device).expect("linear lines");
        let places: Vec<_> =
            places.iter().map(|(line, at)| (line.start, line.len, at.start)).collect();
        legs.push((bytes, places));
    }
    let mut content = Vec::new();
    for at in (0..layout.len().0).map(Sector) {
        let place = layout.places(at)[0];
        let (bytes, places) = &legs[place.leg];
        let within = |(start, len, _): &&(Sector, Sectors, Sector)| {
            (start.0..start.0 + len.0).contains(&place.sector.0)
        };
        let (start, _, image) = places.iter().find(within).expect("a line");
        let byte = (image.0 + place.sector.0 - start.0) as usize * 512;
        content.extend_from_slice(&bytes[byte..byte + 512]);
    }
    content
}

/// Fails where the set has not so many legs, all in sync, and what it had.
fn is_whole(bench: &mut Bench, legs: usize, had: &[u8], when: &str) {
    wait(bench, "r", &GO_ON).unwrap_or_else(|fault| panic!("{when}: {fault}"));
    assert_eq!(states(bench), vec![LegState::InSync; legs], "{when}");
    let device = find(bench, "r").expect("no fault").expect("a device");
    let params = device.live[0].params.to_string();
    assert!(!params.contains("delta_disks") && !params.contains("data_offset"), "{when}: {params}");
    assert!(content(bench).starts_with(had), "{when}: it lacks data");
}

/// Takes the images alone to another machine.
fn carried(bench: &Bench, legs: usize) -> Bench {
    let other = Bench::new();
    for leg in 0..legs {
        std::fs::copy(path(bench, leg), path(&other, leg)).expect("room for it");
    }
    other
}

#[test]
fn whatever_fails_of_legs_that_data_moves_onto_the_set_stays_good() {
    for (level, legs) in LEVELS[..1].iter().copied() {
        for when in [Fails::At as fn(usize) -> Fails, Fails::After] {
            for at in 1.. {
                let mut bench = filled(level, legs, 1);
                let had = content(&mut bench);
                let records = bench.records();
                let before: Vec<_> =
                    all(&bench, legs).iter().map(|it| std::fs::read(it).expect("it")).collect();
                let new = [path(&bench, legs)];
                let result = add(&mut bench, &new, when(at));
                let device = find(&mut bench, "r").expect("no fault").expect("a device");
                assert!(!device.status.suspended, "step {at} of {level}");
                let over = bench.calls < at;
                match result {
                    Ok(()) if over => {}
                    Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at} of {level}"),
                    Err(fault) if fault.why.contains("is as it was") => {
                        assert_eq!(bench.records(), records, "step {at} of {level}");
                        for (image, before) in all(&bench, legs).iter().zip(&before) {
                            let now = std::fs::read(image).expect("an image");
                            assert!(now[HEADS..] == before[HEADS..], "step {at} of {level}");
                        }
                        add(&mut bench, &new, Fails::Never).expect("a leg");
                    }
                    Err(fault) => {
                        let are_in = fault.why.contains("the new legs are in their places");
                        assert!(are_in, "{level} {at}: {fault}");
                        heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
                    }
                }
                let when = format!("step {at} of {level}");
                is_whole_by_any_name(&mut bench, legs + 1, &when);
                remove(&mut bench, "r").expect("nobody uses it");
                let mut other = carried(&bench, legs + 1);
                let mut images = all(&other, legs + 1);
                images.reverse();
                put_together(&mut other, &images, Fails::Never).expect("a set");
                is_whole(&mut other, legs + 1, &had, &when);
                if over {
                    let names: Vec<String> =
                        bench.records().into_iter().map(|record| record.name).collect();
                    assert!(names.iter().all(|name| !name.ends_with("_new")), "{names:?}");
                    break;
                }
            }
        }
    }
}

/// As [`is_whole`], where devices of legs may be called otherwise yet.
fn is_whole_by_any_name(bench: &mut Bench, legs: usize, when: &str) {
    wait(bench, "r", &GO_ON).unwrap_or_else(|fault| panic!("{when}: {fault}"));
    assert_eq!(states(bench), vec![LegState::InSync; legs], "{when}");
}

#[test]
fn a_set_that_grows_again_and_again_keeps_what_it_has() {
    for (level, legs) in LEVELS {
        let mut bench = filled(level, legs, 6);
        let had = content(&mut bench);
        let mut now = legs;
        // More than once around the ring, and by two at a time.
        for more in [1, 2, 1, 2] {
            let new: Vec<PathBuf> = (now..now + more).map(|leg| path(&bench, leg)).collect();
            add(&mut bench, &new, Fails::Never).unwrap_or_else(|fault| panic!("{level}: {fault}"));
            now += more;
            let when = format!("{level} of {now}");
            is_whole(&mut bench, now, &had, &when);
            let lengths = |leg| path(&bench, leg).metadata().expect("an image").len();
            assert_eq!(lengths(0), (META + SIZE).bytes() + (8 << 20), "{when}");
            let set = status(&mut bench, "r").expect("a set");
            remove(&mut bench, "r").expect("nobody uses it");
            let images = all(&bench, now);
            put_together(&mut bench, &images, Fails::Never).expect("a set");
            assert_eq!(status(&mut bench, "r").expect("a set").size, set.size);
            is_whole(&mut bench, now, &had, &when);
        }
        // A new image in the place of a leg lies as the others do.
        let other = image(&bench, "other", 0);
        std::fs::File::options()
            .write(true)
            .open(&other)
            .expect("it")
            .set_len(10 << 20)
            .expect("it");
        let kept = content(&mut bench);
        put_in(&mut bench, "1", &other, Fails::Never).expect("a leg");
        is_whole(&mut bench, now, &kept, level);
        let own = Label::of(&other).expect("an image").expect("a label");
        assert_eq!(own.place(), Some(1));
    }
}

/// Copies the images when it is asked for the so manieth time: what a power cut leaves then.
struct Camera {
    asked: Cell<usize>,
    at: usize,
    images: Vec<PathBuf>,
    to: PathBuf,
}

impl Watch for Camera {
    fn is_interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() == self.at {
            for image in &self.images {
                let copy = self.to.join(image.file_name().expect("a name"));
                std::fs::copy(image, copy).expect("room for it");
            }
        }
        false
    }
}

#[test]
fn a_power_cut_before_a_reshape_has_begun_leaves_the_set_as_it_was() {
    // At first without a ring, then with one.
    for (at, grown) in (1..).flat_map(|at| [(at, 0), (at, 1)]) {
        let mut bench = filled("raid5", 3, 2);
        let legs = 3 + grown;
        if grown == 1 {
            let new = [path(&bench, 3)];
            add(&mut bench, &new, Fails::Never).expect("a leg");
            wait(&mut bench, "r", &GO_ON).expect("it is synced");
        }
        let had = content(&mut bench);
        let mut other = Bench::new();
        let (images, to) = (all(&bench, legs + 1), other.dir.path().to_owned());
        let camera = Camera { asked: Cell::new(0), at, images, to };
        let ask = more(&[path(&bench, legs)], true);
        let plan = grow::plan(&mut bench, &ask).expect("a plan");
        grow::carry_out(&mut bench, &plan, &camera).expect("a leg");
        if camera.asked.get() < at {
            assert!(at > legs * 2, "so often at least");
            break;
        }
        let (images, when) = (all(&other, legs + 1), format!("picture {at} of {legs}"));
        let fault = put_together(&mut other, &images, Fails::Never).expect_err(&when);
        let told =
            ["leave it out", "holds no leg of a set"].iter().any(|why| fault.why.contains(why));
        assert!(told, "{when}: {fault}");
        put_together(&mut other, &images[..legs], Fails::Never).expect(&when);
        is_whole(&mut other, legs, &had, &when);
        add(&mut other, &images[legs..], Fails::Never).expect(&when);
        is_whole(&mut other, legs + 1, &had, &when);
    }
}

#[test]
fn a_power_cut_between_two_labels_leaves_the_set_as_it_was() {
    for (level, legs) in LEVELS[..1].iter().copied() {
        // At first without a ring, then with one.
        for grown in [0, 1] {
            for written in 0..=legs + grown {
                let mut bench = filled(level, legs, 2);
                if grown == 1 {
                    let new = [path(&bench, legs)];
                    add(&mut bench, &new, Fails::Never).expect("a leg");
                    wait(&mut bench, "r", &GO_ON).expect("it is synced");
                }
                let now = legs + grown;
                let had = content(&mut bench);
                remove(&mut bench, "r").expect("nobody uses it");
                let label = Label::of(&path(&bench, 0)).expect("an image").expect("a label");
                let ring = label.ring().unwrap_or_else(|| Ring::new(SIZE, Sectors(8 << 11), now));
                let ring = ring.grown(now, now + 1).expect("so many legs");
                for leg in 0..now {
                    let file = std::fs::File::options().write(true).open(path(&bench, leg));
                    file.expect("an image")
                        .set_len((META + SIZE).bytes() + (8 << 20))
                        .expect("room");
                }
                for leg in 0..written {
                    let label = Some(label.in_ring(ring, leg));
                    Done::default().label(&path(&bench, leg), label).expect("an image");
                }
                let images = all(&bench, now);
                put_together(&mut bench, &images, Fails::Never).expect("a set");
                let when = format!("{written} labels of {level}");
                is_whole(&mut bench, now, &had, &when);
                let new = [path(&bench, now)];
                add(&mut bench, &new, Fails::Never).expect("a leg");
                is_whole(&mut bench, now + 1, &had, &when);
            }
        }
    }
}

fn head_of(image: &Path) -> Vec<u8> {
    let mut head = std::fs::read(image).expect("an image");
    head.truncate(HEADS);
    head
}

fn write_head(image: &Path, head: &[u8]) {
    let file = std::fs::File::options().write(true).open(image).expect("an image");
    file.write_all_at(head, 0).expect("an image");
}

/// For each choice of those legs that have `other` superblocks, the set goes on to its end.
fn goes_on(bench: &Bench, others: &[Vec<u8>], had: &[u8], when: &str) {
    // One at least has its own. With copies nothing is otherwise than with parity: some do.
    let step = if when.contains("raid10") { 4 } else { 1 };
    for choice in (0..(1_usize << others.len()) - 1).step_by(step) {
        let mut other = carried(bench, others.len());
        for (leg, head) in others.iter().enumerate().filter(|(leg, _)| choice >> leg & 1 == 1) {
            write_head(&path(&other, leg), head);
        }
        let when = format!("{when}, choice {choice:b}");
        let images = all(&other, others.len());
        put_together(&mut other, &images, Fails::Never)
            .unwrap_or_else(|fault| panic!("{when}: {fault}"));
        is_whole(&mut other, others.len(), had, &when);
    }
}

#[test]
fn a_power_cut_while_superblocks_learn_of_a_reshape_or_of_its_end_costs_nothing() {
    for (level, legs) in [LEVELS[0], LEVELS[2]] {
        let mut bench = filled(level, legs, 1);
        let had = content(&mut bench);
        let images = all(&bench, legs + 1);
        let before: Vec<Vec<u8>> = images.iter().map(|image| head_of(image)).collect();
        // The table that asks is in use, and the next one never comes.
        let asked = (1..).find(|at| {
            let mut bench = filled(level, legs, 1);
            let new = [path(&bench, legs)];
            let fault = add(&mut bench, &new, Fails::From(*at)).err();
            fault.is_some_and(|fault| fault.why.contains("asks for the reshape"))
        });
        let new = [images[legs].clone()];
        add(&mut bench, &new, Fails::From(asked.expect("a step"))).expect_err("it is cut off");
        goes_on(&bench, &before, &had, &format!("the beginning on {level}"));
        assert!(status(&mut bench, "r").expect("a set").unsettled);
        heal(&mut bench, "r", None, true, &GO_ON).expect("it goes on");
        assert!(!status(&mut bench, "r").expect("a set").unsettled);
        wait(&mut bench, "r", &GO_ON).expect("it is whole");
        let size = status(&mut bench, "r").expect("a set").size;
        remove(&mut bench, "r").expect("nobody uses it");
        let last: Vec<Vec<u8>> =
            images.iter().map(|image| before_the_end(&head_of(image), had.len(), size)).collect();
        goes_on(&bench, &last, &had, &format!("the end of {level}"));
    }
}

/// Makes the superblock that a leg had when all had moved, and none knew of the end.
fn before_the_end(head: &[u8], had: usize, size: u64) -> Vec<u8> {
    let mut superblock = Superblock::read(head).expect("a superblock");
    superblock.events -= 1;
    let extension = superblock.extension.as_mut().expect("a new one");
    let had = had as u64 / 512;
    extension.reshape = Some(Reshape::Forwards);
    extension.reshape_position = if superblock.geometry.level == 10 { had } else { size };
    extension.delta_disks = 1;
    extension.array_sectors = had;
    extension.data_offset = 8 << 11;
    extension.device_sectors += 8 << 11;
    let mut head = head.to_vec();
    superblock.write(&mut head[..4096]);
    head
}

#[test]
fn a_set_that_cannot_be_moved_says_why() {
    fn refused(bench: &mut Bench, images: &[PathBuf], why: &str) {
        let ask = Grow { force: false, ..more(images, false) };
        let fault = grow::plan(bench, &ask).err().expect("it is refused");
        assert!(fault.to_string().contains(why), "{fault}");
    }
    let mut bench = filled("raid10_far", 3, 1);
    let new = [path(&bench, 3)];
    refused(&mut bench, &new, "is a raid10 with far copies");
    let mut bench = filled("raid0", 3, 1);
    let new = [path(&bench, 3)];
    refused(&mut bench, &new, "is a raid0: dm-raid moves");
    let mut bench = filled("raid5", 3, 1);
    let new = [path(&bench, 3)];
    refused(&mut bench, &[new[0].clone(), new[0].clone()], "is there twice");
    let small = new[0].with_file_name("small");
    std::fs::write(&small, [0; 4096]).expect("room for it");
    refused(&mut bench, &[small], "is too small");
    let full = new[0].with_file_name("full");
    std::fs::write(&full, vec![1; (META + SIZE).bytes() as usize]).expect("room for it");
    refused(&mut bench, &[full], "is not empty, and is left alone");
    let many = vec![new[0].clone(); 254];
    refused(&mut bench, &many, "would have 257 legs");
    fail(&mut bench, "r", "1", Failing::All).expect("a leg");
    check(&mut bench, "r", true, &GO_ON).expect_err("it lacks a leg");
    refused(&mut bench, &new, "leg 1 is not in sync: `dmsim heal r`");
}
