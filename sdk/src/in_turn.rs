//! Callbacks one at a time, for tests under a simulation.
//!
//! A callback blocks while its I/O is under way, so it needs a stack of its own: a thread. Here the
//! task that stands for it in the simulation, and its thread, take turns: while the thread runs, the
//! simulation waits, and where the thread asks for I/O, it waits until the simulation has chosen
//! that the I/O ends. So a seed decides about the order of all callbacks and of all their I/O.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use sim_core::{Area, Bio, BlkError, BlkResult, Op, Outcome, SECTOR_SIZE, Sector, Sectors};

use crate::workers::Job;

/// How long a callback may compute before it is taken to wait for a lock that another one holds, and
/// the simulation goes on with that one.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often in a row, before it is taken to wait for ever.
const MOST: u32 = 400;

thread_local! {
    /// What the callback that this thread runs asks for I/O, where it runs in turn.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

struct Turn {
    ask: Sender<Ask>,
    answer: Receiver<(BlkResult, Vec<u8>)>,
}

/// An I/O of a callback, with its data in memory of its own.
struct Ask {
    area: Area,
    op: Op,
    at: Sector,
    len: Sectors,
    data: Vec<u8>,
}

/// Runs a job on a thread that takes turns with this future. Once it is given up its I/O is refused,
/// and what is under way is not done: as that of a future which is dropped.
pub(crate) async fn run(job: Job, given_up: Arc<Outcome<()>>) {
    let ((ask, asked), (answer, answered)) = (channel(), channel());
    let thread = thread::Builder::new().name("plugin".to_owned()).spawn(move || {
        TURN.set(Some(Turn { ask, answer: answered }));
        job();
        // Last: whoever hears of it goes on.
        drop(TURN.take());
    });
    // The job was dropped with the closure then, and has told of its end.
    let Ok(_detached) = thread else { return };
    let mut waited = 0;
    loop {
        match asked.recv_timeout(PATIENCE) {
            Ok(ask) => {
                waited = 0;
                // Where nobody hears it, the callback has panicked.
                let _ended = answer.send(unless(&given_up, ask.carry_out()).await);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                waited += 1;
                assert!(waited < MOST, "a callback of the plug-in does not return");
                others().await;
            }
        }
    }
}

/// Carries an I/O out, unless nobody waits for it any more.
async fn unless(
    given_up: &Outcome<()>,
    io: impl Future<Output = (BlkResult, Vec<u8>)>,
) -> (BlkResult, Vec<u8>) {
    let (mut io, mut given_up) = (pin!(io), pin!(given_up.wait()));
    poll_fn(|cx| match given_up.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready((Err(BlkError::Gone), Vec::new())),
        Poll::Pending => io.as_mut().poll(cx),
    })
    .await
}

/// Lets other tasks run.
async fn others() {
    let mut waits = true;
    poll_fn(|cx| match std::mem::take(&mut waits) {
        true => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
    .await;
}

/// Carries a bio out for the callback that this thread runs, and blocks until it has ended.
pub(crate) fn submit(area: &Area, at: Sector, bio: Bio<'_>) -> BlkResult {
    TURN.with_borrow(|turn| match turn {
        None => pollster::block_on(area.submit(at, bio)),
        Some(turn) => turn.submit(area, at, bio),
    })
}

impl Turn {
    fn submit(&self, area: &Area, at: Sector, mut bio: Bio<'_>) -> BlkResult {
        let (op, len) = (bio.op(), bio.len());
        let data = match op {
            Op::Read => vec![0; (len.0 * SECTOR_SIZE) as usize],
            _ => bio.data().to_vec(),
        };
        // The other end is gone where the power of the simulation was cut: nothing reaches a disk.
        let gone = |_| BlkError::Gone;
        let ask = Ask { area: area.clone(), op, at, len, data };
        self.ask.send(ask).map_err(|_| BlkError::Gone)?;
        let (end, data) = self.answer.recv().map_err(gone)?;
        if op == Op::Read && end.is_ok() {
            bio.buffer().copy_from_slice(&data);
        }
        end
    }
}

impl Ask {
    async fn carry_out(self) -> (BlkResult, Vec<u8>) {
        let Ask { area, op, at, len, mut data } = self;
        let bio = match op {
            Op::Read => Bio::read(at, &mut data),
            Op::Write => Bio::write(at, &data),
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Bio::without_data(op, at, len)
            }
        };
        let end = area.submit(at, bio).await;
        (end, data)
    }
}
