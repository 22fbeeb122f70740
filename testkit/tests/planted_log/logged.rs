//! `logged <origin> <start> <log> <start> <len>`: what is written goes to a log first, and to the
//! origin when the log is full.
//!
//! Records are appended one after another, so those that are durable are always the first ones. A
//! renewal copies what the log has to the origin, makes that durable, and begins another epoch in
//! the superblock, in which all records so far are void. A device that comes up reads the records
//! of the epoch up to the first that is not whole, and renews the log.
//!
//! `BUG` plants one fault; `NONE` is the target as it should be.

use std::fmt;
use std::sync::Arc;

use futures_util::lock::Mutex as AsyncMutex;
use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, Flags, Gate, Locked, Mapped, Op,
    Profile, Refusal, Runtime, Sector, Sectors, StatusKind, StatusWriter, Target, TargetType,
};

use crate::format::{self, HEAD, Header, SECTOR, checksum};

pub(crate) const NONE: u8 = 0;
/// A write with FUA is appended without.
pub(crate) const NO_FUA: u8 = 1;
/// A flush does nothing.
pub(crate) const NO_FLUSH: u8 = 2;
/// A flush goes to the origin alone.
pub(crate) const WRONG_DEVICE_FLUSHED: u8 = 3;
/// A write ends before its record is in the log.
pub(crate) const EARLY_ACK: u8 = 4;
/// Records are written at the same time, and may end in any order.
pub(crate) const UNORDERED_APPENDS: u8 = 5;
/// The superblock of a renewal is not durable when the log is used again.
pub(crate) const SUPER_WITHOUT_FUA: u8 = 6;
/// A read does not keep the log from being renewed.
pub(crate) const READER_RACE: u8 = 7;
/// A record is found by reads before it is there.
pub(crate) const MAP_BEFORE_WRITE: u8 = 8;
/// A superblock that could not be written is taken for not written.
pub(crate) const SUPER_IN_DOUBT: u8 = 9;
/// A device that comes up goes on in the epoch that it finds.
pub(crate) const STALE_RECORD: u8 = 10;
/// Headers are not checked.
pub(crate) const HEADER_SUM_IGNORED: u8 = 11;
/// Data is not checked.
pub(crate) const DATA_SUM_IGNORED: u8 = 12;
/// A device that comes up gives the log up before it has put the data in its place.
pub(crate) const RECOVERY_IN_PLACE: u8 = 13;
/// A renewal does not wait for the origin to be durable.
pub(crate) const RENEWAL_WITHOUT_FLUSH: u8 = 14;
/// Blocks are taken for 512 bytes, whatever the device has.
pub(crate) const SMALL_BLOCKS: u8 = 15;
/// What a header says is taken for true once its checksum is right.
pub(crate) const FIELDS_TRUSTED: u8 = 16;

/// The longest record.
const MOST: u64 = 16;

pub(crate) struct Logged<const BUG: u8> {
    /// Shared with the tasks of the target that ends writes early.
    core: Arc<Core<BUG>>,
}

struct Core<const BUG: u8> {
    origin: Area,
    log: Area,
    len: u64,
    runtime: Arc<dyn Runtime>,
    /// Held by whoever appends.
    tail: AsyncMutex<Tail>,
    /// Where each sector is in the log; 0 for those in the origin.
    map: Locked<Vec<u64>>,
    /// Reads are inside, a renewal keeps them out.
    readers: Gate,
}

#[derive(Clone, Copy, Default)]
struct Tail {
    /// Sectors of a block; zero until the log was read.
    block: u64,
    epoch: u64,
    number: u64,
    at: u64,
    /// A superblock could not be written, and which epoch is on the device is not known.
    in_doubt: bool,
}

impl<const BUG: u8> TargetType for Logged<BUG> {
    const NAME: &'static str = "logged";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Logged<BUG>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        args.exactly(5, COUNT)?;
        let (origin, start) = (args.next(COUNT)?, args.next(COUNT)?.sector("Invalid start")?);
        let len = args.target_len();
        let origin = args.area(origin, start, len, "Device lookup failed")?;
        let (log, start) = (args.next(COUNT)?, args.next(COUNT)?.sector("Invalid start")?);
        let word = args.next(COUNT)?;
        let log_len = Sectors(word.sector("Invalid log length")?.0);
        // A superblock, a header and the longest record, where blocks are of eight sectors.
        if !(8 + 8 + MOST..1 << 20).contains(&log_len.0) || len.0 > 1 << 20 {
            return Err(word.error("32 to 1048575 sectors", "Invalid log length"));
        }
        let core = Core {
            origin,
            log: args.area(log, start, log_len, "Device lookup failed")?,
            len: len.0,
            runtime: args.runtime().clone(),
            tail: AsyncMutex::default(),
            map: Locked::new(vec![0; len.0 as usize]),
            readers: Gate::default(),
        };
        Ok(Logged { core: Arc::new(core) })
    }
}

impl<const BUG: u8> Target for Logged<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        let Core { origin, log, map, .. } = &*self.core;
        match kind {
            StatusKind::Info => {
                write!(out, "{}", map.lock().iter().filter(|at| **at > 0).count())
            }
            StatusKind::Table => {
                out.device(origin)?;
                write!(out, " {} ", origin.start)?;
                out.device(log)?;
                write!(out, " {} {}", log.start, log.size())
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.core.origin);
        each(&self.core.log);
    }

    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(Sectors(MOST)),
            num_flush_bios: 1,
            flush_supported: true,
            ..Profile::default()
        }
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.core.load())
    }
}

impl<const BUG: u8> Logged<BUG> {
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        let core = &self.core;
        match bio.op() {
            Op::Read => core.read(&mut bio).await,
            Op::Flush => match BUG {
                NO_FLUSH => Ok(()),
                WRONG_DEVICE_FLUSHED => core.origin.submit(Sector::ZERO, Bio::flush()).await,
                _ => core.log.submit(Sector::ZERO, Bio::flush()).await,
            },
            _ => {
                let (sector, fua, data) = (bio.sector.0, bio.flags.fua, bio.data().to_vec());
                if BUG == EARLY_ACK {
                    let core = self.core.clone();
                    self.core.runtime.spawn(Box::pin(async move {
                        let _unheard = core.write(sector, fua, &data).await;
                    }));
                    return Ok(());
                }
                core.write(sector, fua, &data).await
            }
        }
    }
}

impl<const BUG: u8> Core<BUG> {
    async fn read(&self, bio: &mut Bio<'_>) -> BlkResult {
        let _pass = match BUG {
            READER_RACE => None,
            _ => Some(self.readers.enter().await.map_err(|_gone| BlkError::Gone)?),
        };
        let places = self.map.lock()[bio.sector.0 as usize..][..bio.len().0 as usize].to_vec();
        let mut done = 0;
        while done < places.len() {
            // What lies together is read together.
            let follows = |at: usize| match places[at - 1] {
                0 => places[at] == 0,
                before => places[at] == before + 1,
            };
            let end = (done + 1..places.len()).find(|at| !follows(*at)).unwrap_or(places.len());
            let sector = bio.sector + Sectors(done as u64);
            let part = bio.part(Sectors(done as u64), Sectors((end - done) as u64));
            match places[done] {
                0 => self.origin.submit(sector, part.at(sector)).await?,
                at => self.log.submit(Sector(at), part.at(Sector(at))).await?,
            }
            done = end;
        }
        Ok(())
    }

    async fn write(&self, sector: u64, fua: bool, data: &[u8]) -> BlkResult {
        let mut guard = self.tail.lock().await;
        let len = (data.len() / SECTOR) as u64;
        let block = guard.block;
        let head = (HEAD as u64).next_multiple_of(block);
        if guard.in_doubt || guard.at + head + len > self.log.size().0 {
            self.renew(&mut guard).await?;
        }
        let Tail { epoch, number, at, .. } = *guard;
        let header = Header { epoch, number, sector, len, data_sum: checksum(data) };
        let mut record = vec![0; head as usize * SECTOR];
        format::encode(&mut record, &header);
        record.extend_from_slice(data);
        let next = Tail { number: number + 1, at: at + head + len, ..*guard };
        let guard = if BUG == UNORDERED_APPENDS {
            *guard = next;
            None
        } else {
            Some(guard)
        };
        if BUG == MAP_BEFORE_WRITE {
            self.remember(&header, at + head);
        }
        // The records before it first: without one of them it would not be found.
        let durable = fua && BUG != NO_FUA;
        let flags = Flags { fua: durable, preflush: durable, ..Flags::default() };
        self.log.submit(Sector(at), Bio::write(Sector(at), &record).with_flags(flags)).await?;
        self.remember(&header, at + head);
        if let Some(mut guard) = guard {
            *guard = next;
        }
        Ok(())
    }

    fn remember(&self, header: &Header, at: u64) {
        let mut map = self.map.lock();
        for offset in 0..header.len {
            map[(header.sector + offset) as usize] = at + offset;
        }
    }

    /// Puts all that the log has into the origin, and begins the log anew. Where it fails all is as
    /// it was, but for the superblock, which may be the new one.
    async fn renew(&self, tail: &mut Tail) -> BlkResult {
        self.readers.close();
        let _open = Open(&self.readers);
        self.readers.drained().await;
        self.copy(tail.block).await?;
        self.begin(tail, tail.epoch + 1).await
    }

    async fn copy(&self, block: u64) -> BlkResult {
        let map = self.map.lock().clone();
        let mut buffer = vec![0; block as usize * SECTOR];
        for (sector, at) in (0..).zip(map).step_by(block as usize).filter(|(_, at)| *at > 0) {
            let (sector, at) = (Sector(sector), Sector(at));
            self.log.submit(at, Bio::read(at, &mut buffer)).await?;
            self.origin.submit(sector, Bio::write(sector, &buffer)).await?;
        }
        if BUG == RENEWAL_WITHOUT_FLUSH {
            return Ok(());
        }
        self.origin.submit(Sector::ZERO, Bio::flush()).await
    }

    async fn begin(&self, tail: &mut Tail, epoch: u64) -> BlkResult {
        let mut sectors = vec![0; tail.block as usize * SECTOR];
        format::encode_super(&mut sectors, epoch);
        let flags = Flags { fua: BUG != SUPER_WITHOUT_FUA, ..Flags::default() };
        // Until it has ended well: also where this future is dropped.
        tail.in_doubt = BUG != SUPER_IN_DOUBT;
        let write = Bio::write(Sector::ZERO, &sectors).with_flags(flags);
        self.log.submit(Sector::ZERO, write).await?;
        self.map.lock().fill(0);
        *tail = Tail { block: tail.block, epoch, number: 0, at: tail.block, in_doubt: false };
        Ok(())
    }

    async fn load(&self) -> Result<(), Refusal> {
        let mut tail = self.tail.lock().await;
        if tail.block > 0 {
            return Ok(());
        }
        let block = self.log.limits().logical_block().max(self.origin.limits().logical_block()).0;
        let block = if BUG == SMALL_BLOCKS { 1 } else { block };
        let mut sectors = vec![0; block as usize * SECTOR];
        self.log.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut sectors)).await?;
        let first = &sectors[..SECTOR];
        let epoch = match format::decode_super(first) {
            // There is no epoch after the last.
            Some(u64::MAX) => {
                return Err(Refusal::because(sim_core::Errno::INVAL, "no such epoch"));
            }
            Some(epoch) => epoch,
            None if first.iter().all(|byte| *byte == 0) => 0,
            None => return Err(Refusal::because(sim_core::Errno::INVAL, "no log is there")),
        };
        let mut found = Tail { block, epoch, number: 0, at: block, in_doubt: false };
        while self.find(&mut found).await? {}
        if BUG == RECOVERY_IN_PLACE {
            let map = self.map.lock().clone();
            let mut data = vec![0; self.log.size().bytes() as usize];
            let whole = Sectors(self.log.size().0 / block * block).bytes() as usize;
            self.log.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut data[..whole])).await?;
            self.begin(&mut found, epoch + 1).await?;
            for (sector, at) in (0..).zip(map).step_by(block as usize).filter(|(_, at)| *at > 0) {
                let data = &data[at as usize * SECTOR..][..block as usize * SECTOR];
                self.origin.submit(Sector(sector), Bio::write(Sector(sector), data)).await?;
            }
            self.origin.submit(Sector::ZERO, Bio::flush()).await?;
        } else if BUG != STALE_RECORD || epoch == 0 {
            self.renew(&mut found).await?;
        }
        *tail = found;
        Ok(())
    }

    /// Reads the record at the tail, and tells whether there is one.
    async fn find(&self, tail: &mut Tail) -> Result<bool, BlkError> {
        let Tail { block, epoch, number, at, .. } = *tail;
        let head = (HEAD as u64).next_multiple_of(block);
        let room = self.log.size().0.saturating_sub(at + head);
        if room == 0 || epoch == 0 {
            return Ok(false);
        }
        let mut sectors = vec![0; head as usize * SECTOR];
        self.log.submit(Sector(at), Bio::read(Sector(at), &mut sectors)).await?;
        let checked = BUG != HEADER_SUM_IGNORED;
        let Some(header) = format::decode(&sectors[..HEAD * SECTOR], checked) else {
            return Ok(false);
        };
        let fits = header.len > 0
            && header.len <= room.min(MOST)
            && header.len.is_multiple_of(block)
            && header.sector.checked_add(header.len).is_some_and(|end| end <= self.len);
        let fits = fits || BUG == FIELDS_TRUSTED;
        if header.epoch != epoch || header.number != number || !fits {
            return Ok(false);
        }
        let (at, mut data) = (Sector(at + head), vec![0; header.len as usize * SECTOR]);
        self.log.submit(at, Bio::read(at, &mut data)).await?;
        if checksum(&data) != header.data_sum && BUG != DATA_SUM_IGNORED {
            return Ok(false);
        }
        self.remember(&header, at.0);
        *tail = Tail { number: number + 1, at: at.0 + header.len, ..*tail };
        Ok(true)
    }
}

/// Opens the gate for readers, however the renewal ends.
struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
