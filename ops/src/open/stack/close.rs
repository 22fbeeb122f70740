//! The way back: a whole stack, from the top down.

use std::collections::BTreeSet;
use std::path::Path;

use daemon::{Fault, Instance, mangle};
use sim_core::control::WhenOpen;

use super::record::{Part, Record, folder};
use super::sets::remove_all;
use crate::device_mapper::DeviceMapper;
use crate::devices::{above, find, holders, way_to_unmount};
use crate::files::{image_at, is_same_file};
use crate::words::device_name;

/// Finds the stack that is meant by a name, or by one of its images; tells of a device that is part of one.
///
/// # Errors
/// Where the word means a device of a stack, or an image of several stacks.
pub fn is_stack(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    word: &str,
) -> Result<Option<String>, Fault> {
    let folder = folder(instance);
    if Record::read(&folder, word)?.is_some() {
        return Ok(Some(word.to_owned()));
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
    let device = device_name(dm.mount(), word);
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
    let record = Record::read(&folder, name)?.ok_or_else(|| Fault::new(name, "no such stack"))?;
    let there: Vec<Part> = record.there(dm)?.into_iter().cloned().collect();
    if open == WhenOpen::Refuse {
        refuse_used(dm, &there)?;
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

/// Refuses devices that somebody else uses: has open, or maps onto.
fn refuse_used(dm: &mut dyn DeviceMapper, parts: &[Part]) -> Result<(), Fault> {
    let own: BTreeSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let mut used = Vec::new();
    for part in parts {
        let Some(device) = find(dm, &part.name)? else { continue };
        let above = above(dm, device.status.dev)?;
        let has_strangers = above.iter().any(|name| !own.contains(name.as_str()));
        // Tables above count as well; who has it open in other ways is what is left.
        if has_strangers || device.status.open_count as usize > above.len() {
            let who = holders(dm, &part.name)?;
            let ours = |who: &&String| {
                !own.iter().any(|name| **who == format!("the table of `{}`", mangle::decode(name)))
            };
            let who: Vec<&String> = who.iter().filter(ours).collect();
            let by = match &who[..] {
                [] => String::new(),
                _ => format!(
                    " by {}",
                    who.iter().map(|who| who.as_str()).collect::<Vec<_>>().join(", ")
                ),
            };
            let way = way_to_unmount(dm.mount(), &part.name);
            used.push(format!("{} is in use{by}{way}", mangle::decode(&part.name)));
        }
    }
    match &used[..] {
        [] => Ok(()),
        used => Err(Fault::new("close", format!("{}. Nothing was closed", used.join("; ")))),
    }
}
