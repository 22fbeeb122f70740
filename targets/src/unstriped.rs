//! `unstriped <#stripes> <chunk sectors> <stripe> <dev> <start>`: one stripe of a striped device,
//! as a device of its own.
//!
//! As in the kernel, no flush and no discard is passed on.

use std::fmt;
use std::sync::Arc;

use sim_core::{
    Area, Args, Bio, BlkError, CtrError, DevNumber, Flat, Limits, Mapped, Op, OpenDevice, Profile,
    Sector, Sectors, StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines::unstriped::Line;
use crate::lines::{self, Place};

/// The most chunks whose places are told to whoever looks who writes where.
const MAX_TOLD: u64 = 1 << 16;

/// Every `stripes`th chunk of a device.
pub struct Unstriped {
    line: Line<Arc<OpenDevice>>,
    len: Sectors,
    /// What the kernel checks the size of: as many sectors as the target has, though its chunks lie
    /// further apart.
    checked: Area,
    device: Area,
}

impl TargetType for Unstriped {
    const NAME: &'static str = "unstriped";
    const VERSION: [u32; 3] = [1, 1, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Unstriped, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let (len, device) = (args.target_len(), line.place.device.clone());
        let checked = Area::new(device.clone(), line.place.start, len);
        Ok(Unstriped { line, len, checked, device: Area::whole(device) })
    }
}

impl Target for Unstriped {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match self.locate(bio.sector) {
            Some(sector) => Mapped::Remapped(&self.device, sector, bio),
            None => Mapped::Completed(Err(BlkError::Io)),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let device = lines::device_word(&self.device, out)?;
                let Line { stripes, chunk, stripe, place: Place { start, .. } } = self.line;
                write!(out, "{}", Line { stripes, chunk, stripe, place: Place { device, start } })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.checked);
    }

    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        let chunks = (self.len.0 / self.line.chunk.0).min(MAX_TOLD);
        let starts = (0..chunks).map_while(|chunk| self.locate(Sector(chunk * self.line.chunk.0)));
        starts.for_each(|at| each(&Area::new(self.line.place.device.clone(), at, self.line.chunk)));
    }

    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(self.line.chunk),
            num_flush_bios: 0,
            num_discard_bios: 0,
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        limits.chunk_sectors = self.line.chunk.0 as u32;
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let left = Sectors(self.line.chunk.0 - offset.0 % self.line.chunk.0);
        match self.locate(offset) {
            Some(sector) => Flat::Device(&self.device, sector, left),
            None => Flat::Error(left),
        }
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        let (chunk, stripes) = (self.line.chunk.0, u64::from(self.line.stripes));
        let at = self.device.sector_of(below, sector);
        let at = at.and_then(|at| at.0.checked_sub(self.line.place.start.0));
        let here = at.filter(|at| at / chunk % stripes == u64::from(self.line.stripe));
        let here = here.map(|at| Sector(at / chunk / stripes * chunk + at % chunk));
        Some(here.into_iter().collect())
    }
}

impl Unstriped {
    /// Returns where a sector lies on the device; none past the end of all addresses.
    fn locate(&self, sector: Sector) -> Option<Sector> {
        let chunk = self.line.chunk.0;
        let (row, within) = (sector.0 / chunk, sector.0 % chunk);
        let skipped = row.checked_mul(self.line.stripes.into())?;
        let at = skipped.checked_add(self.line.stripe.into())?.checked_mul(chunk)?;
        self.line.place.start.checked_add(Sectors(at.checked_add(within)?))
    }
}
