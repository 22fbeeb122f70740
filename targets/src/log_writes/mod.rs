//! `log-writes <dev> <log dev>`: does what it is asked, and logs it to another device, so that
//! programs can build what the device held at any time between.
//!
//! What has ended is logged when the next flush has: in the order in which it ended, as much as had
//! when the flush was sent, then the flush. A write with FUA is logged as it ends. What no flush came
//! for is logged when the target goes, and a last mark. Message: `mark <text>`.
//!
//! [`mod@format`] is what is on the log device; it reads it, too.

pub mod format;
mod logger;

use std::fmt;
use std::sync::Arc;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, Discarded, Errno, Flat, Limits,
    Mapped, Op, Profile, Reply, Sector, Sectors, StatusKind, StatusWriter, Target, TargetLog,
    TargetType, reply,
};

use self::format::Kinds;
use self::logger::{Block, Logger};
use crate::lines;
use crate::lines::log_writes::Line;

/// A device whose writes are logged.
pub struct LogWrites {
    area: Area,
    /// What the kernel checks the size of: it counts from the device's start, wherever the target
    /// begins.
    checked: Area,
    logger: Arc<Logger>,
    log: TargetLog,
}

impl TargetType for LogWrites {
    const NAME: &'static str = "log-writes";
    const VERSION: [u32; 3] = [1, 1, 0];

    fn ctr(args: &mut Args<'_>) -> Result<LogWrites, CtrError> {
        let Line { device, log } =
            lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let len = args.target_len();
        let unit = device.limits().logical_block();
        let (runtime, kernel_log) = (args.runtime().clone(), args.log());
        Ok(LogWrites {
            // A sector of the target is the same one of the device as it is of the mapped device.
            area: Area::new(device.clone(), args.target_start(), len),
            checked: Area::new(device, Sector::ZERO, len),
            logger: Arc::new(Logger::new(Area::whole(log), unit, runtime, kernel_log)),
            log: args.log(),
        })
    }
}

impl Target for LogWrites {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Read => Mapped::Remapped(&self.area, bio.sector, bio),
            // The device has promised them, whether the log is full or not.
            Op::Discard if !self.logger.is_enabled() && !self.discards() => {
                Mapped::Completed(Ok(()))
            }
            _ if !self.logger.is_enabled() => Mapped::Remapped(&self.area, bio.sector, bio),
            Op::Write | Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Mapped::InFlight(Box::pin(self.carry_and_log(bio)))
            }
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.logger.status()),
            StatusKind::Table => {
                let device = lines::device_word(&self.area, out)?;
                let log = lines::device_word(self.logger.log_device(), out)?;
                write!(out, "{}", Line { device, log })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.checked);
    }

    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
        each(self.logger.log_device());
    }

    fn profile(&self) -> Profile {
        Profile {
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            discards_supported: true,
            discarded: Discarded::AsBelow,
            flush_supported: true,
            flush_bypasses_map: false,
            // Nothing is logged before the bio is carried out.
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        let device = self.area.limits();
        if !self.discards() {
            limits.discard_granularity = device.logical_block_size;
            limits.max_discard_sectors = u32::MAX >> sim_core::SECTOR_SHIFT;
        }
        limits.logical_block_size = device.logical_block_size;
        limits.physical_block_size = device.physical_block_size;
        limits.io_min = device.physical_block_size;
        limits.dma_alignment = device.logical_block_size.saturating_sub(1);
    }

    fn flatten(&self, op: Op, offset: Sector) -> Flat<'_> {
        match op {
            Op::Read => Flat::Device(&self.area, offset, self.area.size() - offset.from_start()),
            _ => Flat::Opaque,
        }
    }

    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        each(&self.area, offset);
        Some(self.area.size() - offset.from_start())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        let why = match words {
            [name, text] if name.eq_ignore_ascii_case("mark") => {
                return Some(Box::pin(async move {
                    self.logger.mark(text).await;
                    Ok(None)
                }));
            }
            [name, _] => format!("Unrecognised log writes target message received: {name}"),
            _ => {
                let count = words.len();
                format!("Invalid log-writes message arguments, expect 2 arguments, got {count}")
            }
        };
        reply(Err(self.log.refusal(Errno::INVAL, &why)))
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.logger.idle())
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.logger.finish())
    }
}

impl LogWrites {
    /// Tells whether the device has discards. Those of one that has none end well here, and are logged
    /// all the same.
    fn discards(&self) -> bool {
        self.area.limits().max_discard_sectors > 0
    }

    async fn carry_and_log(&self, bio: Bio<'_>) -> BlkResult {
        let fua = if bio.flags.fua { Kinds::FUA } else { Kinds(0) };
        let kinds = match bio.op() {
            Op::Flush => Kinds::FLUSH,
            Op::Discard => Kinds::DISCARD,
            Op::Read | Op::Write | Op::WriteZeroes | Op::SecureErase => fua,
        };
        let sector = bio.sector;
        let bio = match bio.op() {
            Op::Flush => bio,
            _ => bio.at(self.area.start.wrapping_add(sector.from_start())),
        };
        let block = self.logger.block(&bio, kinds).ok_or(BlkError::Io)?;
        let before = match bio.op() {
            Op::Flush => self.logger.take_unflushed(),
            _ => Vec::new(),
        };
        // Logged however it ends, as the kernel does; and where nobody waits for the end any more.
        let _logged = Logged { logger: &self.logger, entry: Some((before, block)) };
        if bio.op() == Op::Discard && !self.discards() {
            return Ok(());
        }
        self.area.submit(sector, bio).await
    }
}

/// A bio under way, which is logged when it ends.
struct Logged<'a> {
    logger: &'a Arc<Logger>,
    entry: Option<(Vec<Block>, Block)>,
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        if let Some((before, block)) = self.entry.take() {
            self.logger.ended(before, block);
        }
    }
}
