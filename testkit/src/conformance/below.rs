//! Parts about what lies below, and above: mapped devices instead of disks, which have no table yet,
//! or are suspended, resumed and given other tables meanwhile.

use std::sync::Arc;

use sim_core::control::{Command, Control};
use sim_core::{Access, BlockDevice, Held, MappedDevice, TargetSpec, parse_table, split_words};

use super::ground::DISKS;
use super::rig::{Latch, Rig};
use super::suite::Suite;
use crate::{Handle, Rng, SimDisk, World, id, story};

/// The mapped devices over the disks `a`, `b` and `c`, by minor number.
const BELOW: [u32; 3] = [10, 11, 12];

/// Returns the tables of the devices below: all of a disk, in one line or in two.
fn tables(disk: &SimDisk) -> [Vec<TargetSpec>; 2] {
    let (number, size) = (disk.number(), disk.size().0);
    // Eight sectors are a block of any disk. A disk of one such block is not halved.
    let half = match size / 2 / 8 * 8 {
        0 => size,
        half => half,
    };
    let whole = format!("0 {size} through {number} 0");
    let halves = match size - half {
        0 => whole.clone(),
        rest => {
            format!("0 {half} through {number} 0\n{half} {rest} through {number} {half}")
        }
    };
    [whole, halves].map(|table| specs(&table))
}

fn specs(table: &str) -> Vec<TargetSpec> {
    let lines = parse_table(table).unwrap_or_default();
    lines.into_iter().map(|(_, spec)| spec).collect()
}

/// Returns the suite's table with the devices below in the place of the disks.
fn over_mapped(table: &str) -> Vec<TargetSpec> {
    let mut lines = specs(table);
    for line in &mut lines {
        let word = |word: String| match DISKS.iter().position(|disk| *disk == word) {
            Some(at) => format!("253:{}", BELOW[at]),
            None => word.replace('\\', "\\\\").replace(' ', "\\ "),
        };
        let words: Vec<String> = split_words(&line.params).into_iter().map(word).collect();
        line.params = words.join(" ").into();
    }
    lines
}

/// Makes the devices below, without live tables.
fn create_below(world: &World) -> Result<(), String> {
    for (disk, minor) in BELOW.into_iter().enumerate() {
        world.create(minor).map_err(|failure| format!("create: {failure}"))?;
        let [whole, _] = tables(&world.disk(disk as u32));
        world.load(minor, whole).map_err(|failure| format!("load: {failure}"))?;
    }
    Ok(())
}

fn resume_below(world: &World) -> Result<(), String> {
    let text = |failure| format!("resume: {failure}");
    BELOW.into_iter().try_for_each(|minor| world.resume(minor).map(drop).map_err(text))
}

impl Suite {
    /// Sets the device up in a world that has its disks.
    pub(super) fn set_up(&self, world: &World) -> Result<Arc<MappedDevice>, String> {
        if self.over_mapped { set_up(self, world) } else { world.try_set_up(0, &self.table) }
    }
}

/// Sets the device under test up over mapped devices that are in use.
fn set_up(suite: &Suite, world: &World) -> Result<Arc<MappedDevice>, String> {
    create_below(world)?;
    resume_below(world)?;
    world.create(0).map_err(|failure| format!("create: {failure}"))?;
    bring_up(suite, world)
}

fn bring_up(suite: &Suite, world: &World) -> Result<Arc<MappedDevice>, String> {
    let lines = over_mapped(&suite.table);
    world.load(0, lines).map_err(|failure| format!("load: {failure}"))?;
    world.resume(0).map_err(|failure| format!("resume: {failure}"))?;
    Ok(world.device(0))
}

/// The table is loaded while the devices below have only inactive ones, then all are resumed, from
/// below. A target may refuse to be loaded so early, and is loaded later then.
pub(super) fn early(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.start_with(&suite.schedule(seed), seed, |suite, world| {
        create_below(world)?;
        world.create(0).map_err(|failure| format!("create: {failure}"))?;
        let loaded = world.load(0, over_mapped(&suite.table));
        resume_below(world)?;
        match loaded {
            Err(_) => bring_up(suite, world),
            Ok(_) => {
                world.resume(0).map_err(|failure| format!("resume: {failure}"))?;
                Ok(world.device(0))
            }
        }
    })?;
    let steps = rig.steps(&mut Rng::new(seed), 20);
    rig.run_well(&steps, 1 + seed as usize % 3)?;
    rig.read_back()
}

/// Bios from some tasks, while the devices below are suspended, reloaded and resumed.
pub(super) fn moving(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.over_mapped().start(seed)?;
    let mover = Mover::new(&rig, seed);
    under_way(&rig, mover, seed)?;
    rig.world.suspend(0, Held::Flush).map_err(|failure| failure.to_string())?;
    rig.drained()
}

/// The device that is used in the part about stacks: over the one under test.
const TOP: u32 = 20;

/// Bios of a device above, one half of which goes through and the other is stored the other way
/// round, while all of the stack is suspended, reloaded and resumed.
pub(super) fn stack(suite: &Suite, seed: u64) -> Result<(), String> {
    let suite = suite.over_mapped();
    let rig = suite.start_with(&suite.schedule(seed), seed, |suite, world| {
        let device = set_up(suite, world)?;
        world.create(TOP).map_err(|failure| format!("create: {failure}"))?;
        let table = top(&device);
        world.load(TOP, table).map_err(|failure| format!("load over it: {failure}"))?;
        world.resume(TOP).map_err(|failure| format!("resume over it: {failure}"))?;
        Ok(world.device(TOP))
    })?;
    let mut mover = Mover::new(&rig, seed);
    let own = over_mapped(&suite.table);
    mover.moved.push((0, vec![own], rig.disks.clone()));
    mover.moved.push((TOP, vec![top(&rig.world.device(0))], Vec::new()));
    under_way(&rig, mover, seed)
}

/// Returns the table of the device above.
fn top(device: &MappedDevice) -> Vec<TargetSpec> {
    let (size, block) = (device.size().0, device.limits().logical_block().0);
    let half = size / 2 / block * block;
    let line = |start: u64, len: u64, kind: &str| match len {
        0 => String::new(),
        len => format!("{start} {len} {kind} 253:0 {start}\n"),
    };
    // A device that is no storage has nothing to be stored the other way round.
    specs(&(line(0, half, "through") + &line(half, size - half, "inverts")))
}

/// Sends bios from some tasks, while another changes devices; then reads all of it.
fn under_way(rig: &Rig, mover: Mover, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 24);
    let over = Arc::new(Latch::new(1));
    let counts = over.clone();
    let moves = rig.world.sim.start("moves", async move {
        let result = mover.run().await;
        counts.count();
        result
    });
    let ran = rig.run_well(&steps, 2);
    let ended = rig.wait(&over);
    // Where a device was left suspended, that is why bios wait.
    moves.take().unwrap_or(Ok(()))?;
    ran.and(ended)?;
    rig.read_back()
}

/// A device that is changed: its number, the tables that it may have, and the disks that nothing
/// reaches while it is suspended.
type Moved = (u32, Vec<Vec<TargetSpec>>, Vec<Arc<SimDisk>>);

/// Changes devices while bios are under way.
struct Mover {
    control: Arc<Control>,
    handle: Handle,
    moved: Vec<Moved>,
    rng: Rng,
}

impl Mover {
    /// Makes one that changes the devices below.
    fn new(rig: &Rig, seed: u64) -> Mover {
        let (control, handle) = (rig.world.control.clone(), rig.world.handle());
        let below = BELOW.into_iter().zip(&rig.disks);
        let below = below.map(|(minor, disk)| (minor, tables(disk).to_vec(), vec![disk.clone()]));
        Mover { control, handle, moved: below.collect(), rng: Rng::new(!seed) }
    }

    async fn turns(&mut self, most: usize) {
        for _ in 0..self.rng.below(most) {
            self.handle.turn().await;
        }
    }

    async fn call(&self, command: Command) -> Result<(), String> {
        self.control.execute(command).await.map(drop).map_err(|failure| failure.to_string())
    }

    async fn run(mut self) -> Result<(), String> {
        for _ in 0..5 {
            self.turns(12).await;
            let (minor, tables, disks) = self.moved[self.rng.below(self.moved.len())].clone();
            let held = [Held::Flush, Held::NoFlush][self.rng.below(2)];
            story::heading(format_args!("d{minor} is suspended"));
            self.call(Command::DevSuspend { id: id(minor), held }).await?;
            let activity = || disks.iter().map(|disk| disk.activity()).collect::<Vec<_>>();
            let before = activity();
            let pending: u64 = before.iter().map(|(_, pending)| pending).sum();
            if pending > 0 {
                return Err(format!("{pending} I/Os are in flight below a suspended device"));
            }
            if self.rng.below(2) == 0 {
                let targets = tables[self.rng.below(tables.len())].clone();
                let (access, base) = (Access::ReadWrite, String::new());
                self.call(Command::TableLoad { id: id(minor), access, targets, base }).await?;
            }
            self.turns(12).await;
            if activity() != before {
                return Err("an I/O went through a suspended device".to_owned());
            }
            story::heading(format_args!("d{minor} is resumed"));
            self.call(Command::DevResume { id: id(minor), held }).await?;
        }
        Ok(())
    }
}
