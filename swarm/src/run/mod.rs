//! Runs a case, and says what it found.

mod content;
mod control;
mod coverage;
mod gate;
mod story;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use sim_core::control::{Answer, Command, Failure, WhenOpen};
use sim_core::{
    Access, Bio, BlkResult, BlockDevice, Held, MappedDevice, Op, Registry, Rng, Runtime, Sector,
    Sectors, panic_text, parse_table,
};
use testkit::{
    BioStep, DeviceBelow, Latency, Legal, Schedule, SimDisk, Speed, Traffic, World, id, md_images,
    send,
};

pub use coverage::{Counts, Coverage};
use gate::Gate;

use crate::case::{Case, Left, Pace, Promises, Step};

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was looked at is right.
    Held,
    /// It could not be set up: nothing was looked at.
    Refused(String),
    /// This is wrong.
    Failed(String),
}

/// Runs a case. A panic in it is a failure like any other.
pub fn run(case: &Case, registry: &Registry) -> (Verdict, Coverage) {
    run_with(case, registry, None)
}

/// As [`run`], and tells what happened since the power came last: each step of the executor and
/// each I/O of a disk, then how the devices are.
pub fn trace(case: &Case, registry: &Registry) -> (Verdict, Vec<String>) {
    let mut lines = Vec::new();
    let (verdict, _) = run_with(case, registry, Some(&mut lines));
    (verdict, lines)
}

fn run_with(
    case: &Case,
    registry: &Registry,
    mut trace: Option<&mut Vec<String>>,
) -> (Verdict, Coverage) {
    let mut coverage = Coverage::default();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut rig = Rig::new(case, registry);
        rig.is_traced = trace.is_some();
        let outcome = rig.run(&mut coverage);
        if let Some(lines) = &mut trace {
            lines.extend(rig.story());
        }
        outcome
    }));
    let verdict = match ran {
        Ok(Ok(())) | Ok(Err(End::GivenUp)) => Verdict::Held,
        Ok(Err(End::Refused(why))) => {
            coverage.refuse(case);
            Verdict::Refused(why)
        }
        Ok(Err(End::Wrong(why))) => Verdict::Failed(why),
        Err(panic) => Verdict::Failed(format!("panicked: {}", panic_text(&panic))),
    };
    (verdict, coverage)
}

/// Why a case ends before its last step.
enum End {
    /// It could not be set up.
    Refused(String),
    /// A device has given up after I/O had failed, as it may.
    GivenUp,
    /// This is wrong.
    Wrong(String),
}

type Outcome = Result<(), End>;

fn wrong(why: impl Into<String>) -> End {
    End::Wrong(why.into())
}

/// A device that bios are sent to.
struct Top {
    device: u32,
    promises: Promises,
    sent: Arc<Traffic>,
    /// What it holds is anybody's guess.
    spoiled: bool,
}

/// A case under way.
struct Rig<'a> {
    case: &'a Case,
    registry: &'a Registry,
    world: Option<World>,
    disks: Vec<Arc<SimDisk>>,
    devices: Vec<Arc<MappedDevice>>,
    /// Which of its tables each device has.
    live: Vec<Arc<AtomicUsize>>,
    tops: Vec<Top>,
    boots: u64,
    /// An I/O of a disk was made to fail.
    faulted: Arc<AtomicBool>,
    /// Of these disks.
    faulty: BTreeSet<u32>,
    /// What happens is written down.
    is_traced: bool,
}

/// How long the devices of a case have that is settled: longer than any resync of one.
const SETTLES: Duration = Duration::from_secs(3600);

impl Pace {
    fn set(self, disk: &SimDisk) {
        let (speed, latency) = match self {
            Pace::AtOnce => (Speed::AtOnce, None),
            Pace::Mixed => (Speed::Mixed, None),
            Pace::Waits => (Speed::Waits, None),
            Pace::Flash => (Speed::Waits, Some(Latency::FLASH)),
            Pace::Turning => (Speed::Waits, Some(Latency::TURNING)),
            Pace::Stalling => (Speed::Waits, Some(Latency::STALLING)),
        };
        disk.set_speed(speed);
        disk.set_latency(latency);
    }
}

impl<'a> Rig<'a> {
    fn new(case: &'a Case, registry: &'a Registry) -> Rig<'a> {
        let world = World::with(&case.schedule, registry.clone(), &[]);
        let mut disks = Vec::new();
        for (plan, number) in case.disks.iter().zip(1..) {
            let disk = world.add_disk(Sectors(plan.sectors));
            match &plan.member {
                Some((array, member)) => {
                    for (at, bytes) in md_images(array).get(*member).iter().flat_map(|i| &i.runs) {
                        content::fill(&disk, *at, bytes);
                    }
                }
                // What nobody has zeroed has something on it.
                None => content::scribble(&disk, number),
            }
            plan.pace.set(&disk);
            disks.push(disk);
        }
        let top = |device: u32| {
            let promises = case.devices[device as usize].promises;
            let sent = Arc::new(Traffic::new(device, Arc::default(), None));
            Top { device, promises, sent, spoiled: !promises.bytes }
        };
        Rig {
            case,
            registry,
            disks,
            devices: Vec::new(),
            live: case.devices.iter().map(|_| Arc::default()).collect(),
            tops: case.tops().into_iter().map(top).collect(),
            boots: 0,
            // A device that fails by itself is a disk that does, to those above.
            faulted: Arc::new(AtomicBool::new(case.devices.iter().any(|d| !d.promises.well))),
            faulty: BTreeSet::new(),
            is_traced: false,
            world: Some(world),
        }
    }

    fn run(&mut self, coverage: &mut Coverage) -> Outcome {
        self.boot()?;
        let case = self.case;
        coverage.stack(case);
        self.begin()?;
        let mut wave: Vec<&Step> = Vec::new();
        for step in &case.steps {
            coverage.step(case, step);
            match step {
                Step::Wait | Step::Heal => {
                    self.wave(&std::mem::take(&mut wave), None)?;
                    if *step == Step::Heal {
                        self.disks.iter().for_each(|disk| disk.heal());
                    }
                    self.read_back()?;
                }
                Step::Cut { turns, left } => {
                    self.wave(&std::mem::take(&mut wave), Some(*turns))?;
                    self.cut(*left)?;
                }
                _ => wave.push(step),
            }
        }
        self.wave(&wave, None)?;
        self.read_back()?;
        self.end()
    }

    fn world(&self) -> &World {
        self.world.as_ref().expect("there is a world but while the power is off")
    }

    fn is_faulted(&self) -> bool {
        self.faulted.load(Relaxed)
    }

    /// Says that something is wrong, unless I/O has failed: it may be so then.
    fn unless_faulted(&self, why: String) -> End {
        if self.is_faulted() { End::GivenUp } else { wrong(why) }
    }

    /// Runs something to its end.
    fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, End> {
        let ended = self.world().sim.try_block_on(future);
        ended.map_err(|stuck| wrong(format!("{what} never ends: {stuck}")))
    }

    fn execute(&self, what: &str, command: Command) -> Result<Result<Answer, Failure>, End> {
        self.wait(what, self.world().control.execute(command))
    }

    /// Sets all devices up, from below.
    fn boot(&mut self) -> Outcome {
        self.devices.clear();
        if self.is_traced {
            self.world().sim.keep_trace();
        }
        for (device, minor) in self.case.devices.iter().zip(0..) {
            if self.boots == 0 {
                for (below, start, len) in &device.wipes {
                    self.wipe(*below, *start, *len)?;
                }
            }
            let table = self.live[minor as usize].load(Relaxed).min(device.tables.len() - 1);
            let what = format!("d{minor}: {}", device.tables[table]);
            let Promises { bytes, durable, well, .. } = device.promises;
            let failed = |step: &str, failure: String| {
                let why = format!("{step} of {what}: {failure}");
                match (self.boots, bytes && durable && well) {
                    (0, _) => End::Refused(why),
                    (_, true) => self.unless_faulted(why),
                    // What it needs to come back may be gone.
                    (_, false) => End::GivenUp,
                }
            };
            let lines = parse_table(&device.tables[table]);
            let lines = lines.map_err(|error| failed("parse", error.to_string()))?;
            let targets = lines.into_iter().map(|(_, spec)| spec).collect();
            let create =
                Command::DevCreate { name: format!("d{minor}"), uuid: None, minor: Some(minor) };
            let (access, base) = (Access::ReadWrite, String::new());
            let load = Command::TableLoad { id: id(minor), access, targets, base };
            let resume = Command::DevResume { id: id(minor), held: Held::Flush };
            for (step, command) in [("create", create), ("load", load), ("resume", resume)] {
                self.execute(step, command)?.map_err(|error| failed(step, error.to_string()))?;
            }
            let device = self.world().device(minor);
            device.set_folding(self.case.folding);
            self.devices.push(device);
        }
        self.boots += 1;
        Ok(())
    }

    fn wipe(&self, below: DeviceBelow, start: u64, len: u64) -> Outcome {
        let zeros = vec![0; len as usize * content::SECTOR];
        match below {
            DeviceBelow::Disk(disk) => match self.disks.get(disk as usize) {
                Some(disk) => content::fill(disk, start * content::SECTOR as u64, &zeros),
                None => return Err(End::Refused(format!("there is no disk {disk}"))),
            },
            DeviceBelow::Device(device) => {
                let below = self.devices.get(device as usize).cloned();
                let below = below.ok_or_else(|| End::Refused(format!("no device {device}")))?;
                let len = len.min(below.size().0.saturating_sub(start));
                let zeros = &zeros[..len as usize * content::SECTOR];
                let wiped = self.wait("a wipe", send(below, Bio::write(Sector(start), zeros)))?;
                wiped.map_err(|error| End::Refused(format!("a wipe of d{device}: {error}")))?;
            }
        }
        Ok(())
    }

    /// Takes what the devices hold once they are set up for what they must hold.
    fn begin(&mut self) -> Outcome {
        self.disks.iter().for_each(|disk| disk.power_cycle(self.world().handle()));
        if self.case.settled {
            self.wait("a sleep", self.world().handle().sleep(SETTLES))?;
        }
        self.spoil();
        (0..self.tops.len()).try_for_each(|top| self.adopt(top))
    }

    /// Sends the bios, and does the rest meanwhile. Ends after so many turns, or when all has.
    fn wave(&mut self, steps: &[&Step], turns: Option<u32>) -> Outcome {
        let tasks = self.case.tasks;
        let gate = Arc::new(Gate::new(tasks + 1));
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let bios: Vec<(usize, BioStep)> = steps.iter().filter_map(|step| self.bio(step)).collect();
        for task in 0..tasks {
            let own = bios.iter().skip(task).step_by(tasks);
            let own: Vec<_> = own.map(|(top, bio)| self.sender(*top, bio.clone())).collect();
            let gate = gate.clone();
            let failed = failed.clone();
            self.world().sim.start(format!("task {task}"), async move {
                for (bio, is_well, faulted, sending) in own {
                    let result: BlkResult = sending.await;
                    if let Err(error) = result
                        && is_well
                        && !faulted.load(Relaxed)
                    {
                        let why = format!("{bio} failed though no I/O below did: {error}");
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
                    }
                }
                gate.count();
            });
        }
        let others = self.controls(steps);
        let ends = gate.clone();
        let control = self.world().sim.start("control", async move {
            let result = others.await;
            match &result {
                Ok(()) => ends.count(),
                // Bios may wait for what is not going to be done.
                Err(_) => ends.open(),
            }
            result
        });
        let handle = self.world().handle();
        let cut = async {
            let Some(turns) = turns else { return std::future::pending().await };
            for turn in 0..turns {
                handle.turn().await;
                if turn % 3 == 0 {
                    handle.sleep(Duration::from_micros(u64::from(turn) * 37 % 997)).await;
                }
            }
        };
        let ended = self.world().sim.try_block_on(async {
            matches!(select(Box::pin(gate.wait()), Box::pin(cut)).await, Either::Left(_))
        });
        if let Some(Err(end)) = control.take() {
            return Err(end);
        }
        if let Some(why) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(wrong(why));
        }
        ended.map_err(|stuck| wrong(format!("a bio never ends: {stuck}")))?;
        for step in steps {
            if let Step::Fault { disk, .. } = step {
                self.faulty.insert(*disk);
            }
        }
        self.spoil();
        self.verdicts()
    }

    /// Gives up what nobody promised, now that I/O fails: two disks are more than copies make up for.
    fn spoil(&mut self) {
        if self.is_faulted() {
            let (restarted, many) = (self.boots > 1, self.faulty.len() > 1);
            for top in &mut self.tops {
                let Promises { faults, faults_and_cut, .. } = top.promises;
                top.spoiled |= many || !faults || (restarted && !faults_and_cut);
            }
        }
    }

    /// Returns the top that a bio goes to, and the bio as it fits there.
    fn bio(&self, step: &Step) -> Option<(usize, BioStep)> {
        let Step::Bio(device, bio) = step else { return None };
        let top = self.tops.iter().position(|top| top.device == *device)?;
        let device = &self.devices[*device as usize];
        let (size, limits) = (device.size().0, device.limits());
        let block = limits.logical_block().0.max(1);
        let blocks = size / block;
        let mut bio = bio.clone();
        if bio.op == Op::Flush {
            return Some((top, bio));
        }
        let taken = match bio.op {
            Op::Discard => limits.max_discard_sectors > 0,
            Op::WriteZeroes => limits.max_write_zeroes_sectors > 0,
            Op::Read | Op::Write | Op::Flush | Op::SecureErase => true,
        };
        if blocks == 0 || !taken {
            return None;
        }
        let at = bio.sector / block % blocks;
        bio.sector = at * block;
        bio.len = bio.len.div_ceil(block).clamp(1, blocks - at) * block;
        Some((top, bio))
    }

    /// Makes the sending of a bio, with what its end is held to.
    fn sender(
        &self,
        top: usize,
        bio: BioStep,
    ) -> (BioStep, bool, Arc<AtomicBool>, impl Future<Output = BlkResult> + Send + use<>) {
        let top = &self.tops[top];
        let device = self.devices[top.device as usize].clone();
        let sending = top.sent.clone().send(device, bio.clone());
        (bio, top.promises.well, self.faulted.clone(), sending)
    }

    /// The power fails and comes back.
    fn cut(&mut self, left: Left) -> Outcome {
        let legal: Vec<Option<Legal>> = self.tops.iter().map(|top| top.sent.legal()).collect();
        self.devices.clear();
        self.world = None;
        for (disk, number) in self.disks.iter().zip(0..) {
            match left {
                Left::Nothing => disk.lose_cache(),
                Left::All => {}
                Left::Some(seed) => content::lose_some(disk, &mut Rng::new(seed ^ number)),
            }
        }
        let seed = self.case.schedule.seed().wrapping_add(self.boots);
        let schedule = match self.case.schedule {
            Schedule::Priority(_) => Schedule::Priority(seed),
            Schedule::Random(_) | Schedule::Exact { .. } => Schedule::Random(seed),
        };
        self.world = Some(World::with(&schedule, self.registry.clone(), &self.disks));
        self.boot()?;
        for (at, legal) in legal.into_iter().enumerate() {
            self.came_back(at, legal)?;
        }
        Ok(())
    }

    /// All devices are suspended, and nothing goes on below; then they go, and leave nothing.
    fn end(&mut self) -> Outcome {
        let minors = (0..self.devices.len() as u32).rev();
        for minor in minors.clone() {
            let suspend = Command::DevSuspend { id: id(minor), held: Held::Flush };
            let suspended = self.execute("a suspend", suspend)?;
            suspended
                .map_err(|error| self.unless_faulted(format!("suspend of d{minor}: {error}")))?;
        }
        let before = self.activity();
        if before.1 > 0 {
            return Err(wrong(format!(
                "{} I/Os are in flight with all devices suspended",
                before.1
            )));
        }
        self.wait("a sleep", self.world().handle().sleep(Duration::from_secs(3)))?;
        if self.activity() != before {
            return Err(wrong("an I/O was made with all devices suspended"));
        }
        // What a target has to write when it goes, it writes to devices that are in use.
        for minor in minors.clone().rev() {
            let resume = Command::DevResume { id: id(minor), held: Held::Flush };
            let resumed = self.execute("a resume", resume)?;
            resumed.map_err(|error| self.unless_faulted(format!("resume of d{minor}: {error}")))?;
        }
        for minor in minors {
            let remove = Command::DevRemove { id: id(minor), open: WhenOpen::Refuse };
            let removed = self.execute("a removal", remove)?;
            removed.map_err(|error| wrong(format!("removal of d{minor}: {error}")))?;
        }
        self.devices.clear();
        // A power cut closes nothing.
        match self.disks.iter().find(|disk| disk.open_count() > 0 && self.boots == 1) {
            Some(disk) => Err(wrong(format!("{} is open with no device left", disk.name()))),
            None => Ok(()),
        }
    }

    fn activity(&self) -> (u64, u64) {
        let each = self.disks.iter().map(|disk| disk.activity());
        each.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}
