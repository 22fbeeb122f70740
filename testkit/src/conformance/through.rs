//! `through`, which is what `linear` is, and `inverts`, which changes data as `crypt` does, for a crate
//! that has no target types.

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Flat, Mapped, Op, Profile, Sector, StatusKind,
    StatusWriter, Target, TargetType,
};

/// `through <dev> <start>`: what `linear` is, for a crate that has no target types.
pub(super) struct Through {
    area: Area,
}

impl TargetType for Through {
    const NAME: &'static str = "through";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Through, CtrError> {
        const COUNT: &str = "Invalid argument count";
        let device = args.next(COUNT)?;
        let start = args.next(COUNT)?.sector("Invalid start")?;
        Ok(Through { area: args.area(device, start, args.target_len(), "Device lookup failed")? })
    }
}

impl Target for Through {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Remapped(&self.area, bio.sector, bio)
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

    fn profile(&self) -> Profile {
        Profile::REMAP
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        Flat::Device(&self.area, offset, self.area.size() - offset.from_start())
    }
}

/// `inverts <dev> <start>`: stores each bit the other way round.
pub(super) struct Inverts {
    area: Area,
}

impl TargetType for Inverts {
    const NAME: &'static str = "inverts";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Inverts, CtrError> {
        Ok(Inverts { area: Through::ctr(args)?.area })
    }
}

impl Target for Inverts {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Flush => Mapped::Remapped(&self.area, bio.sector, bio),
            _ => Mapped::InFlight(Box::pin(self.run(bio))),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Table {
            out.device(&self.area)?;
            write!(out, " {}", self.area.start)?;
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, map_may_be_repeated: true, ..Profile::default() }
    }
}

impl Inverts {
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        let at = bio.sector;
        if bio.op() == Op::Write {
            let data: Vec<u8> = bio.data().iter().map(|byte| !byte).collect();
            return self.area.submit(at, Bio::write(at, &data).with_flags(bio.flags)).await;
        }
        self.area.submit(at, bio.reborrow()).await?;
        bio.buffer().iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    }
}
