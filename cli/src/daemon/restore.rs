//! Builds again what `state.json` records from before: images first, then devices, each after
//! those that it maps onto.
//!
//! What is back leaves the record of the past; what cannot be built stays there, for the next
//! try.

use backing::{Cancel, block_on_or};
use sim_core::control::{Answer, Command, Failure, Id, Record, RecordedTable, Slot, WhenOpen};
use sim_core::{Control, DevNumber, Errno, Held};

use super::Daemon;
use crate::protocol::{Filled, Keyless, Restored};
use crate::state::ImageRecord;

impl Daemon {
    /// Lists the devices on record that lack their keys.
    pub(super) fn keyless(&self) -> Vec<Keyless> {
        let past = self.keeper.past();
        // Those that an earlier restore brought back are not in the past any more.
        let there = self.images.list().into_iter().map(ImageRecord::from);
        let images = past.images.iter().cloned().chain(there);
        let images: Vec<_> = images.map(|image| (image.dev, image.path)).collect();
        let keyless = past.devices.into_iter().filter_map(|device| {
            let tables = [(Slot::Live, device.live), (Slot::Inactive, device.inactive)];
            let tables = tables.into_iter().filter_map(|(slot, table)| {
                let table = table.filter(|table| table.without_keys)?;
                Some((slot, table.targets))
            });
            let tables: Vec<_> = tables.collect();
            let (name, uuid, images) = (device.name, device.uuid, images.clone());
            (!tables.is_empty()).then_some(Keyless { name, uuid, tables, images })
        });
        keyless.collect()
    }

    /// Builds what is on record, with the tables in `filled` in the place of those without keys.
    pub(super) fn restore(&self, filled: &[Filled], hung_up: &Cancel) -> Restored {
        let past = self.keeper.past();
        let mut restored = Restored::default();
        for image in &past.images {
            let name = image.name.clone().unwrap_or_else(|| image.dev.to_string());
            match self.attach_again(image) {
                Ok(()) => {
                    self.keeper.with_past(|past| past.images.retain(|left| left != image));
                    restored.done.push(name);
                }
                Err(why) => restored.failed.push((name, why)),
            }
        }
        for device in &past.devices {
            let left = match self.rebuild(device, &complete(device, filled), hung_up) {
                Ok(()) => {
                    restored.done.push(device.name.clone());
                    None
                }
                Err(left) => {
                    restored.failed.push((device.name.clone(), left.why.to_string()));
                    Some(left.record)
                }
            };
            self.keeper.with_past(|past| {
                let at = past.devices.iter().position(|old| old == device);
                if let Some(at) = at {
                    past.devices.splice(at..=at, left);
                }
            });
        }
        restored
    }

    fn attach_again(&self, image: &ImageRecord) -> Result<(), String> {
        let attached = self.images.list().into_iter().map(ImageRecord::from);
        if attached.into_iter().any(|attached| attached == *image) {
            return Ok(());
        }
        self.images.attach(&image.attach()).map(drop).map_err(|error| error.to_string())
    }

    /// Builds a device, as far as it can be built. `complete` is the record with its keys; what is
    /// left goes by the record without.
    fn rebuild(
        &self,
        record: &Record,
        complete: &Record,
        hung_up: &Cancel,
    ) -> Result<(), Box<Left>> {
        let control = &*self.control;
        if control.records().contains(record) {
            return Ok(());
        }
        let given_up = || Err(Errno::INTR.into());
        if !waits_for_its_inactive_table(control, record) {
            let built = block_on_or(build(control, complete), hung_up);
            let all = |why| Box::new(Left { why, record: record.clone() });
            built.unwrap_or_else(given_up).map_err(all)?;
        }
        let Some(table) = &complete.inactive else { return Ok(()) };
        let load = async { control.execute(load(record, table)?).await.map(drop) };
        let loaded = block_on_or(load, hung_up).unwrap_or_else(given_up);
        let rest = |why| Box::new(Left { why, record: Record { live: None, ..record.clone() } });
        loaded.map_err(rest)
    }
}

/// What could not be built.
struct Left {
    why: Failure,
    /// All of the device, or, where that is what failed, its inactive table alone.
    record: Record,
}

/// Tells whether an earlier restore built the device, and only its inactive table is to come.
fn waits_for_its_inactive_table(control: &Control, record: &Record) -> bool {
    let status = Command::DevStatus { id: id(record), slot: Slot::Inactive };
    record.live.is_none()
        && matches!(
            backing::block_on(control.execute(status)),
            Ok(Answer::Status(there)) if there.name == record.name && !there.inactive_present
        )
}

/// Builds all but the inactive table, or nothing.
async fn build(control: &Control, record: &Record) -> Result<(), Failure> {
    if let Answer::Devices(there) = control.execute(Command::ListDevices).await?
        && let Some(taken) = there.iter().find(|there| there.dev.minor == record.minor)
    {
        // The kernel's errno for this says nothing.
        let why = format!("{} is `{}` now", taken.dev, taken.name);
        return Err(Failure { errno: Errno::BUSY, table: None, why: Some(why) });
    }
    let (name, uuid) = (record.name.clone(), record.uuid.clone());
    control.execute(Command::DevCreate { name, uuid, minor: Some(record.minor) }).await?;
    let undo = Undo { control, minor: record.minor, done: false };
    let id = || id(record);
    if let Some(table) = &record.live {
        control.execute(load(record, table)?).await?;
        control.execute(Command::DevResume { id: id(), held: Held::Flush }).await?;
    }
    if record.suspended {
        control.execute(Command::DevSuspend { id: id(), held: Held::NoFlush }).await?;
    }
    if let Some(sectors) = record.read_ahead {
        control.execute(Command::SetReadAhead { id: id(), sectors }).await?;
    }
    control.execute(Command::SetNode { id: id(), node: record.node }).await?;
    undo.keep();
    Ok(())
}

fn id(record: &Record) -> Id {
    Id::Dev(DevNumber::mapped(record.minor))
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
fn complete(record: &Record, filled: &[Filled]) -> Record {
    let with_keys = |slot: Slot, table: &Option<RecordedTable>| {
        let mut table = table.clone()?;
        let own = filled.iter().find(|filled| filled.name == record.name && filled.slot == slot);
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
            let _ = backing::block_on(self.control.execute(remove));
        }
    }
}
