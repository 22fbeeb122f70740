//! `target-word <dev> <start>`: a store that a power cut never leaves half written: a write is appended
//! to a log, and moved to its home when the log is full.
//!
//! On the device, in blocks of 4 KiB: the homes, the superblock, the log. A record of the log is a
//! header, which names up to eight blocks, and their data. It counts where its checksum is right and
//! it is of this store and this generation; the log ends in front of the first that does not.
//!
//! A flush, or a write with FUA, makes every write that has ended durable. What is left of a write
//! that failed, or was under way, may be found after a power cut, or not.

#![forbid(unsafe_code)]

mod block;

use std::{fmt, sync::Arc};

use futures_util::lock::Mutex;
use sim_core::*;

pub use block::seal;
use block::{BLOCK, Log, MAGIC, MOST, SECTORS, is_sealed, numbers, sealed, sector};

/// The target: its bios share the store with writes that nobody waits for any more.
pub struct TargetName(Arc<Store>);

struct Store {
    area: Area,
    /// How many blocks there are: the superblock is the one after their homes.
    blocks: u64,
    /// The last block where the longest record has room.
    last: u64,
    /// Where the newest of each block lies, and since which generation: the same place of the log
    /// is another place in the next. Locked for a moment alone, and over no await.
    map: Locked<Vec<(u64, u64)>>,
    /// Locked through all the I/O of an append: records come one after the other.
    log: Arc<Mutex<Log>>,
    runtime: Arc<dyn Runtime>,
}

impl TargetType for TargetName {
    const NAME: &'static str = "target-word";
    const VERSION: [u32; 3] = [1, 0, 0];
    const EXAMPLE: &'static str = "0 512 target-word a table-words";

    fn ctr(args: &mut Args<'_>) -> Result<TargetName, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let (device, start) = (args.next("Missing device")?, args.next("Missing start")?);
        let (start, len) = (start.sector("Invalid device sector")?, args.target_len().0);
        if !len.is_multiple_of(SECTORS) || len > 1 << 40 {
            return Err(CtrError::new("Invalid target length").detail("expected blocks of 4 KiB"));
        }
        let blocks = len / SECTORS;
        let last = blocks + 1 + (1 + MOST) + blocks / 8;
        let room = sector(last + 1 + MOST).from_start();
        let area = args.area(device, start, room, "Device lookup failed")?;
        let (map, log, runtime) = (Locked::default(), Arc::default(), args.runtime().clone());
        Ok(TargetName(Arc::new(Store { area, blocks, last, map, log, runtime })))
    }
}

impl Target for TargetName {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(match bio.op() {
            Op::Write => Box::pin(self.0.write(bio)),
            _ => Box::pin(self.0.read(bio)),
        })
    }

    /// How many blocks the log holds the newest of.
    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Info {
            return write!(out, "{}", self.0.in_log().len());
        }
        out.device(&self.0.area)?;
        write!(out, " {}", self.0.area.start)
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.0.area);
    }

    /// A flush goes to the device by itself: every write that has ended is in the log there.
    fn profile(&self) -> Profile {
        let max_io_len = Some(Sectors(MOST * SECTORS));
        Profile { max_io_len, num_flush_bios: 1, flush_bypasses_map: true, ..Profile::default() }
    }

    /// Bios are whole blocks.
    fn io_hints(&self, limits: &mut Limits) {
        limits.logical_block_size = BLOCK as u32;
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.0.recover())
    }

    /// Waits for an append whose bio was given up, as another table may come and append too; then all
    /// goes home. Where that fails, the log has it.
    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _is_in_the_log = self.0.empty(&mut *self.0.log.lock().await).await;
        })
    }
}

impl Store {
    async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        let first = (bio.sector.0 / SECTORS) as usize;
        let range = first..first + bio.buffer().len() / BLOCK;
        loop {
            let places = self.map.lock()[range.clone()].to_vec();
            for ((_, at), data) in places.iter().zip(bio.buffer().chunks_exact_mut(BLOCK)) {
                self.send(Bio::read(sector(*at), data)).await?;
            }
            // What moved meanwhile may have been written over before it was read.
            if self.map.lock()[range.clone()] == places {
                return Ok(());
            }
        }
    }

    async fn write(self: &Arc<Store>, bio: Bio<'_>) -> BlkResult {
        let (first, data, fua) = (bio.sector.0 / SECTORS, bio.data().to_vec(), bio.flags.fua);
        let mut log = self.log.clone().lock_owned().await;
        // A task of its own, with the lock in its hands: should the bio be given up, the write below
        // ends before the next one goes to the same place.
        let (ended, store) = (Arc::new(Outcome::new()), self.clone());
        let end = ended.clone();
        self.runtime.spawn_here(Box::pin(async move {
            end.set(store.append(&mut log, first, data, fua).await);
        }));
        ended.wait().await
    }

    async fn append(&self, log: &mut Log, first: u64, data: Vec<u8>, fua: bool) -> BlkResult {
        if log.head > self.last {
            self.empty(log).await?;
        }
        let count = (data.len() / BLOCK) as u64;
        let record = sealed([log.id, log.generation, first, count], &data);
        // Where this fails, the next record goes to the same place.
        self.send(Bio::write(sector(log.head), &record)).await?;
        // In the map, and acknowledged, after the write has ended: not a moment earlier.
        self.place(&mut self.map.lock(), log, [first, count]);
        log.head += 1 + count;
        // FUA on this record alone would leave out those before it, without which it is not found.
        if fua { self.send(Bio::flush()).await } else { Ok(()) }
    }

    /// Moves all that the log holds home, and begins a new generation. In this order: what went home
    /// is durable, then the superblock is written, then records are written over. A superblock that
    /// failed may be on the disk or not. Either is right, and the head stays: the next append is
    /// here again, before there is a record that one of them would not find.
    async fn empty(&self, log: &mut Log) -> BlkResult {
        let mut data = vec![0; BLOCK];
        for (home, at) in self.in_log() {
            self.send(Bio::read(sector(at), &mut data)).await?;
            self.send(Bio::write(sector(home), &data)).await?;
        }
        self.send(Bio::flush()).await?;
        let (id, generation) = (log.id, log.generation + 1);
        let superblock = sealed([MAGIC, id, generation, self.blocks], &[]);
        self.send(Bio::write(sector(self.blocks), &superblock).with_fua()).await?;
        *self.map.lock() = (0..self.blocks).map(|home| (generation, home)).collect();
        *log = Log { id, generation, head: self.blocks + 1 };
        Ok(())
    }

    /// Reads the log, and empties it: what a power cut left behind its end counts no more. Where the
    /// superblock is zeros, the store is new.
    async fn recover(&self) -> Result<(), Refusal> {
        let log = &mut *self.log.lock().await;
        let (mut superblock, mut record) = (vec![0; BLOCK], vec![0; BLOCK * (1 + MOST as usize)]);
        self.send(Bio::read(sector(self.blocks), &mut superblock)).await?;
        let [magic, mut id, generation, blocks] = numbers(&superblock);
        // What the disk says is not believed, checksum or none: there is a generation after this one.
        let is_ours = is_sealed(&superblock) && [magic, blocks] == [MAGIC, self.blocks];
        let is_ours = is_ours && generation < u64::MAX;
        if superblock.iter().all(|byte| *byte == 0) {
            id = self.runtime.random();
        } else if !is_ours {
            return Err(Refusal::because(Errno::INVAL, "the superblock is of something else"));
        }
        let mut map = (0..self.blocks).map(|home| (generation, home)).collect();
        *log = Log { id, generation, head: self.blocks + 1 };
        while is_ours && log.head <= self.last {
            self.send(Bio::read(sector(log.head), &mut record)).await?;
            let [store, begun, first, count] = numbers(&record);
            let is_next = [store, begun] == [id, generation] && count <= MOST;
            if !is_next || !is_sealed(&record[..BLOCK * (1 + count as usize)]) {
                break;
            }
            self.place(&mut map, log, [first, count]);
            log.head += 1 + count;
        }
        *self.map.lock() = map;
        Ok(self.empty(log).await?)
    }

    /// Says that the newest of some blocks is in the record at the head of the log.
    fn place(&self, map: &mut Vec<(u64, u64)>, log: &Log, [first, count]: [u64; 2]) {
        let places = map.iter_mut().skip(first as usize).take(count as usize);
        places.zip(log.head + 1..).for_each(|(place, at)| *place = (log.generation, at));
    }

    /// Returns the blocks whose newest is in the log: their homes, and where it is.
    fn in_log(&self) -> Vec<(u64, u64)> {
        let places = (0..).zip(self.map.lock().clone()).map(|(home, (_, at))| (home, at));
        places.filter(|(home, at)| home != at).collect()
    }

    async fn send(&self, bio: Bio<'_>) -> BlkResult {
        self.area.submit(bio.sector, bio).await
    }
}
