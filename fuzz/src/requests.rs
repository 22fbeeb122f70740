//! What comes from the kernel's FUSE, as bytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use fuse_frontend::Tasks;
use fuse_frontend::files::{Caller, Files, Mount, Refuse, Reply, Request, Service};
use fuse_frontend::wire::{Message, decode, init};
use sim_core::{Errno, Sectors};

use crate::bytes::Bytes;
use crate::disks::{World, lines};

/// The most messages of one run.
const STEPS: usize = 64;

/// Sends messages of any kind and content, cut off or not, to the files of two devices, one of
/// them suspended at times. Nothing may panic; each is refused by the decoder with one of two
/// errors, or answered by the files once, at the latest when nothing is suspended any more.
pub fn requests(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let rig = Rig::new();
    for _ in 0..STEPS {
        let Some(code) = bytes.next() else { break };
        match code {
            0xfe => rig.world.suspend("lower"),
            0xff => rig.resume(),
            code => rig.message(u32::from(code % 64), &mut bytes),
        }
    }
    rig.resume();
    let answers = rig.answers.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(answers.iter().all(|count| *count == 1), "each is answered once: {answers:?}");
}

struct Rig {
    world: World,
    files: Files,
    /// How often each request was answered.
    answers: Arc<Mutex<Vec<u32>>>,
}

impl Rig {
    fn new() -> Rig {
        let world = World::new(targets::registry(), 1, Sectors(256), 512);
        for (name, table) in [("lower", "0 128 linear a 0"), ("upper", "0 64 linear lower 8")] {
            world.create(name);
            world.load(name, lines(table)).expect("it lies on the disk");
            world.resume(name).expect("it lies on the disk");
        }
        let tasks = Arc::new(Tasks::new(world.sim.runtime()));
        let mount = Mount { cache: false, allow_other: false, mounted: UNIX_EPOCH, owner: (0, 0) };
        let files = Files::new(world.control.clone(), tasks, mount);
        Rig { world, files, answers: Arc::default() }
    }

    fn message(&self, code: u32, bytes: &mut Bytes<'_>) {
        let inode = bytes.pick(&[1, 2, 3, 4, 1 << 20]);
        let len = bytes.below(128);
        let body: Vec<u8> = (0..len).map_while(|_| bytes.next()).collect();
        match decode(code, &body) {
            Err(errno) => assert!([Errno::NOSYS, Errno::IO].contains(&errno), "{code}: {errno:?}"),
            Ok(Message::Operation(operation)) => {
                let caller = Caller { pid: 1, uid: 0, gid: 0 };
                self.files.serve(Request { caller, inode, operation }, self.slot());
                self.world.sim.run_until_idle().expect("requests come to an end, or wait");
            }
            Ok(Message::Init { major, minor, max_readahead, flags }) => {
                drop(init(major, minor, max_readahead, flags));
            }
            Ok(Message::Interrupt { .. } | Message::Forget | Message::Destroy) => {}
        }
    }

    fn slot(&self) -> Slot {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(0);
        Slot { answers: self.answers.clone(), index: answers.len() - 1 }
    }

    fn resume(&self) {
        self.world.resume("lower").expect("the table is what it was");
        self.world.sim.run_until_idle().expect("requests come to an end");
    }
}

/// Counts the answers of one request.
struct Slot {
    answers: Arc<Mutex<Vec<u32>>>,
    index: usize,
}

impl Slot {
    fn count(&self) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)[self.index] += 1;
    }
}

impl Refuse for Slot {
    fn error(self, errno: Errno) {
        // Nothing fails below: it would be a panic that the barrier has caught.
        assert_ne!(errno, Errno::IO, "request {}", self.index);
        self.count();
    }
}

impl<T: ?Sized> Reply<T> for Slot {
    fn ok(self, _: &T) {
        self.count();
    }
}
