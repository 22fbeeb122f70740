//! The verbs: what each is called, takes and does.

mod create;
mod deps;
mod devices;
mod info;
mod load;
mod ls;
mod mangle;
mod message;
mod other;
mod remove;
mod rename;
pub(super) mod stats;
mod suspend;
mod table;
mod udev;

use std::time::Duration;

use devices::{Devices, open_report};

use super::dm::Called;
use super::options::Options;
use super::session::{Done, Session, Stop};

/// One verb.
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// The least and the most words after it; none where there is no most.
    pub(super) words: (usize, Option<usize>),
    pub(super) act: Act,
}

/// How a verb is carried out.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Once, with all words.
    Once(fn(&mut Session<'_, '_>, &[String]) -> Done),
    /// For each device named; stops at the first that fails.
    Each(fn(&mut Session<'_, '_>, Option<&str>) -> Done),
}

pub(super) const VERBS: &[Verb] = {
    const fn verb(name: &'static str, least: usize, most: Option<usize>, act: Act) -> Verb {
        Verb { name, words: (least, most), act }
    }
    use Act::{Each, Once};
    &[
        verb("help", 0, Some(0), Once(other::help)),
        verb("create", 0, Some(2), Once(create::create)),
        verb("remove", 0, None, Each(remove::remove)),
        verb("remove_all", 0, Some(0), Once(remove::remove_all)),
        verb("suspend", 0, None, Each(suspend::suspend)),
        verb("resume", 0, None, Each(suspend::resume)),
        verb("load", 0, Some(2), Once(load::load)),
        verb("reload", 0, Some(2), Once(load::load)),
        verb("clear", 0, None, Each(load::clear)),
        verb("wipe_table", 0, None, Each(remove::wipe_table)),
        verb("rename", 1, Some(2), Once(rename::rename)),
        verb("measure", 0, None, Once(table::measure)),
        verb("message", 2, None, Once(message::message)),
        verb("ls", 0, Some(0), Once(ls::ls)),
        verb("info", 0, None, Once(info::info)),
        verb("deps", 0, None, Once(deps::deps)),
        verb("stats", 0, None, Once(stats::stats)),
        verb("status", 0, None, Once(table::status)),
        verb("table", 0, None, Once(table::table)),
        verb("wait", 0, Some(2), Once(message::wait)),
        verb("mknodes", 0, None, Once(other::mknodes)),
        verb("mangle", 0, None, Once(mangle::mangle)),
        verb("udevcreatecookie", 0, Some(0), Once(udev::create_cookie)),
        verb("udevreleasecookie", 0, Some(1), Once(udev::release_cookie)),
        verb("udevflags", 1, Some(1), Once(udev::flags)),
        verb("udevcomplete", 1, Some(1), Once(udev::complete)),
        verb("udevcomplete_all", 0, Some(1), Once(udev::complete_all)),
        verb("udevcookies", 0, Some(0), Once(udev::list)),
        verb("target-version", 1, None, Once(other::target_version)),
        verb("targets", 0, Some(0), Once(other::targets)),
        verb("version", 0, Some(0), Once(other::version)),
        verb("setgeometry", 5, Some(5), Once(message::set_geometry)),
        verb("splitname", 1, Some(2), Once(other::split_name)),
    ]
};

pub(super) use remove::tell_left;

/// Verbs that go by `--count` and `--interval` themselves.
const REPEATING: [&str; 2] = ["info", "stats"];

/// Verbs that `-S` selects the devices of.
const SELECTING: [&str; 9] =
    ["remove", "suspend", "resume", "clear", "wipe_table", "measure", "deps", "status", "table"];

/// Carries a verb out, as often as `--count` says.
pub(super) fn act(session: &mut Session<'_, '_>, verb: &'static Verb, words: &[String]) -> Done {
    session.verb = verb.name;
    let has_columns = session.options.columns || ["stats", "splitname"].contains(&verb.name);
    if session.options.fields.is_some() && !has_columns {
        ls::check_looks(session)?;
    }
    let units = &session.options.statistics;
    if !units.has_units() && session.called != Called::Dmsim {
        session.complain("Invalid --units argument.");
        return Err(Stop::Refused);
    }
    if session.options.select.is_some() && SELECTING.contains(&verb.name) {
        // What is wrong with the selection is told before there is a look at the devices.
        let _is_right = open_report(session, "name")?;
    }
    let Options { count, interval_s, .. } = session.options;
    // Without a count, an interval is one of a report that goes on until it is stopped.
    let count = count.unwrap_or(u32::from(interval_s.is_none()));
    let mut round = 1;
    loop {
        once(session, verb, words)?;
        if round == count || REPEATING.contains(&verb.name) {
            return Ok(());
        }
        round += 1;
        session.flush()?;
        std::thread::sleep(Duration::from_secs(interval_s.unwrap_or(1).into()));
    }
}

fn once(session: &mut Session<'_, '_>, verb: &'static Verb, words: &[String]) -> Done {
    match verb.act {
        Act::Once(act) => act(session, words),
        // Each of those that are selected, of those named or of all.
        Act::Each(act) if session.options.select.is_some() => {
            Devices::of(session, words)?.each(session, &mut |session, device| {
                let name = device.shown_or_named(session)?;
                act(session, Some(&name))
            })
        }
        Act::Each(act) if words.is_empty() => act(session, None),
        Act::Each(act) => words.iter().try_for_each(|word| act(session, Some(word))),
    }
}

/// Shows what the version verb shows, whatever the words.
pub(super) fn version(session: &mut Session<'_, '_>) -> Done {
    session.verb = "version";
    other::version(session, &[])
}
