//! Requests about ranges that carry no data: `fallocate`, and `lseek` to data and holes.

use std::ops::Range;
use std::sync::Arc;

use sim_core::{
    Allocation, Bio, BlkError, BlkResult, Buffer, Errno, Flags, Op, SECTOR_SIZE, Sector, Sectors,
};

use super::reply::Reply;
use super::request::{Disk, Seek, Span, Turn};
use super::task::yield_now;

/// What `fallocate` can be asked for, by the kernel's numbers.
const KEEP_SIZE: u32 = 0x01;
const PUNCH_HOLE: u32 = 0x02;
const ZERO_RANGE: u32 = 0x10;

/// How much is zeroed by a write at a time: 1 MiB.
const CHUNK: Sectors = Sectors(2048);

/// How much room is taken at a time: 1 GiB.
const ROOM: Sectors = Sectors(1 << 21);

static ZEROS: [u8; (CHUNK.0 * SECTOR_SIZE) as usize] = [0; (CHUNK.0 * SECTOR_SIZE) as usize];

/// The most runs that one `lseek` looks at. One that has not found what it looks for by then says
/// so in the way that is always right: data here, no hole before the end.
const MAX_RUNS: usize = 4096;

#[derive(Clone, Copy)]
pub(crate) enum Change {
    /// What the range reads as stays, and has its room below.
    Reserve,
    /// The range reads as zeros and takes no room below, where the device can.
    Punch,
    /// The range reads as zeros.
    Zero,
}

impl Change {
    /// Tells whether a regular file is at least as long as the range reaches after a `fallocate`
    /// with this mode.
    pub(crate) fn lengthens(self, mode: u32) -> bool {
        match self {
            Change::Reserve | Change::Zero => mode & KEEP_SIZE == 0,
            Change::Punch => false,
        }
    }
}

#[derive(Clone, Copy)]
enum PastEnd {
    Refuse,
    /// What lies past the end reads as nothing anyway.
    LeaveOut,
}

impl Disk {
    /// Carries out `fallocate` with a kernel's `mode` on `len` bytes from byte `at` on.
    ///
    /// A hole reads as zeros, as in any regular file, and the kernel's loop driver relies on it.
    /// A discard alone does not promise that, so what the device does not call a hole afterwards
    /// is read, and zeroed where it must be.
    pub fn allocate(self: &Arc<Disk>, mode: u32, at: u64, len: u64, reply: impl Reply<()>) {
        let (change, range) = match self.check_allocate(mode, at, len) {
            Err(errno) => return reply.error(errno),
            Ok((_, range)) if range.is_empty() => return reply.ok(&()),
            Ok(checked) => checked,
        };
        let disk = self.clone();
        self.start(reply, async move { Ok(disk.change(change, range, Turn::Own).await?) });
    }

    /// Gives up the whole blocks from byte `at` on, `len` bytes, as a block device does that is told
    /// to: what they read as afterwards is the device's choice. Blocks that the range fills in part
    /// stay as they are. [`Errno::OPNOTSUPP`] where the device has no discards.
    pub fn discard(self: &Arc<Disk>, at: u64, len: u64, reply: impl Reply<()>) {
        let limit = self.device().limits().max_discard_sectors;
        let range = match self.check_abnormal(at, len, limit) {
            Ok(range) => range,
            Err(errno) => return reply.error(errno),
        };
        let disk = self.clone();
        self.start(reply, async move {
            let blocks = disk.whole_blocks(&range);
            let blocks = sectors(&blocks);
            Ok(disk.in_pieces(Op::Discard, blocks, limit, Turn::Own).await?)
        });
    }

    /// Makes `len` bytes from byte `at` on read as zeros, as a block device does that is told to.
    /// [`Errno::OPNOTSUPP`] where the device has no such operation: whoever asks writes zeros then.
    pub fn write_zeroes(self: &Arc<Disk>, at: u64, len: u64, reply: impl Reply<()>) {
        let limit = self.device().limits().max_write_zeroes_sectors;
        let range = match self.check_abnormal(at, len, limit) {
            Ok(range) => range,
            Err(errno) => return reply.error(errno),
        };
        let disk = self.clone();
        self.start(reply, async move {
            let blocks = disk.zero_edges(&range, Turn::Own).await?;
            Ok(disk.in_pieces(Op::WriteZeroes, blocks, limit, Turn::Own).await?)
        });
    }

    /// Checks a range of an operation without data, of which the device takes `limit` sectors at a time.
    fn check_abnormal(&self, at: u64, len: u64, limit: u32) -> Result<Range<u64>, Errno> {
        let size = self.size();
        self.check_write(at, size)?;
        let end = at.checked_add(len).filter(|end| *end <= size).ok_or(Errno::NOSPC)?;
        (limit > 0).then_some(at..end).ok_or(Errno::OPNOTSUPP)
    }

    /// Finds the first byte from `at` on that lies in data or in a hole; the end counts as a hole.
    pub fn seek(&self, mut at: u64, what: Seek) -> Result<u64, Errno> {
        if self.is_gone() {
            return Err(Errno::NODEV);
        }
        let size = self.size();
        if at >= size {
            return Err(Errno::NXIO);
        }
        for _ in 0..MAX_RUNS {
            if at >= size {
                return match what {
                    Seek::Data => Err(Errno::NXIO),
                    Seek::Hole => Ok(size),
                };
            }
            let sector = Sectors::in_bytes(at).to_sector();
            let (allocation, run) = self.device().run_at(sector);
            match (what, allocation) {
                (Seek::Data, Allocation::Data) | (Seek::Hole, Allocation::Hole) => return Ok(at),
                (Seek::Data, Allocation::Hole) | (Seek::Hole, Allocation::Data) => {
                    let end = sector.checked_add(run).and_then(Sector::bytes).unwrap_or(size);
                    at = end.max(at + 1).min(size);
                }
            }
        }
        Ok(match what {
            Seek::Data => at,
            Seek::Hole => size,
        })
    }

    /// Checks a `fallocate`, and returns what it comes to.
    pub(crate) fn check_allocate(
        &self,
        mode: u32,
        at: u64,
        len: u64,
    ) -> Result<(Change, Range<u64>), Errno> {
        const PUNCH: u32 = PUNCH_HOLE | KEEP_SIZE;
        const ZERO_KEEP: u32 = ZERO_RANGE | KEEP_SIZE;
        let (change, past_end) = match mode {
            0 | KEEP_SIZE => (Change::Reserve, PastEnd::Refuse),
            PUNCH => (Change::Punch, PastEnd::LeaveOut),
            ZERO_RANGE => (Change::Zero, PastEnd::Refuse),
            ZERO_KEEP => (Change::Zero, PastEnd::LeaveOut),
            _ => return Err(Errno::OPNOTSUPP),
        };
        let size = self.size();
        self.check_write(0, size.max(1))?;
        let end = at.checked_add(len).ok_or(Errno::FBIG)?;
        match (past_end, end > size) {
            (PastEnd::Refuse, true) => return Err(Errno::NOSPC),
            (PastEnd::Refuse | PastEnd::LeaveOut, _) => {}
        }
        if matches!(change, Change::Punch) && !self.can_punch() {
            return Err(Errno::OPNOTSUPP);
        }
        Ok((change, at.min(size)..end.min(size)))
    }

    /// Tells whether a discard makes holes.
    ///
    /// A hole has to read as zeros: writing those over what was discarded (encrypted, say) would
    /// cost a trim of the whole device as much as filling it, and give no room back.
    pub(crate) fn can_punch(&self) -> bool {
        self.device().limits().max_discard_sectors > 0 && self.device().discard_zeroes()
    }

    /// Carries out what was checked.
    pub(crate) async fn change(
        &self,
        change: Change,
        bytes: Range<u64>,
        turn: Turn<'_>,
    ) -> BlkResult {
        match change {
            Change::Reserve => self.reserve(bytes).await,
            Change::Punch | Change::Zero => self.clear(change, bytes, turn).await,
        }
    }

    /// Takes room for the blocks of a range.
    async fn reserve(&self, bytes: Range<u64>) -> BlkResult {
        let block = self.block();
        let end = bytes.end.next_multiple_of(block).min(self.size());
        let end = Sectors::in_bytes(end).to_sector();
        let mut at = Sectors::in_bytes(bytes.start - bytes.start % block).to_sector();
        while at < end {
            let len = ROOM.min(end - at);
            self.device().reserve(at, len).await?;
            at += len;
            if at < end {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Makes a range of bytes read as zeros: blocks that it fills in part by writes, the whole
    /// ones between them as `change` says.
    pub(crate) async fn clear(
        &self,
        change: Change,
        bytes: Range<u64>,
        turn: Turn<'_>,
    ) -> BlkResult {
        let blocks = self.zero_edges(&bytes, turn).await?;
        match change {
            Change::Reserve => Ok(()),
            Change::Zero => self.zero(blocks, turn).await,
            Change::Punch => {
                let limit = self.device().limits().max_discard_sectors;
                match self.in_pieces(Op::Discard, blocks.clone(), limit, turn).await {
                    // Somewhere in the range, maybe behind what is gone already.
                    Ok(()) | Err(BlkError::NotSupported) => {}
                    Err(error) => return Err(error),
                }
                self.zero_what_is_left(blocks, turn).await
            }
        }
    }

    /// Writes zeros where a range fills blocks in part, and returns the whole ones between.
    async fn zero_edges(
        &self,
        bytes: &Range<u64>,
        turn: Turn<'_>,
    ) -> Result<Range<Sector>, BlkError> {
        let (block, size) = (self.block(), self.size());
        let whole = self.whole_blocks(bytes);
        for edge in [bytes.start..whole.start, whole.end..bytes.end] {
            if !edge.is_empty() {
                let span = Span::around(edge.start, edge.end, block, size);
                let zeros = &ZEROS[..(edge.end - edge.start) as usize];
                self.write_bytes(span, zeros, Flags::default(), turn).await?;
            }
        }
        Ok(sectors(&whole))
    }

    /// Returns the bytes of the blocks that a range fills.
    fn whole_blocks(&self, bytes: &Range<u64>) -> Range<u64> {
        let block = self.block();
        let first = bytes.start.next_multiple_of(block).min(bytes.end);
        // The last block of a device may be a short one, and is whole all the same.
        let last = if bytes.end == self.size() { bytes.end } else { bytes.end - bytes.end % block };
        first..last.max(first)
    }

    /// Makes whole blocks read as zeros.
    async fn zero(&self, blocks: Range<Sector>, turn: Turn<'_>) -> BlkResult {
        let limit = self.device().limits().max_write_zeroes_sectors;
        if limit > 0 {
            match self.in_pieces(Op::WriteZeroes, blocks.clone(), limit, turn).await {
                Err(BlkError::NotSupported) => {}
                result => return result,
            }
        }
        let mut at = blocks.start;
        while let Some((start, len)) = self.next_data(&mut at, blocks.end).await {
            let zeros = &ZEROS[..len.bytes() as usize];
            self.submit_write(Bio::write(start, zeros), turn).await?;
            yield_now().await;
        }
        Ok(())
    }

    /// Zeroes what does not read as zeros though it was discarded.
    async fn zero_what_is_left(&self, blocks: Range<Sector>, turn: Turn<'_>) -> BlkResult {
        let mut at = blocks.start;
        while let Some((start, len)) = self.next_data(&mut at, blocks.end).await {
            let mut buffer = Buffer::take(len.bytes() as usize);
            self.device().submit(Bio::read(start, &mut buffer)).await?;
            if *buffer != ZEROS[..buffer.len()] {
                self.zero(start..start + len, turn).await?;
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Returns the next whole blocks from `at` on that hold data, a [`CHUNK`] at most, and moves
    /// `at` behind them; `None` where holes alone are left before `end`.
    async fn next_data(&self, at: &mut Sector, end: Sector) -> Option<(Sector, Sectors)> {
        while *at < end {
            let start = *at;
            let (allocation, run) = self.run(start, end);
            match allocation {
                Allocation::Hole => *at += run,
                Allocation::Data => {
                    let len = run.min(CHUNK);
                    *at += len;
                    return Some((start, len));
                }
            }
            yield_now().await;
        }
        None
    }

    /// Submits an operation on whole blocks in pieces as long as the device takes them, which end
    /// where it counts such lengths from its start: a snapshot gives up whole chunks alone.
    async fn in_pieces(
        &self,
        op: Op,
        blocks: Range<Sector>,
        limit: u32,
        turn: Turn<'_>,
    ) -> BlkResult {
        let block = Sectors::in_bytes(self.block()).0;
        let limit = Sectors((u64::from(limit) / block * block).max(block));
        let mut at = blocks.start;
        while at < blocks.end {
            let len = Sectors(limit.0 - at.0 % limit.0).min(blocks.end - at);
            self.submit_write(Bio::without_data(op, at, len), turn).await?;
            at += len;
            if at < blocks.end {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Returns what the whole blocks from `at` on hold, and for how long, `end` at most. A block
    /// that is a hole in part holds data.
    fn run(&self, at: Sector, end: Sector) -> (Allocation, Sectors) {
        let block = Sectors::in_bytes(self.block()).0;
        let left = end - at;
        let (allocation, run) = self.device().run_at(at);
        let run = run.min(left);
        match allocation {
            Allocation::Hole if run == left || run.0 >= block => {
                let whole = if run == left { run } else { Sectors(run.0 / block * block) };
                (Allocation::Hole, whole)
            }
            Allocation::Hole | Allocation::Data => {
                (Allocation::Data, Sectors(run.0.max(1).next_multiple_of(block)).min(left))
            }
        }
    }
}

fn sectors(bytes: &Range<u64>) -> Range<Sector> {
    Sectors::in_bytes(bytes.start).to_sector()..Sectors::in_bytes(bytes.end).to_sector()
}
