//! `target-word <dev> <start>`: maps the target onto a range of a device, last chunk first.

#![forbid(unsafe_code)]

use std::fmt;

use sim_core::{
    Area, Args, Bio, CtrError, Flat, Mapped, Op, Profile, Sector, Sectors, StatusKind,
    StatusWriter, Target, TargetType,
};

/// What stays together. A bio that crosses the end of a chunk is cut there by the core.
const CHUNK: Sectors = Sectors(128);

/// A range of a device with its chunks in reverse order.
pub struct TargetName {
    area: Area,
}

impl TargetType for TargetName {
    const NAME: &'static str = "target-word";
    const VERSION: [u32; 3] = [1, 0, 0];
    const EXAMPLE: &'static str = "0 512 target-word a table-words";

    fn ctr(args: &mut Args<'_>) -> Result<TargetName, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let (device, start) = (args.next("Missing device")?, args.next("Missing start")?);
        let len = args.target_len();
        if !len.0.is_multiple_of(CHUNK.0) {
            let found = format!("expected a length of whole chunks of {CHUNK}, found {len}");
            return Err(CtrError::new("Invalid target length").detail(found));
        }
        let start = start.sector("Invalid device sector")?;
        Ok(TargetName { area: args.area(device, start, len, "Device lookup failed")? })
    }
}

impl TargetName {
    /// Where a sector of the target lies in the area, and how far its chunk goes on from there.
    fn locate(&self, sector: Sector) -> (Sector, Sectors) {
        let within = sector.0 % CHUNK.0;
        let chunk_end = self.area.size().0 - (sector.0 - within);
        (Sector(chunk_end - CHUNK.0 + within), Sectors(CHUNK.0 - within))
    }
}

impl Target for TargetName {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Remapped(&self.area, self.locate(bio.sector).0, bio)
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let (to, len) = self.locate(offset);
        Flat::Device(&self.area, to, len)
    }

    fn profile(&self) -> Profile {
        Profile { max_io_len: Some(CHUNK), max_discard_granularity: true, ..Profile::REMAP }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                out.device(&self.area)?;
                write!(out, " {}", self.area.start)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }
}
