//! `through`: what `linear` is, for a crate that has no target types.

use std::fmt;

use sim_core::{
    Area, Args, Bio, CtrError, Flat, Mapped, Op, Profile, Sector, StatusKind, StatusWriter, Target,
    TargetType,
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
