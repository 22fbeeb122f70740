//! Finishes a merge that was cut off: whatever step it had reached, the note tells which merge it is,
//! and the devices how far it came.

use std::path::Path;

use backing::Attached;
use daemon::{About, Fault, Instance};
use sim_core::KeyText;
use sim_core::control::{Id, Report, Slot};

use super::note::{Note, forget};
use super::rebuild::make_origin;
use super::{WhenOpen, begin, drop_own, mark, merging};
use crate::commands::{clear, remove, resume};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, above, by_id, find, named, report};
use crate::snapshot::state::MADE_BY_US;
use crate::watch::Watch;

/// Brings a merge on its way again, or puts away what is left of one that is done; returns the name
/// of the origin where something is to be waited for.
pub(super) fn go_on_with(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    note: &Note,
    open: WhenOpen,
    watch: &dyn Watch,
) -> Result<Option<String>, Fault> {
    let name = &note.origin;
    let there = find(dm, name)?.filter(|origin| !origin.live.is_empty());
    if there.is_none() && below(dm, note)?.is_some() {
        // One that is made anew by its mark, before it was whole.
        make_origin(dm, note)?;
        return Ok(Some(name.clone()));
    }
    let Some(origin) = there else {
        let why = "is not there, and a merge into it is not finished: `dmsim restore` brings back \
                   what is on record";
        return Err(Fault::new(name, why));
    };
    let is_suspended = origin.status.suspended;
    let inactive = inactive(dm, name)?;
    if origin.merge().is_some() {
        if is_suspended {
            // At its end: the origin was about to have its own table back.
            if inactive.is_some_and(|table| table.merge().is_none()) {
                clear(dm, name)?;
            }
            resume_below(dm, note)?;
        }
        return merging(dm, instance, name).map(Some);
    }
    if let Some(snapshot) = find(dm, &note.snapshot)?.filter(|device| note.is_of(device)) {
        // At its beginning: the snapshot was about to go.
        if is_suspended {
            resume(dm, name)?;
        }
        return begin(dm, instance, snapshot.name(), open, watch).map(Some);
    }
    match (is_suspended, origin.origin_of()) {
        (true, Some(_)) => merging(dm, instance, name).map(Some),
        (_, _) => put_away(dm, instance, note, &origin).map(|()| None),
    }
}

fn inactive(dm: &mut dyn DeviceMapper, name: &str) -> Result<Option<Device>, Fault> {
    let found = report(dm, named(name), Report::Table, Slot::Inactive, KeyText::Zeros)?;
    let found = found.filter(|(status, _)| status.inactive_present);
    Ok(found.map(|(status, live)| Device { status, live }))
}

pub(super) fn below(dm: &mut dyn DeviceMapper, note: &Note) -> Result<Option<Device>, Fault> {
    note.below().map_or(Ok(None), |dev| by_id(dm, Id::Dev(dev)))
}

fn resume_below(dm: &mut dyn DeviceMapper, note: &Note) -> Result<(), Fault> {
    match below(dm, note)? {
        Some(below) if below.status.suspended => resume(dm, below.name()),
        Some(_) | None => Ok(()),
    }
}

/// Removes what a merge leaves whose origin has another table already: the device that was made below
/// it, the store, the note.
fn put_away(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    note: &Note,
    origin: &Device,
) -> Result<(), Fault> {
    let (name, store) = (origin.name(), note.store.as_path());
    if mark::is_left(store) == Some(true) {
        let why = format!(
            "has another table by now, and the merge of {} into it is not finished: what is in the \
             store is not on the device. `dmsim dump {0}` shows it",
            store.display()
        );
        return Err(Fault::new(name, why));
    }
    if let Some(below) = below(dm, note)? {
        let made = below.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
        let unused = below.status.open_count == 0 && above(dm, below.status.dev)?.is_empty();
        if made && unused {
            remove(dm, below.name())?;
        }
    }
    drop_store(dm, instance, store)?;
    forget(instance, name)
}

fn drop_store(dm: &mut dyn DeviceMapper, instance: &Instance, store: &Path) -> Result<(), Fault> {
    let images = dm.images()?;
    let attached: Option<&Attached> = images.iter().find(|image| image.path == store);
    if let Some(store) = attached {
        return drop_own(dm, instance, store);
    }
    let own = instance.cow_folders().map(|own| own.canonicalize().unwrap_or(own));
    if own.iter().any(|own| store.parent() == Some(own)) && store.exists() {
        std::fs::remove_file(store).about(store.display())?;
    }
    Ok(())
}
