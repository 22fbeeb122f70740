//! Stores whose device is grown or shrunk under them: the size is asked each time. What the status
//! says and which write fails is as recorded from Linux 6.12.

use sim_core::{Bio, BlkError, BlkResult, Held, Sector};
use testkit::send;

use crate::stack::{Stack, disks, specs, status};

/// An origin, a mapped device for the store, and the snapshot.
fn stack() -> Stack {
    let disks = disks(2);
    let tables = [
        (0, "0 256 linear a 0".to_owned()),
        (1, "0 48 linear b 0".to_owned()),
        (2, "0 256 snapshot 253:0 253:1 P 8".to_owned()),
    ];
    Stack::new(1, &disks, &tables).expect("a snapshot")
}

impl Stack {
    /// Writes a chunk of the snapshot.
    fn write(&self, chunk: u64) -> BlkResult {
        let data = [7; 8 * 512];
        let bio = Bio::write(Sector(chunk * 8), &data);
        let sent = self.world.sim.try_block_on(send(self.devices[2].clone(), bio));
        sent.expect("a write ends")
    }

    fn resize(&self, sectors: u64) {
        self.reload(1, &format!("0 {sectors} linear b 0")).expect("another size");
    }

    fn status(&self) -> String {
        status(&self.world, 2)
    }
}

#[test]
fn a_store_that_is_grown_in_time_goes_on() {
    let stack = stack();
    assert_eq!(stack.status(), "16/48 16");
    for chunk in 0..4 {
        assert_eq!(stack.write(chunk), Ok(()));
    }
    assert_eq!(stack.status(), "48/48 16");
    stack.world.suspend(2, Held::Flush).expect("it suspends");
    stack.world.load(1, specs("0 128 linear b 0")).expect("a larger table");
    stack.world.suspend(1, Held::Flush).expect("it suspends");
    stack.world.resume(1).expect("it resumes");
    // Before the snapshot itself resumes.
    assert_eq!(stack.status(), "48/128 16");
    stack.world.resume(2).expect("it resumes");
    for chunk in 4..14 {
        assert_eq!(stack.write(chunk), Ok(()), "chunk {chunk}");
    }
    assert_eq!(stack.status(), "128/128 16");
    // Also under the snapshot's feet.
    stack.resize(256);
    assert_eq!(stack.status(), "128/256 16");
    assert_eq!(stack.write(14), Ok(()));
    assert_eq!(stack.status(), "136/256 16");
}

#[test]
fn a_store_that_is_shrunk_is_full_at_once() {
    let stack = stack();
    stack.resize(128);
    for chunk in 0..10 {
        assert_eq!(stack.write(chunk), Ok(()));
    }
    assert_eq!(stack.status(), "96/128 16");
    stack.resize(64);
    assert_eq!(stack.status(), "96/64 16");
    let mut data = [0; 512];
    let lost = Bio::read(Sector(9 * 8), &mut data);
    let read = stack.world.sim.try_block_on(send(stack.devices[2].clone(), lost));
    assert_eq!(read.expect("a read ends"), Err(BlkError::Io));
    assert_eq!(stack.status(), "96/64 16", "a read ends nothing");
    assert_eq!(stack.write(20), Err(BlkError::Io));
    assert_eq!(stack.status(), "Invalid");
}

/// As a table with another line before it may have it: the addresses are those of the whole table.
#[test]
fn what_is_written_past_the_end_of_the_origin_is_there_or_fails() {
    let disks = disks(2);
    let tables = [
        (0, "0 64 linear a 0".to_owned()),
        (1, "0 256 linear b 0".to_owned()),
        (2, "0 16 linear a 64\n16 64 snapshot 253:0 253:1 N 8".to_owned()),
    ];
    let stack = Stack::new(1, &disks, &tables).expect("a snapshot");
    let write = |sector, data: &[u8]| {
        let bio = Bio::write(Sector(sector), data);
        stack.world.sim.try_block_on(send(stack.devices[2].clone(), bio)).expect("a write ends")
    };
    // The last chunk of the origin and the first behind it.
    assert_eq!(write(56, &[7; 16 * 512]), Ok(()));
    let mut found = vec![0; 16 * 512];
    let read = Bio::read(Sector(56), &mut found);
    let read = stack.world.sim.try_block_on(send(stack.devices[2].clone(), read));
    assert_eq!(read.expect("a read ends"), Ok(()));
    assert!(found.iter().all(|byte| *byte == 7));
    // A part of a chunk: the rest of it is nowhere.
    assert_eq!(write(73, &[7; 512]), Err(BlkError::Io));
}
