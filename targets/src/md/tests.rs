//! What is made of the superblocks that mdadm and Linux left on members.

use sim_core::{Sector, Sectors};
use testkit::{MdImage, md_arrays, md_images};

use super::assembly::{Assembly, Candidate, LeftOut, Mode, Resync, Taken, decide};
use super::superblock::{Change, DONE, Facts, Fault, LEN, Place, Role, Superblock, Version};
use super::tables::{Span, is_flat, spans};
use crate::raid::bitmap::{HEADER, Header};

fn superblock(image: &MdImage) -> Superblock {
    let all = Version::ALL.into_iter().filter_map(|version| read(image, version).ok());
    let all: Vec<Superblock> = all.collect();
    assert_eq!(all.len(), 1, "one superblock");
    all.into_iter().next().expect("one")
}

fn read(image: &MdImage, version: Version) -> Result<Superblock, Fault> {
    let at = version.place(Sectors::in_bytes(image.len)).expect("room");
    Superblock::read(version, at, &image.bytes((at - Sector::ZERO).bytes(), LEN))
}

fn candidate(image: &MdImage) -> Candidate {
    let superblock = superblock(image);
    let header = |at: Sector| {
        let bytes = image.bytes((at - Sector::ZERO).bytes(), HEADER);
        Header::read(bytes[..].try_into().expect("a header")).expect("a header")
    };
    let bitmap = superblock.facts().bitmap.map(header);
    Candidate { superblock, len: Sectors::in_bytes(image.len), bitmap }
}

fn candidates(name: &str) -> Vec<Candidate> {
    let images = md_images(name);
    assert!(!images.is_empty(), "{name} is recorded");
    images.iter().map(candidate).collect()
}

fn facts(name: &str, member: usize) -> Facts {
    candidates(name)[member].superblock.facts()
}

#[test]
fn every_recorded_superblock_is_found_and_says_what_was_made() {
    for name in md_arrays() {
        let (array, version) = name.rsplit_once('-').expect("a version");
        let level = match array.split('-').next().expect("a word") {
            "linear" => -1,
            "resync" | "writemostly" => 1,
            "spare" | "rebuild" | "ppl" => 5,
            "stale" | "staleb" | "dirty" | "dirty2" | "dirtyb" | "dirtyb2" => {
                array.rsplit('-').next().expect("a level").parse().expect("a number")
            }
            raid => {
                let digits = raid.trim_start_matches("raid").trim_end_matches(char::is_alphabetic);
                digits.trim_end_matches("miss").parse().expect("a level")
            }
        };
        for (nr, image) in md_images(name).iter().enumerate() {
            let found = superblock(image);
            let facts = found.facts();
            assert_eq!(
                (found.version().to_string().as_str(), facts.level),
                (version, level),
                "{name}"
            );
            let is_spare =
                array == "spare" && nr == 3 || array == "rebuild" && version == "0.90" && nr == 1;
            let place = if array == "raid5miss" { nr + 1 } else { nr };
            let role = if is_spare { Role::Spare } else { Role::Active(place) };
            assert_eq!(facts.role, role, "{name} {nr}");
            let uses = if matches!(level, 0 | -1) { facts.data_len } else { facts.size };
            assert!(facts.data_offset + uses <= Sector(image.len / 512), "{name} {nr}");
            if let Some(header) = candidate(image).bitmap {
                assert_eq!(header.uuid, facts.uuid, "{name}");
            }
        }
    }
}

/// What `mdadm --examine` said of these.
#[test]
fn facts_are_those_of_examine() {
    let found = facts("raid5-1.2", 1);
    assert_eq!((found.name.as_str(), found.places, found.layout, found.events), ("h:t", 4, 2, 0));
    assert_eq!((found.chunk, found.size), (Sectors(128), Sectors(14336)));
    assert_eq!((found.data_offset, found.data_len), (Sector(2048), Sectors(14336)));
    assert_eq!((found.bitmap, found.resync_offset), (Some(Sector(16)), DONE));
    let found = facts("raid1b-0.90", 0);
    assert_eq!((found.places, found.size, found.events), (2, Sectors(16256), 1));
    assert_eq!((found.data_offset, found.bitmap), (Sector(0), Some(Sector(16256 + 8))));
    let found = facts("rebuild-1.2", 1);
    assert_eq!((found.role, found.recovery_offset), (Role::Active(1), 4096));
    assert_eq!(facts("raid1b-1.0", 0).bitmap, Some(Sector(16368 - 16)));
    assert_eq!(facts("ppl-1.2", 0).unsupported, Some("has a partial parity log"));
    assert_eq!(facts("raid0z-1.2", 0).raid0_layout, 1);
    let mostly = [0, 1].map(|member| facts("writemostly-1.2", member).write_mostly);
    assert_eq!(mostly, [false, true]);
    assert_eq!(facts("dirty-5-1.2", 0).resync_offset, 0);
    assert_eq!(facts("dirty-5-0.90", 0).resync_offset, 0);
}

/// Returns the state that an array is in.
fn state(name: &str) -> Change {
    let all: Vec<Facts> = candidates(name).iter().map(|one| one.superblock.facts()).collect();
    let last = all.iter().max_by_key(|facts| facts.events).expect("a member");
    let mut places = vec![Place::Empty; last.places];
    for facts in all.iter().filter(|facts| facts.events == last.events) {
        match facts.role {
            Role::Active(place) if facts.recovery_offset == DONE => {
                places[place] = Place::InSync(facts.number);
            }
            Role::Active(place) => {
                let (number, from) = (facts.number, facts.recovery_offset);
                places[place] = Place::Behind { number, from, by_bitmap: false };
            }
            // In version 0.90 this is all that it says.
            Role::Spare if name == "rebuild-0.90" => {
                places[1] = Place::Behind { number: facts.number, from: 0, by_bitmap: false };
            }
            Role::Spare | Role::Faulty | Role::Journal => {}
        }
    }
    let dirty = last.resync_offset == 0;
    Change { events: last.events, resync_offset: last.resync_offset, dirty, places }
}

/// Returns a member's place in a state.
fn place_in(change: &Change, number: usize) -> Option<usize> {
    change.places.iter().position(|place| match place {
        Place::InSync(nr) | Place::Behind { number: nr, .. } => *nr == number,
        Place::Empty => false,
    })
}

/// Says which bytes differ.
fn differing(one: &[u8], other: &[u8]) -> Vec<usize> {
    assert_eq!(one.len(), other.len());
    (0..one.len()).filter(|at| one[*at] != other[*at]).collect()
}

#[test]
fn a_state_is_written_as_linux_wrote_it() {
    let mut count = 0;
    for name in md_arrays() {
        let change = state(name);
        for one in candidates(name) {
            let facts = one.superblock.facts();
            // Version 0.90 has a descriptor of a member that failed and was not removed.
            if name.starts_with("stale") && one.superblock.version() == Version::V0_90 {
                continue;
            }
            // There mdadm writes another word for a clean array, too, which Linux reads alike.
            let is_of_mdadm = one.superblock.version() == Version::V0_90
                && one.superblock.bytes()[172..176] == [0; 4]
                && !change.dirty;
            if facts.events != change.events || is_of_mdadm || is_flat(&facts) {
                continue;
            }
            count += 1;
            let mut again = one.superblock.clone();
            again.change(&change, place_in(&change, facts.number));
            let found = differing(again.bytes(), one.superblock.bytes());
            assert_eq!(found, [0; 0], "{name} {}", facts.number);
        }
    }
    assert!(count > 80, "{count} superblocks");
}

/// The time of the last update, and the checksum of it.
fn without_time(superblock: &Superblock) -> Vec<u8> {
    let mut bytes = superblock.bytes().to_vec();
    match superblock.version() {
        Version::V0_90 => [128..132, 152..156].into_iter().for_each(|at| bytes[at].fill(0)),
        _ => [192..200, 216..220].into_iter().for_each(|at| bytes[at].fill(0)),
    }
    bytes
}

#[test]
fn an_array_becomes_clean_and_dirty_as_in_linux() {
    for version in ["0.90", "1.2"] {
        for kind in ["1", "5"] {
            for (dirty, clean) in [("dirty", "dirty2"), ("dirtyb", "dirtyb2")] {
                let names = [dirty, clean].map(|word| format!("{word}-{kind}-{version}"));
                let both = names.each_ref().map(|name| candidates(name));
                for (from, to) in [(0, 1), (1, 0)] {
                    let change = state(&names[to]);
                    for (nr, one) in both[from].iter().enumerate() {
                        let mut now = one.superblock.clone();
                        now.change(&change, Some(nr));
                        let expected = &both[to][nr].superblock;
                        let (now, expected) = (without_time(&now), without_time(expected));
                        assert_eq!(differing(&now, &expected), [0; 0], "{}", names[to]);
                    }
                }
            }
        }
    }
}

#[test]
fn members_that_are_lost_are_marked_as_in_linux() {
    for version in ["0.90", "1.2"] {
        for kind in ["stale-1", "stale-5", "staleb-5"] {
            let name = format!("{kind}-{version}");
            let all = candidates(&name);
            let change = state(&name);
            assert_eq!(change.places[2], Place::Empty);
            // As the one that was lost has it still.
            let mut now = all[2].superblock.clone();
            now.change(&change, None);
            for number in 0..3 {
                let expected = all[0].superblock.role_of(number);
                assert_eq!(now.role_of(number), expected, "{name} {number}");
            }
        }
    }
}

#[test]
fn bytes_that_were_changed_have_another_checksum() {
    for name in ["raid1-0.90", "raid1-1.0", "raid1-1.1", "raid1-1.2"] {
        let image = &md_images(name)[0];
        let good = superblock(image);
        for at in [16, 100, 201] {
            let mut bytes = good.bytes().to_vec();
            bytes[at] ^= 4;
            bytes.resize(LEN, 0);
            let found = Superblock::read(good.version(), good.place(), &bytes);
            assert_eq!(found, Err(Fault::Checksum), "{name} {at}");
        }
    }
}

#[track_caller]
fn assembled(name: &str, members: &[usize], mode: Mode) -> Assembly {
    let all = candidates(name);
    let some: Vec<Candidate> = members.iter().map(|nr| all[*nr].clone()).collect();
    decide(&some, mode).unwrap_or_else(|refused| panic!("{name}: {}", refused.why))
}

#[track_caller]
fn refused(name: &str, members: &[usize], mode: Mode) -> String {
    let all = candidates(name);
    let some: Vec<Candidate> = members.iter().map(|nr| all[*nr].clone()).collect();
    decide(&some, mode).expect_err("it is refused").why
}

use Taken::{InSync, Nobody};

#[test]
fn members_come_in_any_order() {
    let found = assembled("raid5-1.0", &[2, 0, 3, 1], Mode::Careful);
    assert_eq!(found.places, [InSync(1), InSync(3), InSync(0), InSync(2)]);
    assert_eq!((found.resync, found.layout.len()), (Resync::Nothing, Sectors(3 * 16256)));
}

#[test]
fn what_is_missing_is_made_up_for_as_far_as_it_goes() {
    let found = assembled("raid6-1.2", &[3, 0], Mode::Careful);
    assert_eq!(found.places, [InSync(1), Nobody, Nobody, InSync(0)]);
    let told = refused("raid6-1.2", &[1], Mode::Careful);
    assert_eq!(told, "assembled from 1 of 4 members, not enough to start it (without 0, 2, 3)");
    assert_eq!(assembled("raid10-0.90", &[0, 2], Mode::Careful).places[1], Nobody);
    refused("raid10-0.90", &[0, 1], Mode::Force);
    let found = assembled("raid5miss-1.2", &[0, 1, 2, 3], Mode::Careful);
    assert_eq!(found.places[0], Nobody);
}

#[test]
fn stale_members_are_left_out_or_taken_back_by_the_bitmap() {
    for version in ["0.90", "1.2"] {
        for level in [1, 5] {
            let found = assembled(&format!("stale-{level}-{version}"), &[0, 1, 2], Mode::Careful);
            assert_eq!(found.places, [InSync(0), InSync(1), Nobody], "{version}");
            assert!(matches!(found.left_out[..], [(2, LeftOut::Stale { .. })]));
            let found = assembled(&format!("staleb-{level}-{version}"), &[0, 1, 2], Mode::Careful);
            let Taken::Rebuilt { member: 2, from: Sector(0), back: Some(_), was_spare: false } =
                found.places[2]
            else {
                panic!("{:?}", found.places)
            };
        }
    }
    let told = refused("stale-5-1.2", &[0, 2], Mode::Careful);
    assert!(told.ends_with("(without 1, 2); --force takes those that are out of date for good"));
    let found = assembled("stale-5-1.2", &[0, 2], Mode::Force);
    assert_eq!(found.places, [InSync(0), Nobody, InSync(1)]);
    // Alone, it knows of nothing.
    assert_eq!(assembled("stale-1-1.2", &[2], Mode::Careful).places[2], InSync(0));
}

#[test]
fn what_was_being_written_is_synchronized() {
    for version in ["0.90", "1.2"] {
        for level in [1, 5] {
            let all = [0, 1, 2];
            let resync = |kind: &str| {
                assembled(&format!("{kind}-{level}-{version}"), &all, Mode::Careful).resync
            };
            assert_eq!(resync("dirty"), Resync::From(Sector(0)));
            assert_eq!(resync("dirty2"), Resync::Nothing);
            assert_eq!(resync("dirtyb"), Resync::ByBitmap);
            assert_eq!(resync("dirtyb2"), Resync::Nothing);
        }
        let name = format!("dirty-5-{version}");
        let told = refused(&name, &[0, 1], Mode::Careful);
        assert!(
            told.starts_with("assembled from 2 members, not enough to start it while not clean")
        );
        assert_eq!(assembled(&name, &[0, 1], Mode::Force).resync, Resync::Nothing);
        assert_eq!(
            assembled(&format!("dirty-1-{version}"), &[1], Mode::Careful).resync,
            Resync::Nothing
        );
    }
}

#[test]
fn a_spare_gets_the_place_that_nobody_has() {
    for version in ["0.90", "1.2"] {
        let name = format!("spare-{version}");
        let found = assembled(&name, &[0, 1, 2, 3], Mode::Careful);
        assert_eq!(found.left_out, [(3, LeftOut::Spare)]);
        let found = assembled(&name, &[0, 2, 3], Mode::Careful);
        let spare = Taken::Rebuilt { member: 2, from: Sector(0), back: None, was_spare: true };
        assert_eq!(found.places, [InSync(0), spare, InSync(1)]);
        refused(&name, &[3], Mode::Force);
    }
    let found = assembled("rebuild-1.2", &[0, 1, 2], Mode::Careful);
    let behind = Taken::Rebuilt { member: 1, from: Sector(4096), back: None, was_spare: false };
    assert_eq!(found.places[1], behind);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let mut mixed = candidates("raid5-1.2");
    mixed[1] = candidates("raid5-1.1")[1].clone();
    let refused = decide(&mixed, Mode::Force).expect_err("another array");
    assert!(refused.why.starts_with("is of another array, a raid5 `h:t`"), "{}", refused.why);
    let mut twice = candidates("raid5-1.2");
    twice[1] = twice[0].clone();
    let refused = decide(&twice, Mode::Force).expect_err("a place twice");
    assert_eq!(refused.why, "has place 0, as another has");
    let mut short = candidates("raid5-1.2");
    short[3].len = Sectors(16383);
    let refused = decide(&short, Mode::Force).expect_err("too short");
    assert_eq!(
        (refused.member, refused.why.as_str()),
        (Some(3), "expected 16384 sectors at least, found 16383")
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let told = refused("ppl-1.2", &[0, 1, 2], Mode::Force);
    assert_eq!(told, "has a partial parity log, which is not supported");
    for (feature, what) in [
        (2, "is being reshaped"),
        (3, "has bad blocks on its list"),
        (4, "is a replacement for another member"),
        (8, "is of a cluster"),
        (9, "has a journal"),
        (20, "has features that are not known"),
    ] {
        let good = candidates("raid5-1.2")[0].superblock.clone();
        let mut bytes = good.bytes().to_vec();
        bytes.resize(LEN, 0);
        let features = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        let sum = u32::from_le_bytes(bytes[216..220].try_into().expect("4 bytes"));
        bytes[8..12].copy_from_slice(&(features | 1 << feature).to_le_bytes());
        bytes[216..220].copy_from_slice(&sum.wrapping_add(1 << feature).to_le_bytes());
        let read = Superblock::read(Version::V1_2, good.place(), &bytes).expect("a superblock");
        assert_eq!(read.facts().unsupported, Some(what));
    }
}

#[test]
fn flat_arrays_are_tables() {
    let told = |name: &str| spans(&candidates(name)).expect("a table");
    let line = |len: u64, chunk: Option<u64>, places: &[(usize, u64)]| Span {
        len: Sectors(len),
        chunk: chunk.map(Sectors),
        places: places.iter().map(|(member, at)| (*member, Sector(*at))).collect(),
    };
    assert!(is_flat(&facts("linear-1.0", 0)) && !is_flat(&facts("raid1-1.0", 0)));
    let expected = [line(14336, None, &[(0, 2048)]), line(14336, None, &[(1, 2048)])];
    assert_eq!(told("linear-1.2"), expected);
    assert_eq!(told("linear-0.90")[1], line(16256, None, &[(1, 0)]));
    assert_eq!(told("raid0-1.1"), [line(3 * 14336, Some(128), &[(0, 2048), (1, 2048), (2, 2048)])]);
    // The second of them is longer.
    let zones = told("raid0z-1.2");
    assert_eq!(zones[1], line(8192, None, &[(1, 2048 + 14336)]));
    let told = spans(&candidates("raid0-1.2")[..2]).expect_err("one is missing").why;
    assert_eq!(told, "assembled from 2 of 3 members, not enough to start it (without 2)");
}
