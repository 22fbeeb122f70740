//! `error [<dev> <start>]`: fails every bio. The device, if there is one, lends its limits and
//! is checked for its size; no bio reaches it.

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkError, CtrError, Features, Flat, Limits, Mapped, Op, Profile, Sector,
    Sectors, StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines;

/// Errors, as far as the target is long.
pub struct Error {
    len: Sectors,
    area: Option<Area>,
}

impl TargetType for Error {
    const NAME: &'static str = "error";
    const VERSION: [u32; 3] = [1, 7, 0];
    /// Replaces any other target: `remove --force` and `wipe_table` load it.
    const FEATURES: Features = Features { wildcard: true, hybrid: true, ..Features::NONE };

    fn ctr(args: &mut Args<'_>) -> Result<Error, CtrError> {
        let len = args.target_len();
        let line = lines::parse(args, |words, devices| lines::error::Line::parse(words, devices))?;
        let area = line.place.map(|place| Area::new(place.device, place.start, len));
        Ok(Error { len, area })
    }
}

impl Target for Error {
    fn map<'a>(&'a self, _bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Completed(Err(BlkError::Io))
    }

    fn status(&self, kind: StatusKind, _out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info | StatusKind::Table => Ok(()),
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.area.iter().for_each(each);
    }

    fn writes_to(&self, _each: &mut dyn FnMut(&Area)) {}

    fn profile(&self) -> Profile {
        Profile::NO_STORAGE
    }

    fn io_hints(&self, limits: &mut Limits) {
        limits.allow_any_discard();
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        Flat::Error(self.len - offset.from_start())
    }
}
