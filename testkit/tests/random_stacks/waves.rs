//! Waves of bios: alone, racing with suspends and reloads, and held by suspended devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sim_core::control::Command;
use sim_core::{Access, BlockDevice, Op, Sector};
use testkit::{DeviceBelow, Kind, Model, Place, SimDisk, id, specs};

use crate::control::held;
use crate::io::{Around, Flight, Io};
use crate::plan::{Cycle, Hold, IoSeed};
use crate::rig::{Outcome, Rig};
use crate::{ensure, tables};

/// A sector of a disk that must not change while a device is suspended.
type Frozen = (Arc<SimDisk>, Sector);

impl Rig {
    /// Sends bios together, and waits until all have ended.
    pub(crate) fn wave(&mut self, seeds: &[IoSeed]) -> Outcome {
        let ios = self.plan_ios(seeds, &self.model);
        let flights = self.launch_ready(ios, None, |_| Around::Quiet);
        self.idle()?;
        self.land(flights)
    }

    /// Sends bios together while devices are suspended, reloaded with a table that maps the same,
    /// and resumed.
    pub(crate) fn race(&mut self, seeds: &[IoSeed], cycles: &[Cycle]) -> Outcome {
        let mut racing: BTreeMap<u32, Cycle> = BTreeMap::new();
        for cycle in cycles {
            if let Some(device) = self.pick(cycle.device)
                && self.is_plain(device)
                && self.devices[&device].inactive.is_none()
            {
                racing.insert(device, *cycle);
            }
        }
        let ios = self.plan_ios(seeds, &self.model);
        let touched: BTreeSet<u32> = racing.keys().copied().collect();
        let writes: BTreeMap<u32, Vec<Frozen>> =
            touched.iter().map(|device| (*device, self.writes_through(*device, &ios))).collect();
        let flights = self.launch_ready(ios, None, |passed| {
            if passed.is_disjoint(&touched) { Around::Quiet } else { Around::MayWait }
        });
        let mut swaps = Vec::new();
        let mut running = Vec::new();
        for (device, cycle) in racing {
            let live = &self.model.tables[&device];
            // A table whose devices have shrunk cannot be loaded again.
            let split = cycle.split.filter(|_| self.model.fits(live));
            let table = split.map(|at| tables::split(live.clone(), at));
            running.push((
                device,
                self.start_cycle(device, cycle, table.as_deref(), writes[&device].clone()),
            ));
            swaps.extend(table.map(|table| (device, table)));
        }
        self.idle()?;
        for (device, cycle) in running {
            match cycle.take() {
                Some(Ok(())) => {}
                Some(Err(why)) => return Err(format!("cycle of d{device}: {why}")),
                None => return Err(format!("cycle of d{device}: stuck: {}", self.stuck())),
            }
        }
        self.land(flights)?;
        for (device, table) in swaps {
            self.model.tables.insert(device, table);
            self.forget_errors(device);
            self.unsure.insert(device);
        }
        Ok(())
    }

    /// Lists the sectors of disks that bios of a wave write by way of a device.
    fn writes_through(&self, device: u32, ios: &[Io]) -> Vec<Frozen> {
        let mut sectors = Vec::new();
        for io in ios.iter().filter(|io| io.op.is_write()) {
            for (at, place) in (io.sector..).zip(&io.places) {
                let mut passes = false;
                self.model.follow(io.device, at, &mut |step| passes |= step.device == device);
                if let (true, Place::Disk(disk, sector)) = (passes, *place) {
                    sectors.push((self.disks[disk as usize].clone(), Sector(sector)));
                }
            }
        }
        sectors
    }

    fn start_cycle(
        &self,
        device: u32,
        cycle: Cycle,
        table: Option<&[testkit::Line]>,
        writes: Vec<Frozen>,
    ) -> testkit::Started<Result<(), String>> {
        let (control, handle) = (self.world.control.clone(), self.world.handle());
        let targets = table.map(specs);
        self.world.sim.start(format!("cycle of d{device}"), async move {
            handle.turn().await;
            let held = held(cycle.noflush);
            let text = |failure: sim_core::control::Failure| failure.to_string();
            control.execute(Command::DevSuspend { id: id(device), held }).await.map_err(text)?;
            let content =
                || -> Vec<_> { writes.iter().map(|(disk, sector)| disk.sector(*sector)).collect() };
            let frozen = content();
            if let Some(targets) = targets {
                let (access, base) = (Access::ReadWrite, String::new());
                let load = Command::TableLoad { id: id(device), access, targets, base };
                control.execute(load).await.map_err(text)?;
            }
            for _ in 0..cycle.turns {
                handle.turn().await;
            }
            // Whatever went through the device had ended when the suspend had.
            ensure!(content() == frozen, "a write went through a suspended device");
            control.execute(Command::DevResume { id: id(device), held }).await.map_err(text)?;
            Ok(())
        })
    }

    /// Suspends devices, gives some of them other tables, sends bios, and resumes: those that met
    /// a suspended device must wait, all others go on, and what waited is mapped by the new
    /// tables.
    pub(crate) fn queue(&mut self, seeds: &[IoSeed], holds: &[Hold]) -> Outcome {
        let mut swaps: BTreeMap<u32, Option<Vec<testkit::Line>>> = BTreeMap::new();
        for hold in holds {
            let Some(device) = self.pick(hold.device).filter(|device| self.is_plain(*device))
            else {
                continue;
            };
            if hold.table.is_none() && self.devices[&device].inactive.is_some() {
                continue;
            }
            let size = self.model.size(DeviceBelow::Device(device));
            let table = hold.table.as_ref().map(|seeds| self.make_table(device, seeds));
            let table = table.map(|lines| tables::resize(lines, size));
            if let Some(lines) = &table {
                let loaded = self.world.load(device, specs(lines));
                loaded.map_err(|error| format!("load: {error}"))?;
                self.dev(device).inactive = table.clone();
                self.reap();
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = swaps.entry(device) {
                self.world
                    .suspend(device, held(hold.noflush))
                    .map_err(|error| format!("suspend: {error}"))?;
                entry.insert(table);
            } else if table.is_some() {
                swaps.insert(device, table);
            }
        }
        let mut after = self.model.clone();
        for (device, table) in &swaps {
            if let Some(lines) = table {
                after.tables.insert(*device, lines.clone());
            }
        }
        let ios = self.plan_ios(seeds, &after);
        let touched: BTreeSet<u32> = swaps.keys().copied().collect();
        let flights = self.launch_ready(ios, Some(&after), |passed| {
            if passed.is_disjoint(&touched) { Around::Quiet } else { Around::Waits }
        });
        self.idle()?;
        for (flight, around) in &flights {
            let waits = *around == Around::Waits && !flight.io.is_impatient();
            let done = flight.end.is_done();
            ensure!(done != waits, "{:?}: ended is {done} while {touched:?} wait", flight.io);
        }
        let resumes: Vec<_> = touched.iter().map(|device| self.start_resume(*device)).collect();
        self.idle()?;
        for resumed in resumes {
            let resumed = resumed.take().ok_or_else(|| format!("stuck: {}", self.stuck()))?;
            resumed.map_err(|failure| format!("resume: {failure}"))?;
        }
        self.model = Model { disks: std::mem::take(&mut self.model.disks), ..after };
        for (device, table) in swaps {
            if table.is_some() {
                self.dev(device).inactive = None;
                self.forget_errors(device);
            }
        }
        self.land(flights)?;
        self.reap();
        Ok(())
    }

    fn start_resume(
        &self,
        device: u32,
    ) -> testkit::Started<Result<sim_core::control::Answer, sim_core::control::Failure>> {
        let control = self.world.control.clone();
        let held = sim_core::Held::Flush;
        let resume = Command::DevResume { id: id(device), held };
        let task = async move { control.execute(resume).await };
        self.world.sim.start(format!("resume of d{device}"), task)
    }

    /// Flushes a device: every disk below is reached, once where the device is flattened, and no
    /// other disk is.
    pub(crate) fn flush(&mut self, device: u32) -> Outcome {
        if !self.model.tables.contains_key(&device)
            || self.meets_suspended(&flush_tree(&self.model, device))
        {
            return Ok(());
        }
        let flat = self.devices[&device].device.extents().is_some();
        let before: Vec<u64> = self.disks.iter().map(|disk| disk.counts().flushes).collect();
        let target = self.devices[&device].device.clone();
        let flush = testkit::send(target, sim_core::Bio::flush());
        let result = self.world.sim.try_block_on(flush).map_err(|stuck| stuck.to_string())?;
        ensure!(result.is_ok(), "flush: {result:?}");
        let reached = self.model.flushed(device);
        for ((disk, minor), before) in self.disks.iter().zip(0..).zip(before) {
            let (count, left) = (disk.counts().flushes - before, disk.volatile_writes());
            let right = match (reached.contains(&minor), flat) {
                (false, _) => count == 0,
                (true, true) => count == 1 && left == 0,
                (true, false) => count >= 1 && left == 0,
            };
            ensure!(right, "{}: {count} flushes, {left} writes volatile", disk.name());
        }
        Ok(())
    }

    /// Reads a whole device in pieces of equal length.
    pub(crate) fn pieces(&mut self, device: u32, cut: u8) -> Outcome {
        let (size, cut) = (self.model.size(DeviceBelow::Device(device)), 1 + u64::from(cut) % 48);
        for start in (0..size).step_by(cut as usize) {
            let seed = IoSeed { device: 0, kind: 0, sector: 0, len: 0, flag: 7 };
            let mut io = Io::new(&seed, device, size, 0);
            (io.sector, io.len) = (start, cut.min(size - start));
            io.places = places(&io, &self.model);
            let flights = self.launch_ready(vec![io], None, |_| Around::Quiet);
            self.idle()?;
            self.land(flights)?;
        }
        Ok(())
    }

    /// Makes bios that do not get in each other's way on the disks, as mapped by `after`.
    fn plan_ios(&self, seeds: &[IoSeed], after: &Model) -> Vec<Io> {
        let mut ios = Vec::new();
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        for seed in seeds {
            let Some(device) = self.pick(seed.device) else { continue };
            let size = after.size(DeviceBelow::Device(device));
            let number = self.writes + ios.len() as u64;
            let mut io = Io::new(seed, device, size, number);
            if io.op == Op::Flush && size == 0 {
                continue;
            }
            io.places = places(&io, after);
            let mut own = BTreeSet::new();
            let free = |place: &&Place| match (place, io.op) {
                (Place::Zero | Place::Error | Place::PastEnd, _) => true,
                (place, Op::Read) => !written.contains(*place),
                // A table may map a sector of a disk twice: no bio writes it twice.
                (place, _) => {
                    !written.contains(*place) && !read.contains(*place) && own.insert(**place)
                }
            };
            let len = io.places.iter().take_while(free).count() as u64;
            if len < io.places.len() as u64 {
                io.truncate(len);
            }
            if io.len == 0 && io.op != Op::Flush {
                continue;
            }
            let locks = if io.op == Op::Read { &mut read } else { &mut written };
            locks.extend(io.places.iter().copied());
            ios.push(io);
        }
        ios
    }

    /// Launches bios. Those that would wait for a device which stays suspended are left out, if
    /// they do not ask to be turned away; `after` is what they pass when they are resumed.
    /// `around` says what goes on at the devices passed.
    fn launch_ready(
        &mut self,
        ios: Vec<Io>,
        after: Option<&Model>,
        around: impl Fn(&BTreeSet<u32>) -> Around,
    ) -> Vec<(Flight, Around)> {
        let mut flights = Vec::new();
        for io in ios {
            self.writes += 1;
            let passed = passed(&io, &self.model);
            let suspended =
                |passed: &BTreeSet<u32>| passed.iter().any(|device| self.devices[device].suspended);
            let waits = suspended(&passed);
            let would_wait =
                waits || after.is_some_and(|after| suspended(&self::passed(&io, after)));
            if would_wait && !io.is_impatient() {
                continue;
            }
            let around = if waits { Around::Waits } else { around(&passed) };
            flights.push((self.launch(io), around));
        }
        flights
    }

    /// Checks bios that must all have ended.
    fn land(&mut self, flights: Vec<(Flight, Around)>) -> Outcome {
        for (Flight { io, end }, around) in flights {
            let Some(end) = end.take() else {
                return Err(format!("{io:?} never ends; waiting: {}", self.stuck()));
            };
            self.account(&io, end, around)?;
        }
        Ok(())
    }

    fn meets_suspended(&self, devices: &[u32]) -> bool {
        devices.iter().any(|device| self.devices[device].suspended)
    }

    fn idle(&self) -> Outcome {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    fn stuck(&self) -> String {
        self.world.sim.waiting().join(", ")
    }
}

/// Returns the devices whose gates a bio passes with these tables.
fn passed(io: &Io, model: &Model) -> BTreeSet<u32> {
    let mut passed = BTreeSet::from([io.device]);
    if io.op == Op::Flush || io.flags.preflush {
        passed.extend(flush_tree(model, io.device));
    }
    if !io.is_past_end(model) {
        for sector in io.sector..io.sector + io.len {
            model.follow(io.device, sector, &mut |step| {
                let line = &model.tables[&step.device][step.line];
                if let (DeviceBelow::Device(below), _, _) = line.areas()[step.leg] {
                    passed.insert(below);
                }
            });
        }
    }
    passed
}

/// Returns where the sectors of a bio lie; nothing where it is refused as a whole.
fn places(io: &Io, model: &Model) -> Vec<Place> {
    if io.op == Op::Flush || io.is_past_end(model) {
        return Vec::new();
    }
    (io.sector..io.sector + io.len).map(|sector| model.place(io.device, sector)).collect()
}

/// Returns every device that a flush of `device` passes, itself first.
fn flush_tree(model: &Model, device: u32) -> Vec<u32> {
    let mut tree = vec![device];
    for line in model.tables.get(&device).into_iter().flatten() {
        for (below, _, _) in line.areas() {
            match (below, &line.kind) {
                (DeviceBelow::Device(below), Kind::Linear(..) | Kind::Striped(..)) => {
                    tree.extend(flush_tree(model, below));
                }
                (DeviceBelow::Device(_), Kind::Zero | Kind::Error(_))
                | (DeviceBelow::Disk(_), _) => {}
            }
        }
    }
    tree
}
