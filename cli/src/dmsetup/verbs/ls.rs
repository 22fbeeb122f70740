//! `ls`: names, a tree, or a program run for each device.

use std::process::{Command as Program, Stdio};

use serde_json::json;
use sim_core::control::{Answer, Command, DevStatus, Report};
use sim_core::{DM_MAJOR, DevNumber, KeyText};

use daemon::mangle;

use super::devices::{Device, Devices, Names, Style, block_name, dependencies, refuse, words_of};
use crate::dmsetup::session::{Done, Session, Stop, Task};
use crate::dmsetup::tree::{self, Lines, Node, Tree};

/// Refuses what `-o` cannot say, whatever the verb.
pub(super) fn check_looks(session: &mut Session<'_, '_>) -> Done {
    match session.options.tree {
        true => Looks::of(session).map(drop),
        false => Style::of(session).map(drop),
    }
}

/// `ls`.
pub(super) fn ls(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    let tree = session.options.tree;
    let looks = if tree { Some(Looks::of(session)?) } else { None };
    // `-c` has fields, which this verb has none of.
    let has_style = !tree && !session.options.columns;
    let style = if has_style { Style::of(session)? } else { Style::Number };
    session.options.select = None;
    let devices = Devices::of(session, &[])?;
    if session.options.json {
        return list_json(session, devices);
    }
    if session.options.target.is_some() {
        return devices.each(session, &mut list_with_target);
    }
    let runs_program = session.options.exec.is_some();
    if let Some(looks) = looks.filter(|_| !runs_program) {
        return draw(session, devices, &looks);
    }
    let mut names = Names::default();
    devices.each(session, &mut |session, device| {
        let kernel = device.task.name.clone().unwrap_or_default();
        if runs_program {
            let status = session.known_status(&device.task)?;
            print_if_verbose(session, device, &status)?;
            return run_for(session, &kernel, &device.shown);
        }
        if let (Style::Number, Some(dev)) = (style, device.dev) {
            return session.print(format_args!("{}\t({dev})\n", device.shown));
        }
        let status = session.known_status(&device.task)?;
        let dev = status.dev;
        let text = match (style, status.read_ahead) {
            // Without a table there has been no disk yet.
            (Style::Number, _) | (Style::Name | Style::BlockName, None) => dev.to_string(),
            (Style::Name, Some(_)) => names.of(session, dev),
            (Style::BlockName, Some(_)) => block_name(session, dev),
        };
        session.print(format_args!("{}\t({text})\n", device.shown))
    })
}

fn list_json(session: &mut Session<'_, '_>, devices: Devices) -> Done {
    let mut listed = Vec::new();
    let shown = devices.each(session, &mut |session, device| {
        let (status, is_wanted) = targets(session, device)?;
        if is_wanted {
            let DevNumber { major, minor } = status.dev;
            let (name, uuid) = (mangle::decode(&status.name), status.uuid.as_deref());
            listed.push(json!({ "name": name, "uuid": uuid.map(mangle::decode), "major": major,
                                "minor": minor }));
        }
        Ok(())
    });
    session.print_json(&json!(listed))?;
    shown
}

fn list_with_target(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let (status, is_wanted) = targets(session, device)?;
    if !is_wanted {
        return Ok(());
    }
    if session.options.exec.is_some() {
        print_if_verbose(session, device, &status)?;
        return run_for(session, &status.name, &device.shown);
    }
    print_number(session, device, &status)
}

fn print_number(session: &mut Session<'_, '_>, device: &Device, status: &DevStatus) -> Done {
    let DevNumber { major, minor } = status.dev;
    session.print(format_args!("{}\t({major}, {minor})\n", device.shown))
}

/// Beside a program that is run, `-v` shows what it is run for.
fn print_if_verbose(session: &mut Session<'_, '_>, device: &Device, status: &DevStatus) -> Done {
    match session.options.verbose {
        0 => Ok(()),
        _ => print_number(session, device, status),
    }
}

/// Asks for a device, and whether it has a target of the type that `--target` names.
fn targets(session: &mut Session<'_, '_>, device: &Device) -> Done<(DevStatus, bool)> {
    let (id, report, slot) = (device.task.id(), Report::Status, session.slot());
    let command =
        Command::TableStatus { id, report, slot, device_names: false, keys: KeyText::Zeros };
    match session.call("status", &device.task, command)? {
        Answer::Table(status, lines) => {
            let wanted = session.options.target.as_ref();
            let has = |wanted: &String| lines.iter().any(|line| line.target_type == *wanted);
            Ok((status, wanted.is_none_or(has)))
        }
        _ => unreachable!("a table's status answers with the table"),
    }
}

/// Runs the program of `--exec`, if there is one, with the path of a device. How it ends does not
/// matter.
pub(super) fn run_for(session: &mut Session<'_, '_>, kernel: &str, shown: &str) -> Done {
    let Some(line) = session.options.exec.clone() else { return Ok(()) };
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else { return Err(Stop::Failed) };
    let path = session.dm.node(kernel).unwrap_or_else(|| format!("/dev/mapper/{shown}"));
    session.flush()?;
    let run = Program::new(program).args(words).arg(path).stdin(Stdio::inherit()).output();
    if let Ok(output) = run {
        session.complain_plainly(&String::from_utf8_lossy(&output.stderr));
        session.print(String::from_utf8_lossy(&output.stdout))?;
    }
    Ok(())
}

/// The words of `-o` with a tree, in the order in which the beginning of one is looked for.
const LOOKS: [&str; 15] = [
    "device",
    "blkdevname",
    "nodevice",
    "status",
    "table",
    "active",
    "open",
    "uuid",
    "rw",
    "utf",
    "vt100",
    "ascii",
    "inverted",
    "compact",
    "notrunc",
];

/// What a tree shows, and how.
#[derive(Default)]
struct Looks {
    style: tree::Style,
    block_names: bool,
    numbers: bool,
    active: bool,
    open: bool,
    access: bool,
    uuid: bool,
}

impl Looks {
    /// Reads `-o`.
    fn of(session: &mut Session<'_, '_>) -> Done<Looks> {
        let words = session.options.fields.clone().unwrap_or_default();
        let mut looks = Looks { numbers: true, ..Looks::default() };
        let mut cuts = true;
        for (word, rest) in words_of(&words) {
            let Some(name) = LOOKS.iter().find(|name| name.starts_with(word)) else {
                return refuse(session, &format!("Tree options not recognised: {rest}."));
            };
            match *name {
                "ascii" => looks.style.lines = Lines::Ascii,
                "utf" => looks.style.lines = Lines::Utf,
                "vt100" => looks.style.lines = Lines::Vt100,
                "compact" => looks.style.compact = true,
                "inverted" => looks.style.inverted = true,
                "notrunc" => cuts = false,
                "blkdevname" => looks.block_names = true,
                "device" => looks.numbers = true,
                "nodevice" => looks.numbers = false,
                "active" => looks.active = true,
                "open" => looks.open = true,
                "rw" => looks.access = true,
                "uuid" => looks.uuid = true,
                // `status` and `table` are taken, and show nothing.
                _ => (),
            }
        }
        looks.style.room = cuts.then(|| tree::room(looks.style.lines, session.dm.columns()));
        looks.style.nameless = looks.numbers || looks.block_names;
        // With states, lines would grow too long.
        looks.style.compact &= !(looks.active || looks.open || looks.access || looks.uuid);
        Ok(looks)
    }

    fn device(&self, session: &mut Session<'_, '_>, dev: DevNumber, has_disk: bool) -> String {
        let mut text = String::new();
        if self.block_names && has_disk {
            text += &format!(" <{}>", block_name(session, dev));
        }
        if self.numbers {
            text += &format!(" ({dev})");
        }
        text
    }

    fn state(&self, session: &mut Session<'_, '_>, status: &DevStatus) -> Done<String> {
        let mut parts = Vec::new();
        if self.active {
            parts.push(if status.suspended { "SUSPENDED" } else { "ACTIVE" }.to_owned());
        }
        if self.access {
            parts.push(if status.read_only { "RO" } else { "RW" }.to_owned());
        }
        if self.open {
            parts.push(status.open_count.to_string());
        }
        if self.uuid {
            parts.push(match &status.uuid {
                Some(uuid) => session.show_uuid(uuid)?,
                None => String::new(),
            });
        }
        let any = self.active || self.access || self.open || self.uuid;
        Ok(if any { format!(" [{}]", parts.join(", ")) } else { String::new() })
    }
}

fn draw(session: &mut Session<'_, '_>, devices: Devices, looks: &Looks) -> Done {
    let mut tree = Tree::default();
    let added = devices.each(session, &mut |session, device| {
        let status = session.known_status(&device.task)?;
        add(session, &mut tree, looks, &status)
    });
    session.print(tree.draw(looks.style))?;
    added
}

/// Adds a mapped device, after those below it.
fn add(session: &mut Session<'_, '_>, tree: &mut Tree, looks: &Looks, status: &DevStatus) -> Done {
    if tree.contains(status.dev) {
        return Ok(());
    }
    let task = Task::named(&status.name);
    let shown = session.show_name(&status.name)?;
    let device = Device { task, dev: Some(status.dev), shown, one_of_many: true };
    let below = dependencies(session, &device)?;
    for dev in &below {
        if dev.major == DM_MAJOR {
            let task = Task { dev: Some(*dev), ..Task::default() };
            let status = session.known_status(&task)?;
            add(session, tree, looks, &status)?;
        } else if !tree.contains(*dev) {
            let device = looks.device(session, *dev, true);
            let (name, state, below) = (String::new(), String::new(), Vec::new());
            tree.add(*dev, Node { name, device, state, below });
        }
    }
    let node = Node {
        name: device.shown,
        device: looks.device(session, status.dev, status.read_ahead.is_some()),
        state: looks.state(session, status)?,
        below,
    };
    tree.add(status.dev, node);
    Ok(())
}
