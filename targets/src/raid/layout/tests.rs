use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use sim_core::{Sector, Sectors};

use super::*;
use crate::lines::raid::Line;

const CHUNK: Sectors = Sectors(8);

/// A layout, and which chunk the kernel wrote where: leg, row and chunk.
struct Recorded {
    name: String,
    layout: Layout,
    word: u32,
    chunks: BTreeMap<(usize, u64), u64>,
    len: Sectors,
}

fn recorded() -> Vec<Recorded> {
    let mut all: Vec<Recorded> = Vec::new();
    let lines = include_str!("recorded.txt").lines();
    let mut leg = 0;
    for line in lines.filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("    ") {
            Some(row) => {
                let chunks = row.split(' ').enumerate().filter(|(_, chunk)| *chunk != "-");
                let chunks = chunks.map(|(nr, chunk)| ((leg, nr as u64), chunk.parse().unwrap()));
                all.last_mut().expect("a name").chunks.extend(chunks);
                leg += 1;
            }
            None => {
                let (name, rest) = line.split_once(": ").expect("a name");
                let (len, word) = rest.split_once(' ').expect("a word");
                let word = u32::from_str_radix(&word[2..], 16).expect("a word");
                let len = Sectors(len.parse().expect("a length"));
                let layout = Layout::Raid1 { legs: 0, device: Sectors(0) };
                let chunks = BTreeMap::new();
                all.push(Recorded { name: name.to_owned(), layout, word, chunks, len });
                leg = 0;
            }
        }
    }
    for recorded in &mut all {
        let legs = recorded.chunks.keys().map(|(leg, _)| leg + 1).max().expect("legs");
        let params: Vec<&str> = recorded.name.split(' ').collect();
        let devices = " - a".repeat(legs);
        let (kind, params) = params.split_first().expect("a type");
        let count = params.len() + 1;
        let text = format!("{kind} {count} 8 {} {legs}{devices}", params.join(" "));
        let line = Line::from_text(&text, recorded.len).expect("a line");
        assert_eq!(line.layout_word(), recorded.word, "{text}");
        let device = line.lengths(recorded.len).expect("lengths").device;
        let raid10 = Raid10::new(recorded.word, legs, CHUNK, device).expect("a layout");
        recorded.layout = Layout::Raid10(raid10);
    }
    all
}

#[test]
fn chunks_lie_where_the_kernel_puts_them() {
    let all = recorded();
    assert!(all.len() > 12);
    for Recorded { name, layout, chunks, len, .. } in all {
        assert_eq!(layout.len(), len, "{name}");
        let mut own = BTreeMap::new();
        for run in layout.runs(Sector(0)..Sector(len.0)) {
            assert_eq!(run.len, CHUNK);
            for place in &run.copies {
                let nr = place.sector.0 / CHUNK.0;
                let before = own.insert((place.leg, nr), run.at.0 / CHUNK.0);
                assert_eq!(before, None, "{name}: two chunks at {place:?}");
            }
        }
        assert_eq!(own, chunks, "{name}");
    }
}

#[test]
fn a_word_that_dm_raid_does_not_make_is_no_layout() {
    for word in [0x102, 0x103, 0x201, 0x40301, 0x50201, 0x10201] {
        let (format, copies, sets) = Raid10::parse(word).expect("a word");
        assert_eq!(Raid10::word(format, copies, sets), word);
    }
    for word in [0, 0x101, 0x202, 0x20201, 0x40102, 0x8_0201, 0x10101] {
        assert_eq!(Raid10::parse(word), None, "{word:#x}");
    }
    assert_eq!(Raid10::new(0x103, 2, CHUNK, Sectors(80)), None, "more copies than legs");
}

#[test]
fn a_length_of_no_whole_rows_is_cut_as_md_cuts_it() {
    // Lengths of the table, and what the kernel's resync goes through.
    let check = |word: u32, len: u64, resync: u64| {
        let raid10 = Raid10::new(word, 4, CHUNK, Sectors(len * 2 / 4)).expect("a layout");
        assert_eq!(Layout::Raid10(raid10).resync_len(), Sectors(resync), "{word:#x} {len}");
    };
    check(0x102, 164, 160);
    check(0x102, 168, 160);
    check(0x40201, 168, 160);
    check(0x40201, 176, 160);
    check(0x50201, 168, 160);
    let raid0 = |len: u64| Layout::Raid0 { legs: 2, chunk: CHUNK, device: Sectors(len / 2) }.len();
    assert_eq!(
        (raid0(4092), raid0(4090), raid0(4096)),
        (Sectors(4080), Sectors(4080), Sectors(4096))
    );
}

#[test]
fn a_set_starts_with_a_leg_of_each_copy() {
    let raid10 = |word| Raid10::new(word, 4, CHUNK, Sectors(80)).expect("a layout");
    let lost = |legs: &'static [usize]| move |leg: usize| legs.contains(&leg);
    let near = raid10(0x102);
    assert!(near.has_all(lost(&[1, 2])) && near.has_enough(lost(&[1, 2])));
    assert!(!near.has_all(lost(&[0, 1])) && !near.has_enough(lost(&[0, 1])));
    // The kernel does not know of the sets there.
    let far = raid10(0x40201);
    assert!(far.has_all(lost(&[1, 2])) && !far.has_enough(lost(&[1, 2])));
    let far = raid10(0x201);
    assert!(!far.has_all(lost(&[3, 0])) && !far.has_enough(lost(&[3, 0])));
}

fn layout() -> impl Strategy<Value = Layout> {
    let format = select(vec![Format::Near, Format::Far, Format::Offset]);
    let chunk = (3u32..7).prop_map(|shift| Sectors(1 << shift));
    (0..3u32, 2usize..9, 2usize..5, format, any::<bool>(), chunk, 0u64..3000).prop_map(
        |(level, legs, copies, format, sets, chunk, device)| match level {
            0 => Layout::Raid0 { legs, chunk, device: Sectors(device) },
            1 => Layout::Raid1 { legs, device: Sectors(device) },
            _ => {
                let word = Raid10::word(format, copies.min(legs), sets && format != Format::Near);
                let raid10 = Raid10::new(word, legs, chunk, Sectors(device));
                Layout::Raid10(raid10.expect("a layout"))
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sector_has_its_own_places_on_different_legs(layout in layout()) {
        let device = layout.recovery_len();
        let mut taken = std::collections::HashSet::new();
        for sector in 0..layout.len().0 {
            let places = layout.places(Sector(sector));
            prop_assert_eq!(places.len(), layout.copies());
            for (nr, place) in places.iter().enumerate() {
                prop_assert!(place.leg < layout.legs() && place.sector.0 < device.0);
                prop_assert!(places[..nr].iter().all(|other| other.leg != place.leg));
                prop_assert!(taken.insert(*place), "{:?} twice", place);
                prop_assert_eq!(layout.sector_at(*place), Some((Sector(sector), nr)));
            }
        }
        // What is no place of a sector is none the other way round too.
        for leg in 0..layout.legs() {
            for sector in 0..device.0 + 9 {
                let place = Place { leg, sector: Sector(sector) };
                prop_assert_eq!(layout.sector_at(place).is_some(), taken.contains(&place));
            }
        }
    }

    #[test]
    fn a_range_is_its_runs_side_by_side(layout in layout(), ends in any::<(u64, u64)>()) {
        let len = layout.len().0;
        let (a, b) = (ends.0 % (len + 1), ends.1 % (len + 1));
        let range = Sector(a.min(b))..Sector(a.max(b));
        let mut at = range.start;
        for run in layout.runs(range.clone()) {
            prop_assert_eq!(run.at, at);
            prop_assert!(!run.len.is_zero());
            for within in 0..run.len.0 {
                let moved = |place: &Place| Place {
                    leg: place.leg,
                    sector: place.sector + Sectors(within),
                };
                let places: Places = run.copies.iter().map(moved).collect();
                prop_assert_eq!(places, layout.places(run.at + Sectors(within)));
            }
            at += run.len;
        }
        prop_assert_eq!(at, range.end);
    }

    #[test]
    fn legs_that_are_lost_are_missed_where_they_had_all_copies(
        layout in layout(),
        lost in prop::collection::vec(any::<bool>(), 9),
    ) {
        let Layout::Raid10(raid10) = layout else { return Ok(()) };
        // Rows enough that every chunk that could be lost is there.
        prop_assume!(raid10.len().0 >= raid10.chunk().0 * raid10.legs() as u64);
        let chunks = (0..raid10.len().0).step_by(raid10.chunk().0 as usize);
        let mut places = chunks.map(|at| layout.places(Sector(at)));
        let whole = places.all(|copies| copies.iter().any(|place| !lost[place.leg]));
        prop_assert_eq!(raid10.has_all(|leg| lost[leg]), whole);
    }
}
