//! `linear <dev> <start>`: maps the target onto one contiguous range of a device.

use std::fmt;

use sim_core::{
    Area, Args, Bio, CtrError, Flat, Mapped, Op, Profile, Sector, StatusKind, StatusWriter, Target,
    TargetType,
};

/// A contiguous range of a device.
pub struct Linear {
    area: Area,
}

impl TargetType for Linear {
    const NAME: &'static str = "linear";
    const VERSION: [u32; 3] = [1, 4, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Linear, CtrError> {
        const COUNT: &str = "Invalid argument count";
        args.exactly(2, COUNT)?;
        // The start first: where both words are wrong, the kernel names this one.
        let start = args.at(1, COUNT)?.sector("Invalid device sector")?;
        let device = args.at(0, COUNT)?;
        let area = args.area(device, start, args.target_len(), "Device lookup failed")?;
        Ok(Linear { area })
    }
}

impl Target for Linear {
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
