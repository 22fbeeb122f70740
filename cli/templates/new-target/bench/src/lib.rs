//! What the benchmarks measure: the way of a bio through a device.

#![forbid(unsafe_code)]

use std::sync::Arc;

use sim_core::{Bio, BlockDevice, Sector, Sectors};
use testkit::{Speed, World};

use crate_name::TargetName;

/// The length of the devices in sectors: 8 MiB.
pub const SIZE: u64 = 16_384;

/// A disk that ends each bio at once, `linear` over it, and the target over it.
pub struct Devices {
    /// The executor, and what its tasks need.
    pub world: World,
    /// The devices, each with its name.
    pub devices: [(&'static str, Arc<dyn BlockDevice>); 3],
}

impl Devices {
    /// Sets the devices up.
    pub fn new() -> Devices {
        let world = World::new(0, targets::registry().with::<TargetName>());
        let disk = world.add_disk(Sectors(2 * SIZE));
        disk.set_speed(Speed::AtOnce);
        let linear = world.set_up(0, &format!("0 {SIZE} linear 7:0 0"));
        let target = world.set_up(1, &format!("0 {SIZE} target-word 7:0 table-words"));
        let devices = [("disk", disk as _), ("linear", linear as _), ("target-word", target as _)];
        Devices { world, devices }
    }

    /// Carries a bio out as the mount does: on the spot where nothing in it can wait, else as a
    /// task. The simulation's executor runs the task, and its time is virtual: what is measured is
    /// code, and no waiting.
    pub fn send(&self, device: &dyn BlockDevice, bio: Bio<'_>) {
        match device.try_now(bio) {
            Ok(result) => result.expect("a disk without faults"),
            Err(bio) => self.send_as_task(device, bio),
        }
    }

    /// Carries a bio out as a task, whatever it is.
    pub fn send_as_task(&self, device: &dyn BlockDevice, bio: Bio<'_>) {
        self.world.sim.block_on(device.submit(bio)).expect("a disk without faults");
    }
}

impl Default for Devices {
    fn default() -> Devices {
        Devices::new()
    }
}

/// Makes a bio of 4 KiB in the middle of a device.
pub fn bio(is_read: bool, buffer: &mut [u8; 4096]) -> Bio<'_> {
    let at = Sector(SIZE / 2);
    if is_read { Bio::read(at, buffer) } else { Bio::write(at, buffer) }
}
