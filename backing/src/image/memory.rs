//! A device that lies in memory: the kernel's `brd`, with a logical block size.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sim_core::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Op, Sector, Sectors,
};

use crate::image::check_range;

/// Bytes under one lock; a chunk that holds zeros alone takes no memory.
const CHUNK: usize = 64 << 10;

type Chunk = RwLock<Option<Box<[u8]>>>;

/// A device in memory. Everything it does is done at once; nothing outlives the process.
pub struct Memory {
    number: DevNumber,
    name: String,
    size: Sectors,
    limits: Limits,
    chunks: Box<[Chunk]>,
}

impl Memory {
    /// Makes a device of zeros. `size` is rounded down to logical blocks of `sector_size` bytes.
    ///
    /// # Panics
    /// When `sector_size` is neither 512 nor 4096.
    pub fn new(number: DevNumber, name: &str, size: Sectors, sector_size: u32) -> Arc<Memory> {
        assert!(matches!(sector_size, 512 | 4096), "a logical block is 512 or 4096 bytes");
        let limits = Limits::image(sector_size);
        let size = Sectors(size.0 - size.0 % limits.logical_block().0);
        let count = size.bytes().div_ceil(CHUNK as u64);
        let chunks = (0..count).map(|_| Chunk::default()).collect();
        Arc::new(Memory { number, name: name.to_owned(), size, limits, chunks })
    }

    fn run(&self, bio: Bio<'_>) -> BlkResult {
        if bio.op() == Op::Flush {
            return Ok(());
        }
        let mut at = check_range(&bio, self.size, self.limits.logical_block())?;
        match bio.op() {
            Op::Read => {
                let buffer = bio.into_buffer();
                self.pieces(at, buffer.len() as u64, |chunk, within, done| {
                    let into = &mut buffer[done..done + within.len()];
                    match read(chunk).as_deref() {
                        Some(bytes) => into.copy_from_slice(&bytes[within]),
                        None => into.fill(0),
                    }
                });
            }
            Op::Write => {
                let data = bio.data();
                self.pieces(at, data.len() as u64, |chunk, within, done| {
                    let from = &data[done..done + within.len()];
                    let mut chunk = write(chunk);
                    chunk.get_or_insert_with(zeros)[within].copy_from_slice(from);
                });
            }
            Op::Discard | Op::WriteZeroes => {
                // Lengths past the address space of a 32-bit machine are no buffers.
                let end = at + bio.len().bytes();
                while at < end {
                    let len = (end - at).min(CHUNK as u64);
                    self.pieces(at, len, |chunk, within, _| {
                        let mut chunk = write(chunk);
                        if within.len() == CHUNK {
                            *chunk = None;
                        } else if let Some(bytes) = chunk.as_mut() {
                            bytes[within].fill(0);
                        }
                    });
                    at += len;
                }
            }
            Op::SecureErase => return Err(BlkError::NotSupported),
            Op::Flush => {}
        }
        Ok(())
    }

    /// Gives each chunk of a range its memory.
    fn take_room(&self, at: Sector, len: Sectors) -> BlkResult {
        let on_device = at.checked_add(len).filter(|end| end.from_start() <= self.size);
        let (from, to) = (at.from_start().bytes(), on_device.and_then(Sector::bytes));
        let to = to.ok_or(BlkError::Io)?;
        for index in from / CHUNK as u64..to.div_ceil(CHUNK as u64) {
            let mut chunk = write(&self.chunks[index as usize]);
            if chunk.is_none() {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(CHUNK).map_err(|_| BlkError::NoSpace)?;
                bytes.resize(CHUNK, 0);
                *chunk = Some(bytes.into_boxed_slice());
            }
        }
        Ok(())
    }

    /// Calls `each` for every chunk of a range of bytes, with the part of the chunk and the bytes
    /// done before.
    fn pieces(&self, at: u64, len: u64, mut each: impl FnMut(&Chunk, Range<usize>, usize)) {
        let mut done = 0;
        while done < len {
            let index = (at + done) / CHUNK as u64;
            let start = (at + done) % CHUNK as u64;
            let end = (start + len - done).min(CHUNK as u64);
            each(&self.chunks[index as usize], start as usize..end as usize, done as usize);
            done += end - start;
        }
    }
}

impl BlockDevice for Memory {
    fn number(&self) -> DevNumber {
        self.number
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn size(&self) -> Sectors {
        self.size
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn access(&self) -> Access {
        Access::ReadWrite
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        Ok(self.run(bio))
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        let result = self.run(bio);
        Box::pin(std::future::ready(result))
    }

    fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        Box::pin(std::future::ready(self.take_room(at, len)))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        Ok(())
    }

    fn release(&self) {}

    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        let sectors = Sectors::in_bytes(CHUNK as u64).0;
        let kind = |index: u64| match read(&self.chunks[index as usize]).is_some() {
            true => Allocation::Data,
            false => Allocation::Hole,
        };
        let first = at.0 / sectors;
        let here = kind(first);
        let count = self.chunks.len() as u64;
        let end = (first + 1..count).find(|index| kind(*index) != here).unwrap_or(count);
        (here, Sector((end * sectors).min(self.size.0)) - at)
    }
}

fn zeros() -> Box<[u8]> {
    vec![0; CHUNK].into_boxed_slice()
}

fn read(chunk: &Chunk) -> RwLockReadGuard<'_, Option<Box<[u8]>>> {
    chunk.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(chunk: &Chunk) -> RwLockWriteGuard<'_, Option<Box<[u8]>>> {
    chunk.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    fn memory(sectors: u64, sector_size: u32) -> Arc<Memory> {
        Memory::new(DevNumber { major: 7, minor: 0 }, "memory", Sectors(sectors), sector_size)
    }

    fn now(device: &Memory, bio: Bio<'_>) -> BlkResult {
        device.try_now(bio).expect("everything is ready at once")
    }

    #[test]
    fn bytes_are_kept_across_the_borders_of_chunks() {
        let device = memory(1024, 512);
        let data: Vec<u8> = (0..100 * 512u32).map(|n| (n / 7) as u8).collect();
        assert_eq!(now(&device, Bio::write(Sector(100), &data)), Ok(()));
        let mut back = vec![1; data.len()];
        assert_eq!(block_on(device.submit(Bio::read(Sector(100), &mut back))), Ok(()));
        assert_eq!(back, data);
        assert_eq!(now(&device, Bio::discard(Sector(120), Sectors(20))), Ok(()));
        let mut back = vec![1; 22 * 512];
        assert_eq!(now(&device, Bio::read(Sector(119), &mut back)), Ok(()));
        assert_eq!(back[..512], data[19 * 512..20 * 512]);
        assert!(back[512..21 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(back[21 * 512..], data[40 * 512..41 * 512]);
        assert_eq!(now(&device, Bio::flush()), Ok(()));
    }

    #[test]
    fn a_bio_past_the_end_or_off_the_grid_fails() {
        let device = memory(1023, 4096);
        assert_eq!(device.size(), Sectors(1016));
        let block = [0; 4096];
        assert_eq!(now(&device, Bio::write(Sector(1008), &block)), Ok(()));
        assert_eq!(now(&device, Bio::write(Sector(1016), &block)), Err(BlkError::Io));
        assert_eq!(now(&device, Bio::write(Sector(4), &block)), Err(BlkError::Io));
        assert_eq!(now(&device, Bio::write(Sector(8), &block[..512])), Err(BlkError::Io));
        assert_eq!(now(&device, Bio::discard(Sector(u64::MAX), Sectors(8))), Err(BlkError::Io));
    }

    #[test]
    fn a_reservation_takes_memory_and_keeps_what_is_there() {
        let device = memory(600, 512);
        assert_eq!(now(&device, Bio::write(Sector(3), &[1; 512])), Ok(()));
        assert_eq!(block_on(device.reserve(Sector(0), Sectors(200))), Ok(()));
        assert_eq!(device.run_at(Sector(0)), (Allocation::Data, Sectors(256)));
        let mut back = [0; 1024];
        assert_eq!(now(&device, Bio::read(Sector(3), &mut back)), Ok(()));
        assert!(back[..512] == [1; 512] && back[512..] == [0; 512]);
        assert_eq!(block_on(device.reserve(Sector(599), Sectors(2))), Err(BlkError::Io));
    }

    #[test]
    fn chunks_of_zeros_are_holes() {
        let device = memory(600, 512);
        assert_eq!(device.run_at(Sector(5)), (Allocation::Hole, Sectors(595)));
        assert_eq!(now(&device, Bio::write(Sector(130), &[1; 512])), Ok(()));
        assert_eq!(device.run_at(Sector(5)), (Allocation::Hole, Sectors(123)));
        assert_eq!(device.run_at(Sector(128)), (Allocation::Data, Sectors(128)));
        assert_eq!(now(&device, Bio::write_zeroes(Sector(0), Sectors(600))), Ok(()));
        assert_eq!(device.run_at(Sector(0)), (Allocation::Hole, Sectors(600)));
    }
}
