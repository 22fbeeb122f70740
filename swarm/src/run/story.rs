//! What happened in a case, for whoever looks into it.

use sim_core::KeyText;
use sim_core::control::{Answer, Command, Report, Slot};
use testkit::id;

use super::Rig;

impl Rig<'_> {
    /// Tells what happened, and how the devices are.
    pub(super) fn story(&self) -> Vec<String> {
        let Some(world) = &self.world else { return Vec::new() };
        let mut lines = world.sim.trace();
        lines.extend(world.take_log());
        for minor in 0..self.devices.len() as u32 {
            let (id, report, slot) = (id(minor), Report::Status, Slot::Live);
            let (device_names, keys) = (false, KeyText::Zeros);
            let command = Command::TableStatus { id, report, slot, device_names, keys };
            let texts = match self.execute("status", command) {
                Ok(Ok(Answer::Table(_, texts))) => texts,
                Ok(_) | Err(_) => continue,
            };
            lines.extend(texts.iter().map(|text| format!("d{minor}: {text}")));
        }
        lines
    }
}
