//! `ebs <dev> <start> <emulated sectors> [<underlying sectors>]`: shows a device of large blocks as one
//! of smaller ones, or the other way round. The underlying blocks are logical blocks of the device,
//! unless the line says otherwise.
//!
//! A write that is no whole blocks reads those at its ends, and writes them with what it has; a
//! discard leaves what it has of them as it is.

use std::fmt;
use std::ops::Range;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, Buffer, CtrError, Flat, Limits, Locked, Mapped, Op,
    Profile, Sector, Sectors, Signal, Spots, StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines::ebs::Line;
use crate::lines::{self, Place};
use crate::parts::held_ranges::{HeldRanges, Hold, Holder};

/// A device whose blocks have another size.
pub struct Ebs {
    area: Area,
    /// Where blocks are read and written that reach past the target's ends.
    device: Area,
    emulated: Sectors,
    underlying: Sectors,
    /// The line says how long blocks of the device are.
    is_given: bool,
    /// Blocks that are written just now: a block that is read to be written again must not be
    /// written meanwhile.
    written: Locked<HeldRanges<u64>>,
    freed: Signal,
}

impl TargetType for Ebs {
    const NAME: &'static str = "ebs";
    const VERSION: [u32; 3] = [1, 0, 1];

    fn ctr(args: &mut Args<'_>) -> Result<Ebs, CtrError> {
        // The size of the blocks below may be left out.
        args.optional_from(3);
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let Line { place: Place { device, start }, emulated, underlying } = line;
        Ok(Ebs {
            underlying: underlying.unwrap_or_else(|| device.limits().logical_block()),
            area: Area::new(device.clone(), start, args.target_len()),
            device: Area::whole(device),
            emulated,
            is_given: underlying.is_some(),
            written: Locked::default(),
            freed: Signal::default(),
        })
    }
}

impl Target for Ebs {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match (bio.op(), self.is_whole(&bio)) {
            (Op::Flush, _) | (Op::Read, true) => Mapped::Remapped(&self.area, bio.sector, bio),
            _ if self.has_whole_blocks() => Mapped::Remapped(&self.area, bio.sector, bio),
            (Op::Read, false) => Mapped::InFlight(Box::pin(self.read(bio))),
            (Op::Write, _) => Mapped::InFlight(Box::pin(self.write(bio))),
            (Op::Discard | Op::WriteZeroes | Op::SecureErase, _) => {
                Mapped::InFlight(Box::pin(self.discard(bio)))
            }
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let device = lines::device_word(&self.area, out)?;
                let place = Place { device, start: self.area.start };
                let underlying = self.is_given.then_some(self.underlying);
                write!(out, "{}", Line { place, emulated: self.emulated, underlying })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile {
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        limits.logical_block_size = self.emulated.bytes() as u32;
        limits.physical_block_size = self.underlying.bytes() as u32;
        limits.alignment_offset = limits.physical_block_size;
        limits.io_min = limits.logical_block_size;
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        out.at(&self.area, offset, "data");
        Some(self.area.size() - offset.from_start())
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        match self.has_whole_blocks() {
            true => Flat::Device(&self.area, offset, self.area.size() - offset.from_start()),
            false => Flat::Opaque,
        }
    }
}

impl Ebs {
    /// Tells whether every bio is whole blocks of the device.
    fn has_whole_blocks(&self) -> bool {
        self.emulated >= self.underlying
    }

    /// The target begins at a block: what is whole blocks in it is whole blocks of the device.
    fn is_whole(&self, bio: &Bio<'_>) -> bool {
        let block = self.underlying.0;
        bio.sector.0.is_multiple_of(block) && bio.len().0.is_multiple_of(block)
    }

    /// Returns the sectors of the device that a bio is about, and those of all blocks that it
    /// touches. They end before the end of all addresses, or nobody has such a device.
    fn blocks(&self, bio: &Bio<'_>) -> Result<(Range<u64>, Range<u64>), BlkError> {
        let block = self.underlying.0;
        let start = self.area.start.checked_add(bio.sector.from_start()).ok_or(BlkError::Io)?;
        let end = start.checked_add(bio.len()).ok_or(BlkError::Io)?;
        let touched =
            start.0 / block * block..end.0.checked_next_multiple_of(block).ok_or(BlkError::Io)?;
        Ok((start.0..end.0, touched))
    }

    async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        let (own, touched) = self.blocks(&bio)?;
        let mut blocks = Buffer::take(bytes(&touched));
        self.read_blocks(touched.start, &mut blocks).await?;
        let skip = bytes(&(touched.start..own.start));
        bio.buffer().copy_from_slice(&blocks[skip..skip + bytes(&own)]);
        Ok(())
    }

    async fn write(&self, bio: Bio<'_>) -> BlkResult {
        let (own, touched) = self.blocks(&bio)?;
        let _hold = self.hold(touched.clone()).await;
        if own == touched {
            return self.area.submit(bio.sector, bio).await;
        }
        let (block, all) = (bytes(&(0..self.underlying.0)), bytes(&touched));
        let mut blocks = Buffer::take(all);
        if own.start != touched.start {
            self.read_blocks(touched.start, &mut blocks[..block]).await?;
        }
        // The first block may be the last.
        if own.end != touched.end && (all > block || own.start == touched.start) {
            let last = touched.end - self.underlying.0;
            self.read_blocks(last, &mut blocks[all - block..]).await?;
        }
        let skip = bytes(&(touched.start..own.start));
        blocks[skip..skip + bytes(&own)].copy_from_slice(bio.data());
        let at = Sector(touched.start);
        self.device.submit(at, Bio::write(at, &blocks).with_flags(bio.flags)).await
    }

    async fn discard(&self, bio: Bio<'_>) -> BlkResult {
        let (own, touched) = self.blocks(&bio)?;
        let _hold = self.hold(touched).await;
        let block = self.underlying.0;
        let whole = own.start.div_ceil(block) * block..own.end / block * block;
        if whole.is_empty() {
            return Ok(());
        }
        let (skip, len) = (Sectors(whole.start - own.start), Sectors(whole.end - whole.start));
        let bio = bio.cut(skip, len);
        self.area.submit(bio.sector, bio).await
    }

    async fn read_blocks(&self, start: u64, blocks: &mut [u8]) -> BlkResult {
        self.device.submit(Sector(start), Bio::read(Sector(start), blocks)).await
    }

    /// Takes blocks for a write, as soon as nobody else writes them.
    async fn hold(&self, blocks: Range<u64>) -> Hold<'_, Ebs> {
        let take = || {
            let mut written = self.written.lock();
            let is_free = written.leave_free(&blocks);
            is_free.then(|| Hold::new(self, &mut written, blocks.clone()))
        };
        self.freed.until(take).await
    }
}

impl Holder for Ebs {
    type At = u64;

    fn if_whole(&self, change: impl FnOnce(&mut HeldRanges<u64>)) {
        if let Some(mut written) = self.written.lock_if_whole() {
            change(&mut written);
        }
    }

    fn freed(&self) -> &Signal {
        &self.freed
    }
}

fn bytes(sectors: &Range<u64>) -> usize {
    Sectors(sectors.end - sectors.start).bytes() as usize
}
