//! The devices that a reporting verb goes through: those named, or all.

use super::below::Names;
use super::device::Device;
use super::row::{Row, open_report};
use crate::dmsetup::session::{Done, Session, Stop, Task};

/// The devices of a report.
pub(crate) enum Devices {
    /// Named on the command line: the first that fails ends it.
    Named(Vec<Option<String>>),
    /// All that there are: each has its turn.
    All(Vec<Device>),
}

impl Devices {
    /// Finds out which devices are meant. Says so where there are none at all.
    pub(crate) fn of(session: &mut Session<'_, '_>, words: &[String]) -> Done<Devices> {
        if words.is_empty() && session.options.names_a_device() {
            return Ok(Devices::Named(vec![None]));
        }
        if !words.is_empty() {
            return Ok(Devices::Named(words.iter().cloned().map(Some).collect()));
        }
        let listed = session.list()?;
        if listed.is_empty() && !session.options.json {
            session.print("No devices found\n")?;
        }
        let devices = listed.into_iter().map(|(device, shown)| Device {
            task: Task::named(&device.name),
            dev: Some(device.dev),
            shown,
            one_of_many: true,
        });
        Ok(Devices::All(devices.collect()))
    }

    /// Calls `act` for each device that `-S` selects.
    pub(crate) fn each(
        self,
        session: &mut Session<'_, '_>,
        act: &mut dyn FnMut(&mut Session<'_, '_>, &Device) -> Done,
    ) -> Done {
        let selection = match session.options.select.is_some() {
            true => Some(open_report(session, "name")?),
            false => None,
        };
        let mut act = |session: &mut Session<'_, '_>, device: &Device| {
            let Some(report) = &selection else { return act(session, device) };
            let row = Row::ask(session, device, report, &mut Names::default())?;
            match report.selects(&mut |field| row.value(field)) {
                true => act(session, device),
                false => Ok(()),
            }
        };
        match self {
            Devices::Named(words) => {
                let one_of_many = words.len() > 1;
                words.into_iter().try_for_each(|word| {
                    let task = session.task(word.as_deref())?;
                    let shown = word.unwrap_or_default();
                    act(session, &Device { task, dev: None, shown, one_of_many })
                })
            }
            Devices::All(devices) => {
                let mut result = Ok(());
                for device in devices {
                    match act(session, &device) {
                        Ok(()) => (),
                        Err(stop @ Stop::Output(_)) => return Err(stop),
                        Err(stop) => result = Err(stop),
                    }
                }
                result
            }
        }
    }
}
