//! `invert-rust <dev> <start>`: every byte of a device, inverted; a plug-in in Rust.
//!
//! ```sh
//! cargo build --package dmsim-sdk --example invert_rust
//! dmsim start --plugin target/debug/examples/libinvert_rust.so
//! ```

#![forbid(unsafe_code)]

use std::fmt;

use sdk::sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Mapped, Op, Profile, StatusKind, StatusWriter, Target,
    TargetType,
};

/// A range of a device.
struct Invert(Area);

impl TargetType for Invert {
    const NAME: &'static str = "invert-rust";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Invert, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let device = args.next("Device lookup failed")?;
        let start = args.next("Invalid device sector")?.sector("Invalid device sector")?;
        let area = args.area(device, start, args.target_len(), "Device lookup failed")?;
        Ok(Invert(area))
    }
}

impl Target for Invert {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Read => Mapped::InFlight(Box::pin(self.read(bio))),
            Op::Write => Mapped::InFlight(Box::pin(self.write(bio))),
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Mapped::Remapped(&self.0, bio.sector, bio)
            }
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                out.device(&self.0)?;
                write!(out, " {}", self.0.start)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.0);
    }

    fn profile(&self) -> Profile {
        // Zeros written below would not read as zeros.
        Profile { num_write_zeroes_bios: 0, ..Profile::REMAP }
    }
}

impl Invert {
    async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        self.0.submit(bio.sector, bio.reborrow()).await?;
        bio.buffer().iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    }

    async fn write(&self, bio: Bio<'_>) -> BlkResult {
        let data: Vec<u8> = bio.data().iter().map(|byte| !byte).collect();
        self.0.submit(bio.sector, Bio::write(bio.sector, &data).with_flags(bio.flags)).await
    }
}

sdk::export_target!(Invert);
