//! The whole command line with a target type of one's own in it.
//!
//! `fill <byte>`: reads as one byte over and over; takes no writes.

#![forbid(unsafe_code)]

use std::fmt;
use std::process::ExitCode;

use sim_core::{
    Area, Args, Bio, BlkError, CtrError, Mapped, Op, StatusKind, StatusWriter, Target, TargetType,
};

struct Fill(u8);

impl TargetType for Fill {
    const NAME: &'static str = "fill";
    const VERSION: [u32; 3] = [0, 1, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Fill, CtrError> {
        args.exactly(1, "Invalid argument count")?;
        let byte = args.next("Invalid byte")?;
        let number = byte.text().parse().map_err(|_| byte.error("0 to 255", "Invalid byte"))?;
        Ok(Fill(number))
    }
}

impl Target for Fill {
    fn map<'a>(&'a self, mut bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Completed(match bio.op() {
            Op::Read => {
                bio.buffer().fill(self.0);
                Ok(())
            }
            Op::Flush => Ok(()),
            Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => Err(BlkError::Io),
        })
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => write!(out, "{}", self.0),
        }
    }

    fn iterate_devices(&self, _each: &mut dyn FnMut(&Area)) {}
}

fn main() -> ExitCode {
    dmsim_cli::main_with(targets::registry().with::<Fill>())
}
