//! `deps`: which devices a table has open.

use serde_json::json;

use daemon::mangle;

use super::devices::{Devices, Names, Style, block_name, dependencies};
use crate::dmsetup::session::{Done, Session};

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
            listed.push(
                json!({ "name": mangle::decode(&device.shown_or_named(session)?), "deps": below }),
            );
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
