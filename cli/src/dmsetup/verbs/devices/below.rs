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
        const STYLES: &[(&str, Style)] =
            &[("devno", Style::Number), ("blkdevname", Style::BlockName), ("devname", Style::Name)];
        let mut style = Style::Number;
        for (word, rest) in words_of(&words) {
            let Some((_, named)) = STYLES.iter().find(|(name, _)| name.starts_with(word)) else {
                return refuse(session, &format!("Option not recognised: {rest}."));
            };
            // The number is no choice, but what is there without one.
            style = if *named == Style::Number { style } else { *named };
        }
        Ok(style)
    }
}

/// Splits what `-o` says at its commas; each word comes with all from it on, as complaints show it. A word may be
/// the beginning of a name.
pub(crate) fn words_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let from_here = rest?;
        let (word, after) = match from_here.split_once(',') {
            Some((word, after)) => (word, Some(after).filter(|after| !after.is_empty())),
            None => (from_here, None),
        };
        rest = after;
        Some((word, from_here))
    })
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
