//! The calls of io_uring by which the ublk driver is spoken to, and the memory that it shows requests in.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use io_uring::cqueue::Entry as Completion;
use io_uring::squeue::{Entry, Entry128};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::format::{COMMIT_AND_FETCH, Code, ControlCommand, Descriptor, FETCH, IoCommand};

/// How many calls a ring of a lane takes before they are handed to the kernel.
const CALLS: u32 = 256;

/// How many answers fit into such a ring; the kernel keeps what are more.
const ANSWERS: u32 = 4096;

/// `POLLIN`.
const READABLE: u32 = 1;

/// Has the driver carry out a command, and waits for its answer. `value` is what the command reads and
/// writes. A ring of its own is 30 µs, and nobody waits for another's call.
pub(super) fn call<T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    control: &File,
    code: Code,
    command: ControlCommand,
    value: &mut T,
) -> io::Result<i32> {
    let bytes = value.as_mut_bytes();
    let len = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let command =
        ControlCommand { len, addr: bytes.as_mut_ptr().expose_provenance() as u64, ..command };
    let mut words = [0; 80];
    words[..size_of::<ControlCommand>()].copy_from_slice(command.as_bytes());
    let entry = opcode::UringCmd80::new(Fd(control.as_raw_fd()), code as u32).cmd(words).build();
    let mut ring: IoUring<Entry128, Completion> = IoUring::builder().build(1)?;
    // SAFETY: the command's memory is `value`, of which it knows the length. That is borrowed until this
    // returns, which it does after the command has ended, or where the kernel has not taken it.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    while ring.submit()? == 0 {}
    loop {
        if let Some(completion) = ring.completion().next() {
            let result = completion.result();
            return if result < 0 {
                Err(io::Error::from_raw_os_error(-result))
            } else {
                Ok(result)
            };
        }
        if let Err(error) = ring.submit_and_wait(1)
            && error.kind() != io::ErrorKind::Interrupted
        {
            // The command is under way, and its memory in use.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The ring of one lane: that thread alone may have it, as the driver takes commands of a queue from one
/// thread.
pub(super) struct Ring(IoUring);

impl Ring {
    /// Makes a ring for the thread that calls this.
    pub(super) fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(ANSWERS).setup_single_issuer().setup_defer_taskrun();
        Ok(Ring(builder.build(CALLS)?))
    }

    /// Asks for the first request of a tag.
    pub(super) fn fetch(&mut self, device: &File, tag: u16, user: u64) -> io::Result<()> {
        self.command(device, FETCH, IoCommand { queue: 0, tag, result: 0, addr: 0 }, user)
    }

    /// Answers the request of a tag, and asks for its next one.
    pub(super) fn commit(
        &mut self,
        device: &File,
        tag: u16,
        result: i32,
        user: u64,
    ) -> io::Result<()> {
        self.command(device, COMMIT_AND_FETCH, IoCommand { queue: 0, tag, result, addr: 0 }, user)
    }

    fn command(
        &mut self,
        device: &File,
        code: u32,
        command: IoCommand,
        user: u64,
    ) -> io::Result<()> {
        let mut words = [0; 16];
        words.copy_from_slice(command.as_bytes());
        let entry = opcode::UringCmd16::new(Fd(device.as_raw_fd()), code).cmd(words).build();
        self.push(&entry.user_data(user))
    }

    /// Asks to be told when a file can be read.
    pub(super) fn poll(&mut self, file: BorrowedFd<'_>, user: u64) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(file.as_raw_fd()), READABLE).build();
        self.push(&entry.user_data(user))
    }

    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        loop {
            // SAFETY: those of the three functions above name no memory: the data of a request goes by
            // reads and writes of the device (`USER_COPY`). The kernel holds the file from the call on.
            if unsafe { self.0.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    /// Hands over what was asked. What the kernel refuses at once is among the answers when this returns.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        interrupted(self.0.submit())
    }

    /// Hands over what was asked, and waits for an answer.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        interrupted(self.0.submit_and_wait(1))
    }

    /// Takes the answers that have come: whose, and what.
    pub(super) fn answers(&mut self, into: &mut Vec<(u64, i32)>) {
        into.extend(self.0.completion().map(|answer| (answer.user_data(), answer.result())));
    }
}

fn interrupted(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the requests of a queue ask, as the driver writes it into memory that we only read.
pub(super) struct Descriptors {
    at: NonNull<Descriptor>,
    depth: usize,
    bytes: usize,
}

// SAFETY: it is memory that nobody here writes, and `read` copies out of it.
unsafe impl Send for Descriptors {}
// SAFETY: as above.
unsafe impl Sync for Descriptors {}

impl Descriptors {
    /// Maps those of the first queue of a character device, which has this many requests.
    pub(super) fn map(device: &File, depth: u16) -> io::Result<Descriptors> {
        let depth = usize::from(depth);
        // The driver wants whole pages, and no others.
        let bytes = (depth * size_of::<Descriptor>()).next_multiple_of(rustix::param::page_size());
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping, where the kernel likes; it is unmapped in `drop` alone.
        let at = unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, flags, device, 0) }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Descriptors { at, depth, bytes })
    }

    /// Returns what the request of a tag asks, which the driver has handed over, and has no answer to: it
    /// writes there again after that.
    ///
    /// # Panics
    /// Where there is no such tag.
    pub(super) fn read(&self, tag: u16) -> Descriptor {
        let tag = usize::from(tag);
        assert!(tag < self.depth, "request {tag} of {}", self.depth);
        // SAFETY: it lies in the mapping, by the line above.
        let at = unsafe { self.at.add(tag) };
        // SAFETY: as above, and aligned, as a page is. Any bytes are a descriptor; volatile, as it is the
        // kernel that writes them.
        unsafe { at.read_volatile() }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let at = self.at.as_ptr().cast::<c_void>();
        // SAFETY: the mapping is ours, and nothing of it is lent.
        let _unmapped = unsafe { munmap(at, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};

    /// None where the sandbox has no io_uring.
    fn ring() -> Option<Ring> {
        Ring::new().inspect_err(|error| println!("skipped: no io_uring: {error}")).ok()
    }

    #[test]
    fn descriptors_are_read_where_they_were_written() {
        let mut file = tempfile::tempfile().unwrap();
        for nr in 0..4_u64 {
            let asks = Descriptor { op_flags: 1, sectors: 8, start: nr << 3, addr: 0 };
            file.write_all(asks.as_bytes()).unwrap();
        }
        file.set_len(4096).unwrap();
        let asked = Descriptors::map(&file, 4).unwrap();
        assert_eq!(asked.read(3).start, 24);
        file.set_len(0).unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(asked.read(3), Descriptor::default(), "they are shared");
        assert!(std::panic::catch_unwind(move || asked.read(4)).is_err());
    }

    /// What the driver would take, another file refuses, and the answer says whose it is.
    #[test]
    fn a_command_that_is_refused_is_answered() {
        let Some(mut ring) = ring() else { return };
        let null = File::open("/dev/zero").unwrap();
        for tag in 0..1000 {
            ring.fetch(&null, tag, u64::from(tag)).unwrap();
        }
        ring.submit().unwrap();
        let mut answers = Vec::new();
        ring.answers(&mut answers);
        assert_eq!(answers.len(), 1000);
        assert!(answers.iter().all(|(_, result)| *result < 0), "{:?}", answers[0]);
        let tags: Vec<u64> = answers.iter().map(|(user, _)| *user).collect();
        assert_eq!(tags, Vec::from_iter(0..1000));
        let refused = call(&null, Code::Features, ControlCommand::default(), &mut 0_u64);
        assert!(refused.is_err(), "{refused:?}");
    }

    #[test]
    fn a_bell_wakes_who_waits() {
        let Some(mut ring) = ring() else { return };
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        ring.poll(bell.as_fd(), 7).unwrap();
        ring.submit().unwrap();
        let mut answers = Vec::new();
        ring.answers(&mut answers);
        assert_eq!(answers, []);
        thread::scope(|scope| {
            scope.spawn(|| rustix::io::write(&bell, &1_u64.to_ne_bytes()).unwrap());
            ring.wait().unwrap();
        });
        ring.answers(&mut answers);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, 7);
    }
}
