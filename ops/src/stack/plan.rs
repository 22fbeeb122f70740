//! What of a stack is not there, or is there otherwise.

use std::path::PathBuf;

use daemon::Fault;
use daemon::mangle;
use serde::Serialize;
use sim_core::control::{Answer, Command, DevStatus, Id, Slot};
use sim_core::{DevNumber, KeyText, TargetSpec};

use super::names::Names;
use super::save::{ImagesBy, table_of};
use super::words::{has_key, shown};
use super::{Device, Image, Stack, Table};
use crate::crash::is_recorded;
use crate::device_mapper::DeviceMapper;

/// Something that is not as a file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is.
    pub kind: Kind,
    /// Its name; of an image without one its path.
    pub name: String,
    /// What a load does about it.
    pub action: Action,
    /// What of it differs; nothing for what is not there at all.
    pub differs: Vec<Difference>,
    /// Where the file says it; zero where it has no lines.
    #[serde(skip)]
    pub line: usize,
    /// Which of the file's images or devices it is.
    #[serde(skip)]
    pub(super) index: usize,
}

/// What is not as a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An attached image.
    Image,
    /// A mapped device.
    Device,
}

/// What a load does about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Makes it.
    Make,
    /// Changes it where it is, if that is asked for.
    Reload,
    /// Nothing: it cannot be changed where it is.
    Refuse,
}

/// What of something differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What a file calls it; a line of a table is `table` and its number from 1.
    pub field: String,
    /// What the file says; nothing where it is not to be there.
    pub in_file: Option<String>,
    /// What there is; nothing where it is not there.
    pub now: Option<String>,
}

/// Says what a load of a stack would change, in the order in which it would; nothing where all is as it says.
///
/// # Errors
/// Where the instance cannot be asked.
pub fn diff(dm: &mut dyn DeviceMapper, stack: &Stack) -> Result<Vec<Change>, Fault> {
    let names = Names::of(dm)?;
    let mut changes = Vec::new();
    for (index, image) in stack.images.iter().enumerate() {
        let change = image_change(&names, stack, image);
        changes.extend(change.map(|change| Change { index, ..change }));
    }
    for (index, device) in stack.devices.iter().enumerate() {
        let change = device_change(dm, &names, stack, device)?;
        changes.extend(change.map(|change| Change { index, ..change }));
    }
    Ok(changes)
}

fn image_change(names: &Names, stack: &Stack, image: &Image) -> Option<Change> {
    let asked = stack.path(&image.file);
    let path = asked.canonicalize().unwrap_or(asked);
    let name = image.name.clone().unwrap_or_else(|| path.display().to_string());
    let change = |action, differs| Change {
        kind: Kind::Image,
        name,
        action,
        differs,
        line: image.line,
        index: 0,
    };
    let by_name = image
        .name
        .as_ref()
        .and_then(|name| names.images.iter().find(|there| there.name.as_ref() == Some(name)));
    // Several may be of one file, where all of them are read-only.
    let of_file = || names.images.iter().filter(|there| there.path == path);
    let by_file = of_file().find(|there| there.name == image.name).or(of_file().next());
    let Some(there) = by_name.or(by_file) else { return Some(change(Action::Make, Vec::new())) };
    let mut differs = Differs::default();
    let shown = |path: &PathBuf| Some(path.display().to_string());
    differs.add("file", shown(&path), shown(&there.path));
    differs.add("name", image.name.clone(), there.name.clone());
    let read_only = |is: bool| Some(is.to_string());
    differs.add(
        "read_only",
        read_only(image.access.is_read_only()),
        read_only(there.access.is_read_only()),
    );
    let bytes = |bytes: u32| Some(bytes.to_string());
    differs.add("sector_size", bytes(image.sector_size), bytes(there.sector_size));
    (!differs.0.is_empty()).then(|| change(Action::Refuse, differs.0))
}

fn device_change(
    dm: &mut dyn DeviceMapper,
    names: &Names,
    stack: &Stack,
    device: &Device,
) -> Result<Option<Change>, Fault> {
    let name = mangle::decode(&device.name);
    let line = device.line;
    let change =
        |action, differs| Change { kind: Kind::Device, name, action, differs, line, index: 0 };
    let mut differs = Differs::default();
    let mut action = Action::Reload;
    if names.device(&device.name).is_none() {
        let taken = |other: &&sim_core::control::Listed| {
            (device.uuid.is_some() && other.uuid == device.uuid)
                || device.minor == Some(other.dev.minor)
        };
        return Ok(Some(match names.devices.iter().find(taken) {
            None => change(Action::Make, Vec::new()),
            Some(other) => {
                let what = if device.minor == Some(other.dev.minor) { "minor" } else { "uuid" };
                let now = format!("that of `{}`", mangle::decode(&other.name));
                let said = match what {
                    "minor" => device.minor.map(|minor| minor.to_string()),
                    _ => device.uuid.as_deref().map(mangle::decode),
                };
                differs.add(what, said, Some(now));
                change(Action::Refuse, differs.0)
            }
        }));
    }
    let keys = |table: &Option<Table>| match table {
        Some(table) if table.lines.iter().any(|(_, line)| has_key(line)) => KeyText::Plain,
        Some(_) | None => KeyText::LeftOut,
    };
    let mut table = |slot, of: &Option<Table>| table_of(dm, &device.name, slot, keys(of));
    let live = table(Slot::Live, &device.live)?;
    let inactive = table(Slot::Inactive, &device.inactive)?;
    // It was removed meanwhile.
    let (Some((status, live)), Some((waits, inactive))) = (live, inactive) else {
        return Ok(Some(change(Action::Make, Vec::new())));
    };
    if device.uuid.is_some() && device.uuid != status.uuid {
        let [said, now] =
            [&device.uuid, &status.uuid].map(|uuid| uuid.as_deref().map(mangle::decode));
        // A uuid is set once.
        if now.is_some() {
            action = Action::Refuse;
        }
        differs.add("uuid", said, now);
    }
    if let Some(minor) = device.minor.filter(|minor| *minor != status.dev.minor) {
        action = Action::Refuse;
        differs.add("minor", Some(minor.to_string()), Some(status.dev.minor.to_string()));
    }
    let now = status.live_present.then_some((status.read_only, &live[..]));
    differs.table(names, stack, ["table", "read_only"], device.live.as_ref(), now);
    // One that maps onto what is read-only is, whatever its table was loaded as.
    let is_access = |differs: &Difference| differs.field == "read_only";
    let is_said = device.live.as_ref().is_some_and(|live| live.access.is_read_only());
    if differs.0.iter().any(is_access) && !is_said && is_read_only_below(dm, names, &status)? {
        differs.0.retain(|differs| !is_access(differs));
    }
    let is_live = |differs: &Difference| differs.field.starts_with("table ") || is_access(differs);
    if differs.0.iter().any(is_live) {
        let merges = live.iter().any(|line| line.target_type == "snapshot-merge");
        // No device loses its table but with itself; a merge goes on to its end; a recording has an end of its own.
        if device.live.is_none() || merges || is_recorded(dm, &device.name) {
            action = Action::Refuse;
        }
    }
    let now = waits.inactive_present.then_some((waits.read_only, &inactive[..]));
    differs.table(names, stack, ["inactive", "inactive_read_only"], device.inactive.as_ref(), now);
    if status.live_present || device.live.is_some() {
        let suspended = |is: bool| Some(is.to_string());
        differs.add("suspended", suspended(device.suspended), suspended(status.suspended));
    }
    Ok((!differs.0.is_empty()).then(|| change(action, differs.0)))
}

fn is_read_only_below(
    dm: &mut dyn DeviceMapper,
    names: &Names,
    status: &DevStatus,
) -> Result<bool, Fault> {
    let deps = Command::TableDeps { id: Id::Dev(status.dev), slot: Slot::Live };
    let Ok(Answer::Deps(below)) = dm.control(deps)? else { return Ok(false) };
    let is_image = |dev: &DevNumber| {
        names.images.iter().any(|image| image.number == *dev && image.access.is_read_only())
    };
    for dev in below {
        let status = Command::DevStatus { id: Id::Dev(dev), slot: Slot::Live };
        let is_device =
            matches!(dm.control(status)?, Ok(Answer::Status(status)) if status.read_only);
        if is_device || is_image(&dev) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was found to differ.
#[derive(Default)]
struct Differs(Vec<Difference>);

impl Differs {
    fn add(&mut self, field: &str, in_file: Option<String>, now: Option<String>) {
        if in_file != now {
            self.0.push(Difference { field: field.to_owned(), in_file, now });
        }
    }

    /// Compares a table.
    fn table(
        &mut self,
        names: &Names,
        stack: &Stack,
        [field, read_only]: [&str; 2],
        said: Option<&Table>,
        now: Option<(bool, &[TargetSpec])>,
    ) {
        let said_lines = said.map_or(&[][..], |table| &table.lines);
        let now_lines = now.map_or(&[][..], |(_, lines)| lines);
        for index in 0..said_lines.len().max(now_lines.len()) {
            let (said, now) = (said_lines.get(index), now_lines.get(index));
            let is_same = said
                .zip(now)
                .is_some_and(|((_, said), now)| names.same_line(now, said, &stack.folder));
            if !is_same {
                let field = format!("{field} line {}", index + 1);
                let in_file = said.map(|(_, line)| shown(line));
                let now = now.map(|now| names.in_words(now, &stack.folder, ImagesBy::Name));
                self.0.push(Difference { field, in_file, now: now.as_ref().map(shown) });
            }
        }
        if let (Some(said), Some((now, _))) = (said, now) {
            let read_only_said = said.access.is_read_only();
            self.add(read_only, Some(read_only_said.to_string()), Some(now.to_string()));
        }
    }
}
