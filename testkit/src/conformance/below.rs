//! Parts about what lies below: mapped devices instead of disks, which have no table yet, or are
//! suspended, resumed and given other tables meanwhile.

use std::sync::Arc;

use sim_core::control::{Command, Control};
use sim_core::{Access, Held, MappedDevice, TargetSpec, parse_table, split_words};

use super::rig::{Latch, Rig};
use super::suite::{DISK, Suite};
use crate::{Handle, Rng, SimDisk, World, id};

/// The mapped devices over the disks `a`, `b` and `c`, by minor number.
const BELOW: [u32; 3] = [10, 11, 12];

/// The names of the disks in a table.
const DISKS: [&str; 3] = ["a", "b", "c"];

/// Returns the tables of the devices below: all of a disk, in one line or in two.
fn tables(disk: usize) -> [Vec<TargetSpec>; 2] {
    let (name, half) = (DISKS[disk], DISK.0 / 2);
    let whole = format!("0 {DISK} through {name} 0");
    let halves =
        format!("0 {half} through {name} 0\n{half} {} through {name} {half}", DISK.0 - half);
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
        let [whole, _] = tables(disk);
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
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 24);
    let over = Arc::new(Latch::new(1));
    let (mover, counts) = (Mover::new(&rig, seed), over.clone());
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
    rig.read_back()?;
    rig.world.suspend(0, Held::Flush).map_err(|failure| failure.to_string())?;
    rig.drained()
}

/// Changes the devices below.
struct Mover {
    control: Arc<Control>,
    handle: Handle,
    disks: Vec<Arc<SimDisk>>,
    rng: Rng,
}

impl Mover {
    fn new(rig: &Rig, seed: u64) -> Mover {
        let (control, handle) = (rig.world.control.clone(), rig.world.handle());
        Mover { control, handle, disks: rig.disks.clone(), rng: Rng::new(!seed) }
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
            let disk = self.rng.below(BELOW.len());
            let below = id(BELOW[disk]);
            let held = [Held::Flush, Held::NoFlush][self.rng.below(2)];
            self.call(Command::DevSuspend { id: below.clone(), held }).await?;
            let before = self.disks[disk].activity();
            if before.1 > 0 {
                return Err(format!("{} I/Os are in flight below a suspended device", before.1));
            }
            if self.rng.below(2) == 0 {
                let [whole, halves] = tables(disk);
                let targets = if self.rng.below(2) == 0 { whole } else { halves };
                let (access, base) = (Access::ReadWrite, String::new());
                self.call(Command::TableLoad { id: below.clone(), access, targets, base }).await?;
            }
            self.turns(12).await;
            if self.disks[disk].activity() != before {
                return Err("an I/O went through a suspended device".to_owned());
            }
            self.call(Command::DevResume { id: below, held }).await?;
        }
        Ok(())
    }
}
