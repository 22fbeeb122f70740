//! Damage by chance: no panic, nothing outside the image, few bytes read.

use proptest::prelude::*;

use crate::support::{checked, checked_of_len, entry, gpt, mbr, seal};

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
