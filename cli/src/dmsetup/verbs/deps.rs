//! `deps`: which devices a table has open.

use serde_json::json;
use sim_core::DevNumber;
use sim_core::control::{Answer, Command};

use super::rows::{Device, Devices, Names};
use crate::dmsetup::Called;
use crate::dmsetup::session::{Done, Session, Stop};

/// How a device is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Number,
    Name,
    BlockName,
}

impl Style {
    /// Reads `-o`.
    pub(super) fn of(session: &mut Session<'_, '_>) -> Done<Style> {
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
pub(super) fn refuse<T>(session: &mut Session<'_, '_>, text: &str) -> Done<T> {
    session.complain(text);
    if session.called == Called::Dmsetup {
        session.complain("Couldn't process command line.");
    }
    Err(Stop::Refused)
}

/// `deps [DEVICE...]`.
pub(super) fn deps(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let style = Style::of(session)?;
    let mut names = Names::default();
    let mut listed = Vec::new();
    let shown = Devices::of(session, words)?.each(session, &mut |session, device| {
        let deps = dependencies(session, device)?;
        if session.options.json {
            let below: Vec<_> = deps
                .iter()
                .map(|dev| {
                    json!({ "major": dev.major, "minor": dev.minor,
                                   "name": names.of(session, *dev) })
                })
                .collect();
            listed.push(json!({ "name": device.shown_or_named(session)?, "deps": below }));
            return Ok(());
        }
        let is_verbose = session.options.verbose > 0;
        if is_verbose {
            session.print_info_if_verbose(&device.task)?;
        } else if device.one_of_many {
            session.print(format_args!("{}: ", device.shown))?;
        }
        session.print(format_args!("{} dependencies\t:", deps.len()))?;
        for dev in deps {
            let text = match style {
                Style::Number => format!("{}, {}", dev.major, dev.minor),
                Style::Name => names.of(session, dev),
                Style::BlockName => block_name(session, dev),
            };
            session.print(format_args!(" ({text})"))?;
        }
        session.print("\n")?;
        if is_verbose && device.one_of_many { session.print("\n") } else { Ok(()) }
    });
    if session.options.json {
        session.print_json(&json!(listed))?;
    }
    shown
}

/// Asks which devices a table has open.
pub(super) fn dependencies(session: &mut Session<'_, '_>, device: &Device) -> Done<Vec<DevNumber>> {
    let command = Command::TableDeps { id: device.task.id(), slot: session.slot() };
    match session.call("deps", &device.task, command)? {
        Answer::Deps(deps) => Ok(deps),
        _ => unreachable!("dependencies answer with devices"),
    }
}

/// The kernel's name of a device: `dm-3`, `loop0`; its number where it has none.
pub(super) fn block_name(session: &mut Session<'_, '_>, dev: DevNumber) -> String {
    match dev.major {
        sim_core::DM_MAJOR => format!("dm-{}", dev.minor),
        _ => session.dm.device_name(dev).unwrap_or_else(|| dev.to_string()),
    }
}
