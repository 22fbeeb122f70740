//! What a block node on a ublk disk holds: a mapped device, asked without the way through the mount.

use std::sync::Arc;

use block_frontend::{Content, Io, Reply};
use fuse_frontend::files;
use fuse_frontend::request::{Disk, Durability};
use sim_core::{Access, Errno};

/// A mapped device as a node has it. Blocks that are larger than a sector are written in part by the disk.
pub(super) struct Volume {
    pub(super) disk: Arc<Disk>,
    /// Whether the instance lets anybody write, whatever the device does.
    pub(super) access: Access,
}

impl Content for Volume {
    fn serve(&self, io: Io<'_>, reply: Reply) {
        let Volume { disk, access } = self;
        match io {
            Io::Write { .. } | Io::Discard { .. } | Io::WriteZeroes { .. }
                if access.is_read_only() =>
            {
                reply.error(Errno::PERM);
            }
            Io::Read { at, len } => disk.read(at, len, Answer { reply, bytes: 0 }),
            Io::Write { at, data, fua } => {
                let durability = if fua { Durability::AtOnce } else { Durability::AtFlush };
                disk.write(at, data, durability, Answer { reply, bytes: data.len() });
            }
            Io::Flush => disk.flush(Answer { reply, bytes: 0 }),
            Io::Discard { at, len } => disk.discard(at, len, Answer { reply, bytes: 0 }),
            Io::WriteZeroes { at, len } => {
                disk.write_zeroes(at, len, Answer { reply, bytes: 0 });
            }
        }
    }
}

/// The end of a request, as a disk sees it.
struct Answer {
    reply: Reply,
    /// How much is to be written.
    bytes: usize,
}

impl files::Refuse for Answer {
    fn error(self, errno: Errno) {
        self.reply.error(errno);
    }
}

impl files::Reply<[u8]> for Answer {
    fn ok(self, data: &[u8]) {
        self.reply.read(data);
    }
}

impl files::Reply<u32> for Answer {
    fn ok(self, written: &u32) {
        // A file ends where a device does; a bio that reaches past the end fails.
        match usize::try_from(*written) == Ok(self.bytes) {
            true => self.reply.done(),
            false => self.reply.error(Errno::IO),
        }
    }
}

impl files::Reply<()> for Answer {
    fn ok(self, (): &()) {
        self.reply.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use backing::{Memory, Pool};
    use block_frontend::Asker;
    use fuse_frontend::Tasks;
    use futures_util::future::BoxFuture;
    use sim_core::{Access, Bio, BlkResult, BlockDevice, DevNumber, Limits, Sectors};

    /// A device in memory with blocks of 4096 bytes, which notes what reaches it.
    struct Noted {
        memory: Arc<Memory>,
        seen: Mutex<Vec<String>>,
        access: Access,
    }

    impl Noted {
        fn seen(&self) -> Vec<String> {
            std::mem::take(&mut *self.seen.lock().unwrap())
        }
    }

    impl BlockDevice for Noted {
        fn number(&self) -> DevNumber {
            self.memory.number()
        }
        fn name(&self) -> String {
            self.memory.name()
        }
        fn size(&self) -> Sectors {
            self.memory.size()
        }
        fn limits(&self) -> Limits {
            Limits { max_write_zeroes_sectors: 0, ..self.memory.limits() }
        }
        fn access(&self) -> Access {
            self.access
        }
        fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
            Err(bio)
        }
        fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
            self.seen.lock().unwrap().push(format!("{bio:?}"));
            self.memory.submit(bio)
        }
        fn open(&self, access: Access) -> Result<(), Errno> {
            self.memory.open(access)
        }
        fn release(&self) {
            self.memory.release();
        }
    }

    /// Who asks: the data that were read, and how each request ended.
    struct Asks(Mutex<Vec<u8>>, Sender<i32>);

    impl Asker for Asks {
        fn claim(&self, _: u16, _: u64) -> bool {
            true
        }
        fn copy(&self, _: u16, data: &[u8]) -> io::Result<()> {
            data.clone_into(&mut self.0.lock().unwrap());
            Ok(())
        }
        fn answer(&self, _: u16, result: i32) {
            self.1.send(result).unwrap();
        }
    }

    struct Rig {
        device: Arc<Noted>,
        volume: Volume,
        asks: Arc<Asks>,
        answers: Receiver<i32>,
    }

    impl Rig {
        fn new(access: Access) -> Rig {
            let number = DevNumber { major: 7, minor: 0 };
            let memory = Memory::new(number, "loop0", Sectors(2048), 4096);
            let device = Arc::new(Noted { memory, seen: Mutex::default(), access });
            let tasks = Arc::new(Tasks::new(Pool::new(1)));
            let disk = Disk::new(device.clone(), tasks);
            let volume = Volume { disk, access: Access::ReadWrite };
            let (told, answers) = channel();
            Rig { device, volume, asks: Arc::new(Asks(Mutex::default(), told)), answers }
        }

        /// Asks, and returns how it ended.
        fn ask(&self, io: Io<'_>) -> i32 {
            let bytes = match io {
                Io::Read { len, .. } => len,
                Io::Write { data, .. } => data.len(),
                Io::Flush | Io::Discard { .. } | Io::WriteZeroes { .. } => 0,
            };
            let bytes = u32::try_from(bytes).unwrap();
            self.volume.serve(io, Reply::new(self.asks.clone(), 0, 1, bytes));
            self.answers.recv_timeout(Duration::from_secs(20)).unwrap()
        }

        fn read(&self, at: u64, len: usize) -> Vec<u8> {
            assert_eq!(self.ask(Io::Read { at, len }), i32::try_from(len).unwrap());
            std::mem::take(&mut self.asks.0.lock().unwrap())
        }
    }

    #[test]
    fn each_kind_reaches_the_device_as_what_it_is() {
        let rig = Rig::new(Access::ReadWrite);
        let data = [7; 8192];
        for (io, result, seen) in [
            (Io::Write { at: 4096, data: &data, fua: false }, 8192, vec!["Write 8+16"]),
            (Io::Write { at: 4096, data: &data, fua: true }, 8192, vec!["Write 8+16 FUA"]),
            (Io::Flush, 0, vec!["Flush 0+0"]),
            (Io::Discard { at: 4096, len: 4096 }, 0, vec!["Discard 8+8"]),
            (Io::WriteZeroes { at: 4096, len: 4096 }, -Errno::OPNOTSUPP.0, vec![]),
            (Io::Read { at: 8192, len: 4096 }, 4096, vec!["Read 16+8"]),
        ] {
            assert_eq!(rig.ask(io), result, "{io:?}");
            assert_eq!(rig.device.seen(), seen, "{io:?}");
        }
    }

    #[test]
    fn a_block_that_is_written_in_part_keeps_its_rest() {
        let rig = Rig::new(Access::ReadWrite);
        let before: Vec<u8> = (0..16384_u32).map(|at| (at % 251) as u8).collect();
        rig.ask(Io::Write { at: 0, data: &before, fua: false });
        for (at, len) in [(512, 512), (3584, 1024), (512, 8192), (4096, 512), (0, 16384)] {
            let mut due = before.clone();
            rig.ask(Io::Write { at: 0, data: &before, fua: false });
            rig.device.seen();
            let written = vec![0xee; len];
            let io = Io::Write { at: at as u64, data: &written, fua: true };
            assert_eq!(rig.ask(io), i32::try_from(len).unwrap());
            // As durable as it was asked to be.
            let seen = rig.device.seen();
            assert!(seen.last().is_some_and(|bio| bio.ends_with("FUA")), "{seen:?}");
            due[at..at + len].copy_from_slice(&written);
            assert!(rig.read(0, 16384) == due, "{at}+{len}");
        }
    }

    #[test]
    fn what_reaches_past_the_end_fails_and_so_do_writes_of_what_is_read_only() {
        let rig = Rig::new(Access::ReadWrite);
        let last = (1 << 20) - 512;
        assert_eq!(rig.ask(Io::Read { at: last, len: 512 }), 512);
        assert_eq!(rig.ask(Io::Read { at: last, len: 1024 }), -Errno::IO.0);
        assert_eq!(rig.ask(Io::Read { at: 1 << 20, len: 512 }), -Errno::IO.0);
        assert_eq!(rig.ask(Io::Write { at: last, data: &[0; 1024], fua: false }), -Errno::IO.0);
        let rig = Rig::new(Access::ReadOnly);
        let write = Io::Write { at: 0, data: &[0; 512], fua: false };
        assert_eq!(rig.ask(write), -Errno::PERM.0);
        assert_eq!(rig.ask(Io::Read { at: 0, len: 512 }), 512);
        assert_eq!(rig.device.seen().len(), 1);
    }

    #[test]
    fn an_instance_that_is_read_only_has_nodes_that_are() {
        let mut rig = Rig::new(Access::ReadWrite);
        rig.volume.access = Access::ReadOnly;
        for io in [
            Io::Write { at: 0, data: &[0; 512], fua: false },
            Io::Discard { at: 0, len: 4096 },
            Io::WriteZeroes { at: 0, len: 4096 },
        ] {
            assert_eq!(rig.ask(io), -Errno::PERM.0, "{io:?}");
        }
        assert_eq!(rig.ask(Io::Read { at: 0, len: 512 }), 512);
        assert_eq!(rig.ask(Io::Flush), 0);
        assert_eq!(rig.device.seen(), ["Read 0+8", "Flush 0+0"]);
    }
}
