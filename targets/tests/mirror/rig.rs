//! A mirror over simulated disks, what it is sent, and what is legal then.

use std::sync::{Arc, PoisonError};

use sim_core::{BlkError, MappedDevice, Sector, Sectors, StatusKind};
use testkit::{
    BioStep, Journal, Legal, Schedule, SimDisk, Speed, Started, Traffic, World, read_all,
};

pub(crate) use crate::steps::{Errors, FLUSH, Step, start, steps};

pub(crate) const SECTOR: usize = 512;

/// The size of a disk: some room before and after each leg.
const DISK: u64 = 96;

/// A mirror.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) legs: usize,
    pub(crate) len: u64,
    pub(crate) region: u64,
    pub(crate) disk_log: bool,
    /// The words after the legs.
    pub(crate) features: &'static str,
    /// All regions are in sync when the bios come.
    pub(crate) in_sync: bool,
}

impl Case {
    /// The disk of the log: the one after the legs.
    pub(crate) fn log_disk(&self) -> usize {
        self.legs
    }

    pub(crate) fn disks(&self) -> usize {
        self.legs + usize::from(self.disk_log)
    }

    /// Where a leg begins on its disk.
    pub(crate) fn start(leg: usize) -> u64 {
        3 + 5 * leg as u64
    }

    pub(crate) fn table(&self) -> String {
        let log = match self.disk_log {
            true => format!("disk 2 {}", letter(self.log_disk())),
            false => "core 1".to_owned(),
        };
        let legs: Vec<String> =
            (0..self.legs).map(|leg| format!("{} {}", letter(leg), Case::start(leg))).collect();
        let Case { len, region, legs: count, features, .. } = self;
        format!("0 {len} mirror {log} {region} {count} {} {features}", legs.join(" "))
    }
}

fn letter(disk: usize) -> char {
    char::from(b'a' + disk as u8)
}

pub(crate) struct Rig {
    pub(crate) case: Case,
    pub(crate) world: World,
    pub(crate) disks: Vec<Arc<SimDisk>>,
    pub(crate) device: Arc<MappedDevice>,
    pub(crate) sent: Arc<Traffic>,
    /// Bios that failed.
    errors: Errors,
}

impl Rig {
    /// Sets a mirror up over new disks with different contents.
    pub(crate) fn new(case: &Case, seed: u64) -> Rig {
        let schedule = match seed % 3 {
            0 => Schedule::Priority(seed),
            _ => Schedule::Random(seed),
        };
        let world = World::with(&schedule, targets::registry(), &[]);
        let disks: Vec<_> = (0..case.disks()).map(|_| world.add_disk(Sectors(DISK))).collect();
        for (leg, disk) in disks.iter().take(case.legs).enumerate() {
            for sector in 0..DISK {
                disk.fill(Sector(sector), &[(leg as u8 + 1) * 40 + (sector % 31) as u8; SECTOR]);
            }
        }
        let speed = match case.in_sync {
            true => Speed::AtOnce,
            false => Speed::Waits,
        };
        disks.iter().for_each(|disk| disk.set_speed(speed));
        let device = world.set_up(0, &case.table());
        if case.in_sync {
            world.sim.run_until_idle().expect("a resync ends");
            disks.iter().for_each(|disk| disk.power_cycle(world.handle()));
        }
        let speed =
            [Speed::Waits, Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 4];
        disks.iter().for_each(|disk| disk.set_speed(speed));
        device.set_folding(seed.is_multiple_of(2));
        let first = leg_content(&disks, case, 0);
        let sent = Traffic::new(0, Arc::default(), Some(Legal::new(&first)));
        let (case, sent) = (case.clone(), Arc::new(sent));
        Rig { case, world, disks, device, sent, errors: Arc::default() }
    }

    /// Sets the mirror up again over disks that were there before; no I/O waits.
    pub(crate) fn over(case: &Case, seed: u64, disks: &[Arc<SimDisk>]) -> Rig {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        let journal = Arc::new(Journal::default());
        disks.iter().for_each(|disk| disk.record(journal.clone()));
        let device = world.set_up(0, &case.table());
        let (case, sent) = (case.clone(), Arc::new(Traffic::new(0, journal, None)));
        let (disks, errors) = (disks.to_vec(), Arc::default());
        Rig { case, world, disks, device, sent, errors }
    }

    /// Writes what the disks do into the record.
    pub(crate) fn record(&self) {
        self.disks.iter().for_each(|disk| disk.record(self.sent.journal().clone()));
    }

    /// Starts tasks that deal the steps out among themselves.
    pub(crate) fn start(&self, steps: &[Step], tasks: usize) -> Vec<Started<()>> {
        start(&self.world, &self.device, &self.sent, &self.errors, steps, tasks)
    }

    /// Runs steps to their end; the background is idle then.
    pub(crate) fn run(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let started = self.start(steps, tasks);
        self.idle()?;
        match started.iter().all(Started::is_done) {
            true => self.sent.verdict(),
            false => Err("a bio never ends".to_owned()),
        }
    }

    pub(crate) fn idle(&self) -> Result<(), String> {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    /// Takes the bios that failed.
    pub(crate) fn take_errors(&self) -> Vec<(BioStep, BlkError)> {
        std::mem::take(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the whole device.
    pub(crate) fn content(&self) -> Result<Vec<u8>, String> {
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        read.map_err(|stuck| format!("a read never ends: {stuck}"))?
    }

    /// Returns what is legal now.
    pub(crate) fn legal(&self) -> Legal {
        self.sent.legal().expect("a mirror is storage")
    }

    /// Reads the whole device, and holds it against what was written.
    pub(crate) fn read_back(&self) -> Result<(), String> {
        let (content, legal) = (self.content()?, self.legal());
        for (sector, bytes) in (0..).zip(content.chunks_exact(SECTOR)) {
            if !legal.read(sector, legal.now(), bytes) {
                return Err(format!("read back: {}", legal.explain(sector, bytes)));
            }
        }
        Ok(())
    }

    /// Fails where a leg differs from the first.
    pub(crate) fn legs_are_equal(&self) -> Result<(), String> {
        let first = leg_content(&self.disks, &self.case, 0);
        for leg in 1..self.case.legs {
            let other = leg_content(&self.disks, &self.case, leg);
            let mut both = first.chunks(SECTOR).zip(other.chunks(SECTOR));
            if let Some(sector) = both.position(|(one, other)| one != other) {
                let status = self.status();
                return Err(format!("sector {sector} differs on legs 0 and {leg}: {status}"));
            }
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> String {
        let live = self.device.live().expect("a table");
        live.status(StatusKind::Info, Default::default()).expect("no panic").0[0].params.to_string()
    }
}

/// Returns what a leg holds.
pub(crate) fn leg_content(disks: &[Arc<SimDisk>], case: &Case, leg: usize) -> Vec<u8> {
    disks[leg].look(Sector(Case::start(leg)), Sectors(case.len), <[u8]>::to_vec)
}
