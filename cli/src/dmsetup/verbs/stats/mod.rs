//! `stats`: regions of a device, what is counted in them, and reports on that.
//!
//! All of it is messages to a device; groups are kept in what a region keeps for its owner, as
//! libdevmapper does.

mod counters;
mod create;
mod group;
mod histogram;
mod object;
mod options;
mod region;
mod report;
mod size;

use sim_core::Sector;
use sim_core::control::{Answer, Command, Slot};

pub(crate) use options::Statistics;
use region::Regions;

use super::devices::{Device, Devices};
use crate::dmsetup::dm::Called;
use crate::dmsetup::report::fields::{self, HelpFor};
use crate::dmsetup::session::{Done, Session, Stop, Task};

const USAGE: &str = include_str!("usage.txt");

/// Lists the commands, as the usage has them.
pub(in crate::dmsetup) fn names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&str> = USAGE
        .lines()
        .filter_map(|line| line.strip_prefix('\t').filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        .collect();
    names.dedup();
    names.into_iter()
}

/// How a command goes through the devices.
type Each = fn(&mut Session<'_, '_>, &Device) -> Done;

/// `stats COMMAND [DEVICE...]`.
pub(super) fn stats(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let Some((command, words)) = words.split_first() else {
        if session.called != Called::Dmstats {
            session.complain("Incorrect number of arguments.");
        }
        let text = usage(session.called);
        session.complain_plainly(&text);
        return Err(Stop::Refused);
    };
    match command.as_str() {
        "help" => {
            let text = help(session);
            session.complain_plainly(&text);
            Ok(())
        }
        "version" => super::version(session),
        "list" => report::list(session, words),
        "report" => report::report(session, words),
        "create" if session.options.statistics.file_map => create::file_map(session, words),
        "create" => each(session, words, create::create),
        "clear" => each(session, words, clear),
        "delete" => each(session, words, delete),
        "print" => each(session, words, print),
        "group" => each(session, words, group::group),
        "ungroup" => each(session, words, group::ungroup),
        "update_filemap" if session.options.statistics.group_id.is_none() => {
            session.fail("--groupid is required to update a filemap group.")
        }
        "update_filemap" => create::file_map(session, words),
        _ => {
            session.complain("Unknown stats command.");
            let text = help(session);
            session.complain_plainly(&text);
            Err(if session.called == Called::Dmsim { Stop::Refused } else { Stop::Failed })
        }
    }
}

/// Returns what `dmstats` says about itself.
fn usage(called: Called) -> String {
    let name = match called {
        Called::Dmsetup => "dmsetup stats",
        Called::Dmstats => "dmstats",
        Called::Dmsim => "dmsim stats",
    };
    USAGE.replacen("NAME", name, 1)
}

/// Returns how the commands are used; with the fields, unless `--help` asks without `-c`.
fn help(session: &Session<'_, '_>) -> String {
    let options = &session.options;
    let without = options.help && !options.columns;
    let fields = if without { String::new() } else { fields::help(HelpFor::Options) };
    usage(session.called) + &fields
}

/// Goes through the devices that are named, or all where that was asked for.
fn each(session: &mut Session<'_, '_>, words: &[String], act: Each) -> Done {
    let none = words.is_empty() && !session.options.names_a_device();
    if none && !session.options.statistics.all_devices {
        return session.fail("Please specify device(s) or use --alldevices.");
    }
    Devices::of(session, words)?.each(session, &mut |session, device| act(session, device))
}

/// Sends a message about statistics, and returns what is answered.
fn send(session: &mut Session<'_, '_>, task: &Task, message: &str) -> Done<String> {
    let message = message.to_owned().into();
    let command =
        Command::TargetMsg { id: task.id(), sector: Sector::ZERO, message, slot: Slot::Live };
    match session.call("message", task, command)? {
        Answer::Text(text) => Ok(text.unwrap_or_default()),
        _ => unreachable!("a message is answered with a text"),
    }
}

/// Asks for the regions of a device that are meant.
fn regions(session: &mut Session<'_, '_>, task: &Task) -> Done<Regions> {
    let message = match session.options.statistics.owner() {
        Some(program) => format!("@stats_list {program}"),
        None => "@stats_list".to_owned(),
    };
    Ok(Regions::parse(&send(session, task, &message)?))
}

/// Returns the numbers of the regions that a command names, or of all of them.
fn chosen(session: &mut Session<'_, '_>, task: &Task, why_not: &str) -> Done<Vec<u32>> {
    let options = &session.options.statistics;
    match (options.all_regions, options.region_id) {
        (true, _) => Ok(regions(session, task)?.list.iter().map(|region| region.id).collect()),
        (false, Some(id)) => Ok(vec![id]),
        (false, None) => session.fail(why_not),
    }
}

const WHICH: &str = "Please specify a --regionid or use --allregions.";

fn clear(session: &mut Session<'_, '_>, device: &Device) -> Done {
    for id in chosen(session, &device.task, WHICH)? {
        if let Err(stop) = send(session, &device.task, &format!("@stats_clear {id}")) {
            session.complain("Could not clear statistics region.");
            return Err(stop);
        }
    }
    Ok(())
}

fn print(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let verb = if session.options.statistics.clear { "@stats_print_clear" } else { "@stats_print" };
    for id in chosen(session, &device.task, WHICH)? {
        match send(session, &device.task, &format!("{verb} {id}")) {
            Ok(text) => session.print(text)?,
            Err(stop) => {
                session.complain("Could not print statistics region.");
                return Err(stop);
            }
        }
    }
    Ok(())
}

fn delete(session: &mut Session<'_, '_>, device: &Device) -> Done {
    if session.options.statistics.group_id.is_some() {
        return group::delete(session, device);
    }
    const WHICH: &str = "Please specify a --regionid or --groupid, or use --allregions.";
    let ids = chosen(session, &device.task, WHICH)?;
    for id in ids {
        let mut regions = regions(session, &device.task)?;
        if regions.get(id).is_none() {
            session.complain(&format!("Region ID {id} does not exist"));
            return session.fail("Could not delete statistics region");
        }
        group::leave(session, &device.task, &mut regions, id)?;
        send(session, &device.task, &format!("@stats_delete {id}"))?;
    }
    Ok(())
}
