//! A device over disks that answer at once.

use std::sync::Arc;
use std::time::Duration;

use sim_core::control::{Answer, Command, Failure, Slot};
use sim_core::{Bio, BlkResult, Sector, Sectors, StatusKind};
use testkit::{SimDisk, Speed, World, id, send};

/// A device, and the disks `a` and `b` of 4,096 sectors.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) disks: Vec<Arc<SimDisk>>,
}

impl Rig {
    pub(crate) fn new(seed: u64, table: &str) -> Rig {
        let world = World::new(seed, targets::registry());
        let disks: Vec<_> = (0..2).map(|_| world.add_disk(Sectors(4096))).collect();
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        world.set_up(0, table);
        Rig { world, disks }
    }

    /// Sends a bio, and waits for its end.
    pub(crate) fn send(&self, bio: Bio<'_>) -> BlkResult {
        self.world.sim.block_on(send(self.world.device(0), bio))
    }

    pub(crate) fn write(&self, sector: u64, byte: u8) -> BlkResult {
        self.send(Bio::write(Sector(sector), &[byte; 512]))
    }

    /// Reads one sector.
    pub(crate) fn read(&self, sector: u64) -> Result<[u8; 512], sim_core::BlkError> {
        let mut data = [0xee; 512];
        self.send(Bio::read(Sector(sector), &mut data)).map(|()| data)
    }

    /// How long something takes, by the clock of the simulation.
    pub(crate) fn takes<T>(&self, what: impl FnOnce() -> T) -> (T, Duration) {
        let begin = self.world.sim.runtime().now();
        let result = what();
        (result, self.world.sim.runtime().now() - begin)
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.world.sim.block_on(self.world.sim.runtime().sleep(time));
    }

    pub(crate) fn message(&self, message: &str) -> Result<Option<String>, Failure> {
        let (sector, slot) = (Sector::ZERO, Slot::Live);
        let message = message.into();
        match self.world.execute(Command::TargetMsg { id: id(0), sector, message, slot })? {
            Answer::Text(text) => Ok(text),
            other => panic!("a message is answered with {other:?}"),
        }
    }

    /// The status of the one target.
    pub(crate) fn status(&self) -> String {
        let table = self.world.device(0).live().expect("a live table");
        let (lines, _) = table.status(StatusKind::Info, Default::default()).expect("a status");
        lines[0].params.to_string()
    }
}
