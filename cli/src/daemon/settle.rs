//! Waits, for a moment, for closes that are on their way.
//!
//! The FUSE kernel module tells of a close only after `close` has returned. Whoever closes a
//! device and removes it at once would be told that it is busy.

use std::time::{Duration, Instant};

use backing::block_on;
use sim_core::control::{Answer, Command, Id, Slot};
use sim_core::{Control, DevNumber};

/// How long a close may be on its way.
const TIME: Duration = Duration::from_millis(250);

/// Waits until the devices that a command removes are open by tables alone, or the time is up.
pub(super) fn settle(control: &Control, command: &Command) {
    let devices: Vec<Id> = match command {
        Command::DevRemove { id, .. } => vec![id.clone()],
        Command::RemoveAll { .. } => all(control).into_iter().map(Id::Dev).collect(),
        _ => return,
    };
    let deadline = Instant::now() + TIME;
    for device in devices.iter().filter_map(|id| control.device(id).ok()) {
        if device.open_count() == 0 {
            continue;
        }
        let by_tables = tables_above(control, DevNumber::mapped(device.minor()));
        while device.open_count() > by_tables && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Counts the devices with a table that maps onto `below`; each has it open once.
fn tables_above(control: &Control, below: DevNumber) -> u32 {
    let maps_onto = |above: &DevNumber, slot| {
        let deps = Command::TableDeps { id: Id::Dev(*above), slot };
        matches!(block_on(control.execute(deps)), Ok(Answer::Deps(deps)) if deps.contains(&below))
    };
    let above = all(control).into_iter();
    let above = above.filter(|dev| maps_onto(dev, Slot::Live) || maps_onto(dev, Slot::Inactive));
    u32::try_from(above.count()).unwrap_or(u32::MAX)
}

fn all(control: &Control) -> Vec<DevNumber> {
    match block_on(control.execute(Command::ListDevices)) {
        Ok(Answer::Devices(devices)) => devices.into_iter().map(|device| device.dev).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}
