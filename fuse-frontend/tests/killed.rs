//! Requests whose callers are killed, in process: which are given up, and which are not.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use common::asked::{Answer, Channel, Slow, ask, end, read, write};
use common::{World, pattern};
use fuse_frontend::files::Interruption;
use fuse_frontend::request::{Disk, Durability, End, Refuse, Reply};
use sim_core::Errno;

/// `fallocate`: zeros.
const ZERO: u32 = 0x10;

/// As [`Channel`], of a caller that is about to be killed.
struct Dying<T>(Channel<T>, Arc<Interruption>);

impl<T: ?Sized + ToOwned<Owned = U>, U: Send + 'static> Reply<T> for Dying<U> {
    fn ok(self, answer: &T) {
        self.0.ok(answer);
    }
}

impl<T: Send + 'static> Refuse for Dying<T> {
    fn error(self, errno: Errno) {
        self.0.error(errno);
    }
    fn interruption(&mut self) -> Option<Arc<Interruption>> {
        Some(self.1.clone())
    }
}

/// Makes a request, and has its caller killed while it waits.
fn ask_and_die<T>(start: impl FnOnce(Dying<T>)) -> Answer<T> {
    let interruption = Arc::<Interruption>::default();
    let answer = ask(|reply| start(Dying(reply, interruption.clone())));
    interruption.set();
    answer
}

/// Every kind of request that waits, of a caller that dies.
fn dying(disk: &Arc<Disk>) -> Vec<Result<(), Errno>> {
    let write = |at, data: &[u8]| {
        end(ask_and_die(|reply| disk.write(at, data, Durability::AtFlush, reply))).map(drop)
    };
    vec![
        end(ask_and_die(|reply: Dying<Vec<u8>>| disk.read(0, 512, reply))).map(drop),
        write(0, &[1; 512]),
        write(5, &[1; 5]),
        end(ask_and_die(|reply| disk.flush(reply))),
        end(ask_and_die(|reply| disk.allocate(ZERO, 0, 4096, reply))),
    ]
}

#[test]
fn a_request_whose_caller_dies_is_given_up_where_it_is_held() {
    let world = World::new();
    let disk = world.disk_with("0 2048 linear disk 0");
    let above = world.disk(world.create("above", "0 1024 linear d 0\n1024 8 linear d 1024"));
    let mut model = pattern(8192);
    write(&disk, 0, &model).unwrap();
    world.suspend("d");
    for disk in [&disk, &above] {
        assert_eq!(dying(disk), [Err(Errno::INTR); 5]);
    }
    world.resume("d");
    assert!(read(&disk, 0, 8192).unwrap() == model, "nothing of it is carried out later");
    // What a killed change of a block held is free again.
    write(&disk, 3, b"abc").unwrap();
    model[3..6].copy_from_slice(b"abc");
    assert!(read(&disk, 0, 8192).unwrap() == model);
}

#[test]
fn a_request_that_may_have_begun_is_carried_to_its_end_though_its_caller_dies() {
    let world = World::new();
    let slow = Slow::over(world.create("below", "0 8192 linear disk 0"));
    world.devices.add("slow", slow.clone());
    let device = world.create("d", "0 2048 linear slow 0");
    let disks = [world.disk(slow.clone()), world.disk(device)];
    for disk in disks {
        slow.gate.close();
        slow.seen();
        let written = ask_and_die(|reply| disk.write(0, &[7; 512], Durability::AtFlush, reply));
        assert_eq!(written.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        assert_eq!(slow.seen(), ["Write 0+1"]);
        slow.gate.open();
        assert_eq!(end(written), Ok(512));
    }
}

#[test]
fn a_request_is_held_only_where_every_way_down_is() {
    let world = World::new();
    let held = world.create("held", "0 2048 linear disk 0");
    world.create("free", "0 2048 linear disk 2048");
    let all = [
        ("over-held", "0 2048 linear held 0"),
        ("over-both", "0 2048 striped 2 8 held 0 free 0"),
        ("over-disk", "0 2048 linear disk 0"),
        (
            "over-crypt",
            "0 2048 crypt aes-xts-plain64 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 0 held 0",
        ),
        ("over-over", "0 1024 linear over-held 0\n1024 1024 linear held 0"),
    ];
    let devices = all.map(|(name, table)| world.create(name, table));
    assert!(devices.iter().all(|device| !device.holds_all()) && !held.holds_all());
    world.suspend("held");
    let holds = devices.each_ref().map(|device| device.holds_all());
    assert_eq!(holds, [true, false, false, false, true]);
    assert!(held.holds_all());
}

/// A change of many pieces ends after the one that it has begun.
#[test]
fn a_change_of_many_pieces_is_given_up_between_two() {
    const EXABYTE: u64 = 1 << 60;
    let world = World::new();
    let key = "00112233445566778899aabbccddeeff".repeat(2);
    world.create("endless", "0 18014398509481983 zero");
    let device =
        world.create("d", &format!("0 18014398509481983 crypt aes-xts-plain64 {key} 0 endless 0"));
    let disk = world.disk(device);
    let interruption = Arc::<Interruption>::default();
    // As long as nobody is killed it goes on, and on.
    let dying = |reply| Dying(reply, interruption.clone());
    let answer = ask(|reply| disk.allocate(ZERO, 0, EXABYTE, dying(reply)));
    assert_eq!(answer.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    interruption.set();
    assert_eq!(end(answer), Err(Errno::INTR));
    write(&disk, 0, &[3; 4096]).unwrap();
    // So does the gap that a truncation makes zeros, for which all writers wait.
    let cut = Arc::<End>::default();
    assert_eq!(end(ask(|reply| disk.truncate(&cut, 0, true, || (), reply))), Ok(()));
    let answer = ask_and_die(|reply| disk.truncate(&cut, EXABYTE, true, || (), reply));
    assert_eq!(end(answer), Err(Errno::INTR));
    write(&disk, 0, &[4; 4096]).unwrap();
}
