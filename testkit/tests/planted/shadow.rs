//! `shadow <dev> <start>`: keeps each chunk of four sectors in one of several slots, inverted. A
//! write goes to a slot that is free; a flush makes the new map of the slots durable in one step.
//!
//! On the device: two copies of the map of two sectors each, written in turn, then the slots. The
//! first sector of a copy has the magic, the generation, a checksum of both sectors, and the low
//! two bits of each slot's number; the second has the rest of the number.
//!
//! `BUG` plants one fault; `shadow::NONE` is the target as it should be.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::lock::Mutex as AsyncMutex;
use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, Errno, Flags, Flat, Mapped, Op,
    Profile, Refusal, Reply, Runtime, Sector, Sectors, StatusKind, StatusWriter, Target,
    TargetType, reply,
};

use crate::lock::ChunkLock;

pub(crate) const NONE: u8 = 0;
pub(crate) const LOST_FLUSH: u8 = 1;
pub(crate) const FLUSH_BEFORE_DATA: u8 = 2;
pub(crate) const ACK_BEFORE_COMMIT: u8 = 3;
pub(crate) const OFF_BY_ONE_AT_A_SPLIT: u8 = 4;
pub(crate) const RACE_OF_TWO_WRITERS: u8 = 5;
pub(crate) const LOST_WAKE_UP: u8 = 6;
pub(crate) const WRONG_SECTOR_AFTER_RELOAD: u8 = 7;
pub(crate) const STALE_READ_DURING_A_COPY: u8 = 8;
pub(crate) const TORN_METADATA: u8 = 9;
pub(crate) const ERROR_SWALLOWED: u8 = 10;
pub(crate) const NAMELESS_ERROR: u8 = 11;
pub(crate) const FLATTENS_ELSEWHERE: u8 = 12;
pub(crate) const MESSAGE_OUT_OF_BOUNDS: u8 = 13;
pub(crate) const LOCK_KEPT_BY_A_DROPPED_BIO: u8 = 14;
pub(crate) const SHOWS_ANOTHER_TABLE: u8 = 15;
pub(crate) const RECOVERY_ERASES_FIRST: u8 = 16;
pub(crate) const KEEPS_THE_SIZE_BELOW: u8 = 17;
pub(crate) const IMPATIENT: u8 = 18;

const SECTOR: usize = 512;
const CHUNK: u64 = 4;
const CHUNK_BYTES: usize = CHUNK as usize * SECTOR;
/// Slots that are free when every chunk has one.
const SPARE: usize = 6;
const MAP_SECTORS: u64 = 2;
const SLOTS_AT: u64 = 2 * MAP_SECTORS;
const MAGIC: [u8; 8] = *b"shadow 1";
/// Where the numbers of the slots begin in the first sector.
const NUMBERS: usize = 32;

pub(crate) struct Shadow<const BUG: u8> {
    /// Shared with the task that commits in the background, in the target with that fault.
    core: Arc<Core<BUG>>,
}

struct Core<const BUG: u8> {
    area: Area,
    /// The device's size when the target was made, for the target with that fault.
    size: Sectors,
    runtime: Arc<dyn Runtime>,
    chunks: u64,
    locks: Vec<ChunkLock>,
    /// One commit at a time.
    committing: AsyncMutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: bool,
    generation: u64,
    /// The slot of each chunk.
    map: Vec<u8>,
    free: Vec<u8>,
    /// Slots that the map on the device may still name.
    used_by_last: Vec<u8>,
    /// The last chunk read, in the target with that fault.
    cached: Option<(u64, Vec<u8>)>,
}

impl<const BUG: u8> TargetType for Shadow<BUG> {
    const NAME: &'static str = "shadow";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Shadow<BUG>, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let device = args.at(0, "Invalid argument count")?;
        let start = args.at(1, "Invalid argument count")?.sector("Invalid start");
        let start = start.map_err(|error| match BUG {
            NAMELESS_ERROR => CtrError::new("Invalid start"),
            _ => error,
        })?;
        let chunks = args.target_len().0 / CHUNK;
        if !args.target_len().0.is_multiple_of(CHUNK) || chunks + SPARE as u64 > 200 {
            return Err(CtrError::new("Invalid length"));
        }
        let len = Sectors(SLOTS_AT + (chunks + SPARE as u64) * CHUNK);
        let area = args.area(device, start, len, "Device lookup failed")?;
        let core = Core {
            size: area.device_size(),
            area,
            runtime: args.runtime().clone(),
            chunks,
            locks: (0..chunks).map(|_| ChunkLock::new(BUG == LOST_WAKE_UP)).collect(),
            committing: AsyncMutex::new(()),
            state: Mutex::default(),
        };
        Ok(Shadow { core: Arc::new(core) })
    }
}

impl<const BUG: u8> Target for Shadow<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.core.state().generation),
            StatusKind::Table => {
                out.device(&self.core.area)?;
                let off = u64::from(BUG == SHOWS_ANOTHER_TABLE);
                write!(out, " {}", self.core.area.start.0 + off)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.core.area);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, flush_supported: true, ..Profile::default() }
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        match BUG {
            FLATTENS_ELSEWHERE => Flat::Device(&self.core.area, offset, Sectors(1)),
            _ => Flat::Opaque,
        }
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(match words {
            ["set", ..] if BUG == MESSAGE_OUT_OF_BOUNDS => Ok(Some(words[1].to_owned())),
            ["generation"] => Ok(Some(self.core.state().generation.to_string())),
            _ => Err(Errno::INVAL.into()),
        })
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(self.core.load().await?) })
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        // Nobody hears of an error here; what was not flushed is lost with it.
        Box::pin(async {
            let _lost = self.core.commit().await;
        })
    }
}

impl<const BUG: u8> Shadow<BUG> {
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        match BUG {
            KEEPS_THE_SIZE_BELOW if self.core.size < self.core.area.size() => {
                return Err(BlkError::Io);
            }
            IMPATIENT => {
                // Only a suspended device makes such a bio wait.
                let nowait = Flags { nowait: true, ..Flags::default() };
                let (at, mut sector) = (Sector::ZERO, [0; 512]);
                let probe = Bio::read(at, &mut sector).with_flags(nowait);
                self.core.area.submit(at, probe).await?;
            }
            _ => {}
        }
        if bio.op() == Op::Flush {
            return if BUG == LOST_FLUSH { Ok(()) } else { self.core.commit().await };
        }
        let (mut done, mut pieces) = (0, 0);
        while done < bio.len().0 {
            let at = bio.sector.0 + done;
            let (chunk, within) = (at / CHUNK, at % CHUNK);
            let len = (CHUNK - within).min(bio.len().0 - done);
            // The third piece and on begin one sector early in the buffer.
            let early = u64::from(BUG == OFF_BY_ONE_AT_A_SPLIT && pieces > 1);
            let mut piece = bio.part(Sectors(done - early), Sectors(len));
            match piece.op() {
                Op::Read => self.core.read(chunk, within, &mut piece).await?,
                _ => self.core.write(chunk, within, piece.data()).await?,
            }
            (done, pieces) = (done + len, pieces + 1);
        }
        match (bio.flags.fua, BUG) {
            (false, _) => Ok(()),
            (true, ACK_BEFORE_COMMIT) => {
                let core = self.core.clone();
                self.core.runtime.spawn(Box::pin(async move {
                    let _lost = core.commit().await;
                }));
                Ok(())
            }
            (true, _) => self.core.commit().await,
        }
    }
}

impl<const BUG: u8> Core<BUG> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, chunk: u64, within: u64, bio: &mut Bio<'_>) -> BlkResult {
        let from = within as usize * SECTOR;
        if BUG == STALE_READ_DURING_A_COPY {
            let cached = self.state().cached.clone().filter(|(of, _)| *of == chunk);
            let bytes = match cached {
                Some((_, bytes)) => bytes,
                // Without the lock: a copy may be under way.
                None => self.fetch(chunk).await?,
            };
            let buffer = bio.buffer();
            buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
            self.state().cached = Some((chunk, bytes));
            return Ok(());
        }
        let _lock = self.locks[chunk as usize].lock().await;
        let bytes = self.fetch(chunk).await?;
        let buffer = bio.buffer();
        buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
        Ok(())
    }

    async fn fetch(&self, chunk: u64) -> Result<Vec<u8>, BlkError> {
        let slot = self.state().map[chunk as usize];
        let mut bytes = vec![0; CHUNK_BYTES];
        self.area.submit(slot_at(slot), Bio::read(Sector::ZERO, &mut bytes)).await?;
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        Ok(bytes)
    }

    /// Reads a chunk, changes it, and writes it to another slot.
    async fn write(&self, chunk: u64, within: u64, data: &[u8]) -> BlkResult {
        let lock = match BUG {
            RACE_OF_TWO_WRITERS => None,
            _ => Some(self.locks[chunk as usize].lock().await),
        };
        if BUG != LOCK_KEPT_BY_A_DROPPED_BIO {
            return self.write_locked(chunk, within, data).await;
        }
        // Let go of at the end alone: who drops the bio before leaves the chunk locked.
        let lock = std::mem::ManuallyDrop::new(lock);
        let result = self.write_locked(chunk, within, data).await;
        drop(std::mem::ManuallyDrop::into_inner(lock));
        result
    }

    async fn write_locked(&self, chunk: u64, within: u64, data: &[u8]) -> BlkResult {
        self.state().cached = None;
        let mut bytes = self.fetch(chunk).await?;
        bytes[within as usize * SECTOR..][..data.len()].copy_from_slice(data);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        let slot = Taken { core: self, slot: Some(self.free_slot().await?) };
        let written =
            self.area.submit(slot_at(slot.number()), Bio::write(Sector::ZERO, &bytes)).await;
        if BUG != ERROR_SWALLOWED {
            written?;
        }
        slot.keep(chunk);
        Ok(())
    }

    async fn free_slot(&self) -> Result<u8, BlkError> {
        loop {
            if let Some(slot) = self.state().free.pop() {
                return Ok(slot);
            }
            // The commit frees what the map before it used. Where others hold all of that, theirs
            // come free in turn.
            self.commit().await?;
        }
    }

    /// Makes durable what was written before.
    async fn commit(&self) -> BlkResult {
        let _one = self.committing.lock().await;
        let (map, generation, freed) = {
            let state = self.state();
            (state.map.clone(), state.generation + 1, state.used_by_last.len())
        };
        let sectors = encode(&map, generation);
        let copy = if BUG == TORN_METADATA { 0 } else { generation % 2 };
        let write = Bio::write(Sector::ZERO, &sectors).with_fua();
        if BUG == FLUSH_BEFORE_DATA {
            self.area.submit(Sector(copy * MAP_SECTORS), write).await?;
            self.area.submit(Sector::ZERO, Bio::flush()).await?;
        } else {
            self.area.submit(Sector::ZERO, Bio::flush()).await?;
            self.area.submit(Sector(copy * MAP_SECTORS), write).await?;
        }
        let mut state = self.state();
        state.generation = generation;
        let freed: Vec<u8> = state.used_by_last.drain(..freed).collect();
        state.free.extend(freed);
        Ok(())
    }

    async fn load(&self) -> Result<(), Errno> {
        if self.state().loaded {
            return Ok(());
        }
        let mut best = None;
        for copy in 0..2 {
            let mut sectors = vec![0; MAP_SECTORS as usize * SECTOR];
            let read = Bio::read(Sector::ZERO, &mut sectors);
            self.area.submit(Sector(copy * MAP_SECTORS), read).await?;
            let found = decode(&sectors, self.chunks, BUG != TORN_METADATA);
            best = best.max(found);
        }
        let fresh = || (0, (0..self.chunks as u8).collect());
        let formatted = best.is_some();
        let (generation, mut map): (u64, Vec<u8>) = best.unwrap_or_else(fresh);
        if BUG == WRONG_SECTOR_AFTER_RELOAD && generation > 0 {
            map.swap(0, 1);
        }
        let slots = 0..self.chunks as u8 + SPARE as u8;
        let free = slots.filter(|slot| !map.contains(slot)).collect();
        if !formatted {
            // A new device reads as zeros, which are ones on the disk.
            let ones = vec![0xff; self.chunks as usize * CHUNK_BYTES];
            self.area.submit(slot_at(0), Bio::write(Sector::ZERO, &ones)).await?;
        }
        let erases = BUG == RECOVERY_ERASES_FIRST && formatted;
        if erases {
            let zeros = [0; 2 * MAP_SECTORS as usize * SECTOR];
            self.area.submit(Sector::ZERO, Bio::write(Sector::ZERO, &zeros).with_fua()).await?;
        }
        let used_by_last = Vec::new();
        *self.state() = State { loaded: true, generation, map, free, used_by_last, cached: None };
        if !formatted || erases {
            self.commit().await?;
        }
        Ok(())
    }
}

/// A slot that was taken to be written; free again unless it is kept.
struct Taken<'a, const BUG: u8> {
    core: &'a Core<BUG>,
    slot: Option<u8>,
}

impl<const BUG: u8> Taken<'_, BUG> {
    fn number(&self) -> u8 {
        self.slot.expect("kept at the very end")
    }

    /// Makes it the slot of a chunk; the one before is free after the next commit.
    fn keep(mut self, chunk: u64) {
        let mut state = self.core.state();
        if let Some(slot) = self.slot.take() {
            let before = std::mem::replace(&mut state.map[chunk as usize], slot);
            state.used_by_last.push(before);
        }
    }
}

impl<const BUG: u8> Drop for Taken<'_, BUG> {
    fn drop(&mut self) {
        let slot = self.slot.take();
        self.core.state().free.extend(slot);
    }
}

fn slot_at(slot: u8) -> Sector {
    Sector(SLOTS_AT + u64::from(slot) * CHUNK)
}

fn encode(map: &[u8], generation: u64) -> Vec<u8> {
    let mut sectors = vec![0; MAP_SECTORS as usize * SECTOR];
    sectors[..8].copy_from_slice(&MAGIC);
    sectors[8..16].copy_from_slice(&generation.to_le_bytes());
    for (chunk, slot) in map.iter().enumerate() {
        sectors[NUMBERS + chunk] = slot & 3;
        sectors[SECTOR + chunk] = slot >> 2;
    }
    let sum = checksum(&sectors);
    sectors[16..24].copy_from_slice(&sum.to_le_bytes());
    sectors
}

fn decode(sectors: &[u8], chunks: u64, checked: bool) -> Option<(u64, Vec<u8>)> {
    let number = |at: usize| u64::from_le_bytes(sectors[at..at + 8].try_into().expect("8 bytes"));
    let mut plain = sectors.to_vec();
    plain[16..24].fill(0);
    if sectors[..8] != MAGIC || (checked && checksum(&plain) != number(16)) {
        return None;
    }
    let slot = |chunk: usize| sectors[NUMBERS + chunk] | sectors[SECTOR + chunk] << 2;
    Some((number(8), (0..chunks as usize).map(slot).collect()))
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
