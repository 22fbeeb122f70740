//! Damage by chance: no panic, nothing outside the image, few bytes read.

use std::io;

use proptest::prelude::*;
use recognise::partitions::read;
use recognise::{Error, Source};

use crate::support::{checked, checked_of_len, entry, gpt, mbr, places, seal};

/// The images that are damaged, with the size of their sectors.
fn images() -> [(usize, Vec<u8>); 4] {
    let spans = [(10, 19), (20, 29), (30, 60)];
    let mut hybrid = gpt(512, 128, &spans);
    entry(&mut hybrid, 0, 1, 0x83, 10, 10);
    [(512, gpt(512, 128, &spans)), (4096, gpt(4096, 64, &spans)), (512, mbr()), (512, hybrid)]
}

/// A change: where, in which of the parts that are read, and what to write.
fn change() -> impl Strategy<Value = (prop::sample::Index, usize, Vec<u8>)> {
    let edges = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0; 8]),
        Just(vec![0xff; 8]),
        (0u32..300).prop_map(|number| number.to_le_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), 0usize..512, edges)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damage_does_no_harm(
        which in 0usize..4,
        changes in prop::collection::vec(change(), 0..8),
        seals in any::<bool>(),
        cut in prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)],
        longer in prop_oneof![Just(0u64), 0..10_000u64, 0..u64::MAX / 2],
    ) {
        let (size, mut image) = images()[which].clone();
        let last = image.len() / size - 1;
        let places = [0, size, 2 * size, (last - 1) * size, last * size, 32 * 512, 96 * 512, 160 * 512];
        for (place, offset, bytes) in changes {
            let at = (places[place.index(places.len())] + offset).min(image.len() - bytes.len());
            image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        if seals {
            seal(&mut image, size, 1);
            seal(&mut image, size, last as u64);
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        for sector_size in [None, Some(512), Some(4096)] {
            let _ = checked_of_len(&image, image.len() as u64 + longer, sector_size);
        }
    }

    #[test]
    fn noise_is_read_without_harm(mut noise in prop::collection::vec(any::<u8>(), 512..8192)) {
        noise[510..512].copy_from_slice(&[0x55, 0xaa]);
        for slot in 0..4 {
            noise[446 + 16 * slot] &= 0x80;
        }
        let _ = checked(&noise, None);
    }
}

#[test]
fn an_image_cut_at_any_length_is_read_without_harm() {
    for (_, image) in images() {
        for len in (0..image.len()).step_by(61) {
            let _ = checked(&image[..len], None);
        }
    }
}

/// An image of which some sectors cannot be read.
struct Bad<'a> {
    bytes: &'a [u8],
    bad: std::ops::Range<u64>,
}

impl Source for Bad<'_> {
    fn len(&self) -> u64 {
        Source::len(self.bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if offset < self.bad.end && self.bad.start < offset + into.len() as u64 {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_at(offset, into)
    }
}

#[test]
fn what_cannot_be_read_is_damaged_and_the_rest_counts() {
    let found = |bytes: &[u8], bad: std::ops::Range<u64>| {
        let bad = bad.start * 512..bad.end * 512;
        read(&Bad { bytes, bad }).map(|table| table.map(|table| (places(&table), table.warnings)))
    };
    let [(_, image), _, (_, chain), _] = images();
    let all = "1: 10+10, 2: 20+10, 3: 30+31";
    for (bad, expected) in [
        (
            1..2,
            "the GPT in sector 1 is damaged (reading 512 bytes at 512: bad sector): its backup, in sector 127, counts",
        ),
        (
            2..3,
            "the GPT in sector 1 is damaged (reading 512 bytes at 1024: bad sector): its backup, in sector 127, \
             counts",
        ),
        (
            127..128,
            "the backup of the GPT, in sector 127, is damaged (reading 512 bytes at 65024: bad sector)",
        ),
    ] {
        let (places, warnings) = found(&image, bad).unwrap().unwrap();
        assert_eq!((&*places, &warnings[..]), (all, &[expected.to_owned()][..]));
    }
    let (places, warnings) = found(&chain, 96..97).unwrap().unwrap();
    assert_eq!(places, "1: 8+8, 2: 32+200, 5: 34+16");
    assert_eq!(
        warnings,
        [
            "the chain of logical partitions in partition 2 cannot be read: reading 512 bytes at 49152: bad sector: it \
          ends there"
        ]
    );
    let first = found(&image, 0..1);
    assert!(matches!(first, Err(Error::Io { offset: 0, .. })), "{first:?}");
}
