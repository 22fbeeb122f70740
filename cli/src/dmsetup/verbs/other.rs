//! What is about no device: `help`, `version`, `targets`, `target-version`, `splitname`,
//! `mknodes`.

use serde_json::json;
use sim_core::control::{Answer, Command, TargetVersion};

use super::devices::{no_data, open_report};
use crate::dmsetup::report::field::Id;
use crate::dmsetup::report::fields::{self, HelpFor};
use crate::dmsetup::report::select::Value;
use crate::dmsetup::session::{Done, Session, Task};
use crate::dmsetup::split_name::Parts;
use crate::dmsetup::usage;

/// The library whose answers these are.
const LIBRARY_VERSION: &str = "1.02.185 (2022-05-18)";

/// `help`: with `-c`, the fields of reports too.
pub(super) fn help(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    let text = usage::text(session.called);
    session.complain_plainly(&text);
    if session.options.columns {
        session.complain_plainly(&fields::help(HelpFor::Options));
    }
    Ok(())
}

/// `version`.
pub(super) fn version(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    if !session.options.json {
        session.print(format_args!("Library version:   {LIBRARY_VERSION}\n"))?;
    }
    let answer = session.call("version", &Task::default(), Command::Version)?;
    let Answer::Version([major, minor, patch]) = answer else {
        unreachable!("a version answers a version")
    };
    let driver = format!("{major}.{minor}.{patch}");
    match session.options.json {
        true => session.print_json(&json!({ "library": LIBRARY_VERSION, "driver": driver })),
        false => session.print(format_args!("Driver version:    {driver}\n")),
    }
}

/// `targets`.
pub(super) fn targets(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    match session.call("versions", &Task::default(), Command::ListVersions)? {
        Answer::Versions(versions) => print_versions(session, &versions),
        _ => unreachable!("a list of versions answers versions"),
    }
}

/// `target-version TYPE...`.
pub(super) fn target_version(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    words.iter().try_for_each(|name| {
        let command = Command::GetTargetVersion { name: name.clone() };
        match session.call("target-version", &Task::named(name), command)? {
            Answer::Versions(versions) => print_versions(session, &versions),
            _ => unreachable!("a target's version answers versions"),
        }
    })
}

fn print_versions(session: &mut Session<'_, '_>, versions: &[TargetVersion]) -> Done {
    let text = |[major, minor, patch]: [u32; 3]| format!("{major}.{minor}.{patch}");
    if session.options.json {
        let target = |target: &TargetVersion| json!({ "name": target.name, "version": text(target.version) });
        let targets: Vec<_> = versions.iter().map(target).collect();
        return session.print_json(&json!(targets));
    }
    versions.iter().try_for_each(|target| {
        session.print(format_args!("{:<16} v{}\n", target.name, text(target.version)))
    })
}

/// `splitname NAME [SUBSYSTEM]`: a report on the parts of a name.
pub(super) fn split_name(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let mut report = open_report(session, "vg_name,lv_name,lv_layer")?;
    let is_lvm = words.get(1).is_none_or(|subsystem| subsystem == "LVM");
    let parts = if is_lvm { Parts::of(&words[0]) } else { Parts::default() };
    let subsystem = words.get(1).map_or("LVM", String::as_str);
    let added = report.add(&mut |field| match field.id {
        Id::Subsystem => Ok(Value::Text(subsystem.to_owned())),
        Id::VgName => Ok(Value::Text(parts.vg.clone())),
        Id::LvName => Ok(Value::Text(parts.lv.clone())),
        Id::LvLayer => Ok(Value::Text(parts.layer.clone())),
        _ => Err(no_data(field)),
    });
    session.try_text(added)?;
    let text = report.print();
    session.print(text)
}

/// `mknodes`: the mount shows what there is; nothing is left to make. A name that no node could have is
/// told of, all the same.
pub(super) fn mknodes(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    match words {
        [] => session.list().map(drop),
        [..] => Ok(()),
    }
}
