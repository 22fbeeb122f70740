//! `striped <#stripes> <chunk sectors> [<dev> <start>]+`: deals chunks out to devices in turn.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, CtrError, DevNumber, End, Flat, Limits, Mapped, Op,
    Profile, Sector, Sectors, Spots, StatusKind, StatusWriter, Target, TargetEvents, TargetType,
};

use crate::lines::striped::{Line, Status, StripeStatus};
use crate::lines::{self, Place};

/// Errors of one stripe past this many raise no more events.
const ERROR_THRESHOLD: u32 = 15;

/// Chunks dealt out to several devices in turn.
pub struct Striped {
    chunk: Sectors,
    stripes: Vec<Stripe>,
    events: TargetEvents,
}

struct Stripe {
    area: Area,
    errors: AtomicU32,
}

impl TargetType for Striped {
    const NAME: &'static str = "striped";
    const VERSION: [u32; 3] = [1, 6, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Striped, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let width = Sectors(args.target_len().0 / line.stripes.len() as u64);
        let stripe = |Place { device, start }| Stripe {
            area: Area::new(device, start, width),
            errors: AtomicU32::new(0),
        };
        let stripes = line.stripes.into_iter().map(stripe).collect();
        Ok(Striped { chunk: line.chunk, stripes, events: args.events() })
    }
}

impl Target for Striped {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Read | Op::Write => {
                let (stripe, sector) = self.locate(bio.sector);
                Mapped::Remapped(&self.stripes[stripe].area, sector, bio)
            }
            Op::Flush => Mapped::Remapped(&self.stripe(&bio).area, Sector::ZERO, bio),
            Op::Discard | Op::WriteZeroes | Op::SecureErase => self.map_range(bio),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => {
                let stripe = |Stripe { area, errors }: &Stripe| {
                    let device = lines::device_word(area, out)?;
                    Ok(StripeStatus { device, failed: errors.load(Relaxed) != 0 })
                };
                let stripes = self.stripes.iter().map(stripe).collect::<Result<_, _>>()?;
                write!(out, "{}", Status { stripes })
            }
            StatusKind::Table => {
                let stripe = |Stripe { area, .. }: &Stripe| {
                    Ok(Place { device: lines::device_word(area, out)?, start: area.start })
                };
                let stripes = self.stripes.iter().map(stripe).collect::<Result<_, _>>()?;
                write!(out, "{}", Line { chunk: self.chunk, stripes })
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        write!(out, "stripes={},chunk_size={}", self.stripes.len(), self.chunk)?;
        for (nr, Stripe { area, errors }) in self.stripes.iter().enumerate() {
            let device = lines::device_word(area, out)?;
            let state = if errors.load(Relaxed) == 0 { 'A' } else { 'D' };
            write!(
                out,
                ",stripe_{nr}_device_name={device},stripe_{nr}_physical_start={}",
                area.start
            )?;
            write!(out, ",stripe_{nr}_status={state}")?;
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.stripes.iter().for_each(|stripe| each(&stripe.area));
    }

    fn profile(&self) -> Profile {
        let copies = self.stripes.len() as u32;
        Profile {
            max_io_len: Some(self.chunk),
            num_flush_bios: copies,
            num_discard_bios: copies,
            num_secure_erase_bios: copies,
            num_write_zeroes_bios: copies,
            watches_end: true,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        // Sizes that do not fit 32 bits are no hint at all.
        let bytes = |chunks: u64| {
            let sectors = self.chunk.0.checked_mul(chunks);
            sectors.and_then(|s| s.checked_mul(512)).and_then(|b| u32::try_from(b).ok())
        };
        limits.chunk_sectors = u32::try_from(self.chunk.0).unwrap_or(0);
        limits.io_min = bytes(1).unwrap_or(limits.io_min);
        limits.io_opt = bytes(self.stripes.len() as u64).unwrap_or(0);
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let (stripe, sector) = self.locate(offset);
        let left = Sectors(self.chunk.0 - offset.0 % self.chunk.0);
        Flat::Device(&self.stripes[stripe].area, sector, left)
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let (stripe, sector) = self.locate(offset);
        out.at(&self.stripes[stripe].area, sector, format!("stripe {stripe}"));
        Some(Sectors(self.chunk.0 - offset.0 % self.chunk.0))
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        let here = |(stripe, Stripe { area, .. }): (usize, &Stripe)| {
            let at = area.sector_of(below, sector)?;
            let (row, within) = (at.0 / self.chunk.0, at.0 % self.chunk.0);
            Some(Sector((row * self.count() + stripe as u64) * self.chunk.0 + within))
        };
        Some(self.stripes.iter().enumerate().filter_map(here).collect())
    }

    fn end_io(&self, end: &End<'_>, result: BlkResult) -> BlkResult {
        match result {
            Ok(()) | Err(BlkError::NotSupported) => return result,
            Err(BlkError::Again) if end.flags.nowait => return result,
            Err(_) if end.flags.readahead => return result,
            Err(_) => {}
        }
        // As the kernel counts: for every stripe on the device that failed.
        let failed = end.area.number();
        for stripe in &self.stripes {
            if stripe.area.number() == failed
                && stripe.errors.fetch_add(1, Relaxed) + 1 < ERROR_THRESHOLD
            {
                self.events.raise();
            }
        }
        result
    }
}

impl Striped {
    /// Returns the stripe that a sector lies on, and the sector's place there.
    fn locate(&self, sector: Sector) -> (usize, Sector) {
        let (chunk, within) = (sector.0 / self.chunk.0, sector.0 % self.chunk.0);
        let (row, stripe) = (chunk / self.count(), chunk % self.count());
        (stripe as usize, Sector(row * self.chunk.0 + within))
    }

    /// Maps one copy of a bio without data: its part on the stripe whose turn it is, all chunks
    /// at once.
    fn map_range<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let end = bio.sector + bio.len();
        let begin = self.first_at_or_after(bio.sector, bio.nr);
        let len = self.first_at_or_after(end, bio.nr) - begin;
        if len.is_zero() {
            return Mapped::Completed(Ok(()));
        }
        let part = Bio::without_data(bio.op(), begin, len).with_flags(bio.flags);
        Mapped::Remapped(&self.stripe(&bio).area, begin, part)
    }

    /// Returns the place on stripe `nr` of the first of its sectors that is not before `sector`.
    fn first_at_or_after(&self, sector: Sector, nr: u32) -> Sector {
        let (chunk, within) = (sector.0 / self.chunk.0, sector.0 % self.chunk.0);
        let (row, turn) = (chunk / self.count(), chunk % self.count());
        Sector(match u64::from(nr).cmp(&turn) {
            std::cmp::Ordering::Less => (row + 1) * self.chunk.0,
            std::cmp::Ordering::Equal => row * self.chunk.0 + within,
            std::cmp::Ordering::Greater => row * self.chunk.0,
        })
    }

    fn stripe(&self, bio: &Bio<'_>) -> &Stripe {
        &self.stripes[bio.nr as usize]
    }

    fn count(&self) -> u64 {
        self.stripes.len() as u64
    }
}
