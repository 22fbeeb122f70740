//! What is the caller's fault is said, before anything is written.

use parity::{MOST_BLOCKS, scale_add, syndromes, xor, xor_to};

const SHORT: &[u8] = &[1; 511];
const BLOCK: &[u8] = &[1; 512];

#[test]
#[should_panic(expected = "the buffers differ in length")]
fn a_short_source_is_refused() {
    xor(&mut [0; 512], &[BLOCK, SHORT]);
}

#[test]
#[should_panic(expected = "a sum of nothing")]
fn a_sum_of_nothing_is_refused() {
    xor_to(&mut [0; 512], &[]);
}

#[test]
fn adding_nothing_changes_nothing() {
    let mut dest = [7; 512];
    xor(&mut dest, &[]);
    assert_eq!(dest, [7; 512]);
}

#[test]
#[should_panic(expected = "the buffers differ in length")]
fn a_short_block_is_refused() {
    syndromes(&[Some(BLOCK), None, Some(SHORT)], &mut [0; 512], &mut [0; 512]);
}

#[test]
#[should_panic(expected = "the buffers differ in length")]
fn a_short_q_is_refused() {
    syndromes(&[Some(BLOCK), Some(BLOCK)], &mut [0; 512], &mut [0; 511]);
}

#[test]
#[should_panic(expected = "0 data blocks of 1 to 255")]
fn p_and_q_of_nothing_are_refused() {
    syndromes(&[], &mut [0; 512], &mut [0; 512]);
}

#[test]
#[should_panic(expected = "256 data blocks of 1 to 255")]
fn more_blocks_than_q_can_tell_apart_are_refused() {
    syndromes(&[Some(BLOCK); MOST_BLOCKS + 1], &mut [0; 512], &mut [0; 512]);
}

#[test]
#[should_panic(expected = "block 255 of at most 255")]
fn a_place_past_the_last_is_refused() {
    scale_add(&mut [0; 512], MOST_BLOCKS, BLOCK);
}

#[test]
#[should_panic(expected = "the buffers differ in length")]
fn a_short_new_block_is_refused() {
    parity::replace(0, BLOCK, SHORT, &mut [0; 512], &mut [0; 512]);
}

#[test]
#[should_panic(expected = "block 1 is not lost")]
fn a_block_that_is_there_is_not_recovered() {
    let (data, [one, other]) = ([None, Some(BLOCK)], &mut [[0; 512]; 2]);
    parity::recover_two_data(&data, [0, 1], BLOCK, BLOCK, [one, other]);
}

#[test]
#[should_panic(expected = "block 2 is not lost")]
fn a_block_past_the_last_is_not_recovered() {
    let (data, [one, other]) = ([None, Some(BLOCK)], &mut [[0; 512]; 2]);
    parity::recover_data_and_p(&data, 2, BLOCK, one, other);
}

#[test]
#[should_panic(expected = "two lost blocks at one place")]
fn one_place_is_not_lost_twice() {
    let (data, [one, other]) = ([None, Some(BLOCK)], &mut [[0; 512]; 2]);
    parity::recover_two_data(&data, [0, 0], BLOCK, BLOCK, [one, other]);
}
