//! The ioctl interface: calls of programs that nobody can trust.

use sim_core::control::ioctl::{Call, FIELDS_LEN, HEADER_LEN, Header, Reply, Request, client};
use sim_core::control::{Command, Id, Slot};
use sim_core::{Errno, Sectors};

use crate::bytes::Bytes;
use crate::disks::World;

/// The most calls of one run.
const CALLS: usize = 32;

/// The names and uuids that calls are about, so that they meet.
const NAMES: [&str; 5] = ["", "a", "b", "c", "../x"];

/// The most of a caller's buffer that is there.
const MEMORY: usize = 1 << 14;

/// Makes the calls that the bytes stand for, one after the other, on a control plane. Each is read,
/// carried out and answered, or refused; no more of the caller's buffer is touched than it has; and
/// what is answered is read again.
pub fn ioctl(data: &[u8]) {
    let world = World::new(targets::registry(), 2, Sectors(4096), 512);
    let mut bytes = Bytes::new(data);
    for _ in 0..CALLS {
        let Some(kind) = bytes.next() else { return };
        let buffer = match kind {
            // As it comes.
            200.. => take(&mut bytes, 2048),
            _ => made(&mut bytes),
        };
        call(&world, 0xc138_fd00 | u32::from(kind % 20), buffer);
    }
}

fn take(bytes: &mut Bytes<'_>, most: usize) -> Vec<u8> {
    let len = (bytes.number() as usize).min(most);
    std::iter::from_fn(|| bytes.next()).take(len).collect()
}

/// Makes a header that is not refused at once, and what follows it.
fn made(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut header = Header { version: [4, 0, 0], ..Header::default() };
    for field in [&mut header.name[..], &mut header.uuid[..]] {
        let text = bytes.pick(&NAMES).as_bytes();
        field[..text.len()].copy_from_slice(text);
    }
    header.dev = bytes.pick(&[0, 0, 0, 0xfd00, 0xfd01, u64::MAX]);
    header.flags = bytes.number() as u32;
    header.target_count = u32::from(bytes.byte());
    header.data_start = 300 + u32::from(bytes.byte());
    header.event_nr = u32::from(bytes.byte());
    let size = FIELDS_LEN + bytes.number() as usize % (MEMORY - FIELDS_LEN);
    header.data_size = u32::try_from(size).expect("below the memory");
    let mut buffer = vec![0; size.max(HEADER_LEN)];
    header.write(&mut buffer);
    for (place, byte) in buffer[HEADER_LEN..].iter_mut().zip(take(bytes, 255)) {
        *place = byte;
    }
    buffer
}

fn call(world: &World, code: u32, mut buffer: Vec<u8>) {
    let read = Call::read(code, &buffer).and_then(|call| {
        let there = buffer.len().min(call.reads());
        call.decode(buffer[..there].to_vec().into())
    });
    let (command, reply) = match read {
        Ok(request) => {
            let command = request.command().clone();
            (command, carry_out(world, request))
        }
        Err(reply) => {
            assert!(reply.result.is_err(), "{reply:?}");
            let command = Command::DevStatus { id: Id::Name("a".to_owned()), slot: Slot::Live };
            (command, reply)
        }
    };
    let size = Header::read(&buffer).map_or(0, |header| header.data_size as usize);
    assert!(reply.bytes.len() <= size.max(12) && reply.wiped <= size, "{size}: {reply:?}");
    // A wipe of memory that is not there fails with the caller's fault.
    if reply.wiped <= buffer.len() && reply.bytes.len() <= buffer.len() {
        reply.apply(&mut buffer);
    }
    let answer = client::read(&command, &buffer);
    if reply.result.is_ok() && !matches!(command, Command::RemoveAll { .. }) {
        assert!(answer.is_ok(), "{command:?}: {answer:?}, {reply:?}");
    }
    assert!(reply.result.is_ok() || reply.bytes.len() <= 12, "{reply:?}");
}

fn carry_out(world: &World, request: Request) -> Reply {
    match request.command() {
        // It may never come.
        Command::DevWait { .. } => request.reply(Err(Errno::INTR), None),
        _ => world.sim.block_on(world.control.ioctl(request)),
    }
}
