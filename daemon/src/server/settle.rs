//! Waits, for a moment, for closes that are on their way.
//!
//! The FUSE kernel module tells of a close only after `close` has returned. Whoever closes a
//! device and removes it at once would be told that it is busy.

use std::time::{Duration, Instant};

use backing::block_on;
use sim_core::control::{Answer, Command, Id};
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
    for id in &devices {
        let Ok(device) = control.device(id) else { continue };
        while device.open_count() > control.opened_by_tables(id).unwrap_or(u32::MAX)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn all(control: &Control) -> Vec<DevNumber> {
    match block_on(control.execute(Command::ListDevices)) {
        Ok(Answer::Devices(devices)) => devices.into_iter().map(|device| device.dev).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}
