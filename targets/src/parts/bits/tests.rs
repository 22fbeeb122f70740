use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    One(u64, bool),
    Range(u64, u64, bool),
    Remove(u64, u64),
    Complement,
    Bytes,
}

fn step() -> impl Strategy<Value = Step> {
    // Around the borders of words and pages, and the bound of the set.
    let place = prop_oneof![0..200u64, PAGE - 70..PAGE + 70, 2 * PAGE - 70..2 * PAGE + 70];
    let value = any::<bool>();
    prop_oneof![
        4 => (place.clone(), value).prop_map(|(at, value)| Step::One(at, value)),
        2 => (place.clone(), place.clone(), value)
            .prop_map(|(one, other, value)| Step::Range(one, other, value)),
        1 => (place.clone(), place).prop_map(|(one, other)| Step::Remove(one, other)),
        1 => Just(Step::Complement),
        1 => Just(Step::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_set_does_what_a_set_does(
        len in prop::sample::select(vec![1, 63, 64, 130, PAGE - 1, PAGE, PAGE + 65, 2 * PAGE + 3]),
        all in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut bits = Bits::new(len, all);
        let mut model: BTreeSet<u64> = if all { (0..len).collect() } else { BTreeSet::new() };
        for step in steps {
            match step {
                Step::One(at, value) if at < len => {
                    bits.set(at, value);
                    if value { model.insert(at); } else { model.remove(&at); }
                }
                Step::One(..) => {}
                Step::Range(one, other, value) => {
                    let range = one.min(other)..one.max(other);
                    bits.set_range(range.clone(), value);
                    let range = range.start..range.end.min(len);
                    if value { model.extend(range); } else { model.retain(|at| !range.contains(at)); }
                }
                Step::Remove(one, other) => {
                    let mut gone = Bits::new(len, false);
                    let range = one.min(other)..one.max(other);
                    gone.set_range(range.clone(), true);
                    bits.remove(&gone);
                    model.retain(|at| !range.contains(at));
                }
                Step::Complement => {
                    bits = bits.complement();
                    model = (0..len).filter(|at| !model.contains(at)).collect();
                }
                Step::Bytes => {
                    let mut bytes = vec![0xaa; len.div_ceil(64) as usize * 8 + 8];
                    bits.get_bytes(0, &mut bytes);
                    let mut read = Bits::new(len, !all);
                    // In two pieces, as from a disk.
                    let (head, tail) = bytes.split_at(8 * (bytes.len() / 24));
                    prop_assert_eq!(read.put_bytes(0, head), Ok(()));
                    prop_assert_eq!(read.put_bytes(head.len() as u64 * 8, tail), Ok(()));
                    bits = read;
                }
            }
            prop_assert_eq!(bits.ones(), model.len() as u64);
            prop_assert_eq!(bits.runs().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            for at in [0, 63, 64, len / 2, len - 1].into_iter().filter(|at| *at < len) {
                prop_assert_eq!(bits.get(at), model.contains(&at));
                prop_assert_eq!(bits.next_zero(at), (at..len).find(|at| !model.contains(at)));
            }
        }
    }
}

#[test]
fn a_set_that_is_the_same_all_over_takes_no_memory_whatever_its_bound() {
    let mut bits = Bits::new(u64::MAX >> 10, true);
    assert_eq!((bits.ones(), bits.next_zero(5), bits.heap_bytes()), (bits.len(), None, 0));
    assert_eq!(bits.complement().next_zero(5), Some(5));
    bits = Bits::new(1 << 32, false);
    bits.set(1 << 31, true);
    assert!(bits.heap_bytes() < 3 << 20, "{} bytes", bits.heap_bytes());
    assert!(bits.runs().eq(std::iter::once(1 << 31..(1 << 31) + 1)));
    bits.set_range(10..1 << 32, true);
    assert!(bits.runs().eq(std::iter::once(10..1 << 32)));
    bits.set_range(0..1 << 32, true);
    assert_eq!((bits.is_full(), bits.heap_bytes()), (true, 0));
}

#[test]
fn a_page_that_is_the_same_again_is_given_back() {
    let mut bits = Bits::new(4 * PAGE, false);
    bits.set(0, true);
    let one = bits.heap_bytes();
    (0..PAGE).for_each(|at| bits.set(at, true));
    assert!(bits.heap_bytes() < one && bits.get(PAGE - 1) && !bits.get(PAGE));
}

#[test]
fn a_number_that_there_is_no_memory_for_is_said() {
    let mut bits = Bits::new(u64::MAX >> 10, false);
    assert_eq!(bits.put_bytes(0, &[1; 8]), Err(NoMemory));
    assert_eq!(bits.ones(), 0);
}

#[test]
fn sets_have_a_number_in_common_or_not() {
    let (mut one, mut other) = (Bits::new(2 * PAGE, false), Bits::new(2 * PAGE, false));
    one.set(PAGE + 70, true);
    other.set(PAGE + 71, true);
    assert!(!Bits::any_in_all([Some(&one), Some(&other)].into_iter()));
    other.set(PAGE + 70, true);
    assert!(Bits::any_in_all([Some(&one), Some(&other)].into_iter()));
    assert!(!Bits::any_in_all([Some(&one), None].into_iter()));
}
