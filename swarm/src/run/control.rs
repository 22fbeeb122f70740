//! What is done to devices and disks while bios flow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use sim_core::control::{Answer, Command, Control, Failure, Report, Slot};
use sim_core::{Access, Held, KeyText, Sector, TargetSpec, parse_table};
use testkit::{Damage, DeviceBelow, Fault, FaultSpan, Handle, SimDisk, id};

use super::{End, Outcome, Rig, wrong};
use crate::case::{Cycle, Load, Step, below_of};

/// What is done, on its own task.
struct Doer {
    control: Arc<Control>,
    handle: Handle,
    disks: Vec<Arc<SimDisk>>,
    live: Vec<Arc<AtomicUsize>>,
    /// Each device's tables.
    tables: Vec<Vec<String>>,
    /// The disks that each device, and no other, lies on.
    own_disks: Vec<Vec<usize>>,
    faulted: Arc<AtomicBool>,
    /// The devices whose targets find again what they have written.
    sound: Vec<bool>,
}

impl Rig<'_> {
    /// Makes the task that does what is no bio.
    pub(super) fn controls(
        &self,
        steps: &[&Step],
    ) -> impl Future<Output = Outcome> + Send + 'static + use<> {
        let doer = Doer {
            control: self.world().control.clone(),
            handle: self.world().handle(),
            disks: self.disks.clone(),
            live: self.live.clone(),
            tables: self.case.devices.iter().map(|device| device.tables.clone()).collect(),
            own_disks: self.own_disks(),
            faulted: self.faulted.clone(),
            sound: self.case.devices.iter().map(|device| device.promises.bytes).collect(),
        };
        let steps: Vec<Step> = steps.iter().map(|step| (*step).clone()).collect();
        async move {
            for step in &steps {
                doer.take(step).await?;
            }
            Ok(())
        }
    }

    /// Lists for each device the disks that it, and no other, lies on; none where it shares anything
    /// with another: a snapshot's store is written for its origin's sake, suspended or not.
    fn own_disks(&self) -> Vec<Vec<usize>> {
        let below = |device: usize| -> BTreeSet<DeviceBelow> {
            let tables = self.case.devices[device].tables.iter();
            tables.flat_map(|table| table.split_whitespace()).filter_map(below_of).collect()
        };
        let all: Vec<_> = (0..self.case.devices.len()).map(below).collect();
        let disks = (0..).zip(&all).map(|(device, own): (usize, _)| {
            let mut others = (0..).zip(&all).filter(|(other, _): &(usize, _)| *other != device);
            let is_alone = others.all(|(_, other)| other.is_disjoint(own));
            let disk = |below: &DeviceBelow| match below {
                DeviceBelow::Disk(disk) => Some(*disk as usize),
                DeviceBelow::Device(_) => None,
            };
            own.iter().filter(|_| is_alone).filter_map(disk).collect()
        });
        disks.collect()
    }
}

impl Doer {
    async fn take(&self, step: &Step) -> Outcome {
        match step {
            Step::Bio(..) | Step::Wait | Step::Heal | Step::Cut { .. } => Ok(()),
            Step::Pause(turns) => {
                self.turns(*turns).await;
                Ok(())
            }
            Step::Fault { disk, after, for_good, short } => {
                let Some(disk) = self.disks.get(*disk as usize) else { return Ok(()) };
                self.faulted.store(true, Relaxed);
                let lasts = if *for_good { FaultSpan::ForGood } else { FaultSpan::Once };
                let damage = match short {
                    0 => Damage::Error,
                    sectors => Damage::Short(sim_core::Sectors(*sectors)),
                };
                disk.inject(Fault::At { after: *after, lasts, damage });
                Ok(())
            }
            Step::Message { device, sector, text } => {
                let (sector, message) = (Sector(*sector), text.as_str().into());
                let command =
                    Command::TargetMsg { id: id(*device), sector, message, slot: Slot::Live };
                // Answered or refused; both are fine.
                let _ = self.control.execute(command).await;
                Ok(())
            }
            Step::Cycle(cycle) if (cycle.device as usize) < self.tables.len() => {
                self.cycle(cycle).await
            }
            Step::Cycle(_) => Ok(()),
        }
    }

    async fn turns(&self, turns: u32) {
        for _ in 0..turns {
            self.handle.turn().await;
        }
    }

    /// Says that something is wrong with a device, unless I/O has failed, or what it lies on loses
    /// what is written: it may be so then.
    fn unless_faulted(&self, device: u32, why: String) -> End {
        let may_be = self.faulted.load(Relaxed) || !self.sound[device as usize];
        if may_be { End::GivenUp } else { wrong(why) }
    }

    async fn cycle(&self, cycle: &Cycle) -> Outcome {
        let Cycle { device, noflush, early, load, turns } = *cycle;
        let held = if noflush { Held::NoFlush } else { Held::Flush };
        let text = self.text(device, Slot::Live).await?;
        // One that merges is not loaded anew, as the kernel has it.
        let merges = text.iter().any(|line| line.target_type == *"snapshot-merge");
        let load = if merges { Load::Nothing } else { load };
        let (next, lines) = match load {
            Load::Nothing => (None, None),
            Load::Own => (None, Some(text.clone())),
            Load::Table(table) => {
                let tables = &self.tables[device as usize];
                let table = table % tables.len();
                let lines = parse_table(&tables[table]).unwrap_or_default();
                (Some(table), Some(lines.into_iter().map(|(_, spec)| spec).collect()))
            }
        };
        if early && let Some(lines) = &lines {
            self.load(device, lines).await?;
        }
        let failed = |what: &str, failure: Failure| {
            self.unless_faulted(device, format!("{what} of d{device}: {failure}"))
        };
        let suspend = Command::DevSuspend { id: id(device), held };
        self.control.execute(suspend).await.map_err(|error| failed("suspend", error))?;
        self.drained(device)?;
        if !early && let Some(lines) = &lines {
            self.load(device, lines).await?;
        }
        let before = self.activity(device);
        self.turns(turns).await;
        if self.activity(device) != before {
            return Err(wrong(format!("an I/O went through d{device}, which is suspended")));
        }
        self.drained(device)?;
        let resume = Command::DevResume { id: id(device), held };
        self.control.execute(resume).await.map_err(|error| failed("resume", error))?;
        if let Some(next) = next {
            self.live[device as usize].store(next, Relaxed);
        }
        let after = self.text(device, Slot::Live).await?;
        if load == Load::Own && after != text {
            let texts = [text, after].map(|lines| {
                let lines: Vec<String> = lines.iter().map(TargetSpec::to_string).collect();
                lines.join("; ")
            });
            return Err(wrong(format!("d{device}: `{}` was loaded as `{}`", texts[0], texts[1])));
        }
        Ok(())
    }

    async fn load(&self, device: u32, lines: &[TargetSpec]) -> Outcome {
        let (access, base, targets) = (Access::ReadWrite, String::new(), lines.to_vec());
        let load = Command::TableLoad { id: id(device), access, targets, base };
        let loaded = self.control.execute(load).await;
        loaded.map_err(|error| {
            let lines: Vec<String> = lines.iter().map(TargetSpec::to_string).collect();
            self.unless_faulted(
                device,
                format!("load of `{}` to d{device}: {error}", lines.join("; ")),
            )
        })?;
        Ok(())
    }

    /// Returns the text of a device's table.
    async fn text(&self, device: u32, slot: Slot) -> Result<Vec<TargetSpec>, End> {
        let report = |report: Report| Command::TableStatus {
            id: id(device),
            report,
            slot,
            device_names: false,
            keys: KeyText::Plain,
        };
        let failed = |failure: Failure| {
            self.unless_faulted(device, format!("status of d{device}: {failure}"))
        };
        // What it says of how it is, is for people; it must say it.
        self.control.execute(report(Report::Status)).await.map_err(failed)?;
        match self.control.execute(report(Report::Table)).await.map_err(failed)? {
            Answer::Table(_, lines) => Ok(lines),
            other => Err(wrong(format!("the table's text is {other:?}"))),
        }
    }

    fn activity(&self, device: u32) -> (u64, u64) {
        let disks = self.own_disks[device as usize].iter().map(|disk| self.disks[*disk].activity());
        disks.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn drained(&self, device: u32) -> Outcome {
        match self.activity(device).1 {
            0 => Ok(()),
            count => Err(wrong(format!("{count} I/Os are in flight below d{device}, suspended"))),
        }
    }
}
