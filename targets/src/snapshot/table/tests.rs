use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a lookup has to say, by the model: up to the next multiple of 128 chunks.
fn expected(model: &BTreeMap<u64, u64>, old: u64) -> Lookup {
    let end = (old / GROUP + 1) * GROUP;
    let run = |matches: &dyn Fn(u64) -> bool| (old..end).take_while(|at| matches(*at)).count();
    match model.get(&old) {
        Some(&new) => {
            let len = run(&|at| model.get(&at) == Some(&(new + (at - old)))) as u64;
            Lookup::Exception { new, len }
        }
        None => Lookup::Origin { len: run(&|at| !model.contains_key(&at)) as u64 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Insert (`new` above zero) and remove, in a small space around the borders of groups.
    #[test]
    fn a_table_does_what_a_map_does(
        steps in prop::collection::vec((0u64..400, 0u64..60, any::<bool>()), 1..400),
        spread in prop::sample::select(vec![1u64, 127, 1 << 40]),
    ) {
        let (mut table, mut model) = (ExceptionTable::new(), BTreeMap::new());
        for (slot, shift, insert) in steps {
            let old = slot * spread;
            // Many runs that go on from their neighbours, and some that do not.
            let new = 1000 + slot + shift / 50 * 7;
            if insert {
                let before = model.get(&old).copied();
                match table.insert(old, new) {
                    Ok(()) => prop_assert_eq!(model.insert(old, new), None),
                    Err(found) => prop_assert_eq!(Some(found.new), before),
                }
            } else {
                prop_assert_eq!(table.remove(old), model.remove(&old));
            }
            prop_assert_eq!(table.lookup(old), expected(&model, old));
        }
        prop_assert_eq!(table.len(), model.len() as u64);
        for slot in 0..401 {
            let old = slot * spread;
            prop_assert_eq!(table.lookup(old), expected(&model, old));
        }
        let chunks = table.iter().flat_map(|(old, new, len)| (old..old + len).zip(new..));
        prop_assert_eq!(chunks.collect::<BTreeMap<_, _>>(), model);
    }
}

/// A deterministic sequence (SplitMix64).
fn random(index: u64) -> u64 {
    let z = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn random_exceptions_take_less_than_24_bytes_each_at_any_time() {
    const MOST: u64 = 1_000_000;
    // From alone in their groups to half of all chunks.
    for space in [1 << 34, MOST * 128, MOST * 32, MOST * 4, MOST * 5 / 4] {
        let mut table = ExceptionTable::new();
        for index in 0..MOST {
            let _already_there =
                table.insert(random(index) % space, random(index + MOST) % MAX_NEW);
            // The fixed part counts for little from here on.
            if index > 100_000 && index % 997 == 0 {
                let each = table.heap_bytes() as f64 / table.len() as f64;
                assert!(each < 24.0, "{each:.1} bytes each, {} of {space} chunks", table.len());
            }
        }
    }
}

/// Groups that found their bucket full lie in a later one, and come back when there is room.
#[test]
fn groups_that_had_no_room_at_home_are_found_whatever_is_taken_away() {
    const MOST: u64 = 60_000;
    let group = |index: u64| random(index) % (MAX_OLD / GROUP) * GROUP;
    let (mut table, mut model) = (ExceptionTable::new(), BTreeMap::new());
    for index in 0..MOST {
        assert!(table.insert(group(index), index + 1).is_ok());
        model.insert(group(index), index + 1);
    }
    // In no order that has to do with the first.
    let mut order: Vec<u64> = (0..MOST).collect();
    order.sort_by_key(|index| random(index + MOST));
    for (nr, index) in order.into_iter().enumerate() {
        let old = group(index);
        assert_eq!(table.remove(old), model.remove(&old), "the group of chunk {old}");
        assert_eq!(table.remove(old), None);
        if nr % 5000 == 0 {
            let mut left: Vec<_> = table.iter().collect();
            left.sort_unstable();
            assert!(left.into_iter().eq(model.iter().map(|(old, new)| (*old, *new, 1))));
        }
    }
    assert_eq!(table.len(), 0);
}

#[test]
fn exceptions_in_a_row_take_less_than_a_byte_each() {
    let mut table = ExceptionTable::new();
    for chunk in 0..1_000_000 {
        table.insert(chunk, chunk + 2).expect("a new chunk");
    }
    let bytes = table.heap_bytes();
    assert!(bytes < 1_000_000, "{bytes} bytes for a million");
}

#[test]
fn many_at_once_are_what_they_are_one_by_one() {
    // Enough for the second call to go shard by shard; some chunks come twice, near and far.
    let chunk = |nr: u64| nr.wrapping_mul(MIX) >> 34;
    let entries: Vec<(u64, u64)> = (0..600_000)
        .map(|nr| if nr % 1000 == 999 { (chunk(nr / 2), nr) } else { (chunk(nr), nr) })
        .collect();
    let (mut one_by_one, mut refused) = (ExceptionTable::new(), Vec::new());
    for (at, (old, new)) in entries.iter().enumerate() {
        refused.extend(one_by_one.insert(*old, *new).is_err().then_some(at));
    }
    let (first, second) = entries.split_at(400_000);
    let mut at_once = ExceptionTable::new();
    let mut refused_at_once = at_once.insert_all(first, |entry| *entry);
    assert!(at_once.heap_bytes() >= CACHED, "the second call would go one by one");
    let second = at_once.insert_all(second, |entry| *entry);
    refused_at_once.extend(second.into_iter().map(|at| first.len() + at));
    assert!(refused.len() > 200);
    assert_eq!(refused_at_once, refused);
    assert_eq!(at_once.len(), one_by_one.len());
    assert!(at_once.iter().eq(one_by_one.iter()));
}
