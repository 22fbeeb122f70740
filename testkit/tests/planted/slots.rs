//! `slots <dev> <start>`: each write of a block goes to a slot that is free, as a log-structured store has
//! it. The map is in memory alone: all goes home at a suspend.
//!
//! With `BUG` a slot is looked for, and taken later: two writers may find the same one.

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, Limits, Locked, Mapped, Op, Profile,
    Sector, Sectors, StatusKind, StatusWriter, Target, TargetType,
};

const BLOCK: u64 = 8;
/// Slots that are free when each block has one.
const SPARE: u64 = 16;

pub(crate) struct Slots<const BUG: bool> {
    area: Area,
    /// Where each block is.
    map: Locked<Vec<u64>>,
    free: Locked<Vec<u64>>,
}

impl<const BUG: bool> TargetType for Slots<BUG> {
    const NAME: &'static str = "slots";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Slots<BUG>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        args.exactly(2, COUNT)?;
        let (device, start) = (args.next(COUNT)?, args.next(COUNT)?.sector("Invalid start")?);
        let blocks = args.target_len().0 / BLOCK;
        let len = Sectors((blocks + SPARE) * BLOCK);
        let area = args.area(device, start, len, "Device lookup failed")?;
        let (map, free) = ((0..blocks).collect(), (blocks..blocks + SPARE).rev().collect());
        Ok(Slots { area, map: Locked::new(map), free: Locked::new(free) })
    }
}

impl<const BUG: bool> Target for Slots<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.free.lock().len()),
            StatusKind::Table => {
                out.device(&self.area)?;
                write!(out, " {}", self.area.start)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile { max_io_len: Some(Sectors(BLOCK)), num_flush_bios: 1, ..Profile::default() }
    }

    fn io_hints(&self, limits: &mut Limits) {
        limits.logical_block_size = BLOCK as u32 * 512;
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.go_home().await.expect("a disk without faults") })
    }
}

impl<const BUG: bool> Slots<BUG> {
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        let block = (bio.sector.0 / BLOCK) as usize;
        match bio.op() {
            Op::Write => {
                let data = bio.data().to_vec();
                let slot = self.take(&data).ok_or(BlkError::NoSpace)?;
                let at = Sector(slot * BLOCK);
                self.area.submit(at, Bio::write(at, &data).with_flags(bio.flags)).await?;
                let before = std::mem::replace(&mut self.map.lock()[block], slot);
                self.free.lock().insert(0, before);
                Ok(())
            }
            Op::Read => loop {
                let slot = self.map.lock()[block];
                self.area.submit(Sector(slot * BLOCK), bio.reborrow()).await?;
                // Unless another write has gone where this one was meanwhile.
                if self.map.lock()[block] == slot {
                    return Ok(());
                }
            },
            _ => self.area.submit(bio.sector, bio).await,
        }
    }

    async fn go_home(&self) -> BlkResult {
        let map = self.map.lock().clone();
        let mut blocks = vec![vec![0; BLOCK as usize * 512]; map.len()];
        for (slot, data) in map.iter().zip(&mut blocks) {
            let at = Sector(slot * BLOCK);
            self.area.submit(at, Bio::read(at, data)).await?;
        }
        for (home, data) in (0..).zip(&blocks) {
            let at = Sector(home * BLOCK);
            self.area.submit(at, Bio::write(at, data)).await?;
        }
        let count = map.len() as u64;
        *self.map.lock() = (0..count).collect();
        *self.free.lock() = (count..count + SPARE).rev().collect();
        Ok(())
    }

    /// Takes the slot that has been free for the longest time.
    fn take(&self, data: &[u8]) -> Option<u64> {
        if !BUG {
            return self.free.lock().pop();
        }
        let slot = self.free.lock().last().copied()?;
        // What a store does with data before it writes it: a checksum.
        std::hint::black_box(
            data.iter().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte)),
        );
        self.free.lock().retain(|free| *free != slot);
        Some(slot)
    }
}
