//! Requests on a mapped device as a file, against an array of bytes.

mod model;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use fuse_frontend::Tasks;
use fuse_frontend::request::{Disk, Durability, End, Refuse, Reply, Seek};
use sim_core::{Bio, BlockDevice, Errno, Sector, Sectors};

use crate::bytes::Bytes;
use crate::disks::{World, id, lines};
use model::{Model, Segment};

/// The most requests of one run.
const STEPS: usize = 48;

/// The first sectors of each disk, which no segment uses.
pub(crate) const GUARD: Sectors = Sectors(8);

const GUARD_BYTES: [u8; 4096] = [0xa5; 4096];

/// Makes a stack of linear, striped, zero and error segments, and sends it the requests that the
/// bytes stand for: reads and writes of any bytes, `fallocate` and `lseek`, by open files that are
/// truncated or not, while it is suspended or not, and across changes of its size. Each is answered, once, as the model has it.
pub fn file(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut rig = Rig::new(&mut bytes);
    for _ in 0..STEPS {
        let Some(step) = bytes.next() else { break };
        rig.step(step, &mut bytes);
    }
    rig.check_all();
}

struct Rig {
    world: World,
    disk: Arc<Disk>,
    /// Where the open files end.
    ends: [Arc<End>; 2],
    model: Model,
    /// What the next write writes: no two the same for a while.
    fill: u8,
}

/// How a request finds the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum While {
    Running,
    /// It is resumed after the request was made.
    Suspended,
}

impl Rig {
    fn new(bytes: &mut Bytes<'_>) -> Rig {
        let sector_size = bytes.pick(&[512, 4096]);
        let world = World::new(targets::registry(), 2, Sectors(2048), sector_size);
        for disk in &world.disks {
            let guarded = world.sim.block_on(disk.submit(Bio::write(Sector(0), &GUARD_BYTES)));
            assert_eq!(guarded, Ok(()), "memory takes everything");
        }
        let stacked = bytes.below(2) == 1;
        let model = Model::new(Segment::some(bytes), u64::from(sector_size));
        world.create("lower");
        swap(&world, &model.table());
        let shown = if stacked {
            world.create("upper");
            let table = format!("0 {} linear /dev/mapper/lower 0", model.size() / 512);
            world.load("upper", lines(&table)).expect("it is as long as the lower one");
            world.resume("upper").expect("it is as long as the lower one");
            "upper"
        } else {
            "lower"
        };
        let device = world.control.device(&id(shown)).expect("it was made above");
        let disk = Disk::new(device, Arc::new(Tasks::new(world.sim.runtime())));
        Rig { world, disk, ends: Default::default(), model, fill: 0 }
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let when = if step >= 0xe0 { While::Suspended } else { While::Running };
        match step % 9 {
            0..=2 => self.write(bytes, when),
            3 | 4 => {
                let (at, len) = (self.place(bytes), bytes.number() as usize % 0x5000);
                self.read(at, len, when);
            }
            5 | 6 => self.allocate(bytes, when),
            7 => self.seek(bytes),
            _ => match bytes.below(8) {
                0 => self.resize(bytes),
                1..=3 => self.truncate(bytes, when),
                _ => assert_eq!(self.ask(when, |reply| self.disk.flush(reply)), Ok(()), "flush"),
            },
        }
        assert_eq!(self.disk.size(), self.model.size(), "the size is the table's");
        let ends = [0, 1].map(|file: usize| self.ends[file].get());
        assert_eq!(ends, self.model.ends, "where the open files end");
    }

    fn write(&mut self, bytes: &mut Bytes<'_>, when: While) {
        let (at, len) = (self.place(bytes), bytes.number() as usize % 0x5000);
        let durability = bytes.pick(&[Durability::AtFlush, Durability::AtOnce]);
        let file = bytes.below(2);
        self.fill = self.fill.wrapping_add(1);
        let data: Vec<u8> = (0..len).map(|n| self.fill ^ (n / 512) as u8).collect();
        let cut = self.ends[file].clone();
        let answer =
            self.ask::<u32>(when, |reply| self.disk.write_to(&cut, at, &data, durability, reply));
        let size = self.model.size();
        let end = at.saturating_add(len as u64).min(size);
        let gap = if len == 0 { at } else { self.model.gap(file, at) };
        let expected = match () {
            () if at >= size => Err(Errno::NOSPC),
            () if self.model.fails(gap, at) || self.model.fails(at, end) => Err(Errno::IO),
            () => Ok((end - at) as u32),
        };
        assert_eq!(answer, expected, "write {len} bytes at {at} of {size}, from {gap} on");
        let new = |n: u64| if n < at { 0 } else { data[(n - at) as usize] };
        match answer {
            Ok(_) => {
                self.model.write(gap, end, new);
                if len > 0 {
                    self.model.reach(file, end);
                }
            }
            Err(Errno::IO) => self.settle(file, gap, at..end, new),
            Err(_) => {}
        }
    }

    fn truncate(&mut self, bytes: &mut Bytes<'_>, when: While) {
        let (to, file) = (self.place(bytes), bytes.below(2));
        let cut = self.ends[file].clone();
        let answer = self.ask::<u32>(when, |reply| self.disk.truncate(&cut, to, true, || 7, reply));
        let size = self.model.size();
        let gap = self.model.gap(file, to);
        let expected = match () {
            () if to > size => Err(Errno::FBIG),
            () if self.model.fails(gap, to) => Err(Errno::IO),
            () => Ok(7),
        };
        assert_eq!(answer, expected, "truncate to {to} of {size}, from {gap} on");
        match answer {
            Ok(_) => {
                self.model.write(gap, to, |_| 0);
                self.model.truncate(file, to);
            }
            Err(Errno::IO) => self.settle(file, gap, to..to, |_| 0),
            Err(_) => {}
        }
    }

    fn read(&self, at: u64, len: usize, when: While) {
        let answer = self.ask::<Vec<u8>>(when, |reply| self.disk.read(at, len, reply));
        let end = at.saturating_add(len as u64).min(self.model.size());
        match answer {
            _ if at >= end => assert_eq!(answer, Ok(Vec::new()), "read past the end"),
            Err(errno) => {
                assert_eq!(
                    (errno, self.model.fails(at, end)),
                    (Errno::IO, true),
                    "read {at}+{len}"
                );
            }
            Ok(found) => {
                assert!(!self.model.fails(at, end), "read {at}+{len} of an error segment");
                assert!(found == self.model.read(at, end), "read {at}+{len}: other bytes");
            }
        }
    }

    fn allocate(&mut self, bytes: &mut Bytes<'_>, when: While) {
        let mode = bytes.pick(&[0, 1, 3, 3, 3, 0x10, 0x10, 0x11, 2, 8, 0x40]);
        let (at, len) = (self.place(bytes), bytes.number() % 0x10000);
        let file = bytes.below(2);
        let cut = self.ends[file].clone();
        let answer = self.ask(when, |reply| self.disk.allocate_to(&cut, mode, at, len, reply));
        let size = self.model.size();
        let (first, last) = (at.min(size), at.saturating_add(len).min(size));
        let zeroes = !matches!(mode, 0 | 1) && first < last;
        // A regular file would be longer by it.
        let lengthens = matches!(mode, 0 | 0x10) && first < last;
        let gap = match (lengthens, mode) {
            (true, 0) => self.model.gap(file, last),
            (true, _) => self.model.gap(file, first),
            (false, _) => first,
        };
        // Where zeros begin and end.
        let zeros = match (zeroes, lengthens && gap < last) {
            (true, _) => gap.min(first)..last,
            (false, true) => gap..last,
            (false, false) => first..first,
        };
        let expected = match mode {
            2 | 8 | 0x40 => Err(Errno::OPNOTSUPP),
            _ if at.checked_add(len).is_none() => Err(Errno::FBIG),
            0 | 1 | 0x10 if at + len > size => Err(Errno::NOSPC),
            0 | 1 if !self.model.has_room(first, last) => Err(Errno::OPNOTSUPP),
            _ if self.model.fails(zeros.start, zeros.end) => Err(Errno::IO),
            _ => Ok(()),
        };
        assert_eq!(answer, expected, "fallocate {mode:#x} {at}+{len} of {size}");
        match answer {
            Ok(()) => {
                self.model.write(zeros.start, zeros.end, |_| 0);
                if lengthens {
                    self.model.reach(file, last);
                }
            }
            Err(Errno::IO) => self.settle(file, zeros.start, first..last, |_| 0),
            Err(_) => {}
        }
    }

    fn seek(&self, bytes: &mut Bytes<'_>) {
        let (at, what) = (self.place(bytes), bytes.pick(&[Seek::Data, Seek::Hole]));
        let size = self.model.size();
        match (what, self.disk.seek(at, what)) {
            (_, Err(errno)) => {
                assert_eq!(errno, Errno::NXIO, "seek {what:?} from {at}");
                let empty = at >= size || (what == Seek::Data && self.model.is_zero(at, size));
                assert!(empty, "seek {what:?} from {at}: there is some before {size}");
            }
            (Seek::Data, Ok(found)) => {
                assert!((at..size).contains(&found), "data at {found}, from {at} of {size}");
                assert!(self.model.is_zero(at, found), "data between {at} and {found}");
            }
            (Seek::Hole, Ok(found)) => {
                assert!((at..=size).contains(&found), "a hole at {found}, from {at} of {size}");
                let zero = found == size || self.model.is_zero(found, found + 1);
                assert!(zero, "no hole at {found}");
            }
        }
    }

    /// Gives the device a table of another length. A device above keeps its own size, so there
    /// the table stays.
    fn resize(&mut self, bytes: &mut Bytes<'_>) {
        let count = bytes.byte();
        if self.disk.device().name() == "dm-0" {
            self.model.keep(usize::from(count));
            swap(&self.world, &self.model.table());
        }
    }

    /// Finds out what a request that failed has left: each byte from `gap` on as it was, or as it
    /// was to be, and the end where it was, or behind the gap.
    fn settle(&mut self, file: usize, gap: u64, range: Range<u64>, new: impl Fn(u64) -> u8) {
        for (from, to) in self.model.readable(gap, range.end) {
            let len = (to - from) as usize;
            let answer =
                self.ask::<Vec<u8>>(While::Running, |reply| self.disk.read(from, len, reply));
            let found = answer.expect("no error segment lies in there");
            let old = self.model.read(from, to);
            for (at, (found, old)) in (from..).zip(found.iter().zip(old)) {
                let legal = found == old || *found == new(at);
                assert!(legal, "byte {at} is {found}: neither {old} nor {}", new(at));
            }
            self.model.write(from, to, |at| found[(at - from) as usize]);
        }
        let end = self.ends[file].get();
        if end != self.model.ends[file] {
            assert_eq!(end, Some(range.start), "the end is behind the gap");
            self.model.reach(file, range.start);
        }
    }

    fn check_all(&self) {
        let step = 0x10000;
        for at in (0..self.model.size()).step_by(step) {
            self.read(at, step, While::Running);
        }
        for disk in &self.world.disks {
            let mut guard = GUARD_BYTES;
            guard.fill(0);
            let read = self.world.sim.block_on(disk.submit(Bio::read(Sector(0), &mut guard)));
            assert!(read == Ok(()) && guard == GUARD_BYTES, "bytes outside of every segment");
        }
    }

    /// Makes a request, and returns its answer.
    fn ask<T: Send + 'static>(
        &self,
        when: While,
        request: impl FnOnce(Slot<T>),
    ) -> Result<T, Errno> {
        let answer = Arc::default();
        let shown = self.disk.device().name();
        let shown = if shown == "dm-0" { "lower" } else { "upper" };
        if when == While::Suspended {
            self.world.suspend(shown);
        }
        request(Slot(Arc::clone(&answer)));
        self.world.sim.run_until_idle().expect("requests come to an end");
        if when == While::Suspended {
            self.world.resume(shown).expect("the table is what it was");
            self.world.sim.run_until_idle().expect("requests come to an end");
        }
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.expect("every request is answered")
    }

    /// Chooses a byte: near a boundary, anywhere, or far out.
    fn place(&self, bytes: &mut Bytes<'_>) -> u64 {
        let size = self.model.size();
        match bytes.below(8) {
            0 | 1 => bytes.number() % (size / 512 + 2) * 512,
            2 => bytes.number() % (size / 4096 + 2) * 4096,
            3 => size.saturating_sub(bytes.number() % 1024),
            4 if bytes.byte() > 200 => u64::MAX - bytes.number(),
            _ => bytes.number() % (size + 1024),
        }
    }
}

/// Loads a table into the lower device, and swaps it in.
fn swap(world: &World, table: &str) {
    world.load("lower", lines(table)).expect("segments lie on their disks");
    world.resume("lower").expect("segments lie on their disks");
}

/// Takes one answer, once.
struct Slot<T>(Arc<Mutex<Option<Result<T, Errno>>>>);

impl<T> Slot<T> {
    fn put(&self, answer: Result<T, Errno>) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(slot.replace(answer).is_none(), "a request is answered once");
    }
}

impl<T: ?Sized + ToOwned<Owned = U>, U: Send + 'static> Reply<T> for Slot<U> {
    fn ok(self, answer: &T) {
        self.put(Ok(answer.to_owned()));
    }
}

impl<T: Send + 'static> Refuse for Slot<T> {
    fn error(self, errno: Errno) {
        self.put(Err(errno));
    }
}
