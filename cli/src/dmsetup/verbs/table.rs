//! `table` and `status`.

use serde_json::json;
use sim_core::control::{Answer, Command, DevStatus, Report};
use sim_core::{KeyText, TargetSpec};

use daemon::mangle;

use super::devices::{Device, Devices};
use crate::dmsetup::session::{Done, Session};
use crate::dmsetup::{Called, concise};

/// `table [DEVICE...]`.
pub(super) fn table(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let concise = session.options.concise;
    let mut printed = Printed::new(false);
    let shown = Devices::of(session, words)?.each(session, &mut |session, device| {
        let (status, lines) = lines(session, device, Report::Table)?;
        match concise {
            true => print_concise(session, device, &status, &lines, &mut printed),
            false => print_lines(session, device, &status, &lines, &mut printed),
        }
    });
    if concise && !printed.first {
        session.print("\n")?;
    }
    printed.finish(session, shown)
}

/// `status [DEVICE...]`.
pub(super) fn status(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let mut printed = Printed::new(true);
    let shown = Devices::of(session, words)?.each(session, &mut |session, device| {
        session.known_status(&device.task)?;
        let report = match session.options.noflush {
            true => Report::StatusNoFlush,
            false => Report::Status,
        };
        let (status, lines) = lines(session, device, report)?;
        if status.fault_rules > 0 {
            printed.faulty.push((mangle::decode(&status.name), status.fault_rules));
        }
        print_lines(session, device, &status, &lines, &mut printed)
    });
    printed.tell_faults(session);
    printed.finish(session, shown)
}

/// `measure [DEVICE...]`: what an integrity measurement would take down.
pub(super) fn measure(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let mut printed = Printed::new(false);
    let shown = Devices::of(session, words)?.each(session, &mut |session, device| {
        session.known_status(&device.task)?;
        let (status, lines) = lines(session, device, Report::Measure)?;
        print_lines(session, device, &status, &lines, &mut printed)
    });
    printed.finish(session, shown)
}

/// What is printed so far.
struct Printed {
    first: bool,
    json: Vec<serde_json::Value>,
    /// Devices for which faults are armed, and how many rules.
    faulty: Vec<(String, usize)>,
    is_status: bool,
}

impl Printed {
    fn new(is_status: bool) -> Printed {
        Printed { first: true, json: Vec::new(), faulty: Vec::new(), is_status }
    }

    /// Says where faults are armed, which no kernel's status has: to standard error, and not as dmsetup.
    fn tell_faults(&self, session: &mut Session<'_, '_>) {
        if session.called != Called::Dmsim || session.options.quiet || session.options.json {
            return;
        }
        for (name, rules) in &self.faulty {
            let rules = if *rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
            let line = format!(
                "dmsim: {name}: faults are armed by {rules}: `dmsim fault {name}` lists them\n"
            );
            session.complain_plainly(&line);
        }
    }

    fn finish(self, session: &mut Session<'_, '_>, shown: Done) -> Done {
        if session.options.json {
            session.print_json(&json!(self.json))?;
        }
        shown
    }
}

/// Asks for a table, or for the state of its targets.
pub(super) fn lines(
    session: &mut Session<'_, '_>,
    device: &Device,
    report: Report,
) -> Done<(DevStatus, Vec<TargetSpec>)> {
    let (id, slot) = (device.task.id(), session.slot());
    let device_names = session.options.device_names;
    let keys = if session.options.showkeys { KeyText::Plain } else { KeyText::Zeros };
    let command = Command::TableStatus { id, report, slot, device_names, keys };
    let action = match report {
        Report::Status | Report::StatusNoFlush | Report::Measure => "status",
        Report::Table => "table",
    };
    match session.call(action, &device.task, command)? {
        Answer::Table(status, lines) => Ok((status, lines)),
        _ => unreachable!("a table's status answers with the table"),
    }
}

/// Tells whether `--target` leaves a line in.
fn is_wanted(session: &Session<'_, '_>, line: Option<&TargetSpec>) -> bool {
    let target = session.options.target.as_ref();
    target.is_none_or(|target| line.is_some_and(|line| line.target_type == *target))
}

fn print_lines(
    session: &mut Session<'_, '_>,
    device: &Device,
    status: &DevStatus,
    lines: &[TargetSpec],
    printed: &mut Printed,
) -> Done {
    if session.options.json {
        let wanted = lines.iter().filter(|line| is_wanted(session, Some(line)));
        let target = |line: &TargetSpec| {
            json!({ "start": line.start, "len": line.len, "type": line.target_type,
                    "params": &*line.params })
        };
        let targets: Vec<_> = wanted.map(target).collect();
        if !targets.is_empty() || session.options.target.is_none() {
            let name = mangle::decode(&status.name);
            let mut device = json!({ "name": name, "targets": targets });
            if printed.is_status {
                device["fault_rule_count"] = json!(status.fault_rules);
            }
            printed.json.push(device);
        }
        return Ok(());
    }
    // A device without a table is one line without a target.
    let lines: Vec<Option<&TargetSpec>> =
        if lines.is_empty() { vec![None] } else { lines.iter().map(Some).collect() };
    let wanted: Vec<_> = lines.into_iter().filter(|line| is_wanted(session, *line)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let is_verbose = session.options.verbose > 0;
    // What a program is run for is shown by that.
    let is_shown = session.options.exec.is_none() || is_verbose;
    if is_verbose {
        session.print_info(status)?;
    }
    for line in wanted.into_iter().filter(|_| is_shown) {
        if device.one_of_many && !is_verbose {
            session.print(format_args!("{}: ", device.shown))?;
        }
        match line {
            Some(line) => session.print(format_args!("{line}\n"))?,
            None => session.print("\n")?,
        }
    }
    if device.one_of_many && is_verbose {
        session.print("\n")?;
    }
    super::ls::run_for(session, &status.name, &device.shown)
}

fn print_concise(
    session: &mut Session<'_, '_>,
    device: &Device,
    status: &DevStatus,
    lines: &[TargetSpec],
    printed: &mut Printed,
) -> Done {
    let wanted: Vec<TargetSpec> =
        lines.iter().filter(|line| is_wanted(session, Some(line))).cloned().collect();
    if wanted.is_empty() && session.options.target.is_some() {
        return Ok(());
    }
    let uuid = match &status.uuid {
        Some(uuid) => Some(session.show_uuid(uuid)?),
        None => None,
    };
    let (minor, read_only) = (status.dev.minor, status.read_only);
    let name = match device.shown.as_str() {
        "" => session.show_name(&status.name)?,
        shown => shown.to_owned(),
    };
    let text = concise::write(&name, uuid.as_deref(), minor, read_only, &wanted);
    let semicolon = if printed.first { "" } else { ";" };
    printed.first = false;
    session.print(format_args!("{semicolon}{text}"))
}
