//! Target types with a bug each, or without.

use std::fmt;
use std::sync::Arc;

use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Mapped, Op, Profile, Runtime, StatusKind, StatusWriter,
    Target, TargetType,
};

/// No bug.
pub(crate) const ALL_WELL: u8 = 0;
/// The last sector of a bio that begins at an odd one goes one too far.
pub(crate) const OFF_BY_ONE: u8 = 1;
/// The eleventh sector's reads never end.
pub(crate) const STUCK: u8 = 2;
/// The text says another start.
pub(crate) const TEXT_OF_ANOTHER: u8 = 3;
/// Flushes end well and do nothing.
pub(crate) const LOSES_FLUSHES: u8 = 4;
/// The second leg is written after the bio has ended.
pub(crate) const ANSWERS_EARLY: u8 = 5;
/// Something is read now and then, suspended or not.
pub(crate) const KEEPS_ON: u8 = 6;

const COUNT: &str = "Invalid argument count";

/// `linear <dev> <start>`, as ours is, without a flattened map.
pub(crate) struct Remap<const BUG: u8> {
    area: Area,
}

impl<const BUG: u8> TargetType for Remap<BUG> {
    const NAME: &'static str = "linear";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Self, CtrError> {
        args.exactly(2, COUNT)?;
        let (device, start) = (args.next(COUNT)?, args.next(COUNT)?.sector("Invalid sector")?);
        Ok(Remap { area: args.area(device, start, args.target_len(), "Device lookup failed")? })
    }
}

impl<const BUG: u8> Target for Remap<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let mut to = bio.sector;
        match (BUG, bio.op()) {
            (OFF_BY_ONE, Op::Write) if to.0 % 16 == 15 && bio.len().0 == 1 => to.0 -= 1,
            (STUCK, Op::Read) if to.0 == 11 => {
                return Mapped::InFlight(Box::pin(std::future::pending()));
            }
            _ => {}
        }
        Mapped::Remapped(&self.area, to, bio)
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Table {
            out.device(&self.area)?;
            let start = self.area.start.0;
            write!(
                out,
                " {}",
                if BUG == TEXT_OF_ANOTHER && start > 0 { start - 1 } else { start }
            )?;
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile::REMAP
    }
}

/// `snapshot-origin <dev>`, as far as it is a device like any other: its flushes go by `map`.
pub(crate) struct Flushing<const BUG: u8> {
    area: Area,
}

impl<const BUG: u8> TargetType for Flushing<BUG> {
    const NAME: &'static str = "snapshot-origin";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Self, CtrError> {
        args.exactly(1, COUNT)?;
        let device = args.next(COUNT)?;
        let start = sim_core::Sector(0);
        Ok(Flushing { area: args.area(device, start, args.target_len(), "Device lookup failed")? })
    }
}

impl<const BUG: u8> Target for Flushing<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match (BUG, bio.op()) {
            (LOSES_FLUSHES, Op::Flush) => Mapped::Completed(Ok(())),
            _ => Mapped::Remapped(&self.area, bio.sector, bio),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Table { out.device(&self.area) } else { Ok(()) }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile { flush_bypasses_map: false, ..Profile::REMAP }
    }
}

/// `log-writes <dev> <other>`: writes to both, and reads from the other.
pub(crate) struct Keeper<const BUG: u8> {
    legs: Arc<[Area; 2]>,
    runtime: Arc<dyn Runtime>,
}

impl<const BUG: u8> TargetType for Keeper<BUG> {
    const NAME: &'static str = "log-writes";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Self, CtrError> {
        args.exactly(2, COUNT)?;
        let mut leg = || {
            let (device, start) = (args.next(COUNT)?, sim_core::Sector(0));
            args.area(device, start, args.target_len(), "Device lookup failed")
        };
        let legs = Arc::new([leg()?, leg()?]);
        Ok(Keeper { legs, runtime: args.runtime().clone() })
    }
}

impl<const BUG: u8> Target for Keeper<BUG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Table {
            out.device(&self.legs[0])?;
            write!(out, " ")?;
            out.device(&self.legs[1])?;
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.legs.iter().for_each(each);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, ..Profile::default() }
    }

    fn resume(&self) {
        if BUG == KEEPS_ON {
            let (legs, runtime) = (Arc::downgrade(&self.legs), self.runtime.clone());
            self.runtime.spawn(Box::pin(async move {
                loop {
                    runtime.sleep(std::time::Duration::from_millis(700)).await;
                    let Some(legs) = legs.upgrade() else { return };
                    let mut sector = [0; 512];
                    let at = sim_core::Sector(0);
                    let _ = legs[0].submit(at, Bio::read(at, &mut sector)).await;
                }
            }));
        }
    }
}

impl<const BUG: u8> Keeper<BUG> {
    async fn run(&self, bio: Bio<'_>) -> BlkResult {
        let (at, flags) = (bio.sector, bio.flags);
        match bio.op() {
            Op::Read => self.legs[1].submit(at, bio).await,
            Op::Write => {
                let data = bio.data().to_vec();
                self.legs[0].submit(at, bio).await?;
                let legs = self.legs.clone();
                let second = async move {
                    legs[1].submit(at, Bio::write(at, &data).with_flags(flags)).await
                };
                if BUG != ANSWERS_EARLY {
                    return second.await;
                }
                self.runtime.spawn(Box::pin(async move {
                    let _ = second.await;
                }));
                Ok(())
            }
            Op::Flush => {
                self.legs[0].submit(at, Bio::flush()).await?;
                self.legs[1].submit(at, Bio::flush()).await
            }
            Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Err(sim_core::BlkError::NotSupported)
            }
        }
    }
}
