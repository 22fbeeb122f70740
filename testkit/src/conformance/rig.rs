//! A device under test, the bios that it is sent, and the versions that are legal.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use sim_core::{BlkResult, BlockDevice, MappedDevice};

use super::suite::{SCHEDULE, Suite};
use crate::SECTOR;
use crate::traffic::{BioStep, Traffic};
use crate::{Legal, Rng, Schedule, Shape, SimDisk, Speed, Stuck, World, read_all, story};

/// A device under test.
pub(super) struct Rig {
    pub(super) world: World,
    pub(super) disks: Vec<Arc<SimDisk>>,
    pub(super) device: Arc<MappedDevice>,
    pub(super) sent: Arc<Traffic>,
    pub(super) shape: Shape,
}

impl Suite {
    /// Returns the schedule of a seed, unless the environment gives another.
    pub(super) fn schedule(&self, seed: u64) -> Schedule {
        match std::env::var(SCHEDULE) {
            Ok(text) => text.parse().unwrap_or_else(|error| panic!("{SCHEDULE}: {error}")),
            Err(_) if seed.is_multiple_of(3) => Schedule::Priority(seed),
            Err(_) => Schedule::Random(seed),
        }
    }

    /// Sets the device up over new disks; the seed chooses schedule, disks and path.
    pub(super) fn start(&self, seed: u64) -> Result<Rig, String> {
        self.start_under(&self.schedule(seed), seed)
    }

    /// As [`start`](Self::start), under this schedule.
    pub(super) fn start_under(&self, schedule: &Schedule, seed: u64) -> Result<Rig, String> {
        self.start_with(schedule, seed, Suite::set_up)
    }

    /// As [`start_under`](Self::start_under), set up in another way.
    pub(super) fn start_with(
        &self,
        schedule: &Schedule,
        seed: u64,
        set_up: impl FnOnce(&Suite, &World) -> Result<Arc<MappedDevice>, String>,
    ) -> Result<Rig, String> {
        let world = World::with(schedule, self.registry.clone(), &[]);
        let disks = self.ground(seed).lay(&world);
        let speed =
            [Speed::Waits, Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 4];
        disks.iter().for_each(|disk| disk.set_speed(speed));
        let device = set_up(self, &world)?;
        device.set_folding(seed.is_multiple_of(2));
        // What setting up has written is there for good.
        disks.iter().for_each(|disk| disk.power_cycle(world.handle()));
        story::heading(format_args!("it is in use"));
        let rig = Rig { world, disks, device, sent: self.new_traffic(), shape: self.shape(seed) };
        rig.adopt()?;
        Ok(rig)
    }

    /// Sets the device up again over disks that were there before. No I/O waits.
    pub(super) fn restart(&self, seed: u64, disks: &[Arc<SimDisk>]) -> Result<Rig, String> {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), self.registry.clone(), disks);
        self.over(world, disks, self.new_traffic(), self.shape(seed))
    }

    /// Sets the device up in a world that has its disks.
    pub(super) fn over(
        &self,
        world: World,
        disks: &[Arc<SimDisk>],
        sent: Arc<Traffic>,
        shape: Shape,
    ) -> Result<Rig, String> {
        let device = self.set_up(&world).map_err(|error| format!("restart: {error}"))?;
        Ok(Rig { world, disks: disks.to_vec(), device, sent, shape })
    }

    /// Begins to send to a device that was not sent anything.
    pub(super) fn new_traffic(&self) -> Arc<Traffic> {
        let legal = self.is_storage().then(|| Legal::new(&[]));
        Arc::new(Traffic::new(0, Arc::default(), legal))
    }
}

impl Rig {
    /// Chooses bios for the device, many of them close together.
    pub(super) fn steps(&self, rng: &mut Rng, count: usize) -> Vec<BioStep> {
        let (size, limits) = (self.device.size().0, self.device.limits());
        let count = count * self.shape.times;
        (0..count).map(|_| self.shape.step(rng, size, &limits)).collect()
    }

    /// Sends the bios from so many tasks, and returns how each ended.
    pub(super) fn run(&self, steps: &[BioStep], tasks: usize) -> Result<Vec<BlkResult>, String> {
        self.run_until_error(steps, tasks, |step| step)
    }

    /// As [`run`](Self::run); from the first bio that fails on, each is what `then` makes of it.
    pub(super) fn run_until_error(
        &self,
        steps: &[BioStep],
        tasks: usize,
        then: impl Fn(BioStep) -> BioStep + Clone + Send + 'static,
    ) -> Result<Vec<BlkResult>, String> {
        let failed = Arc::new(AtomicBool::new(false));
        let (latch, results) = (Arc::new(Latch::new(tasks)), Arc::new(Mutex::new(Vec::new())));
        for task in 0..tasks {
            let own: Vec<BioStep> = steps.iter().skip(task).step_by(tasks).cloned().collect();
            let (sent, device) = (self.sent.clone(), self.device.clone());
            let (latch, results, failed) = (latch.clone(), results.clone(), failed.clone());
            let then = then.clone();
            self.world.sim.start(format!("task {task}"), async move {
                for step in own {
                    let step = if failed.load(SeqCst) { then(step) } else { step };
                    let result = sent.clone().send(device.clone(), step).await;
                    failed.fetch_or(result.is_err(), SeqCst);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
                latch.count();
            });
        }
        self.wait(&latch)?;
        Ok(std::mem::take(&mut results.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// As [`run`](Self::run), on healthy disks: no bio of a storage device may fail.
    pub(super) fn run_well(&self, steps: &[BioStep], tasks: usize) -> Result<(), String> {
        let results = self.run(steps, tasks)?;
        match results.into_iter().find_map(Result::err) {
            Some(error) if self.sent.is_storage() => {
                Err(format!("a bio failed though no I/O below did: {error}"))
            }
            Some(_) | None => self.sent.verdict(),
        }
    }

    pub(super) fn wait(&self, latch: &Latch) -> Result<(), String> {
        let stuck = |stuck: Stuck| match self.sent.under_way().as_str() {
            "" => format!("a bio never ends: {stuck}"),
            bios => format!("a bio never ends: {stuck}\n  under way: {bios}"),
        };
        self.world.sim.try_block_on(latch.wait()).map_err(stuck)
    }

    /// Reads the whole device.
    pub(super) fn content(&self) -> Result<Vec<u8>, String> {
        story::heading(format_args!("all of it is read"));
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        read.map_err(|stuck| format!("a read never ends: {stuck}"))?
    }

    /// Reads the whole device, and holds it against what was written.
    pub(super) fn read_back(&self) -> Result<(), String> {
        let Some(legal) = self.sent.legal() else { return Ok(()) };
        is_legal(&legal, &self.content()?)
    }

    /// Reads the whole device after a power cut, and holds it against what may be there.
    pub(super) fn check_power_cut(&self, legal: &Legal) -> Result<(), String> {
        if !self.sent.is_storage() {
            return Ok(());
        }
        legal.check_power_cut(&self.content()?)
    }

    /// Starts over with the content as it is: all of it is durable.
    pub(super) fn adopt(&self) -> Result<(), String> {
        if self.sent.is_storage() {
            let block = self.device.limits().logical_block().0;
            self.sent.adopt(Legal::new(&self.content()?).in_blocks_of(block));
        }
        Ok(())
    }

    /// Fails where an I/O of a disk has not ended.
    pub(super) fn drained(&self) -> Result<(), String> {
        let pending: u64 = self.disks.iter().map(|disk| disk.in_flight()).sum();
        if pending > 0 {
            return Err(format!("{pending} I/Os are in flight below a suspended device"));
        }
        Ok(())
    }
}

/// Holds what was read, when no bio was under way, against what was written.
pub(super) fn is_legal(legal: &Legal, content: &[u8]) -> Result<(), String> {
    let mut sectors = (0..).zip(content.chunks_exact(SECTOR));
    match sectors.find(|(sector, bytes)| !legal.read(*sector, legal.now(), bytes)) {
        Some((sector, bytes)) => Err(format!("read back: {}", legal.explain(sector, bytes))),
        None => Ok(()),
    }
}

/// Ends when so many have counted.
pub(super) struct Latch(Mutex<(usize, Option<Waker>)>);

impl Latch {
    pub(super) fn new(left: usize) -> Latch {
        Latch(Mutex::new((left, None)))
    }

    pub(super) fn count(&self) {
        let mut latch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latch.0 -= 1;
        if latch.0 == 0
            && let Some(waker) = latch.1.take()
        {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut latch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            latch.1 = Some(cx.waker().clone());
            if latch.0 == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
