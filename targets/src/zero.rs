//! `zero`: reads as zeros; what is written is dropped.

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkError, CtrError, Flat, Limits, Mapped, Op, Profile, Sector, Sectors,
    StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines;

/// Zeros, as far as the target is long.
pub struct Zero {
    len: Sectors,
}

impl TargetType for Zero {
    const NAME: &'static str = "zero";
    const VERSION: [u32; 3] = [1, 2, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Zero, CtrError> {
        lines::parse(args, |words, _| lines::zero::Line::parse(words))?;
        Ok(Zero { len: args.target_len() })
    }
}

impl Target for Zero {
    fn map<'a>(&'a self, mut bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Completed(match bio.op() {
            // Nobody waits for read-ahead of zeros: the kernel saves the memory.
            Op::Read if bio.flags.readahead => Err(BlkError::Io),
            Op::Read => {
                bio.buffer().fill(0);
                Ok(())
            }
            Op::Write | Op::Discard | Op::Flush => Ok(()),
            Op::WriteZeroes | Op::SecureErase => Err(BlkError::NotSupported),
        })
    }

    fn status(&self, kind: StatusKind, _out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info | StatusKind::Table => Ok(()),
        }
    }

    fn iterate_devices(&self, _each: &mut dyn FnMut(&Area)) {}

    fn profile(&self) -> Profile {
        Profile::NO_STORAGE
    }

    fn io_hints(&self, limits: &mut Limits) {
        limits.allow_any_discard();
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        Flat::Zero(self.len - offset.from_start())
    }
}
