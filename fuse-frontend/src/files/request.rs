//! One read, write or flush of a device, from what the kernel asked to the reply.
//!
//! Nothing here knows FUSE: a request comes as bytes and ends in a [`Reply`], so that tests and
//! fuzzers drive it in process. A request that can end on the spot does, with no allocation for
//! whole blocks; any other becomes a task that owns its buffer until the reply is sent. One that
//! waits for a device to be resumed ends with [`INTR`](Errno::INTR) when its caller dies.

use std::borrow::Borrow;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use futures_util::lock::{Mutex as AsyncMutex, MutexGuard};
use sim_core::{
    Access, Bio, BlkResult, BlockDevice, Buffer, Errno, Flags, Gate, Gone, MAX_TABLE_LEN,
    MappedDevice, Pass, SECTOR_SIZE, Sector, Sectors,
};

use super::barrier::barred;
pub use super::end::End;
use super::reply::{Interruption, Part, answer};
pub use super::reply::{Refuse, Reply};
use super::task::{Tasks, tells_yield};

/// The largest file, in bytes: the last whole sector below 2^63, where file offsets end. No table
/// is longer than that, as the kernel's are not.
pub const MAX_SIZE: u64 = MAX_TABLE_LEN.0 * SECTOR_SIZE;

/// The largest logical block of a device, in bytes. Requests in these units need no look at the
/// device's own.
const LARGEST_BLOCK: u64 = 4096;

/// Whether a write is durable when it has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the next flush.
    AtFlush,
    /// At once: the file was opened with `O_DSYNC` or `O_SYNC`.
    AtOnce,
}

/// What a request that waits will have changed when it is given up halfway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    Data,
    Nothing,
}

/// What a request's offset and length are multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Bytes.
    Bytes,
    /// Sectors: the file was opened with `O_DIRECT`. Larger logical blocks are not asked for.
    Sectors,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// A device as a file: bytes instead of sectors.
pub struct Disk {
    device: Arc<dyn BlockDevice>,
    pub(crate) tasks: Arc<Tasks>,
    /// Whole-block writes pass here. It is closed while a block is read, changed in part and
    /// written back: a write of that block in between would be undone.
    writes: Gate,
    /// One such change at a time.
    turn: AsyncMutex<()>,
}

impl Disk {
    /// Makes a file of a device.
    pub fn new(device: Arc<dyn BlockDevice>, tasks: Arc<Tasks>) -> Arc<Disk> {
        Arc::new(Disk { device, tasks, writes: Gate::default(), turn: AsyncMutex::new(()) })
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Returns the size in bytes, [`MAX_SIZE`] at most.
    pub fn size(&self) -> u64 {
        size_in_bytes(self.device.size())
    }

    /// Reads `len` bytes from byte `at` on, or what there is of them.
    pub fn read(self: &Arc<Disk>, at: u64, len: usize, reply: impl Reply<[u8]>) {
        let size = self.size();
        let end = at.saturating_add(len as u64).min(size);
        if at >= end {
            return if self.is_gone() { reply.error(Errno::NODEV) } else { reply.ok(&[]) };
        }
        let span = Span::around(at, end, self.block_for(at, end), size);
        let mut reply = Some(reply);
        self.device.lend(span.sector(), span.sectors(), &mut |pages| {
            if let Some(reply) = reply.take() {
                reply.ok(&pages[span.inner()]);
            }
        });
        let Some(reply) = reply else { return };
        let mut buffer = Buffer::take(span.len());
        if let Ok(result) = self.device.try_now(Bio::read(span.sector(), &mut buffer)) {
            return answer(reply, result.map(|()| &buffer[span.inner()]).map_err(Errno::from));
        }
        let disk = self.clone();
        self.start_look(reply, async move {
            disk.device.submit(Bio::read(span.sector(), &mut buffer)).await?;
            Ok(Part { buffer, range: span.inner() })
        });
    }

    /// Writes `data` from byte `at` on, or as much of it as lies before the end, and answers how
    /// much that was.
    pub fn write(
        self: &Arc<Disk>,
        at: u64,
        data: &[u8],
        durability: Durability,
        reply: impl Reply<u32>,
    ) {
        self.write_reaching(None, at, data, durability, reply);
    }

    /// Writes, and moves the end of an open file along if that was truncated. No gap lies before
    /// `at`.
    pub(crate) fn write_reaching(
        self: &Arc<Disk>,
        end: Option<&Arc<End>>,
        at: u64,
        data: &[u8],
        durability: Durability,
        reply: impl Reply<u32>,
    ) {
        let span = match self.span_to_write(at, data.len()) {
            Ok(Some(span)) => span,
            Ok(None) => return reply.ok(&0),
            Err(errno) => return reply.error(errno),
        };
        let data = &data[..span.inner().len()];
        let flags = durability.flags();
        let written = data.len() as u32;
        // While others are kept out who would fill a gap before an end that is out of date.
        let reach = move |end: Option<&Arc<End>>| {
            if let Some(end) = end {
                end.reach(span.end);
            }
        };
        if span.is_whole()
            && let Some(_pass) = self.writes.try_enter()
            && let Ok(result) =
                self.device.try_now(Bio::write(span.sector(), data).with_flags(flags))
        {
            let result = result.map(|()| reach(end));
            return answer(reply, result.map(|()| written).map_err(Errno::from));
        }
        let data = Buffer::copy_of(data);
        let (disk, end) = (self.clone(), end.cloned());
        self.start(reply, async move {
            if span.is_whole() {
                let _pass = disk.pass().await;
                disk.device.submit(Bio::write(span.sector(), &data).with_flags(flags)).await?;
                reach(end.as_ref());
            } else {
                let alone = disk.alone().await;
                disk.write_bytes(span, &data, flags, Turn::Held(&alone)).await?;
                reach(end.as_ref());
            }
            Ok(written)
        });
    }

    /// Returns the blocks around what a write of `len` bytes writes, which is what lies before the
    /// end; nothing where it writes nothing.
    pub(crate) fn span_to_write(&self, at: u64, len: usize) -> Result<Option<Span>, Errno> {
        let size = self.size();
        self.check_write(at, size)?;
        let end = at.saturating_add(len as u64).min(size);
        Ok((at < end).then(|| Span::around(at, end, self.block_for(at, end), size)))
    }

    /// Makes everything durable whose write has been answered.
    pub fn flush(self: &Arc<Disk>, reply: impl Reply<()>) {
        self.flush_after(ready(()), reply);
    }

    /// As [`flush`](Self::flush), when `first` has ended.
    pub(crate) fn flush_after(
        self: &Arc<Disk>,
        first: impl Future<Output = ()> + Send + 'static,
        reply: impl Reply<()>,
    ) {
        let disk = self.clone();
        self.start_look(reply, async move {
            first.await;
            Ok(disk.device.submit(Bio::flush()).await?)
        });
    }

    /// Waits for `first`, and for what the device has put off until nobody writes any more.
    pub(crate) fn closed_after(
        self: &Arc<Disk>,
        first: impl Future<Output = ()> + Send + 'static,
        reply: impl Reply<()>,
    ) {
        let disk = self.clone();
        self.start(reply, async move {
            first.await;
            if let Some(device) = MappedDevice::of(&*disk.device) {
                device.closed().await;
            }
            Ok(())
        });
    }

    /// Answers with what `work` returns, now or when it has ended.
    ///
    /// Work that panics fails. Work whose caller dies is given up, where nothing of it can have
    /// reached what lies below all tables, and between the pieces of what takes many; else it goes on
    /// to its end, as an image must not be written to behind the back of those who come after the
    /// caller.
    pub(crate) fn start<T: ?Sized, A: Borrow<T> + Send>(
        self: &Arc<Disk>,
        mut reply: impl Reply<T>,
        work: impl Future<Output = Result<A, Errno>> + Send + 'static,
    ) {
        let disk = self.clone();
        self.tasks.start(async move {
            // The work goes, with all that it holds, before anybody hears of its end.
            let result = {
                let work = pin!(work);
                disk.carry_out(&mut reply, work, Changes::Data).await
            };
            answer(reply, result);
        });
    }

    /// As [`start`](Self::start), for work that changes no data: a caller that dies has its answer at
    /// once, and what is in a target's hands ends behind its back.
    pub(crate) fn start_look<T: ?Sized, A: Borrow<T> + Send>(
        self: &Arc<Disk>,
        mut reply: impl Reply<T>,
        work: impl Future<Output = Result<A, Errno>> + Send + 'static,
    ) {
        let disk = self.clone();
        self.tasks.start(async move {
            let mut work = pin!(work.fuse());
            let result = disk.carry_out(&mut reply, work.as_mut(), Changes::Nothing).await;
            let is_given_up = matches!(result, Err(Errno::INTR)) && !work.is_terminated();
            answer(reply, result);
            if is_given_up && !disk.is_held() {
                let mut go_on = |cx: &mut Context<'_>| {
                    let polled = barred("a request", || work.as_mut().poll(cx));
                    polled.map_or(Poll::Ready(()), |polled| polled.map(drop))
                };
                poll_fn(|cx| go_on(cx)).await;
            }
        });
    }

    async fn carry_out<A>(
        &self,
        reply: &mut impl Refuse,
        mut work: Pin<&mut impl Future<Output = Result<A, Errno>>>,
        changes: Changes,
    ) -> Result<A, Errno> {
        let (mut waits, mut interruption) = (false, None::<Arc<Interruption>>);
        let mut may_end = changes == Changes::Nothing;
        poll_fn(|cx| {
            if let Some(interruption) = &interruption
                && interruption.is_set(cx.waker())
                && (may_end || self.is_held())
            {
                return Poll::Ready(Err(Errno::INTR));
            }
            let (polled, yielded) = tells_yield(|| barred("a request", || work.as_mut().poll(cx)));
            may_end = yielded || changes == Changes::Nothing;
            match polled {
                None => return Poll::Ready(Err(Errno::IO)),
                Some(Poll::Ready(result)) => return Poll::Ready(result),
                Some(Poll::Pending) => {}
            }
            if !std::mem::replace(&mut waits, true) {
                interruption = reply.interruption();
            }
            Poll::Pending
        })
        .await
    }

    /// Tells whether no request that waits here has got anywhere.
    fn is_held(&self) -> bool {
        MappedDevice::of(&*self.device).is_some_and(MappedDevice::holds_all)
    }

    /// Tells whether the device was removed.
    pub fn is_gone(&self) -> bool {
        // A device with a size is there; one without may have no table yet, and opens.
        let opens = || self.device.open(Access::ReadOnly).map(|()| self.device.release()).is_ok();
        self.device.size().is_zero() && !opens()
    }

    /// Refuses what cannot be written at all, in the order in which the block layer does.
    pub(crate) fn check_write(&self, at: u64, size: u64) -> Result<(), Errno> {
        if self.is_gone() {
            Err(Errno::NODEV)
        } else if self.device.access().is_read_only() {
            Err(Errno::PERM)
        } else if at >= size {
            Err(Errno::NOSPC)
        } else {
            Ok(())
        }
    }

    /// Returns the size in bytes of the blocks that a request for these bytes must be rounded to.
    fn block_for(&self, at: u64, end: u64) -> u64 {
        if (at | end).is_multiple_of(LARGEST_BLOCK) { LARGEST_BLOCK } else { self.block() }
    }

    /// Refuses a request by direct I/O that is none of whole sectors, as far as it lies before the
    /// end: [`Errno::INVAL`], as a block device does.
    pub(crate) fn check_units(&self, units: Units, at: u64, len: u64) -> Result<(), Errno> {
        let end = at.saturating_add(len).min(self.size());
        let is_whole = at >= end || (at | end).is_multiple_of(SECTOR_SIZE);
        match units {
            Units::Sectors if !is_whole => Err(Errno::INVAL),
            Units::Bytes | Units::Sectors => Ok(()),
        }
    }

    /// Returns the size of the device's logical blocks, in bytes.
    pub(crate) fn block(&self) -> u64 {
        u64::from(self.device.limits().logical_block_size)
    }

    /// Writes whole blocks, or gives a range of them up.
    pub(crate) async fn submit_write(&self, bio: Bio<'_>, turn: Turn<'_>) -> BlkResult {
        let _pass = match turn {
            Turn::Own => Some(self.pass().await),
            Turn::Held(_) => None,
        };
        self.device.submit(bio).await
    }

    async fn pass(&self) -> Pass<'_> {
        self.writes.enter().await.unwrap_or_else(|Gone| unreachable!("this gate stands for ever"))
    }

    /// Writes bytes that need not fill whole blocks: reads the blocks at the ends, changes them and
    /// writes them back, with nobody else writing.
    pub(crate) async fn write_bytes(
        &self,
        span: Span,
        data: &[u8],
        flags: Flags,
        turn: Turn<'_>,
    ) -> BlkResult {
        let _alone = match turn {
            Turn::Own => Some(self.alone().await),
            Turn::Held(_) => None,
        };
        let mut buffer = Buffer::take(span.len());
        for edge in span.edges().into_iter().flatten() {
            let sector = span.sector() + Sectors::in_bytes(edge.start as u64);
            self.device.submit(Bio::read(sector, &mut buffer[edge])).await?;
        }
        buffer[span.inner()].copy_from_slice(data);
        self.device.submit(Bio::write(span.sector(), &buffer).with_flags(flags)).await
    }

    /// Waits until nobody else writes, and keeps everybody out.
    pub(crate) async fn alone(&self) -> Alone<'_> {
        let turn = self.turn.lock().await;
        self.writes.close();
        let alone = Alone { writes: &self.writes, _turn: turn };
        self.writes.drained().await;
        alone
    }
}

/// How a step of a change keeps other writers out.
#[derive(Clone, Copy)]
pub(crate) enum Turn<'a> {
    /// As far as the step itself needs it.
    Own,
    /// They are out already.
    Held(#[allow(dead_code, reason = "whoever has it proves that it is alone")] &'a Alone<'a>),
}

/// The right to be the only writer.
pub(crate) struct Alone<'a> {
    writes: &'a Gate,
    // Goes after the gate is open: whoever has the next turn closes it again.
    _turn: MutexGuard<'a, ()>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.writes.open();
    }
}

impl Durability {
    pub(crate) fn flags(self) -> Flags {
        Flags { fua: self == Durability::AtOnce, ..Flags::default() }
    }
}

/// Some bytes, and the whole blocks around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First and last byte offset of the blocks.
    outer: (u64, u64),
    at: u64,
    end: u64,
    block: u64,
}

impl Span {
    /// Rounds `at..end` out to blocks of `block` bytes, not past `size`.
    pub(crate) fn around(at: u64, end: u64, block: u64, size: u64) -> Span {
        assert!(at < end && end <= size, "{at}..{end} lies on the device of {size} bytes");
        let outer = (at - at % block, end.next_multiple_of(block).min(size));
        Span { outer, at, end, block }
    }

    pub(crate) fn sector(&self) -> Sector {
        Sectors::in_bytes(self.outer.0).to_sector()
    }

    fn sectors(&self) -> Sectors {
        Sectors::in_bytes(self.outer.1 - self.outer.0)
    }

    fn len(&self) -> usize {
        in_memory(self.outer.1 - self.outer.0)
    }

    fn is_whole(&self) -> bool {
        self.outer == (self.at, self.end)
    }

    /// Returns where the bytes lie within the blocks.
    pub(crate) fn inner(&self) -> std::ops::Range<usize> {
        in_memory(self.at - self.outer.0)..in_memory(self.end - self.outer.0)
    }

    /// Returns the blocks that the bytes fill in part: at the beginning, and at the end if that
    /// is another.
    fn edges(&self) -> [Option<std::ops::Range<usize>>; 2] {
        let len = self.len();
        let block = in_memory(self.block);
        let first = 0..block.min(len);
        let last = (len - 1) / block * block..len;
        let begins_within = self.at != self.outer.0;
        let ends_within = self.end != self.outer.1 && !(begins_within && last.start == 0);
        [begins_within.then_some(first), ends_within.then_some(last)]
    }
}

/// Returns a size in bytes, as large as a file can be at most.
pub(crate) fn size_in_bytes(sectors: Sectors) -> u64 {
    sectors.0.saturating_mul(SECTOR_SIZE).min(MAX_SIZE)
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a request fits in memory")
}
