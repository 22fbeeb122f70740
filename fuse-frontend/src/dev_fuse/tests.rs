//! The loop over a socket instead of a device: one message each way is one call, as with the
//! kernel.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use backing::Pool;
use proptest::prelude::*;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sim_core::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::Connection;
use crate::files::{Attributes, Kind, Operation, Replies, Request, Service, Tasks};
use crate::wire::{
    INTERRUPT_BIT, InHeader, InitIn, InitOut, InterruptIn, OutHeader, ReadIn, opcode,
};

/// Answers attributes, and does something else for each handle that is read.
struct Planted {
    tasks: Tasks,
    ended: Arc<AtomicUsize>,
}

const PANICS: u64 = 1;
const PANICS_IN_A_TASK: u64 = 2;
const DROPS: u64 = 3;
const WAITS: u64 = 4;

impl Service for Planted {
    fn serve(&self, request: Request<'_>, mut reply: impl Replies) {
        let Operation::Read { handle, .. } = request.operation else {
            let time = std::time::UNIX_EPOCH;
            let kind = Kind::File;
            return reply.ok(&Attributes {
                inode: 7,
                kind,
                size: 1,
                mode: 0,
                uid: 0,
                gid: 0,
                time,
            });
        };
        match handle {
            PANICS => panic!("on purpose: the test shows it is caught"),
            PANICS_IN_A_TASK => self.tasks.start(async move {
                let _reply = reply;
                panic!("on purpose: the test shows it is caught");
            }),
            WAITS => {
                let interruption = reply.interruption().expect("this transport knows of them");
                self.tasks.start(async move {
                    std::future::poll_fn(|cx| match interruption.is_set(cx.waker()) {
                        true => std::task::Poll::Ready(()),
                        false => std::task::Poll::Pending,
                    })
                    .await;
                    reply.error(Errno::INTR);
                });
            }
            _ => drop(reply),
        }
    }

    fn end(&self) {
        self.ended.fetch_add(1, SeqCst);
    }
}

/// The kernel's end, with a connection that serves.
struct Kernel {
    socket: OwnedFd,
    connection: Arc<Connection>,
    ended: Arc<AtomicUsize>,
}

fn message(opcode: u32, unique: u64, body: &[u8]) -> Vec<u8> {
    let len = (size_of::<InHeader>() + body.len()) as u32;
    let header = InHeader { len, opcode, unique, pid: std::process::id(), ..InHeader::default() };
    [header.as_bytes(), body].concat()
}

impl Kernel {
    fn new(threads: usize) -> Kernel {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (socket, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
        let (pool, ended) = (Pool::new(1), Arc::<AtomicUsize>::default());
        let tasks = Tasks::new(pool.clone());
        let service = Planted { tasks, ended: ended.clone() };
        let init = InitIn { major: 7, minor: 31, max_readahead: 4096, flags: 1 };
        rustix::io::write(&socket, &message(opcode::INIT, 2, init.as_bytes())).unwrap();
        let connection = Connection::serve(theirs, service, pool, threads).unwrap();
        let kernel = Kernel { socket, connection, ended };
        let (header, body) = kernel.answer();
        assert_eq!((header.unique, header.error), (2, 0));
        let agreed = InitOut::read_from_bytes(&body).unwrap();
        assert_eq!((agreed.major, agreed.flags, agreed.max_write), (7, 1, 1 << 20));
        kernel
    }

    fn send(&self, message: &[u8]) {
        rustix::io::write(&self.socket, message).unwrap();
    }

    fn answer(&self) -> (OutHeader, Vec<u8>) {
        let mut bytes = [0; 4096];
        let len = rustix::io::read(&self.socket, &mut bytes).expect("an answer in time");
        let (header, body) = OutHeader::read_from_prefix(&bytes[..len]).unwrap();
        assert_eq!(header.len as usize, len);
        (header, body.to_vec())
    }

    fn read(&self, unique: u64, handle: u64) {
        let read = ReadIn { fh: handle, ..ReadIn::default() };
        self.send(&message(opcode::READ, unique, read.as_bytes()));
    }

    /// Sees that a request is answered, and no other was before.
    fn serves(&self, unique: u64) {
        self.send(&message(opcode::GETATTR, unique, &[]));
        let (header, body) = self.answer();
        assert_eq!((header.unique, header.error, body.len()), (unique, 0, 104));
    }
}

#[test]
fn a_request_that_panics_or_is_forgotten_fails_and_the_threads_go_on() {
    let kernel = Kernel::new(2);
    for round in 0..12 {
        for handle in [PANICS, PANICS_IN_A_TASK, DROPS] {
            let unique = 100 + round * 10 + handle * 2;
            kernel.read(unique, handle);
            let (header, body) = kernel.answer();
            assert_eq!((header.unique, header.error), (unique, -Errno::IO.0), "handle {handle}");
            assert!(body.is_empty());
        }
        kernel.serves(1000 + round * 2);
    }
}

#[test]
fn an_interrupt_that_nobody_waits_for_is_sent_again() {
    let kernel = Kernel::new(1);
    let interrupt = InterruptIn { unique: 10 };
    kernel.send(&message(opcode::INTERRUPT, 10 | INTERRUPT_BIT, interrupt.as_bytes()));
    let (header, _) = kernel.answer();
    assert_eq!((header.unique, header.error), (10 | INTERRUPT_BIT, -Errno::AGAIN.0));
}

#[test]
fn a_signal_that_does_not_kill_interrupts_nothing() {
    let kernel = Kernel::new(1);
    kernel.read(10, WAITS);
    kernel.serves(12);
    let interrupt = InterruptIn { unique: 10 };
    kernel.send(&message(opcode::INTERRUPT, 10 | INTERRUPT_BIT, interrupt.as_bytes()));
    std::thread::sleep(Duration::from_millis(150));
    kernel.serves(14);
}

#[test]
fn messages_that_need_no_answer_get_none() {
    let kernel = Kernel::new(1);
    kernel.send(&message(opcode::FORGET, 10, &[0; 8]));
    kernel.send(&message(opcode::BATCH_FORGET, 12, &[]));
    kernel.send(&message(opcode::INTERRUPT, 15, &[1]));
    kernel.serves(16);
}

#[test]
fn the_end_of_the_connection_ends_the_service_once() {
    let Kernel { socket, connection, ended } = Kernel::new(3);
    assert!(!connection.has_ended());
    drop(socket);
    connection.wait(Duration::from_secs(10));
    assert!(connection.has_ended());
    assert_eq!(ended.load(SeqCst), 1);
}

#[test]
fn any_bytes_are_answered_once_or_not_at_all_and_the_next_request_is() {
    let kernel = Kernel::new(2);
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    let code = prop_oneof![4 => 0..55u32, 1 => any::<u32>()];
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&(code, body, 0..60usize), |(code, body, cut)| {
        // The end of the mount ends a thread, as it should.
        if code == opcode::DESTROY || code == opcode::INTERRUPT {
            return Ok(());
        }
        let whole = message(code, 77, &body);
        let cut = whole.len() - cut.min(whole.len() - 1);
        kernel.send(&whole[..cut]);
        kernel.send(&message(opcode::GETATTR, 88, &[]));
        let silent =
            cut < size_of::<InHeader>() || matches!(code, opcode::FORGET | opcode::BATCH_FORGET);
        let mut answers: Vec<u64> =
            (0..if silent { 1 } else { 2 }).map(|_| kernel.answer().0.unique).collect();
        answers.sort_unstable();
        let expected = if silent { vec![88] } else { vec![77, 88] };
        prop_assert_eq!(answers, expected);
        Ok(())
    });
    run.unwrap();
}
