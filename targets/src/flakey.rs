//! `flakey <dev> <start> <up s> <down s> [<#features> <features>]`: works for some seconds, and then
//! for some others does not, in turn, from when it was made on.
//!
//! While it does not, reads and writes fail. Features are what it does instead: `error_reads`;
//! `error_writes`, or `drop_writes`, where writes end well and nothing is written; `corrupt_bio_byte
//! <nth> <r|w> <value> <flags>`, the nth byte of each read or write, counted from 1, is another;
//! `random_read_corrupt <p>` and `random_write_corrupt <p>`, a random byte of a bio is, with a
//! probability of so many billionths. Discards and flushes do as writes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, Buffer, CtrError, Discarded, Flags, Flat, Mapped, Op,
    Profile, Runtime, Sector, Sectors, Spots, StatusKind, StatusWriter, Target, TargetType,
};

use crate::lines::flakey::{Direction, Features, Line, PROBABILITY_BASE, Writes};
use crate::lines::{self, Place};

/// Bits of the kernel's `bi_opf`: the operation, and those of its flags that a bio here has.
const OPF_WRITE: u32 = 1;
const OPF_FUA: u32 = 1 << 17;
const OPF_RAHEAD: u32 = 1 << 19;
const OPF_NOWAIT: u32 = 1 << 21;

/// A device that works now and then.
pub struct Flakey {
    area: Area,
    up_s: u32,
    down_s: u32,
    features: Features,
    runtime: Arc<dyn Runtime>,
    made: Duration,
}

impl TargetType for Flakey {
    const NAME: &'static str = "flakey";
    const VERSION: [u32; 3] = [1, 5, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Flakey, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let Line { place: Place { device, start }, up_s, down_s, features } = line;
        let area = Area::new(device, start, args.target_len());
        let runtime = args.runtime().clone();
        let made = runtime.now();
        Ok(Flakey { area, up_s, down_s, features, runtime, made })
    }
}

impl Target for Flakey {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        if !self.is_down() {
            return Mapped::Remapped(&self.area, bio.sector, bio);
        }
        match (bio.op(), self.features.writes) {
            (Op::Read, _) if self.features.error_reads => Mapped::Completed(Err(BlkError::Io)),
            (Op::Read, _) if self.corrupts(Direction::Read) => {
                Mapped::InFlight(Box::pin(self.read(bio)))
            }
            (Op::Read, _) => Mapped::Remapped(&self.area, bio.sector, bio),
            (_, Writes::Drop) => Mapped::Completed(Ok(())),
            (_, Writes::Fail) => Mapped::Completed(Err(BlkError::Io)),
            (Op::Write, Writes::Pass) if self.corrupts(Direction::Write) => {
                Mapped::InFlight(Box::pin(self.write(bio)))
            }
            (_, Writes::Pass) => Mapped::Remapped(&self.area, bio.sector, bio),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let device = lines::device_word(&self.area, out)?;
                let place = Place { device, start: self.area.start };
                let (up_s, down_s, features) = (self.up_s, self.down_s, self.features.clone());
                write!(out, "{}", Line { place, up_s, down_s, features })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile {
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: false,
            discarded: Discarded::AsBelow,
            // What is random is drawn when the bio is carried out.
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        out.at(&self.area, offset, "data");
        if self.down_s > 0 {
            let now = if self.is_down() { "is down now" } else { "is up now" };
            out.say(format!(
                "it is down for {} s after {} s each, and {now}",
                self.down_s, self.up_s
            ));
        }
        Some(self.area.size() - offset.from_start())
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        match self.down_s {
            0 => Flat::Device(&self.area, offset, self.area.size() - offset.from_start()),
            _ => Flat::Opaque,
        }
    }
}

impl Flakey {
    fn is_down(&self) -> bool {
        let elapsed = (self.runtime.now().saturating_sub(self.made)).as_secs();
        elapsed % u64::from(self.up_s + self.down_s) >= self.up_s.into()
    }

    /// Tells whether data that goes this way may be other data on its arrival.
    fn corrupts(&self, way: Direction) -> bool {
        let random = match way {
            Direction::Read => self.features.random_read,
            Direction::Write => self.features.random_write,
        };
        random > 0 || self.features.corrupt.as_ref().is_some_and(|corrupt| corrupt.direction == way)
    }

    async fn read(&self, mut bio: Bio<'_>) -> BlkResult {
        self.area.submit(bio.sector, bio.reborrow()).await?;
        let flags = bio.flags;
        self.spoil(Direction::Read, flags, bio.buffer());
        Ok(())
    }

    async fn write(&self, bio: Bio<'_>) -> BlkResult {
        let mut data = Buffer::copy_of(bio.data());
        self.spoil(Direction::Write, bio.flags, &mut data);
        let spoilt = Bio::write(bio.sector, &data).with_flags(bio.flags);
        self.area.submit(bio.sector, spoilt).await
    }

    /// Makes other data of the data of a bio, if it is this one's turn.
    fn spoil(&self, way: Direction, flags: Flags, data: &mut [u8]) {
        let Features { corrupt, random_read, random_write, .. } = &self.features;
        let (op, probability) = match way {
            Direction::Read => (0, *random_read),
            Direction::Write => (OPF_WRITE, *random_write),
        };
        if let Some(corrupt) = corrupt
            && corrupt.direction == way
            && (op | opf(flags)) & corrupt.flags == corrupt.flags
            && let Some(byte) = data.get_mut(corrupt.byte as usize - 1)
        {
            *byte = corrupt.value;
        }
        let drawn = || self.runtime.random() % u64::from(PROBABILITY_BASE);
        if probability > 0 && drawn() < probability.into() {
            let at = self.runtime.random() % data.len() as u64;
            data[at as usize] = self.runtime.random() as u8;
        }
    }
}

/// Returns the flags of a bio as the kernel has them.
fn opf(flags: Flags) -> u32 {
    let Flags { fua, preflush: _, nowait, readahead } = flags;
    [(fua, OPF_FUA), (nowait, OPF_NOWAIT), (readahead, OPF_RAHEAD)]
        .into_iter()
        .map(|(is_set, bit)| if is_set { bit } else { 0 })
        .sum()
}
