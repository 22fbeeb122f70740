//! `mirror <log> <#log args> <log args> <#legs> [<dev> <start>]+ [<#features> <features>]`: keeps
//! the same data on several legs.
//!
//! The log says which *regions* may differ between legs: `core <region size> [sync|nosync]` keeps
//! that in memory, `disk <dev> <region size> [sync|nosync]` on a device. Regions that are not in
//! sync are copied in the background. Features: `handle_errors` holds writes that failed on a leg
//! until the device is suspended, and lets another leg take the place of the first; `keep_log`,
//! beside it, lets such writes end well.
//!
//! The kernel's mirror takes no messages; ours takes `resync_rate <sectors a second>`, zero for no
//! limit, and tells it when asked without a number. `behind` answers a word for each leg: the
//! regions in which it lacks what another leg has, as `<first>+<count>` with commas, or `-`; where
//! there are more than 10,000 runs, the last goes on to the end.
//! `resync` answers `running`, or `idle` where no region is copied any more before the next resume.

mod clean;
mod large_write;
mod line_limit;
mod mirror_set;
mod read;
mod region_copy;
mod resync;
mod state;
mod ticket;
mod write;

use std::fmt;
use std::sync::Arc;

use sim_core::{
    Area, Args, Bio, BlkError, BoxFuture, CtrError, DevNumber, Errno, Mapped, Op, OpenDevice,
    Profile, Refusal, Reply, Sector, Sectors, Spots, StatusKind, StatusWriter, Target, TargetLog,
    TargetType, reply,
};

use self::mirror_set::MirrorSet;
use self::state::Health;
use crate::lines;
use crate::lines::mirror::{Features, LegStatus, Line, LogStatus, Status};
use crate::lines::y_or_n;

/// The same data on several legs.
pub struct Mirror {
    line: Line<Arc<OpenDevice>>,
    set: Arc<MirrorSet>,
    ioctl_log: TargetLog,
}

impl TargetType for Mirror {
    const NAME: &'static str = "mirror";
    const VERSION: [u32; 3] = [1, 14, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Mirror, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let set = Arc::new(MirrorSet::new(&line, args));
        Ok(Mirror { line, set, ioctl_log: args.log().of_module("ioctl") })
    }
}

impl Target for Mirror {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        self.set.pace.count();
        match bio.op() {
            Op::Read => self.set.read(bio),
            Op::Write => self.set.write(bio),
            Op::Flush => Mapped::InFlight(Box::pin(self.set.flush())),
            Op::Discard => Mapped::InFlight(Box::pin(self.set.discard(bio))),
            Op::WriteZeroes | Op::SecureErase => Mapped::Completed(Err(BlkError::NotSupported)),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => self.info(out),
            StatusKind::Table => {
                let word = |device: &Arc<OpenDevice>| {
                    lines::device_word(&Area::whole(device.clone()), out)
                };
                let line = self.line.try_map(word)?;
                write!(out, "{line}")
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let healths = self.set.state().health.clone();
        write!(out, "nr_mirrors={}", healths.len())?;
        for (nr, (area, health)) in self.set.legs.iter().zip(&healths).enumerate() {
            let (device, health) = (lines::device_word(area, out)?, health.shown().letter());
            write!(out, ",mirror_device_{nr}={device},mirror_device_{nr}_status={health}")?;
        }
        let Features { handle_errors, keep_log } = self.line.features;
        let (handle_errors, keep_log) = (y_or_n(handle_errors), y_or_n(keep_log));
        // Of its log the kernel says nothing there.
        write!(out, ",handle_errors={handle_errors},keep_log={keep_log},log_type_status=")
    }

    /// The legs alone, as in the kernel: the log's device takes no part in flushes and limits.
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.set.legs.iter().for_each(each);
    }

    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        self.iterate_devices(each);
        self.set.log_area.iter().for_each(each);
    }

    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(self.line.log.region),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: false,
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    /// On each leg that has not failed: a write ends well without the others too.
    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        let legs = self.set.legs.iter().zip(self.set.state().health.clone());
        legs.filter(|(_, health)| health.is_good()).for_each(|(leg, _)| each(leg, offset));
        Some(self.set.len - offset.from_start())
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let region = self.set.region_of(offset);
        let state = self.set.state();
        let good = state.good(region);
        for (nr, leg) in self.set.legs.iter().enumerate() {
            let health = if state.health[nr].is_good() { "" } else { ", failed" };
            let behind = if good >> nr & 1 == 1 { "" } else { ", lacks what others have here" };
            out.at(leg, offset, format!("leg {nr}{health}{behind}"));
        }
        if !state.sync.get(region) {
            out.say(format!("region {region} is not in sync"));
        }
        let len = self.line.log.region;
        Some(Sectors(len.0 - offset.0 % len.0))
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.set.legs.iter().filter_map(|leg| leg.sector_of(below, sector)).collect())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.take_message(words))
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.set.clean_now())
    }

    fn presuspend(&self) {
        self.set.state().suspending = true;
        self.set.end_background();
    }

    fn presuspend_undo(&self) {
        self.set.state().suspending = false;
        // Whoever waits for the end of the suspend does so no more.
        self.set.background.resume();
        self.set.start_resync();
        self.set.go_on_cleaning();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.set.settle())
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(self.set.load().await?) })
    }

    fn resume(&self) {
        self.set.background.resume();
        self.set.start_resync();
    }
}

impl Mirror {
    fn info(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let status = {
            let state = self.set.state();
            let leg = |(area, health): (&Area, &Health)| {
                let device = lines::device_word(area, out)?;
                Ok(LegStatus { device, health: health.shown() })
            };
            let legs = self.set.legs.iter().zip(&state.health).map(leg);
            let log = |area: &Area| {
                Ok(LogStatus { device: lines::device_word(area, out)?, health: state.log.health() })
            };
            let log = self.set.log_device.as_ref().map(log).transpose()?;
            let (in_sync, regions) = (state.sync.ones(), self.set.regions);
            Status { legs: legs.collect::<Result<_, _>>()?, in_sync, regions, log }
        };
        write!(out, "{status}")
    }
}

impl Mirror {
    fn take_message(&self, words: &[&str]) -> Result<Option<String>, Refusal> {
        let pace = &self.set.pace;
        match words {
            ["resync_rate"] => Ok(Some(pace.rate().to_string())),
            ["behind"] => Ok(Some(self.set.state().behind().to_string())),
            ["resync"] => {
                let idle = self.set.state().resync_is_over(self.set.regions);
                Ok(Some(if idle { "idle" } else { "running" }.to_owned()))
            }
            ["resync_rate", rate] => {
                let digits = rate.bytes().all(|byte| byte.is_ascii_digit());
                let rate = rate.parse().ok().filter(|_| digits).ok_or_else(|| {
                    let why = format!(
                        "resync_rate: expected sectors a second, 0 for no limit, found `{rate}`"
                    );
                    Refusal::because(Errno::INVAL, why)
                })?;
                pace.set_rate(rate);
                // Whoever waits for his turn by the old rate looks anew.
                self.set.signal.notify();
                Ok(None)
            }
            _ => {
                // As where a type takes none, which is what the kernel has here.
                Err(self.ioctl_log.refusal(Errno::INVAL, "Target type does not support messages"))
            }
        }
    }
}
