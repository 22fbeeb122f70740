//! `linear <dev> <start>`: maps the target onto one contiguous range of a device.

use std::fmt;

use sim_core::{
    Area, Args, Bio, CtrError, Flat, Mapped, Op, Profile, Sector, StatusKind, StatusWriter, Target,
    TargetType,
};

use crate::lines::linear::Line;
use crate::lines::{self, Place};

/// A contiguous range of a device.
pub struct Linear {
    area: Area,
}

impl TargetType for Linear {
    const NAME: &'static str = "linear";
    const VERSION: [u32; 3] = [1, 4, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Linear, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let Place { device, start } = line.place;
        Ok(Linear { area: Area::new(device, start, args.target_len()) })
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
                let device = lines::device_word(&self.area, out)?;
                let place = Place { device, start: self.area.start };
                write!(out, "{}", Line { place })
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let device = lines::device_word(&self.area, out)?;
        write!(out, "device_name={device},start={}", self.area.start)
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
