//! What a device maps onto, and how that is called.

use std::collections::BTreeMap;

use sim_core::DevNumber;
use sim_core::control::{Answer, Command};

use super::device::Device;
use crate::dmsetup::dm::Called;
use crate::dmsetup::session::{Done, Session, Stop};

/// How a device is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Number,
    Name,
    BlockName,
}

impl Style {
    /// Reads `-o`.
    pub(crate) fn of(session: &mut Session<'_, '_>) -> Done<Style> {
        let words = session.options.fields.clone().unwrap_or_default();
        let mut style = Style::Number;
        for word in words.split(',').filter(|_| !words.is_empty()) {
            style = match word {
                "devno" => style,
                "devname" => Style::Name,
                "blkdevname" => Style::BlockName,
                _ => return refuse(session, &format!("Option not recognised: {word}.")),
            };
        }
        Ok(style)
    }
}

/// Refuses the command line.
pub(crate) fn refuse<T>(session: &mut Session<'_, '_>, text: &str) -> Done<T> {
    session.complain(text);
    if session.called != Called::Dmsim {
        session.complain("Couldn't process command line.");
    }
    Err(Stop::Refused)
}

/// Asks which devices a table has open.
pub(crate) fn dependencies(session: &mut Session<'_, '_>, device: &Device) -> Done<Vec<DevNumber>> {
    let command = Command::TableDeps { id: device.task.id(), slot: session.slot() };
    match session.call("deps", &device.task, command)? {
        Answer::Deps(deps) => Ok(deps),
        _ => unreachable!("dependencies answer with devices"),
    }
}

/// The kernel's name of a device: `dm-3`, `loop0`; its number where it has none.
pub(crate) fn block_name(session: &mut Session<'_, '_>, dev: DevNumber) -> String {
    match dev.major {
        sim_core::DM_MAJOR => format!("dm-{}", dev.minor),
        _ => session.dm.device_name(dev).unwrap_or_else(|| dev.to_string()),
    }
}

/// The names of mapped devices, asked for once.
#[derive(Default)]
pub(crate) struct Names(Option<BTreeMap<DevNumber, String>>);

impl Names {
    /// The name of a device: a mapped one's as the kernel has it, another's kernel name.
    pub(crate) fn of(&mut self, session: &mut Session<'_, '_>, dev: DevNumber) -> String {
        let known = self.0.get_or_insert_with(|| match session.dm.call(Command::ListDevices) {
            Ok(Answer::Devices(devices)) => {
                devices.into_iter().map(|device| (device.dev, device.name)).collect()
            }
            Ok(_) | Err(_) => BTreeMap::new(),
        });
        match known.get(&dev) {
            Some(name) => name.clone(),
            None => block_name(session, dev),
        }
    }
}
