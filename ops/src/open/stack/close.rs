//! The way back: a whole stack, from the top down.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use daemon::{Fault, Instance};
use sim_core::control::WhenOpen;

use super::record::{Record, folder, refuse_stack_under_way};
use super::sets::remove_all;
use crate::commands::PATIENCE;
use crate::device_mapper::DeviceMapper;
use crate::devices::{find, used_by_others};
use crate::files::{image_at, is_same_file};
use crate::watch::PERIOD;
use crate::words::device_name;

/// Finds the stack that is meant by a name, or by one of its images; tells of a device that is part of one.
///
/// # Errors
/// Where the word means a device of a stack, or an image of several stacks.
pub fn find_stack(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    word: &str,
) -> Result<Option<String>, Fault> {
    let folder = folder(instance);
    let device = device_name(dm.mount(), word);
    if let Some(record) = Record::read(&folder, word)? {
        // One whose devices are all gone is nothing to a device that has got the name since.
        if !record.there(dm)?.is_empty() || find(dm, &device)?.is_none() {
            return Ok(Some(word.to_owned()));
        }
    }
    let all = Record::all(&folder)?;
    let path = Path::new(word);
    let of_image = |record: &Record| record.images.iter().any(|image| is_same_file(image, path));
    let mut stacks = Vec::new();
    for (name, record) in &all {
        if path.exists() && of_image(record) && !record.there(dm)?.is_empty() {
            stacks.push(name.clone());
        }
    }
    match &stacks[..] {
        [] => {}
        [name] => return Ok(Some(name.clone())),
        several => {
            let why = format!("is part of several stacks: close {}", several.join(", "));
            return Err(Fault::new(word, why));
        }
    }
    for (name, record) in &all {
        if record.there(dm)?.iter().any(|part| part.name == device) {
            let why = format!(
                "is part of the stack `{name}`: `dmsim close {name}` closes all of it, `dmsim remove {word}` \
                 removes this device alone"
            );
            return Err(Fault::new(word, why));
        }
    }
    Ok(None)
}

/// Closes a stack: its devices from the top down, then its images. Where one is in use, nothing is removed,
/// unless they are to go when nobody has them open any more.
///
/// # Errors
/// Where there is no such stack, or it is in use.
pub fn close(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    name: &str,
    open: WhenOpen,
) -> Result<(), Fault> {
    let folder = folder(instance);
    refuse_stack_under_way(&folder, "close", name)?;
    let record = Record::read(&folder, name)?.ok_or_else(|| Fault::new(name, "no such stack"))?;
    let there = record.there(dm)?;
    if open == WhenOpen::Refuse {
        let own: BTreeSet<&str> = there.iter().map(|part| part.name.as_str()).collect();
        refuse_used(dm, &own)?;
    }
    for part in there.iter().rev() {
        remove_all(dm, part, open)?;
    }
    for image in &record.attached {
        // Gone already where it was detached by hand, or never restored.
        if image_at(dm, image)?.is_some() && open == WhenOpen::Refuse {
            dm.detach(&image.display().to_string())?;
        }
    }
    Record::forget(&folder, name)
}

/// Refuses devices that others have open. What passes by, and is gone when it is asked who it was, is waited for.
fn refuse_used(dm: &mut dyn DeviceMapper, own: &BTreeSet<&str>) -> Result<(), Fault> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let used = used_by_others(dm, own)?;
        if used.is_empty() {
            return Ok(());
        }
        if used.iter().any(|used| !used.is_in_passing) || Instant::now() >= deadline {
            let told: Vec<String> = used.into_iter().map(|used| used.told).collect();
            return Err(Fault::new("close", format!("{}. Nothing was closed", told.join("; "))));
        }
        std::thread::sleep(PERIOD);
    }
}
