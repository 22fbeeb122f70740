use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use futures_util::FutureExt;
use sim_core::{
    Access, Area, BlkError, BlockDevice, Locked, OpenDevice, Runtime, Sector, Sectors, Signal,
};
use testkit::{Fault, SimDisk, World};

use super::*;

const REGIONS: u64 = 100_000;

/// Where the bit of a region lies on the device.
fn bit_of(region: u64) -> (usize, u8) {
    (1024 + region as usize / 8, 1 << (region % 8))
}

/// A log, and nothing else.
struct Alone {
    log: Locked<DirtyLog>,
    device: Area,
    runtime: Arc<dyn Runtime>,
    committed: Signal,
    failures: AtomicU32,
}

impl Keeper for Alone {
    fn with_log<T>(&self, look: impl FnOnce(&mut DirtyLog) -> T) -> T {
        look(&mut self.log.lock())
    }

    fn log_device(&self) -> Option<&Area> {
        Some(&self.device)
    }

    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    fn committed(&self) -> &Signal {
        &self.committed
    }

    fn log_has_failed(&self) {
        self.failures.fetch_add(1, SeqCst);
    }
}

fn alone(world: &World, disk: &Arc<SimDisk>) -> Arc<Alone> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    let open = OpenDevice::new(device, Access::ReadWrite).expect("a disk opens");
    Arc::new(Alone {
        log: Locked::new(DirtyLog::disk(REGIONS, Sectors(1))),
        device: Area::whole(Arc::new(open)),
        runtime: world.sim.runtime(),
        committed: Signal::default(),
        failures: AtomicU32::new(0),
    })
}

fn rig(seed: u64) -> (World, Arc<SimDisk>, Arc<Alone>) {
    let world = World::new(seed, sim_core::Registry::new());
    let disk = world.add_disk(Sectors(64));
    let log = alone(&world, &disk);
    (world, disk, log)
}

fn commit_now(world: &World, log: &Arc<Alone>, mark: u64) -> sim_core::BlkResult {
    let log = log.clone();
    world.sim.block_on(async move { commit(&log, mark).await })
}

fn is_clean(disk: &SimDisk, region: u64) -> bool {
    let (byte, bit) = bit_of(region);
    disk.content()[byte] & bit != 0
}

#[test]
fn marks_that_come_together_share_a_commit_and_a_flush() {
    let (world, disk, log) = rig(1);
    let marks = log.with_log(|log| [log.mark(3), log.mark(80_000), log.mark(4)]);
    assert_eq!(marks, [1, 1, 1]);
    log.with_log(|log| log.clean(5));
    assert_eq!(commit_now(&world, &log, 1), Ok(()));
    assert!(log.with_log(|log| log.is_durable(1)));
    assert!(!is_clean(&disk, 3) && is_clean(&disk, 5) && !is_clean(&disk, 80_000));
    assert_eq!(
        (disk.counts().writes, disk.counts().flushes),
        (2, 1),
        "a write for each run of blocks"
    );
    // What is marked already takes no commit.
    assert!(log.with_log(|log| {
        let mark = log.mark(3);
        log.is_durable(mark)
    }));
}

#[test]
fn a_clean_bit_waits_for_nobody_and_takes_no_flush() {
    let (world, disk, log) = rig(2);
    let mark = log.with_log(|log| log.mark(9));
    assert_eq!(commit_now(&world, &log, mark), Ok(()));
    log.with_log(|log| log.clean(9));
    let own = log.clone();
    assert_eq!(world.sim.block_on(async move { commit_changes(&own).await }), Ok(()));
    assert_eq!(disk.counts().flushes, 1);
    log.with_log(|log| log.distrust_copies());
    log.with_log(|log| log.clean(9));
    assert_eq!(log.with_log(|log| log.clean_regions().ones()), 0, "no region is clean any more");
}

#[test]
fn a_commit_that_fails_is_told_of_and_the_next_writes_its_marks_too() {
    let (world, disk, log) = rig(3);
    log.with_log(|log| log.header_is_volatile());
    assert_eq!(commit_now(&world, &log, 1), Ok(()));
    assert!(is_clean(&disk, 1), "the whole log is there");
    disk.inject(Fault::Range(Sector(0), Sectors(8)));
    let mark = log.with_log(|log| log.mark(1));
    assert_eq!(commit_now(&world, &log, mark), Err(BlkError::Io));
    assert_eq!(
        (log.failures.load(SeqCst), log.with_log(|log| log.health())),
        (1, LogHealth::Failed)
    );
    disk.heal();
    let again = log.with_log(|log| log.pending(mark));
    assert_eq!((mark, again), (2, 3));
    assert_eq!(commit_now(&world, &log, again), Ok(()));
    assert!(log.with_log(|log| log.is_durable(mark)) && !is_clean(&disk, 1));
    assert_eq!(log.failures.load(SeqCst), 1, "it is told of once");
}

#[test]
fn who_gives_up_waiting_leaves_the_commit_to_the_others() {
    let (world, _disk, log) = rig(4);
    let mark = log.with_log(|log| log.mark(1));
    let given_up = Box::pin(commit(&log, mark));
    assert_eq!(given_up.now_or_never(), None);
    assert_eq!(commit_now(&world, &log, mark), Ok(()));
}

#[test]
fn a_region_that_is_let_go_of_has_the_mark_that_it_lacks() {
    let mut log = DirtyLog::disk(64, Sectors(1));
    (0..8).for_each(|region| log.clean(region));
    // Two commits have ended well.
    (log.began, log.ended, log.durable) = (2, 2, 2);
    let mark = log.mark(5);
    assert!(!log.is_durable(mark));
    log.leave(mark);
    let again = log.mark(5);
    assert!(!log.is_durable(again) && !log.is_durable(log.unclean()));
    assert_eq!((log.pending(again), log.mark(6)), (3, 3));
    // The third fails: whoever needs the mark asks for a fourth.
    (log.began, log.ended) = (3, 3);
    assert_eq!((log.is_durable(again), log.pending(again)), (false, 4));
    // What was durable when it was let go of asks for nothing.
    log.durable = 3;
    log.leave(again);
    let mark = log.mark(5);
    assert!(log.is_durable(mark));
}
