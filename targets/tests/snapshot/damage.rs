//! Damaged stores: a clear error, or a device that reads, writes and ends; never more.

use std::sync::Arc;

use sim_core::{Bio, Sector};
use testkit::{Rng, SimDisk, each_seed, pattern, send};

use crate::stack::{Stack, disks, status};

/// A store in chunks of one sector, of which 32 make an area: header, area, 32 chunks, area, 8.
const TABLE: &str = "0 64 snapshot a b P 1";
const MERGE: &str = "0 64 snapshot-merge a b P 1";
const STORE: u64 = 1 + 33 + 9;

fn used_store(exceptions: u64) -> Vec<Arc<SimDisk>> {
    let disks = disks(2);
    let stack = Stack::new(0, &disks, &[(0, TABLE.to_owned())]).expect("a sound table");
    for number in 0..exceptions {
        let sector = number * 7 % 64;
        let data = pattern(900 + number, sector, 1);
        let written = send(stack.devices[0].clone(), Bio::write(Sector(sector), &data));
        assert_eq!(stack.world.sim.block_on(written), Ok(()));
    }
    disks
}

/// Loads the store as a snapshot, then as a merge, and uses it; returns why it was refused.
fn try_out(disks: &[Arc<SimDisk>]) -> Result<(), String> {
    let before: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
    let mut outcome = Ok(());
    for table in [TABLE, MERGE] {
        match Stack::new(0, disks, &[(0, table.to_owned())]) {
            Err(why) => outcome = Err(why),
            Ok(stack) => use_it(&stack),
        }
        disks.iter().zip(&before).for_each(|(disk, at)| disk.rewind(*at));
    }
    outcome
}

fn use_it(stack: &Stack) {
    // May fail, where the store lies; must end.
    let _content = stack.content(0);
    for sector in [0, 7, 63] {
        let data = pattern(2000, sector, 1);
        let write = send(stack.devices[0].clone(), Bio::write(Sector(sector), &data));
        let _ended = stack.world.sim.try_block_on(write).expect("a write ends");
    }
    stack.world.sim.run_until_idle().expect("a merge ends");
    let text = status(&stack.world, 0);
    assert!(!text.is_empty());
    stack.world.suspend(0, sim_core::Held::Flush).expect("it can be suspended");
}

#[test]
fn every_sector_zeroed_flipped_or_from_before() {
    let (older, newer) = (used_store(11), used_store(40));
    let (mut refused, mut taken) = (0, 0);
    for sector in (0..STORE).map(Sector) {
        let good = newer[1].sector(sector);
        let flipped: Vec<u8> = good.iter().map(|byte| !byte).collect();
        let mut one_bit = good.clone();
        one_bit[sector.0 as usize % 512] ^= 0x10;
        for bad in [vec![0; 512], flipped, one_bit, older[1].sector(sector)] {
            newer[1].fill(sector, &bad);
            match try_out(&newer) {
                Ok(()) => taken += 1,
                Err(why) => {
                    refused += 1;
                    let told = why.contains("Failed to read snapshot metadata");
                    assert!(told, "sector {sector}: {why}");
                }
            }
            newer[1].fill(sector, &good);
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused >= 4, "a header or an area that is upside down is refused");
}

#[test]
fn random_bytes_of_metadata() {
    let disks = used_store(40);
    each_seed("-p dmsim-targets --test snapshot random_bytes_of_metadata", 300, |seed| {
        let mut rng = Rng::new(seed);
        let sector = Sector([0, 1, 34][rng.below(3)]);
        let good = disks[1].sector(sector);
        let mut bad = good.clone();
        for _ in 0..1 + rng.below(6) {
            let at = [rng.below(512), rng.below(32)][rng.below(2)];
            bad[at] = [0, 0xff, rng.number() as u8][rng.below(3)];
        }
        disks[1].fill(sector, &bad);
        let _either = try_out(&disks);
        disks[1].fill(sector, &good);
        Ok(())
    });
}

/// Writes `entries` over the first area, and returns why the store is refused.
#[track_caller]
fn refused(entries: &[(u64, u64)], want: &str) {
    let disks = used_store(3);
    let mut area = vec![0; 512];
    for (bytes, (old, new)) in area.chunks_exact_mut(16).zip(entries) {
        bytes[..8].copy_from_slice(&old.to_le_bytes());
        bytes[8..].copy_from_slice(&new.to_le_bytes());
    }
    disks[1].fill(Sector(1), &area);
    let why = try_out(&disks).expect_err("a damaged store is refused");
    assert!(why.contains(want), "{why}");
}

#[test]
fn entries_that_cannot_be_right_are_named() {
    refused(&[(7, 2), (8, 256)], "area 0, entry 1: chunk 256 of the store, which has 256");
    refused(&[(7, u64::MAX)], "entry 0: chunk 18446744073709551615 of the store, which has 256");
    refused(&[(7, 1)], "entry 0: chunk 1 of the store is metadata");
    refused(&[(7, 2), (8, 34)], "entry 1: chunk 34 of the store is metadata");
    refused(&[(7, 2), (9, 3), (7, 4)], "entry 2: a second exception of chunk 7");
    refused(&[(7, 2), (9, 3), (8, 2)], "chunk 2 of the store has the data of two exceptions");
    refused(&[(u64::MAX, 2)], "chunk 18446744073709551615 of the origin, which no device has");
}

#[test]
fn an_exception_past_the_origin_does_no_harm() {
    let disks = used_store(3);
    let mut area = disks[1].sector(Sector(1));
    area[48..56].copy_from_slice(&1_000_000u64.to_le_bytes());
    area[56..64].copy_from_slice(&9u64.to_le_bytes());
    disks[1].fill(Sector(1), &area);
    assert_eq!(try_out(&disks), Ok(()));
}

/// A header that promises chunks of a gigabyte costs neither the memory nor the time for one.
#[test]
fn a_chunk_size_that_lies_is_refused() {
    for (chunk, want) in [
        (0u32, "Chunk size is not a power of 2"),
        (12, "Chunk size is not a power of 2"),
        (1 << 31, "Chunk size is too high"),
        (1 << 21, "is not there"),
        (256, "is not there"),
    ] {
        let disks = used_store(3);
        let mut header = disks[1].sector(Sector(0));
        header[12..16].copy_from_slice(&chunk.to_le_bytes());
        disks[1].fill(Sector(0), &header);
        let why = try_out(&disks).expect_err("a store that lies is refused");
        assert!(why.contains(want), "chunk size {chunk}: {why}");
    }
}
