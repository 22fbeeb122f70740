//! Snapshots under real threads.

use std::sync::{Arc, Barrier};

use backing::{Memory, Pool, block_on};
use sim_core::control::{Command, Id, Slot, WhenOpen};
use sim_core::{
    Access, Backing, BlockDevice, BoxFuture, Control, DevNumber, Errno, Held, NoLog, Sectors,
    parse_table,
};

struct Disks(Vec<Arc<Memory>>);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.get(number.minor as usize).filter(|_| number.major == 7).cloned();
        disk.map(|disk| disk as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        let found = word.parse().and_then(|number| self.by_number(number));
        Box::pin(std::future::ready(found))
    }
}

fn id(nr: usize) -> Id {
    Id::Name(format!("s{nr}"))
}

fn load(control: &Control, nr: usize) -> Result<(), Errno> {
    let lines = parse_table("0 64 snapshot 7:0 7:1 N 8").expect("a line").into_iter();
    let (targets, base) = (lines.map(|(_, spec)| spec).collect(), String::new());
    let command = Command::TableLoad { id: id(nr), access: Access::ReadWrite, targets, base };
    block_on(control.execute(command)).map(drop).map_err(|failure| failure.errno)
}

/// A store has one user, and one that waits to take it over: whoever comes at the same time is
/// refused.
#[test]
fn no_more_than_two_tables_share_a_store_however_many_come_at_once() {
    const THREADS: usize = 4;
    let disk = |minor| {
        let number = DevNumber { major: 7, minor };
        Memory::new(number, &format!("loop{minor}"), Sectors(1024), 512)
    };
    let backing = Arc::new(Disks((0..2).map(disk).collect()));
    let control = Control::new(targets::registry(), backing, Pool::new(1), Arc::new(NoLog));
    let call = |command| block_on(control.execute(command)).expect("it works");
    for nr in 0..=THREADS {
        call(Command::DevCreate { name: format!("s{nr}"), uuid: None, minor: None });
    }
    load(&control, THREADS).expect("the first user");
    call(Command::DevResume { id: id(THREADS), held: Held::Flush });
    for round in 0..3000 {
        let barrier = Barrier::new(THREADS);
        let taken = std::thread::scope(|threads| {
            let start = |nr| {
                let (control, barrier) = (&control, &barrier);
                threads.spawn(move || {
                    barrier.wait();
                    load(control, nr).is_ok()
                })
            };
            let loads: Vec<_> = (0..THREADS).map(start).collect();
            let loads = loads.into_iter().map(|load| load.join().expect("no load panics"));
            loads.filter(|taken| *taken).count()
        });
        assert_eq!(taken, 1, "round {round}");
        for nr in 0..THREADS {
            let clear = Command::TableClear { id: id(nr) };
            let _some_have_none = block_on(control.execute(clear));
        }
    }
    for nr in 0..=THREADS {
        call(Command::DevStatus { id: id(nr), slot: Slot::Live });
        call(Command::DevRemove { id: id(nr), open: WhenOpen::Refuse });
    }
}
