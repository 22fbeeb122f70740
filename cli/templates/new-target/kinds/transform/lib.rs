//! `target-word <dev> <start> <key>`: stores its data changed by a key of 16 hexadecimal digits.
//!
//! What a sector is changed by comes from the key and the sector's number, and nothing is kept: no
//! metadata, no order, nothing to recover. It hides data from a look, and from nobody who wants it.

#![forbid(unsafe_code)]

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Flags, Mapped, Op, Profile, Sector, Sectors, StatusKind,
    StatusWriter, Target, TargetType,
};

/// The most that is copied at once: longer bios are cut by the core, and the parts run side by side.
const MOST: Sectors = Sectors(256);

/// A range of a device whose data is changed on the way.
pub struct TargetName {
    area: Area,
    key: u64,
}

impl TargetType for TargetName {
    const NAME: &'static str = "target-word";
    const VERSION: [u32; 3] = [1, 0, 0];
    const EXAMPLE: &'static str = "0 512 target-word a table-words";

    fn ctr(args: &mut Args<'_>) -> Result<TargetName, CtrError> {
        args.exactly(3, "Invalid argument count")?;
        let (device, start) = (args.next("Missing device")?, args.next("Missing start")?);
        let key = args.next("Missing key")?.hex_u64("Invalid key")?;
        let (start, len) = (start.sector("Invalid device sector")?, args.target_len());
        Ok(TargetName { area: args.area(device, start, len, "Device lookup failed")?, key })
    }
}

impl TargetName {
    /// Changes data that begins at a sector, or changes it back: the same does both.
    fn change(&self, sector: Sector, data: &mut [u8]) {
        for (number, sector) in (sector.0..).zip(data.chunks_exact_mut(512)) {
            let mut word = self.key ^ number;
            for eight in sector.chunks_exact_mut(8) {
                word = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                eight.iter_mut().zip(word.to_le_bytes()).for_each(|(byte, with)| *byte ^= with);
            }
        }
    }

    async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        let at = bio.sector;
        self.area.submit(at, bio.reborrow()).await?;
        self.change(at, bio.buffer());
        Ok(())
    }

    /// Writes from memory of its own: the buffer of a write is whoever sent it's, who may look.
    async fn write(&self, at: Sector, data: Vec<u8>, flags: Flags) -> BlkResult {
        self.area.submit(at, Bio::write(at, &data).with_flags(flags)).await
    }
}

impl Target for TargetName {
    /// First asks whether the device below ends the bio at once, as it mostly does: then all is done
    /// where it began, with no task. The profile allows that, as a second try finds what the first did.
    fn map<'a>(&'a self, mut bio: Bio<'a>) -> Mapped<'a> {
        let (at, flags) = (bio.sector, bio.flags);
        if bio.op() == Op::Read {
            return match self.area.submit(at, bio.reborrow()).now() {
                Ok(result) => {
                    self.change(at, bio.buffer());
                    Mapped::Completed(result)
                }
                Err(_) => Mapped::InFlight(Box::pin(self.read(bio))),
            };
        }
        let mut data = bio.data().to_vec();
        self.change(at, &mut data);
        match self.area.submit(at, Bio::write(at, &data).with_flags(flags)).now() {
            Ok(result) => Mapped::Completed(result),
            Err(_) => Mapped::InFlight(Box::pin(self.write(at, data, flags))),
        }
    }

    /// No discards: what reads as zeros below would read as the key here.
    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(MOST),
            num_flush_bios: 1,
            flush_bypasses_map: true,
            map_may_be_repeated: true,
            ..Profile::default()
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                out.device(&self.area)?;
                write!(out, " {} {:016x}", self.area.start, self.key)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }
}
