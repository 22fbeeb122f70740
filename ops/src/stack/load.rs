//! Makes what a file says, or nothing.

use backing::Attach;
use daemon::protocol::{Filled, KeylessStack};
use daemon::{Fault, mangle, refuse_looped};
use sim_core::TargetSpec;
use sim_core::control::{Command, Failure, NewName};

use super::keys::complete;
use super::names::for_the_kernel;
use super::plan::{Action, Change, Difference, Kind, diff};
use super::undo::{Before, Done, undo};
use super::{Device, Image, Stack, Table, at};
use crate::commands::{act, clear, resume, suspend_held};
use crate::device_mapper::DeviceMapper;
use crate::devices::named;
use crate::turn::turn;
use crate::watch::{Watch, go_on};

/// What becomes of a device that is there otherwise than the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing is loaded at all.
    Refuse,
    /// It is changed where it is: its tables are loaded and swapped in, or it is suspended or resumed.
    Reload,
}

/// What a load has done, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What was made.
    pub made: Vec<String>,
    /// What was changed where it was.
    pub changed: Vec<String>,
    /// What differs all the same: the target prints other words than the file has.
    pub differs: Vec<Change>,
}

/// Makes what a stack says and is not there. Where that fails in the middle, all is as it was before.
///
/// `keys` gives tables their keys that the file leaves out.
///
/// # Errors
/// Where something cannot be made; where something is there otherwise, and is not to be changed, or cannot be.
pub fn load(
    dm: &mut dyn DeviceMapper,
    stack: &Stack,
    existing: Existing,
    keys: &mut dyn FnMut(&KeylessStack) -> Vec<Filled>,
    watch: &dyn Watch,
) -> Result<Loaded, Fault> {
    let _turn = turn(dm, "stack", watch)?;
    let changes = diff(dm, stack)?;
    if let Some(fault) = refusal(&changes, existing) {
        return Err(fault);
    }
    if changes.is_empty() {
        return Ok(Loaded::default());
    }
    let mut loading = Loading { dm, stack, keys, done: Vec::new() };
    if let Err(fault) = loading.all(&changes, watch) {
        let undone = undo(loading.dm, loading.done);
        return Err(fault.undone(undone, "what was made before is undone: all is as it was"));
    }
    let called = |action| {
        let of = changes.iter().filter(move |change| change.action == action);
        of.map(|change| change.name.clone()).collect()
    };
    let (made, changed) = (called(Action::Make), called(Action::Reload));
    Ok(Loaded { made, changed, differs: diff(loading.dm, stack)? })
}

/// Says why changes are not made, if they are not.
pub fn refusal(changes: &[Change], existing: Existing) -> Option<Fault> {
    let in_the_way = |change: &&Change| match (change.action, existing) {
        (Action::Make, _) | (Action::Reload, Existing::Reload) => false,
        (Action::Refuse, _) | (Action::Reload, Existing::Refuse) => true,
    };
    let in_the_way: Vec<&Change> = changes.iter().filter(in_the_way).collect();
    let first = in_the_way.first()?;
    let way_out = match in_the_way.iter().find(|change| change.action == Action::Refuse) {
        Some(change) => match change.kind {
            Kind::Image => {
                format!("`dmsim detach {}`, or say in the file what is there", change.name)
            }
            Kind::Device => {
                format!(
                    "it cannot be changed where it is: `dmsim remove {}`, or say in the file what is there",
                    change.name
                )
            }
        },
        None => "`--reload` changes it where it is".to_owned(),
    };
    let others = match in_the_way.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let differs = first.differs.first();
    let what = differs.map(|differs| {
        let word = |said: &Option<String>| {
            said.as_ref().map_or("none".to_owned(), |said| format!("`{said}`"))
        };
        format!(
            "{}: the file has {}, there is {}",
            differs.field,
            word(&differs.in_file),
            word(&differs.now)
        )
    });
    let why = format!(
        "is there otherwise{others}: {}; nothing was changed: {way_out}",
        what.unwrap_or_default()
    );
    Some(Fault::new(&first.name, at(first.line, &why)))
}

struct Loading<'a> {
    dm: &'a mut dyn DeviceMapper,
    stack: &'a Stack,
    keys: &'a mut dyn FnMut(&KeylessStack) -> Vec<Filled>,
    done: Vec<Done>,
}

impl Loading<'_> {
    fn all(&mut self, changes: &[Change], watch: &dyn Watch) -> Result<(), Fault> {
        let stack = self.stack;
        let mut suspended = Vec::new();
        for change in changes {
            go_on("stack", watch)?;
            let device = match change.kind {
                Kind::Image => {
                    self.attach(&stack.images[change.index])?;
                    continue;
                }
                Kind::Device => &stack.devices[change.index],
            };
            let tables = complete(self.dm, stack, device, self.keys)?;
            match change.action {
                Action::Make => self.make(device, tables)?,
                Action::Reload => self.change(device, change, tables)?,
                Action::Refuse => unreachable!("what is refused is told before"),
            }
            if device.suspended {
                suspended.push(device);
            }
        }
        // From the top down, as a suspension waits for what is below; and after all that look at each other is made.
        for device in suspended.into_iter().rev() {
            suspend_held(self.dm, &device.name)?;
        }
        Ok(())
    }

    fn attach(&mut self, image: &Image) -> Result<(), Fault> {
        let path = self.stack.path(&image.file);
        let create = image.create.filter(|_| !path.exists());
        if !image.access.is_read_only() && !image.host_device {
            refuse_looped(&path, "`read_only = true` attaches it without a write")
                .map_err(|fault| in_line(image.line, fault))?;
        }
        let ask = Attach {
            path: path.clone(),
            name: image.name.clone(),
            number: None,
            access: image.access,
            sector_size: image.sector_size,
            create,
            preallocate: false,
            host_device: image.host_device,
        };
        let attached = self.dm.attach(ask).map_err(|fault| in_line(image.line, fault))?;
        if create.is_some() {
            self.done.push(Done::File(path));
        }
        self.done.push(Done::Attached(attached.number.to_string()));
        Ok(())
    }

    fn make(&mut self, device: &Device, [live, inactive]: [Option<Table>; 2]) -> Result<(), Fault> {
        let name = device.name.clone();
        let (uuid, minor) = (device.uuid.clone(), device.minor);
        act(self.dm, &name, Command::DevCreate { name: name.clone(), uuid, minor })
            .map_err(|fault| in_line(device.line, fault))?;
        self.done.push(Done::Made(name));
        if let Some(live) = live {
            self.load(device, &live)?;
            self.resume(device)?;
        }
        inactive.map_or(Ok(()), |inactive| self.load(device, &inactive))
    }

    fn resume(&mut self, device: &Device) -> Result<(), Fault> {
        resume(self.dm, &device.name).map_err(|fault| in_line(device.line, fault))
    }

    fn change(
        &mut self,
        device: &Device,
        change: &Change,
        [live, inactive]: [Option<Table>; 2],
    ) -> Result<(), Fault> {
        let name = &device.name;
        self.done.push(Done::Changed(Before::of(self.dm, name)?));
        let differs = |fields: &[&str]| {
            let field = |differs: &Difference| differs.field.split(' ').next().map(str::to_owned);
            change
                .differs
                .iter()
                .any(|differs| fields.iter().any(|own| field(differs).as_deref() == Some(*own)))
        };
        let live = live.filter(|_| differs(&["table", "read_only"]));
        let inactive_differs = differs(&["inactive", "inactive_read_only"]);
        if live.is_some() || (differs(&["suspended"]) && !device.suspended) {
            // What waits would come into use with the resume.
            match live {
                Some(live) => self.load(device, &live)?,
                None => clear(self.dm, name)?,
            }
            self.resume(device)?;
            inactive.map_or(Ok(()), |inactive| self.load(device, &inactive))?;
        } else if inactive_differs {
            match inactive {
                Some(inactive) => self.load(device, &inactive)?,
                None => clear(self.dm, name)?,
            }
        }
        // Last, as nothing takes a uuid away again.
        if let Some(uuid) = device.uuid.clone().filter(|_| differs(&["uuid"])) {
            let command = Command::DevRename { id: named(name), new: NewName::Uuid(uuid) };
            act(self.dm, name, command).map_err(|fault| in_line(device.line, fault))?;
        }
        Ok(())
    }

    fn load(&mut self, device: &Device, table: &Table) -> Result<(), Fault> {
        let targets: Vec<TargetSpec> = table.specs().iter().map(for_the_kernel).collect();
        let base = self.stack.folder.display().to_string();
        let (id, access) = (named(&device.name), table.access);
        let command = Command::TableLoad { id, access, targets, base };
        match self.dm.control(command)? {
            Ok(_) => Ok(()),
            Err(failure) => Err(table_fault(device, table, &failure)),
        }
    }
}

/// Says what is wrong with a table, and where.
fn table_fault(device: &Device, table: &Table, failure: &Failure) -> Fault {
    let name = mangle::decode(&device.name);
    let fault = failure.table.as_ref();
    let found = fault.and_then(|fault| table.lines.get(fault.target?));
    let argument = fault.and_then(|fault| fault.arg);
    let argument = argument.map(|arg| format!("argument {}: ", arg + 1)).unwrap_or_default();
    let line = found.map_or(device.line, |(line, _)| *line);
    let kind = found.map(|(_, spec)| format!("{}: ", spec.target_type)).unwrap_or_default();
    Fault::new(name, at(line, &format!("{kind}{argument}{failure}")))
}

fn in_line(line: usize, fault: Fault) -> Fault {
    Fault { why: at(line, &fault.why), what: mangle::decode(&fault.what), ..fault }
}
