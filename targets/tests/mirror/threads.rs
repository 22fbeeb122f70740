//! A mirror under real threads: what the simulation takes apart has to hold together, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backing::{Memory, Pool, block_on};
use sim_core::control::{Command, Id, Slot, WhenOpen};
use sim_core::{
    Access, Backing, Bio, BlockDevice, BoxFuture, Control, DevNumber, Errno, Held, NoLog, Sector,
    Sectors, parse_table,
};

/// 64 regions, in which large writes have room.
const LEN: u64 = 64 * REGION;
const REGION: u64 = 2048;

struct Disks(Vec<Arc<Memory>>);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.get(number.minor as usize).cloned();
        disk.map(|disk| disk as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move { self.by_number(word.parse()?) })
    }
}

fn id() -> Id {
    Id::Name("m".to_owned())
}

#[test]
fn legs_are_equal_after_many_threads_and_suspends() {
    let disk = |minor| {
        let number = DevNumber { major: 7, minor };
        Memory::new(number, &format!("loop{minor}"), Sectors(LEN), 512)
    };
    let disks: Vec<Arc<Memory>> = (0..4).map(disk).collect();
    let log = Arc::new(NoLog);
    let backing = Arc::new(Disks(disks.clone()));
    let control = Control::new(targets::registry(), backing, Pool::new(3), log);
    let call = |command| block_on(control.execute(command)).expect("it works");
    call(Command::DevCreate { name: "m".to_owned(), uuid: None, minor: None });
    let table = format!("0 {LEN} mirror disk 2 7:3 {REGION} 3 7:0 0 7:1 0 7:2 0");
    let targets = parse_table(&table).expect("a line").into_iter().map(|(_, spec)| spec).collect();
    let (access, base) = (Access::ReadWrite, String::new());
    call(Command::TableLoad { id: id(), access, targets, base });
    call(Command::DevResume { id: id(), held: Held::Flush });
    let device = control.device(&id()).expect("a device");
    let until = Instant::now() + Duration::from_millis(1500);
    std::thread::scope(|threads| {
        for thread in 0..4u64 {
            let device = device.clone();
            threads.spawn(move || {
                for round in 0u64.. {
                    if Instant::now() > until {
                        break;
                    }
                    // All threads write the same few sectors, and some of their own.
                    let sector = [round % 16, (round * 97 + thread * LEN / 4) % (LEN - REGION)];
                    // A large one is more than one processor's work.
                    let sectors = if round % 32 < 2 { 1100 } else { 8 };
                    let data = vec![(round * 4 + thread) as u8; sectors * 512];
                    let bio = Bio::write(Sector(sector[round as usize % 2]), &data);
                    let bio = if round.is_multiple_of(64) { bio.with_fua() } else { bio };
                    let result = match device.try_now(bio) {
                        Ok(result) => result,
                        Err(bio) => block_on(device.submit(bio)),
                    };
                    result.expect("no disk fails");
                }
            });
        }
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(40));
            call(Command::DevSuspend { id: id(), held: Held::Flush });
            call(Command::DevResume { id: id(), held: Held::Flush });
        }
    });
    drop(device);
    let status = Command::DevStatus { id: id(), slot: Slot::Live };
    call(status);
    let in_sync = || {
        let live = control.device(&id()).expect("a device").live().expect("a table");
        let (text, _) =
            live.status(sim_core::StatusKind::Info, Default::default()).expect("no panic");
        text[0].params.contains(" 64/64 1 AAA ")
    };
    while !in_sync() {
        assert!(Instant::now() < until + Duration::from_secs(30), "a resync never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    call(Command::DevRemove { id: id(), open: WhenOpen::Refuse });
    let content = |disk: &Arc<Memory>| {
        let mut content = vec![0; (LEN * 512) as usize];
        block_on(disk.submit(Bio::read(Sector(0), &mut content))).expect("memory does not fail");
        content
    };
    let legs: Vec<Vec<u8>> = disks.iter().take(3).map(content).collect();
    assert!(legs[0] == legs[1] && legs[0] == legs[2], "legs differ");
    let log = content(&disks[3]);
    assert!(log[1024..1032] == [0xff; 8], "a region is not clean at the end");
}
