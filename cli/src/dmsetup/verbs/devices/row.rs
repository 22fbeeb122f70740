//! What a report can show of one device.

use sim_core::control::{Answer, Command, DevStatus};
use sim_core::{DM_MAJOR, DevNumber};

use super::below::{Names, block_name, dependencies};
use super::device::Device;
use crate::dmsetup::report::field::{Field, Id};
use crate::dmsetup::report::select::Value;
use crate::dmsetup::report::{Fault, Opened, Report};
use crate::dmsetup::session::{Done, Session, Stop, Task};
use crate::dmsetup::split_name::{Parts, subsystem};
use daemon::mangle::{self, Mode, What};

/// Opens a report, or tells why not; a list of fields that was asked for ends the command well.
pub(crate) fn open_report(session: &mut Session<'_, '_>, default: &str) -> Done<Report> {
    opened(session, Report::open(&session.options, default))
}

/// As [`open_report`], for a report that has opened or not.
pub(crate) fn opened(session: &mut Session<'_, '_>, opened: Result<Opened, Fault>) -> Done<Report> {
    match opened {
        Ok(Opened::Report(report)) => Ok(*report),
        Ok(Opened::Help(text)) => {
            session.complain_plainly(&text);
            // The command goes on from there, to show nothing: of no devices it says so.
            let goes_by_devices = !["stats", "splitname"].contains(&session.verb);
            if goes_by_devices && session.list()?.is_empty() {
                session.print("No devices found\n")?;
            }
            Err(Stop::Enough)
        }
        Err(Fault(text)) => {
            session.complain_plainly(&text);
            Err(Stop::Refused)
        }
    }
}

/// What a report can show of one device.
pub(crate) struct Row {
    status: DevStatus,
    mode: Mode,
    name: String,
    uuid: String,
    deps: Vec<DevNumber>,
    /// The names of `deps`: of those that are mapped, and the kernel's names of all.
    below: Vec<String>,
    below_blocks: Vec<String>,
    /// The devices that have this one open, with their names.
    above: Vec<(String, DevNumber)>,
}

impl Row {
    /// Asks for what the report needs.
    pub(crate) fn ask(
        session: &mut Session<'_, '_>,
        device: &Device,
        report: &Report,
        names: &mut Names,
    ) -> Done<Row> {
        let status = session.known_status(&device.task)?;
        let name = session.show_name(&status.name)?;
        let uuid = match &status.uuid {
            Some(uuid) => session.show_uuid(uuid)?,
            None => String::new(),
        };
        let mode = session.mode();
        let mut row = Row {
            status,
            mode,
            name,
            uuid,
            deps: Vec::new(),
            below: Vec::new(),
            below_blocks: Vec::new(),
            above: Vec::new(),
        };
        if report.asks_for(|field| needs_below(field.id)) {
            row.deps = dependencies(session, device)?;
            let mapped = row.deps.iter().filter(|dev| dev.major == DM_MAJOR);
            row.below = mapped.map(|dev| mangle::decode(&names.of(session, *dev))).collect();
            row.below_blocks = row.deps.iter().map(|dev| block_name(session, *dev)).collect();
        }
        if report.asks_for(|field| needs_above(field.id)) {
            row.above = users(session, row.status.dev)?;
        }
        Ok(row)
    }

    /// The value of a field, or what to print where there is none.
    pub(crate) fn value(&self, field: &'static Field) -> Result<Value, String> {
        let status = &self.status;
        let text = |text: &str| Ok(Value::Text(text.to_owned()));
        let number = |number: u64| Ok(Value::Number(number));
        let kernel_uuid = status.uuid.as_deref().unwrap_or_default();
        let parts = || match subsystem(&self.uuid) {
            "LVM" => Parts::of(&self.name),
            _ => Parts::default(),
        };
        match field.id {
            Id::Name => text(&self.name),
            Id::MangledName => text(&self.mangled(&status.name, What::Name)),
            Id::UnmangledName => text(&mangle::decode(&status.name)),
            Id::Uuid => text(&self.uuid),
            Id::MangledUuid => text(&self.mangled(kernel_uuid, What::Uuid)),
            Id::UnmangledUuid => text(&mangle::decode(kernel_uuid)),
            Id::ReadAhead => number(status.read_ahead.map_or(0, |read_ahead| read_ahead.0)),
            Id::Blkdevname => match status.read_ahead {
                Some(_) => text(&format!("dm-{}", status.dev.minor)),
                // Without a table there has been no disk yet.
                None => Err(format!(
                    "Could not resolve block device name for {}.\n_do_report_object: report function failed for field {}",
                    status.dev, field.name
                )),
            },
            Id::Attr => text(&self.attributes()),
            Id::TablesLoaded => text(match (status.live_present, status.inactive_present) {
                (true, true) => "Both",
                (true, false) => "Live",
                (false, true) => "Inactive",
                (false, false) => "None",
            }),
            Id::Suspended => text(if status.suspended { "Suspended" } else { "Active" }),
            Id::Readonly => text(if status.read_only { "Read-only" } else { "Writeable" }),
            Id::Devno => text(&status.dev.to_string()),
            Id::Major => number(status.dev.major.into()),
            Id::Minor => number(status.dev.minor.into()),
            Id::Open => number(status.open_count.into()),
            Id::Segments => number(status.target_count as u64),
            Id::Events => number(status.event_nr.into()),
            Id::DeviceCount => number(self.deps.len() as u64),
            Id::DevsUsed => text(&self.below.join(",")),
            Id::DevnosUsed => text(&joined(&self.deps)),
            Id::BlkdevsUsed => text(&self.below_blocks.join(",")),
            Id::DeviceRefCount => number(self.above.len() as u64),
            Id::NamesUsingDev => {
                let names: Vec<&str> = self.above.iter().map(|(name, _)| name.as_str()).collect();
                text(&names.join(","))
            }
            Id::DevnosUsingDev => {
                let numbers: Vec<DevNumber> = self.above.iter().map(|(_, dev)| *dev).collect();
                text(&joined(&numbers))
            }
            Id::Subsystem => text(subsystem(&self.uuid)),
            Id::VgName => text(&parts().vg),
            Id::LvName => text(&parts().lv),
            Id::LvLayer => text(&parts().layer),
            Id::Selected | Id::Statistic => Err(no_data(field)),
        }
    }

    fn attributes(&self) -> String {
        let status = &self.status;
        let flag = |set: bool, letter: char| if set { letter } else { '-' };
        [
            flag(status.live_present, 'L'),
            flag(status.inactive_present, 'I'),
            flag(status.suspended, 's'),
            if status.read_only { 'r' } else { 'w' },
        ]
        .iter()
        .collect()
    }

    /// The form that this mode would give the kernel; what the kernel has where there is none.
    fn mangled(&self, kernel: &str, what: What) -> String {
        let mode = if self.mode == Mode::Hex { Mode::Hex } else { Mode::Auto };
        mangle::mangle(&mangle::decode(kernel), what, mode).unwrap_or_else(|_| kernel.to_owned())
    }
}

/// What dmsetup says of a field that the rows have no value for.
pub(crate) fn no_data(field: &Field) -> String {
    format!("_do_report_object: no data assigned to field {}", field.name)
}

fn joined(numbers: &[DevNumber]) -> String {
    let numbers: Vec<String> = numbers.iter().map(DevNumber::to_string).collect();
    numbers.join(",")
}

fn needs_below(id: Id) -> bool {
    matches!(id, Id::DeviceCount | Id::DevsUsed | Id::DevnosUsed | Id::BlkdevsUsed)
}

fn needs_above(id: Id) -> bool {
    matches!(id, Id::DeviceRefCount | Id::NamesUsingDev | Id::DevnosUsingDev)
}

/// Finds the devices whose table has a device open.
fn users(session: &mut Session<'_, '_>, dev: DevNumber) -> Done<Vec<(String, DevNumber)>> {
    let slot = session.slot();
    let mut users = Vec::new();
    for (listed, shown) in session.list()? {
        let task = Task::named(&listed.name);
        let deps = session.call("deps", &task, Command::TableDeps { id: task.id(), slot })?;
        if matches!(deps, Answer::Deps(deps) if deps.contains(&dev)) {
            users.push((shown, listed.dev));
        }
    }
    Ok(users)
}
