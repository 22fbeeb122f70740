//! An origin with snapshots over simulated disks, bios for all of them, and what each may hold.

use std::sync::Arc;

use sim_core::{Held, MappedDevice, Sector, Sectors, TargetSpec, parse_table};
use testkit::{
    BioStep, Crash, Entry, Explorer, Journal, Legal, Plan, Rng, Schedule, SimDisk, Speed, Traffic,
    World, pattern, read_all,
};

/// The size of the disks: `a` has the origin, the others the stores.
pub(crate) const DISK: Sectors = Sectors(256);

/// What is set up, by minor: the device's table.
pub(crate) type Tables = [(u32, String)];

/// Devices in a world.
pub(crate) struct Stack {
    pub(crate) world: World,
    pub(crate) devices: Vec<Arc<MappedDevice>>,
}

/// Makes disks, with content in the first. In the others a store can be made, over what was there
/// before.
pub(crate) fn disks(count: usize) -> Vec<Arc<SimDisk>> {
    let world = World::new(0, targets::registry());
    let disks: Vec<_> = (0..count).map(|_| world.add_disk(DISK)).collect();
    disks[0].fill(Sector(0), &pattern(1 << 20, 0, DISK.0));
    for disk in &disks[1..] {
        disk.fill(Sector(1), &pattern(1 << 21, 1, DISK.0 - 1));
    }
    disks
}

impl Stack {
    /// Sets devices up over disks, none of whose I/O waits.
    pub(crate) fn new(seed: u64, disks: &[Arc<SimDisk>], tables: &Tables) -> Result<Stack, String> {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        Stack::over(world, tables)
    }

    fn over(world: World, tables: &Tables) -> Result<Stack, String> {
        let mut devices = Vec::new();
        for (minor, table) in tables {
            let device = world.try_set_up(*minor, table);
            devices.push(device.map_err(|error| format!("`{table}`: {error}"))?);
        }
        Ok(Stack { world, devices })
    }

    /// Reads the whole of a device.
    pub(crate) fn content(&self, device: usize) -> Result<Vec<u8>, String> {
        let read = self.world.sim.try_block_on(read_all(self.devices[device].clone()));
        read.map_err(|stuck| format!("a read never ends: {stuck}"))?
    }

    /// Replaces the table of a device, as an administrator does.
    pub(crate) fn reload(&self, minor: u32, table: &str) -> Result<(), String> {
        let text = |failure: sim_core::control::Failure| failure.to_string();
        self.world.suspend(minor, Held::Flush).map_err(text)?;
        self.world.load(minor, specs(table)).map_err(text)?;
        self.world.resume(minor).map(drop).map_err(text)
    }
}

/// Returns the status of a device: the first line's part after the type.
pub(crate) fn status(world: &World, minor: u32) -> String {
    use sim_core::KeyText;
    use sim_core::control::{Answer, Command, Report, Slot};
    let (report, slot, keys) = (Report::Status, Slot::Live, KeyText::Zeros);
    let id = testkit::id(minor);
    let command = Command::TableStatus { id, report, slot, device_names: false, keys };
    match world.execute(command) {
        Ok(Answer::Table(_, lines)) => lines[0].params.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn specs(table: &str) -> Vec<TargetSpec> {
    let lines = parse_table(table).expect("a table of the test's own");
    lines.into_iter().map(|(_, spec)| spec).collect()
}

/// A workload over a stack, and how the stack comes back after a power cut.
pub(crate) struct Case<'a> {
    pub(crate) schedule: Schedule,
    /// What is there at first is durable.
    pub(crate) disks: Vec<Arc<SimDisk>>,
    pub(crate) tables: &'a Tables,
    /// The device's place among the tables, and the bios that one task sends to it one after
    /// another.
    pub(crate) tasks: Vec<(usize, Vec<BioStep>)>,
    pub(crate) plan: Plan,
    /// Waits after a restart until nothing happens any more, and holds the content to the same
    /// again.
    pub(crate) settles: bool,
    /// One of so many restarts is cut off itself.
    pub(crate) cut_again: u64,
}

impl Case<'_> {
    /// Runs the workload, then holds a restart after each power cut against what is legal; returns
    /// how many power cuts there were.
    pub(crate) fn run(self) -> Result<u64, String> {
        let disks = &self.disks;
        let begin: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
        let rewind = || disks.iter().zip(&begin).for_each(|(disk, at)| disk.rewind(*at));
        let mut legal = self.first_content()?;
        rewind();

        let journal = Arc::new(Journal::default());
        let traffic: Vec<Arc<Traffic>> = (0..)
            .zip(&legal)
            .map(|(device, legal)| Traffic::new(device, journal.clone(), Some(legal.clone())))
            .map(Arc::new)
            .collect();
        let world = World::with(&self.schedule, targets::registry(), disks);
        disks.iter().for_each(|disk| {
            disk.set_speed(Speed::Waits);
            disk.record(journal.clone());
        });
        let stack = Stack::over(world, self.tables)?;
        self.send(&stack, &traffic)?;
        for (device, traffic) in traffic.iter().enumerate() {
            traffic.verdict().map_err(|why| format!("device {device}: {why}"))?;
        }
        drop(stack);
        rewind();
        self.explore(&journal.take(), &mut legal)
    }

    /// Reads what each device holds at first.
    fn first_content(&self) -> Result<Vec<Legal>, String> {
        let stack = Stack::new(0, &self.disks, self.tables)?;
        let content = |device| Ok(Legal::new(&stack.content(device)?));
        (0..stack.devices.len()).map(content).collect()
    }

    fn send(&self, stack: &Stack, traffic: &[Arc<Traffic>]) -> Result<(), String> {
        for (number, (device, steps)) in self.tasks.iter().enumerate() {
            let (traffic, target) = (traffic[*device].clone(), stack.devices[*device].clone());
            let steps = steps.clone();
            stack.world.sim.start(format!("task {number}"), async move {
                for step in steps {
                    let what = step.to_string();
                    let result = traffic.clone().send(target.clone(), step).await;
                    assert_eq!(result, Ok(()), "{what}, with healthy disks");
                }
            });
        }
        stack.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())?;
        match stack.world.sim.waiting() {
            waiting if waiting.is_empty() => Ok(()),
            waiting => Err(format!("bios never end: {}", waiting.join(", "))),
        }
    }

    fn explore(&self, record: &[Entry], legal: &mut Vec<Legal>) -> Result<u64, String> {
        let disks = &self.disks[..];
        let (mut count, mut second) = (0, 0);
        let plan = self.plan;
        let states = Explorer::new(disks, record).run(plan, legal, |crash, legal| {
            count += 1;
            let before: Vec<usize> = disks.iter().map(|disk| disk.checkpoint()).collect();
            let recovery = self.come_back(disks, crash, legal)?;
            if recovery.is_empty() || count % self.cut_again != 0 {
                return Ok(());
            }
            disks.iter().zip(before).for_each(|(disk, at)| disk.rewind(at));
            let plan = Plan { listed: 3, random: 1, ..plan };
            let again = Explorer::new(disks, &recovery);
            let again = again.run(plan, &mut legal.clone(), |crash, legal| {
                self.come_back(disks, crash, legal).map(drop)
            });
            second += again.map_err(|why| format!("in the recovery, {why}"))?;
            Ok(())
        })?;
        Ok(states + second)
    }

    /// Restarts, checks, and returns what the restart wrote.
    fn come_back(
        &self,
        disks: &[Arc<SimDisk>],
        crash: Crash,
        legal: &[Legal],
    ) -> Result<Vec<Entry>, String> {
        let journal = Arc::new(Journal::default());
        let world_seed = Schedule::Random(crash.at as u64);
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&world_seed, targets::registry(), disks);
        disks.iter().for_each(|disk| disk.record(journal.clone()));
        let stack = Stack::over(world, self.tables)?;
        stack.check(legal)?;
        if self.settles {
            stack.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())?;
            stack.check(legal).map_err(|why| format!("some time after the restart: {why}"))?;
        }
        Ok(journal.take())
    }
}

impl Stack {
    fn check(&self, legal: &[Legal]) -> Result<(), String> {
        for (device, legal) in legal.iter().enumerate() {
            let content = self.content(device);
            let checked = content.and_then(|content| legal.check_power_cut(&content));
            checked.map_err(|why| format!("device {device}: {why}"))?;
        }
        Ok(())
    }
}

/// Chooses bios for a device.
pub(crate) fn steps(rng: &mut Rng, device: &MappedDevice, count: usize) -> Vec<BioStep> {
    use sim_core::BlockDevice;
    let (size, limits) = (device.size().0, device.limits());
    (0..count).map(|_| BioStep::random(rng, size, &limits)).collect()
}
