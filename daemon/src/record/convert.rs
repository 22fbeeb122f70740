//! What earlier versions kept elsewhere, read once: `state.json`, which the record was before it had
//! a line for each change; and the record of a default instance, which lay beside its socket.
//!
//! The content becomes past; then the file is renamed. Where the power goes between the two it is read
//! again, and what is on record already is not put there twice.

use std::collections::HashSet;
use std::io::{self, Read};

use serde::Deserialize;
use sim_core::control::Record;

use super::entry::{DeviceEntry, Entry, EntryId, ImageEntry, ImageRecord, TableEntry};
use super::log::{Log, NAME, Note};
use super::past::Past;
use crate::fault::{About, Fault};
use crate::instance::OLD_RECORD;

/// The file.
const OLD: &str = OLD_RECORD;

/// Its name when it is read.
const CONVERTED: &str = "state.json.converted";

/// The name of a record whose content is on another one.
const TAKEN_OVER: &str = "record.log.taken-over";

/// The only version that it had.
const VERSION: u32 = 1;

#[derive(Clone, Default, Deserialize)]
struct Stack {
    images: Vec<ImageRecord>,
    devices: Vec<Record>,
}

#[derive(Deserialize)]
struct State {
    #[serde(flatten)]
    now: Stack,
    #[serde(default)]
    past: Stack,
}

/// Moves what a `state.json` has to the record.
pub(super) fn convert(log: &mut Log) -> Result<(), Fault> {
    let shown = log.folder().shown(OLD);
    let Some(file) = log.folder().open(OLD).about(&shown)? else { return Ok(()) };
    let mut text = Vec::new();
    file.reader().and_then(|mut reader| reader.read_to_end(&mut text)).about(&shown)?;
    let state = read(&text).about(&shown)?;
    let notes = notes(log, state).about(&shown)?;
    if !notes.is_empty() {
        log.commit(&notes).about(log.folder().shown(NAME))?;
    }
    let folder = log.folder();
    folder.rename(OLD, CONVERTED).and_then(|()| folder.sync()).about(&shown)?;
    tracing::info!(file = shown, "converted; {CONVERTED} is not needed any more");
    Ok(())
}

/// Moves what is past on another record to this one. That is nowhere on it as present: whoever had it
/// open has ended.
pub(super) fn take_over(log: &mut Log, before: &mut Log) -> Result<(), Fault> {
    let shown = before.folder().shown(NAME);
    if !before.folder().has(NAME) {
        return Ok(());
    }
    let left = before.contents().past().into_iter().map(|(id, _)| id).collect();
    let past = Past::read(before, &left).about(&shown)?;
    let images = past.images.into_iter().map(|past| past.image).collect();
    let devices = past.devices.into_iter().map(|past| past.device).collect();
    let state = State { now: Stack { images, devices }, past: Stack::default() };
    let notes = notes(log, state).about(&shown)?;
    if !notes.is_empty() {
        log.commit(&notes).about(log.folder().shown(NAME))?;
    }
    let folder = before.folder();
    folder.rename(NAME, TAKEN_OVER).and_then(|()| folder.sync()).about(&shown)?;
    tracing::info!(file = shown, "taken over; {TAKEN_OVER} is not needed any more");
    Ok(())
}

fn read(text: &[u8]) -> Result<State, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let remedy = "move it away to start without it";
    let none = |error: serde_json::Error| format!("no record of dmsim's: {error}; {remedy}");
    match serde_json::from_slice::<Version>(text).map_err(none)?.version {
        VERSION => serde_json::from_slice(text).map_err(none),
        found => Err(format!("expected version {VERSION}, found {found}; {remedy}")),
    }
}

/// Makes entries of what is not on record: all of it is past.
fn notes(log: &Log, state: State) -> io::Result<Vec<Note>> {
    let left = log.contents().past().into_iter().map(|(id, _)| id).collect();
    let known = Past::read(log, &left)?;
    let mut images: HashSet<ImageRecord> =
        known.images.into_iter().map(|known| known.image).collect();
    let mut devices = HashSet::new();
    for known in known.devices {
        devices.insert(serde_json::to_string(&known.device)?);
    }
    let mut next = log.contents().highest() + 1;
    let mut id = || {
        next += 1;
        next - 1
    };
    let mut notes = Vec::new();
    for image in state.now.images.into_iter().chain(state.past.images) {
        if images.insert(image.clone()) {
            notes.push(Note::new(&Entry::Image(ImageEntry { id: id(), image, past: true }))?);
        }
    }
    for device in state.now.devices.into_iter().chain(state.past.devices) {
        if devices.insert(serde_json::to_string(&device)?) {
            for entry in entries(device, &mut id) {
                notes.push(Note::new(&entry)?);
            }
        }
    }
    Ok(notes)
}

fn entries(device: Record, id: &mut impl FnMut() -> EntryId) -> Vec<Entry> {
    let mut entries = Vec::new();
    let [live, inactive] = [device.live, device.inactive].map(|table| {
        let id = table.is_some().then(&mut *id);
        entries.extend(table.zip(id).map(|(table, id)| Entry::Table(TableEntry::new(id, table))));
        id
    });
    entries.push(Entry::Device(DeviceEntry {
        id: id(),
        minor: device.minor,
        name: device.name,
        uuid: device.uuid,
        live,
        inactive,
        suspended: device.suspended,
        read_ahead: device.read_ahead,
        node: device.node,
        past: true,
    }));
    entries
}
