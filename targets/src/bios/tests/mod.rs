//! What is made of the sets that mdadm and Linux left on disks, and of bytes that nobody meant.

use sim_core::{SECTOR_SIZE, Sector, Sectors};
use testkit::{MdImage, bios_arrays, bios_images, bios_pattern};

use super::assembly::{Candidate, Chosen, choose};
use super::vendors::{self, VENDORS};
use super::{Fault, Hindrance, Member, Pieces, Stop, read_whole};
use crate::md::assembly::{Assembly, LeftOut, Mode, Refused, Resync, Taken};
use crate::md::superblock::{Change, DONE, Place};
use crate::parts::bytes::{le32, put};

mod hostile;

use hostile::seal_intel;

/// Disks as bytes.
type Disks = Vec<Vec<u8>>;

fn disks(name: &str) -> Disks {
    let images = bios_images(name);
    assert!(!images.is_empty(), "{name} is recorded");
    images.iter().map(|image: &MdImage| image.bytes(0, image.len as usize)).collect()
}

/// Looks at a disk as it is told.
fn look<T>(disk: &[u8], look: impl Fn(Sectors, &Pieces) -> Result<T, Stop>) -> Result<T, Fault> {
    let piece = |at: Sector, len: Sectors| {
        let from = (at - Sector::ZERO).bytes() as usize;
        Some(disk.get(from..from + len.bytes() as usize)?.to_vec())
    };
    read_whole(|pieces| look(Sectors::in_bytes(disk.len() as u64), pieces), piece)
}

fn member(disk: &[u8]) -> Result<Option<Member>, Fault> {
    look(disk, super::read)
}

fn candidates(disks: &Disks) -> Vec<Candidate> {
    let candidate = |(nr, disk): (usize, &Vec<u8>)| Candidate {
        member: member(disk).expect("it is right").expect("it is of a set"),
        len: Sectors::in_bytes(disk.len() as u64),
        serial: Some(format!("/dev/loop{nr}")),
    };
    disks.iter().enumerate().map(candidate).collect()
}

fn chosen(disks: &Disks) -> Chosen {
    choose(&candidates(disks), None).expect("a volume")
}

fn assembly(disks: &Disks) -> Result<Assembly, Refused> {
    choose(&candidates(disks), None)?.assembly(Mode::Careful)
}

fn why<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    result.expect_err("it is refused").why
}

/// Returns the first byte of a sector of a volume, by a place that has it.
fn byte_at(disks: &Disks, chosen: &Chosen, at: Sector) -> Option<u8> {
    let (disk, start) = match chosen.volume.level {
        0 => {
            let span = chosen.span().expect("a raid0");
            let chunk = span.chunk.expect("chunks").0;
            let (row, turn) = (at.0 / chunk / span.places.len() as u64, at.0 / chunk);
            let (disk, start) = span.places[turn as usize % span.places.len()];
            (disk, start + Sectors(row * chunk + at.0 % chunk))
        }
        _ => {
            let assembly = chosen.assembly(Mode::Careful).expect("an array");
            let all = assembly.layout.places(at);
            let place = all.iter().find(|place| assembly.places[place.leg].member().is_some())?;
            let disk = assembly.places[place.leg].member().expect("it is there");
            (disk, chosen.start(place.leg) + Sectors(place.sector.0))
        }
    };
    Some(disks[disk][(start.0 * SECTOR_SIZE) as usize])
}

fn level_of(name: &str) -> u32 {
    let digits = name.trim_start_matches(char::is_alphabetic);
    digits.split(|c: char| !c.is_ascii_digit()).next().expect("a word").parse().unwrap_or(5)
}

#[test]
fn every_recorded_volume_has_what_linux_wrote() {
    for name in bios_arrays() {
        let disks = disks(name);
        let candidates = candidates(&disks);
        let volumes = if name.ends_with("-two") { &["sys", "fast"][..] } else { &["vol0"][..] };
        for volume in volumes {
            let chosen =
                choose(&candidates, Some(volume)).unwrap_or_else(|no| panic!("{name}: {no:?}"));
            let level = if *volume == "fast" { 0 } else { level_of(name) };
            assert_eq!(chosen.volume.level, level, "{name}");
            let last = chosen.volume.len.0 / 8;
            let behind = name.ends_with("-failed");
            for block in (0..128).chain(last - 16..last) {
                let expected = bios_pattern(block) + u8::from(behind && block < 32);
                if let Some(found) = byte_at(&disks, &chosen, Sector(block * 8)) {
                    assert_eq!(found, expected, "{name} {volume}: block {block}");
                }
            }
        }
    }
}

#[test]
fn whole_sets_are_clean_and_others_are_not() {
    for name in bios_arrays() {
        let disks = disks(name);
        let sys = choose(&candidates(&disks), name.ends_with("-two").then_some("sys")).expect(name);
        if sys.volume.level == 0 {
            continue;
        }
        let said = sys.assembly(Mode::Careful).expect(name);
        let there = said.places.iter().filter(|place| place.member().is_some()).count();
        let lost = match name {
            "ddf6-failed" => 2,
            _ if name.ends_with("-failed") || name.ends_with("-rebuilt") => 1,
            _ => 0,
        };
        assert_eq!(said.places.len() - there, lost, "{name}");
        let is_dirty = name.ends_with("-dirty") || name.ends_with("-initialized");
        assert_eq!(said.resync != Resync::Nothing, is_dirty, "{name}");
        let is_read_only = name.ends_with("-initialized") || name.ends_with("-rebuilt");
        assert_eq!(sys.read_only.is_some(), is_read_only, "{name}: {:?}", sys.read_only);
    }
}

#[test]
fn who_is_left_out_is_told() {
    let said = assembly(&disks("imsm5-failed")).expect("an array");
    assert_eq!(said.left_out, [(1, LeftOut::Failed)]);
    let said = assembly(&disks("imsm1-spare")).expect("an array");
    assert_eq!(said.left_out, [(2, LeftOut::Spare)]);
    let said = assembly(&disks("imsm5-rebuilt")).expect("an array");
    assert_eq!(said.left_out, [(1, LeftOut::Spare), (3, LeftOut::Behind)]);
    let said = assembly(&disks("ddf1-failed")).expect("an array");
    assert_eq!(said.left_out, [(0, LeftOut::Failed)]);
    let both = [disks("imsm5"), disks("imsm5-failed")].concat();
    assert!(why(assembly(&both)).contains("is of an Intel RAID set (imsm), and of another"));
    let both = [disks("ddf5"), disks("ddf5la")].concat();
    assert!(why(assembly(&both)).contains("is of a DDF RAID set, and of another"));
    let twice = [disks("ddf5"), disks("ddf5")[..1].to_vec()].concat();
    assert!(why(assembly(&twice)).contains("is the same disk"));
    let mut without = candidates(&disks("imsm5"));
    without[1].serial = None;
    let told = why(choose(&without, None));
    assert!(told.contains("assemble --serials") && told.contains("`/dev/loop1`"), "{told}");
}

#[test]
fn a_spare_is_not_taken_for_the_disk_whose_serial_number_it_has() {
    let mut disks = disks("imsm1-spare");
    // Changed more often than the others, which the checksum, a sum, has too.
    let anchor = disks[2].len() - 1024;
    for at in [0x20, 0x2c] {
        let more = le32(&disks[2], anchor + at).wrapping_add(1000);
        put(&mut disks[2], anchor + at, &more.to_le_bytes());
    }
    let mut candidates = candidates(&disks);
    let gone = candidates.remove(1);
    candidates[1].serial = gone.serial;
    let chosen = choose(&candidates, None).expect("a volume");
    let said = chosen.assembly(Mode::Careful).expect("an array");
    assert_eq!(said.left_out, [(1, LeftOut::Spare)]);
    assert_eq!(said.places, [Taken::InSync(0), Taken::Nobody]);
}

#[test]
fn disks_that_are_missing_are_made_up_for_as_far_as_the_level_goes() {
    for (name, enough) in [("imsm1", 1), ("imsm5", 2), ("ddf1", 1), ("ddf5", 2), ("ddf6", 2)] {
        let all = candidates(&disks(name));
        let left = |count: usize| {
            choose(&all[all.len() - count..], None)
                .and_then(|chosen| chosen.assembly(Mode::Careful))
        };
        let said = left(enough).unwrap_or_else(|no| panic!("{name}: {no:?}"));
        assert!(said.places.contains(&Taken::Nobody), "{name}");
        if enough > 1 {
            assert!(why(left(enough - 1)).contains("not enough to start it"), "{name}");
        }
    }
    for name in ["imsm0", "ddf0"] {
        let alone = choose(&candidates(&disks(name))[1..], None).expect("a volume");
        assert!(why(alone.span()).contains("assembled from 1 of 2"), "{name}");
    }
    for name in ["imsm5-dirty", "ddf5-dirty"] {
        let all = candidates(&disks(name));
        let two = choose(&all[1..], None).expect("a volume");
        assert!(why(two.assembly(Mode::Careful)).contains("while not clean"), "{name}");
        assert_eq!(two.assembly(Mode::Force).expect("forced").resync, Resync::Nothing, "{name}");
    }
}

/// A change that all places are in sync in, but some.
fn change(chosen: &Chosen, events: u64, dirty: bool, lost: &[usize]) -> Change {
    let place = |nr: usize| if lost.contains(&nr) { Place::Empty } else { Place::InSync(nr) };
    let places = (0..chosen.volume.slots.len()).map(place).collect();
    Change { events, resync_offset: DONE, dirty, places }
}

/// Writes a change to the disks that have the places that are not lost; of the last stages none.
fn write(disks: &mut Disks, change: &Change, left: usize) {
    let chosen = chosen(disks);
    let said = chosen.assembly(Mode::Force).expect("an array");
    let writer = chosen.writer(&candidates(disks));
    for (place, now) in change.places.iter().enumerate() {
        let (Some(disk), true) = (said.places[place].member(), *now != Place::Empty) else {
            continue;
        };
        let stages = writer.stages(change, place);
        for (at, bytes) in stages[..stages.len().saturating_sub(left)].iter().flatten() {
            let from = (at.0 * SECTOR_SIZE) as usize;
            disks[disk][from..from + bytes.len()].copy_from_slice(bytes);
        }
    }
}

const WRITTEN: [&str; 10] = [
    "imsm1",
    "imsm5",
    "imsm10",
    "ddf1",
    "ddf5",
    "ddf6",
    "ddf10",
    "ddf1-three",
    "imsm5-dirty",
    "ddf5-dirty",
];

#[test]
fn what_is_written_is_read_again() {
    for name in WRITTEN {
        let mut disks = disks(name);
        let before = chosen(&disks);
        let events = assembly(&disks).expect(name).events + 1;
        write(&mut disks, &change(&before, events, true, &[]), 0);
        let said = assembly(&disks).expect(name);
        assert_eq!((said.events, said.resync), (events, Resync::From(Sector::ZERO)), "{name}");
        write(&mut disks, &change(&before, events + 1, false, &[]), 0);
        let said = assembly(&disks).expect(name);
        assert_eq!((said.events, said.resync), (events + 1, Resync::Nothing), "{name}");
        assert!(said.left_out.is_empty(), "{name}");
        let lost = said.places[1].member().expect("it was there");
        write(&mut disks, &change(&before, events + 2, false, &[1]), 0);
        let said = assembly(&disks).expect(name);
        assert_eq!(said.left_out, [(lost, LeftOut::Failed)], "{name}");
        assert_eq!(said.places[1], Taken::Nobody, "{name}");
        let found = byte_at(&disks, &chosen(&disks), Sector::ZERO).expect("it is there");
        assert_eq!(found, bios_pattern(0), "{name}");
    }
}

#[test]
fn a_change_that_reached_a_part_of_the_disks_is_taken_and_one_more_is_not() {
    for name in ["imsm5", "ddf5"] {
        let mut disks = disks(name);
        let (before, events) = (chosen(&disks), assembly(&disks).expect(name).events);
        let old = disks.clone();
        for (nr, lag) in [(1, 1), (2, 2)] {
            write(&mut disks, &change(&before, events + nr, false, &[]), 0);
            let mut mixed = disks.clone();
            mixed[2] = old[2].clone();
            let said = assembly(&mixed).expect(name);
            let stale = LeftOut::Stale { events };
            let expected = if lag == 1 { vec![] } else { vec![(2, stale)] };
            assert_eq!(said.left_out, expected, "{name}: {lag} behind");
        }
    }
}

#[test]
fn a_copy_of_ddf_that_a_power_cut_left_half_written_does_not_count() {
    for name in ["ddf5"] {
        let whole = disks(name);
        let (before, events) = (chosen(&whole), assembly(&whole).expect(name).events);
        // After each of the four stages: both copies are of the state before, or one of them is new.
        for left in 0..=4 {
            let mut disks = whole.clone();
            write(&mut disks, &change(&before, events + 1, true, &[]), left);
            let said = assembly(&disks).unwrap_or_else(|no| panic!("{name}, {left} left: {no:?}"));
            let is_new = left <= 2;
            assert_eq!(said.events, events + u64::from(is_new), "{name}, {left} left");
            assert_eq!(said.resync != Resync::Nothing, is_new, "{name}, {left} left");
            // And again, over what was left.
            for again in [0, 2, 3] {
                let mut disks = disks.clone();
                write(&mut disks, &change(&before, events + 2, false, &[]), again);
                let said = assembly(&disks).unwrap_or_else(|no| panic!("{name}, {again}: {no:?}"));
                let events = if again <= 2 { events + 2 } else { said.events };
                assert_eq!(said.events, events, "{name}, {left} and {again} left");
                if again == 0 {
                    assert_eq!(said.resync, Resync::Nothing, "{name}, {left} left");
                }
            }
        }
    }
}

#[test]
fn members_that_were_each_used_without_the_other_are_refused() {
    for name in ["imsm1", "ddf1"] {
        let whole = disks(name);
        let (before, events) = (chosen(&whole), assembly(&whole).expect(name).events);
        let mut both = whole.clone();
        for (place, more) in [(0, 1), (1, 3)] {
            let mut one = whole.clone();
            write(&mut one, &change(&before, events + more, false, &[place]), 0);
            let other = before.assembly(Mode::Careful).expect(name).places[1 - place];
            let disk = other.member().expect("it is there");
            both[disk] = one[disk].clone();
        }
        assert!(why(assembly(&both)).contains("used without another"), "{name}");
        assert!(assembly(&both[..1].to_vec()).is_ok(), "{name}");
    }
}

#[test]
fn damage_is_told() {
    let mut disks = disks("imsm5");
    let end = disks[0].len();
    disks[0][end - 1024 + 0x60] ^= 1;
    let told = member(&disks[0]).expect_err("it is damaged").to_string();
    assert!(told.starts_with("metadata of an Intel RAID set has a wrong checksum"), "{told}");
    let mut disks = self::disks("ddf5");
    let end = disks[0].len();
    disks[0][end - 512 + 20] ^= 1;
    let told = member(&disks[0]).expect_err("it is damaged").to_string();
    assert!(told.contains("an anchor with a wrong checksum"), "{told}");
    disks[0][end - 512 + 20] ^= 1;
    // The first copy has lost its list of volumes: there is the other.
    let primary = u64::from_be_bytes(disks[0][end - 512 + 96..][..8].try_into().expect("8")) * 512;
    let virt = u32::from_be_bytes(disks[0][end - 512 + 208..][..4].try_into().expect("4"));
    disks[0][primary as usize + virt as usize * 512 + 70] ^= 1;
    let said = chosen(&disks);
    assert_eq!(said.assembly(Mode::Careful).expect("an array").left_out, []);
    write(&mut disks, &change(&said, 99, false, &[]), 0);
    assert_eq!(assembly(&disks).expect("an array").events, 99);
    let secondary =
        u64::from_be_bytes(disks[0][end - 512 + 104..][..8].try_into().expect("8")) * 512;
    for copy in [primary, secondary] {
        disks[0][copy as usize + virt as usize * 512 + 70] ^= 1;
    }
    let told = member(&disks[0]).expect_err("both are damaged").to_string();
    assert!(told.contains("a list of volumes with a wrong checksum"), "{told}");
}

#[test]
fn what_nothing_here_keeps_up_is_refused() {
    // Of the first volume: where its write hole policy is, and its kind of migration.
    let mut all = disks("imsm5");
    let volume = 0xd8 + 3 * 48;
    for disk in &mut all {
        let anchor = disk.len() - 1024;
        disk[anchor + volume + 50] = 1;
    }
    all.iter_mut().for_each(|disk| seal_intel(disk));
    let told = chosen(&all).read_only.expect("a parity log");
    assert!(told.contains("partial parity log"), "{told}");
    let mut all = disks("imsm5-initialized");
    for disk in &mut all {
        let anchor = disk.len() - 1024;
        disk[anchor + volume + 89] = 3;
    }
    all.iter_mut().for_each(|disk| seal_intel(disk));
    let told = why(choose(&candidates(&all), None));
    assert!(told.contains("volume `vol0` is being reshaped"), "{told}");
    assert!(matches!(
        chosen(&disks("imsm5-initialized")).volume.hindrance,
        Some(Hindrance::Writes("is being initialized"))
    ));
    let told = why(choose(&candidates(&disks("imsm-two")), None));
    assert!(told.contains("`sys` and `fast`: name one by --volume"), "{told}");
    let told = why(choose(&candidates(&disks("ddf-two")), Some("x")));
    assert!(told.contains("no volume `x`: it has `sys` and `fast`"), "{told}");
}

/// Returns whose set a disk is of.
fn vendor(disk: &[u8]) -> Option<&'static str> {
    let found = look(disk, vendors::find).unwrap_or_else(|fault| panic!("{fault}"));
    found.map(|vendor| vendor.format)
}

#[test]
fn sets_of_others_are_known_by_their_marks() {
    const LEN: usize = 4 << 20;
    let disk = |back: usize, parts: &[(usize, &[u8])]| {
        let mut disk = vec![0; LEN];
        for (at, bytes) in parts {
            disk[LEN - 512 * back + at..][..bytes.len()].copy_from_slice(bytes);
        }
        disk
    };
    let nvidia = |sum: u32| {
        disk(2, &[(0, b"NVIDIA  "), (8, &30_u32.to_le_bytes()), (12, &sum.to_le_bytes())])
    };
    let words =
        ["NVID", "IA  "].map(|word| u32::from_le_bytes(word.as_bytes().try_into().expect("4")));
    let sum = 0_u32.wrapping_sub(words[0]).wrapping_sub(words[1]).wrapping_sub(30);
    assert_eq!(vendor(&nvidia(sum)), Some("nvidia"));
    assert_eq!(vendor(&nvidia(sum + 1)), None, "its checksum is wrong");
    let asr = disk(1, &[(0, b"\x37\xfc\x4d\x1e"), (0x100, b"DPTM")]);
    assert_eq!(vendor(&asr), Some("asr"));
    assert_eq!(vendor(&disk(11, &[(0, b"\xf3\x16\x78\x5a")])), Some("hpt45x"));
    let hpt37x = disk(LEN / 512 - 9, &[(32, b"\xf0\x16\x78\x5a")]);
    assert_eq!(vendor(&hpt37x), Some("hpt37x"));
    assert_eq!(vendor(&disk(1, &[(0, b"$XIDE$")])), Some("lsi"));
    let jm = |sum: u16| disk(1, &[(0, b"JM"), (4, &sum.to_le_bytes())]);
    assert_eq!(vendor(&jm(0_u16.wrapping_sub(0x4d4a))), Some("jmicron"));
    assert_eq!(vendor(&jm(5)), None, "its checksum is wrong");
    for back in [63, 16, 3087] {
        assert_eq!(vendor(&disk(back, &[(0, b"Promise Technology, Inc.")])), Some("pdc"));
    }
    let sil = |sum: u16| disk(1, &[(0x60, b"\x00\x00\x00\x2f"), (0x13e, &sum.to_le_bytes())]);
    assert_eq!(vendor(&sil(0_u16.wrapping_sub(0x2f00))), Some("sil"));
    assert_eq!(vendor(&sil(0)), None, "its checksum is wrong");
    assert_eq!(vendor(&disk(1, &[(0, b"\x55\xaa"), (50, b"\xff")])), Some("via"));
    assert_eq!(vendor(&disk(1, &[(0, b"\x55\xaa"), (50, b"\xfe")])), None, "its checksum is wrong");
    assert_eq!(vendor(&vec![0; LEN]), None);
    for name in bios_arrays() {
        assert_eq!(disks(name).iter().find_map(|disk| vendor(disk)), None, "{name}");
    }
    assert_eq!(VENDORS.len(), 9);
}
