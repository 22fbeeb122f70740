//! Builds again what is on record from before: images first, then devices, each after
//! those that it maps onto.
//!
//! What is back leaves the record of the past; what cannot be built stays there, for the next
//! try.

use std::collections::{HashMap, HashSet};

use backing::{Cancel, Images, block_on, block_on_or};
use sim_core::control::{
    Answer, Command, Failure, Id, Record, RecordedTable, Report, Slot, WhenOpen,
};
use sim_core::{Control, DM_MAJOR, DevNumber, Errno, Held, KeyText};

use super::recordings::Ended;
use super::state::Daemon;
use crate::fault::Fault;
use crate::protocol::{Filled, Keyless, KeylessStack, Restored};
use crate::record::{ImageRecord, Keeper, Meant, Past, PastDevice, PastImage};

impl Daemon {
    /// Lists the devices on record that lack their keys.
    pub(super) fn keyless(&self) -> Result<KeylessStack, Fault> {
        let past = self.keeper.past()?;
        let names = past.devices.iter().map(|past| past.device.name.clone()).collect();
        let paths = past.images.iter().map(|past| past.image.path.clone()).collect();
        let images = past.images.into_iter().map(|past| (past.image.dev, past.image.path));
        // Those that an earlier restore brought back are not in the past any more.
        let there = self.images.list().into_iter().map(|image| (image.number, image.path));
        let images = images.chain(there).collect();
        let keyless = past.devices.into_iter().filter_map(|PastDevice { device, .. }| {
            let tables = [(Slot::Live, device.live), (Slot::Inactive, device.inactive)];
            let tables = tables.into_iter().filter_map(|(slot, table)| {
                let table = table.filter(|table| table.without_keys)?;
                Some((slot, table.targets))
            });
            let tables: Vec<_> = tables.collect();
            let (name, uuid) = (device.name, device.uuid);
            (!tables.is_empty()).then_some(Keyless { name, uuid, tables })
        });
        Ok(KeylessStack { devices: keyless.collect(), images, names, paths })
    }

    /// Builds what is on record, with the tables in `filled` in the place of those without keys.
    pub(super) fn restore(&self, filled: &[Filled], hung_up: &Cancel) -> Result<Restored, Fault> {
        let (keeper, images, control) = (&*self.keeper, &*self.images, &*self.control);
        Ok(Builder { keeper, images, control }.build(&keeper.past()?, filled, hung_up))
    }
}

/// Builds again what is past.
pub(super) struct Builder<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) images: &'a Images,
    pub(super) control: &'a Control,
}

impl Builder<'_> {
    /// Builds what is past: images, then devices, in its order.
    pub(super) fn build(&self, past: &Past, filled: &[Filled], hung_up: &Cancel) -> Restored {
        let mut restored = Restored::default();
        let there = self.images.list();
        let there: HashSet<ImageRecord> = there.iter().map(ImageRecord::from).collect();
        let recordings: Vec<Ended<'_>> =
            past.devices.iter().filter_map(|device| Ended::of(past, device)).collect();
        let is_log = |image: &PastImage| {
            recordings.iter().any(|ended| ended.log.is_some_and(|log| std::ptr::eq(log, image)))
        };
        for image in past.images.iter().filter(|image| !is_log(image)) {
            let record = &image.image;
            let name = record.name.clone().unwrap_or_else(|| record.dev.to_string());
            match self.attach_again(image, &there) {
                Ok(()) => restored.done.push(name),
                Err(why) => restored.failed.push((name, why)),
            }
        }
        let mut with_keys: HashMap<&str, Vec<&Filled>> = HashMap::new();
        for filled in filled {
            with_keys.entry(&filled.name).or_default().push(filled);
        }
        for device in &past.devices {
            let name = device.device.name.clone();
            if recordings.iter().any(|ended| std::ptr::eq(ended.below, device)) {
                continue;
            }
            let ended = recordings.iter().find(|ended| ended.device.is(device));
            let device = ended.map_or(device, |ended| &ended.device);
            let owner = ended.map_or(&name, |ended| &ended.below.device.name);
            let filled = with_keys.get(owner.as_str()).map_or(&[][..], Vec::as_slice);
            let complete = complete(&device.device, filled);
            match self.rebuild(past, device, &complete, hung_up) {
                Ok(()) => {
                    if let Some(ended) = ended {
                        self.keeper.device_is_back(ended.below);
                        ended.log.inspect(|log| self.keeper.image_is_back(log));
                        restored.recorded.push((name.clone(), ended.path.clone()));
                    }
                    if complete.suspended && complete.live.is_some() {
                        restored.suspended.push(name.clone());
                    }
                    restored.done.push(name);
                }
                Err(why) => restored.failed.push((name, why.to_string())),
            }
        }
        restored
    }

    fn attach_again(&self, past: &PastImage, there: &HashSet<ImageRecord>) -> Result<(), String> {
        if there.contains(&past.image) {
            self.keeper.image_is_back(past);
            return Ok(());
        }
        let _returning = self.keeper.returning(past);
        self.images.attach(&past.image.attach()).map(drop).map_err(|error| error.to_string())
    }

    /// Says what has a number now.
    fn meant(&self, number: DevNumber) -> Option<Meant> {
        if number.major == DM_MAJOR {
            let status = Command::DevStatus { id: Id::Dev(number), slot: Slot::Live };
            return match block_on(self.control.perform(status)) {
                Ok(Answer::Status(there)) => Some(Meant::Device(there.name, there.uuid)),
                Ok(_) | Err(_) => None,
            };
        }
        self.images.attached(number).map(|image| Meant::Image(image.path))
    }

    /// Builds a device, as far as it can be built: what cannot stays past. `complete` is the record
    /// with its keys.
    fn rebuild(
        &self,
        all: &Past,
        past: &PastDevice,
        complete: &Record,
        hung_up: &Cancel,
    ) -> Result<(), Failure> {
        let control = self.control;
        let there = there(control, &past.device);
        if there == There::AsRecorded {
            self.keeper.device_is_back(past);
            return Ok(());
        }
        // It would be put over somebody else's data.
        if let Some((number, now, meant)) = self.keeper.stranger(all, past, |dev| self.meant(dev)) {
            let why = format!(
                "{number} is {now} now, and was {meant}: that is to be there first, or what is there now \
                 to go"
            );
            return Err(Failure { errno: Errno::NXIO, table: None, why: Some(why) });
        }
        let given_up = || Err(Errno::INTR.into());
        let load_inactive = |table: &RecordedTable| {
            let load = async { control.perform(load(&past.device, table)?).await.map(drop) };
            block_on_or(load, hung_up).unwrap_or_else(given_up)
        };
        if let (There::WithoutInactiveTable, Some(table)) = (there, &complete.inactive) {
            load_inactive(table)?;
            self.keeper.device_is_back(past);
            return Ok(());
        }
        self.refuse_overwriting(complete)?;
        let restoring = self.keeper.restoring(past);
        block_on_or(build(control, complete), hung_up).unwrap_or_else(given_up)?;
        let loaded = complete.inactive.as_ref().map_or(Ok(()), load_inactive);
        restoring.done(loaded.is_err());
        loaded
    }
}

/// How much of a recorded device is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// All of it.
    AsRecorded,
    /// An earlier restore built the device, and only its inactive table is to come.
    WithoutInactiveTable,
    /// None of it; another device may have its number.
    Nothing,
}

fn there(control: &Control, record: &Record) -> There {
    let there = match block_on(control.perform(status(record, Slot::Inactive))) {
        Ok(Answer::Status(there)) if there.name == record.name => there,
        Ok(_) | Err(_) => return There::Nothing,
    };
    if record.live.is_none() && record.inactive.is_some() && !there.inactive_present {
        return There::WithoutInactiveTable;
    }
    let shown = control.find_minor(record.minor);
    let same = there.uuid == record.uuid
        && shown.is_none_or(|shown| shown.node == record.node)
        && there.suspended == record.suspended
        && is_loaded(control, record, Slot::Live, record.live.as_ref())
        && is_loaded(control, record, Slot::Inactive, record.inactive.as_ref());
    if same { There::AsRecorded } else { There::Nothing }
}

/// Tells whether a device has this table, but for its keys.
fn is_loaded(
    control: &Control,
    record: &Record,
    slot: Slot,
    table: Option<&RecordedTable>,
) -> bool {
    let Ok(Answer::Status(status)) = block_on(control.perform(status(record, slot))) else {
        return false;
    };
    let present = match slot {
        Slot::Live => status.live_present,
        Slot::Inactive => status.inactive_present,
    };
    let (id, report, keys) = (id(record), Report::Table, KeyText::LeftOut);
    let text = Command::TableStatus { id, report, slot, device_names: false, keys };
    match (table, block_on(control.perform(text))) {
        (None, _) => !present,
        (Some(table), Ok(Answer::Table(_, targets))) => present && table.targets == targets,
        (Some(_), _) => false,
    }
}

/// Builds all but the inactive table, or nothing.
async fn build(control: &Control, record: &Record) -> Result<(), Failure> {
    if let Ok(Answer::Status(taken)) = control.perform(status(record, Slot::Live)).await {
        // The kernel's errno for this says nothing.
        let why = format!("{} is `{}` now", taken.dev, taken.name);
        return Err(Failure { errno: Errno::BUSY, table: None, why: Some(why) });
    }
    let (name, uuid) = (record.name.clone(), record.uuid.clone());
    control.perform(Command::DevCreate { name, uuid, minor: Some(record.minor) }).await?;
    let undo = Undo { control, minor: record.minor, done: false };
    let id = || id(record);
    if let Some(table) = &record.live {
        control.perform(load(record, table)?).await?;
        control.perform(Command::DevResume { id: id(), held: Held::Flush }).await?;
    }
    if record.suspended {
        control.perform(Command::DevSuspend { id: id(), held: Held::NoFlush }).await?;
    }
    if let Some(sectors) = record.read_ahead {
        control.perform(Command::SetReadAhead { id: id(), sectors }).await?;
    }
    control.perform(Command::SetNode { id: id(), node: record.node }).await?;
    undo.keep();
    Ok(())
}

fn id(record: &Record) -> Id {
    Id::Dev(DevNumber::mapped(record.minor))
}

fn status(record: &Record, slot: Slot) -> Command {
    Command::DevStatus { id: id(record), slot }
}

fn load(record: &Record, table: &RecordedTable) -> Result<Command, Failure> {
    if table.without_keys {
        let why =
            "its key is not on record: `restore` asks for it on a terminal, or reads it from \
                   --key-file NAME=FILE"
                .to_owned();
        return Err(Failure { errno: Errno::NOKEY, table: None, why: Some(why) });
    }
    Ok(Command::TableLoad {
        id: id(record),
        access: table.access,
        targets: table.targets.clone(),
        // A recorded table names its devices by number.
        base: "/".to_owned(),
    })
}

/// Puts the tables that have their keys again in the place of those that lack them.
fn complete(record: &Record, filled: &[&Filled]) -> Record {
    let with_keys = |slot: Slot, table: &Option<RecordedTable>| {
        let mut table = table.clone()?;
        let own = filled.iter().find(|filled| filled.slot == slot);
        if let Some(own) = own.filter(|_| table.without_keys) {
            table = RecordedTable { targets: own.targets.clone(), without_keys: false, ..table };
        }
        Some(table)
    };
    Record {
        live: with_keys(Slot::Live, &record.live),
        inactive: with_keys(Slot::Inactive, &record.inactive),
        ..record.clone()
    }
}

/// Removes a device that could not be completed.
struct Undo<'a> {
    control: &'a Control,
    minor: u32,
    done: bool,
}

impl Undo<'_> {
    fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.done {
            let id = Id::Dev(DevNumber::mapped(self.minor));
            let remove = Command::DevRemove { id, open: WhenOpen::Refuse };
            // Nobody knows of it yet. If someone is so fast, it is left to them.
            let _ = block_on(self.control.perform(remove));
        }
    }
}
