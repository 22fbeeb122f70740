//! The devices that a reporting verb goes through: those named, or all.

use std::collections::BTreeMap;

use sim_core::DevNumber;
use sim_core::control::{Answer, Command};

use super::deps::block_name;
use crate::dmsetup::report::{Fault, Opened, Report};
use crate::dmsetup::session::{Done, Session, Stop, Task};

/// One device of a report.
pub(super) struct Device {
    pub(super) task: Task,
    /// The name as it was given, or as it is shown in a list.
    pub(super) shown: String,
    /// Others are reported too: lines need the name in front.
    pub(super) one_of_many: bool,
}

impl Device {
    /// Returns the name to show, which for a device named by its uuid has to be asked for.
    pub(super) fn shown_or_named(&self, session: &mut Session<'_, '_>) -> Done<String> {
        let status = session.known_status(&self.task)?;
        session.show_name(&status.name)
    }
}

/// The devices of a report.
pub(super) enum Devices {
    /// Named on the command line: the first that fails ends it.
    Named(Vec<Option<String>>),
    /// All that there are: each has its turn.
    All(Vec<Device>),
}

impl Devices {
    /// Finds out which devices are meant. Says so where there are none at all.
    pub(super) fn of(session: &mut Session<'_, '_>, words: &[String]) -> Done<Devices> {
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
            shown,
            one_of_many: true,
        });
        Ok(Devices::All(devices.collect()))
    }

    /// Calls `act` for each device that `-S` selects.
    pub(super) fn each(
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
            let row = super::info::Row::ask(session, device, report, &mut Names::default())?;
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
                    act(session, &Device { task, shown, one_of_many })
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

/// Opens a report, or tells why not; a list of fields that was asked for ends the command well.
pub(super) fn open_report(session: &mut Session<'_, '_>, default: &str) -> Done<Report> {
    match Report::open(&session.options, default) {
        Ok(Opened::Report(report)) => Ok(*report),
        Ok(Opened::Help(text)) => {
            session.complain_plainly(&text);
            Err(Stop::Enough)
        }
        Err(Fault(text)) => {
            session.complain_plainly(&text);
            Err(Stop::Refused)
        }
    }
}

/// The names of mapped devices, asked for once.
#[derive(Default)]
pub(super) struct Names(Option<BTreeMap<DevNumber, String>>);

impl Names {
    /// The name of a device: a mapped one's as the kernel has it, another's kernel name.
    pub(super) fn of(&mut self, session: &mut Session<'_, '_>, dev: DevNumber) -> String {
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
