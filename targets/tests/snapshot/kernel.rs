//! Stores that Linux 6.12 left, also in the middle of a merge: what it made of them itself is in
//! the README beside them.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sim_core::{Sector, Sectors};
use testkit::{Schedule, SimDisk, Speed, World};

use crate::images::{image, pattern};
use crate::stack::{Stack, status};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes disks with these images.
fn disks(images: &[Vec<u8>]) -> Vec<Arc<SimDisk>> {
    let world = World::with(&Schedule::Random(0), targets::registry(), &[]);
    let disk = |image: &Vec<u8>| {
        let disk = world.add_disk(Sectors::in_bytes(image.len() as u64));
        disk.fill(Sector(0), image);
        disk.set_speed(Speed::AtOnce);
        disk
    };
    images.iter().map(disk).collect()
}

#[track_caller]
fn snapshot_reads(origin: Vec<u8>, store: &str, want_status: &str, want: &str) {
    let sectors = origin.len() / 512;
    let disks = disks(&[origin, image(store)]);
    let before = disks[1].content();
    let table = format!("0 {sectors} snapshot a b P 8");
    let stack = Stack::new(0, &disks, &[(0, table)]).expect("the kernel's store loads");
    assert_eq!(status(&stack.world, 0), want_status);
    assert_eq!(sha256(&stack.content(0).expect("it reads")), want);
    assert_eq!(disks[1].content(), before, "loading changes nothing");
}

const SEQUENTIAL: &str = "65482eedaeabf6fa1a3a5471f41451419c5cd412f1429479e68989d98eab7a0f";
const SCATTERED: &str = "316801e93260c75c2db88bf51243d3d8cab0353bb20251868fce3b8237c4e1ef";
const REVERSE: &str = "448680bf7e10f6b49e465e9fe549afda05bea35e9681079fcd0522fea73187a8";
const WRITTEN: &str = "c60d6c0cfc41371f8556104f7e15ba1117e870b8e1e9db6ac6202197bb8a4db9";

#[test]
fn stores_of_the_kernel_read_as_they_did_there() {
    snapshot_reads(pattern(0, 8192), "areas-sequential.cow", "4832/8192 32", SEQUENTIAL);
    snapshot_reads(
        image("areas-scattered.origin"),
        "areas-scattered.cow",
        "2584/8192 24",
        SCATTERED,
    );
    snapshot_reads(pattern(0, 4096), "areas-reverse.cow", "2424/4096 24", REVERSE);
}

#[test]
fn a_store_that_was_half_merged_still_reads_as_the_snapshot() {
    let origin = |name: &str| image(&format!("merge-cut-{name}-area.origin"));
    let second = "merge-cut-second-area.cow";
    snapshot_reads(origin("second"), second, "2272/4096 24", REVERSE);
    snapshot_reads(origin("first"), "merge-cut-first-area.cow", "1416/4096 16", WRITTEN);
}

#[track_caller]
fn merge_goes_on(name: &str, want_status: &str, origin: &str, store: &str) {
    let images = ["origin", "cow"].map(|what| image(&format!("merge-cut-{name}-area.{what}")));
    let disks = disks(&images);
    // So slow that the first status comes before the first step of the merge.
    let world = World::with(&Schedule::Priority(0), targets::registry(), &disks);
    disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
    let lines = crate::stack::specs("0 4096 snapshot-merge a b P 8");
    world.create(0).expect("a new device");
    world.load(0, lines).expect("the kernel's store loads");
    world.resume(0).expect("it resumes");
    world.sim.run_until_idle().expect("a merge ends");
    assert_eq!(status(&world, 0), "16/4096 16", "it was {want_status} at first");
    assert_eq!(sha256(&disks[0].content()), origin);
    assert_eq!(sha256(&disks[1].content()), store);
}

#[test]
fn a_merge_that_the_kernel_began_ends_here() {
    let empty = "d00aa8b7ef8499cfe3ec96c1d485e279560e831e470716978abc0480f4e20aee";
    merge_goes_on("second", "2272/4096 24", REVERSE, empty);
    let written = "03894ee84fc89a99cab294fd4b680fabaacaa57b58d58fb48494910d3bddfebb";
    merge_goes_on("first", "1416/4096 16", WRITTEN, written);
}
