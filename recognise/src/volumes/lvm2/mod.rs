//! LVM2: physical volumes, and the groups that their metadata say they make.

mod group;
mod label;
mod show;
mod text;

use std::collections::HashMap;

use serde::Serialize;

use super::Group;
use crate::{Error, Source};

/// A physical volume of LVM2: its label, and what its metadata areas hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhysicalVolume {
    /// Its id, with hyphens.
    pub id: String,
    /// The size in bytes that it was made with.
    #[serde(rename = "size_bytes")]
    pub size: u64,
    /// The newest metadata that it holds of its group. A volume may have none.
    pub group: Option<Group>,
    /// Whether it is in a group, as far as its label says it.
    pub in_a_group: Option<bool>,
    /// What is odd about it, although it can be used.
    pub warnings: Vec<String>,
}

/// Reads a physical volume; nothing where there is no label.
///
/// # Errors
/// Where there is a label that is damaged. Damaged metadata are a warning: those of another volume of the
/// group will do.
pub fn read(source: &dyn Source) -> Result<Option<PhysicalVolume>, Error> {
    let Some(label) = label::find(source)? else { return Ok(None) };
    let mut warnings = Vec::new();
    let mut newest: Option<(bool, Group)> = None;
    for area in &label.areas {
        let text = match label::text(source, *area) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(error) => {
                warnings.push(error.to_string());
                continue;
            }
        };
        match group::read(&text.bytes) {
            Ok(group) => {
                // An area that is out of use may hold an old text under the number of a new one.
                let new = (!text.ignored, group);
                let is_newer =
                    newest.as_ref().is_none_or(|old| (old.0, old.1.seqno) < (new.0, new.1.seqno));
                if is_newer {
                    newest = Some(new);
                }
            }
            Err(what) => {
                warnings.push(format!("LVM2 metadata area at byte {}: {what}", area.0));
            }
        }
    }
    Ok(Some(PhysicalVolume {
        id: with_hyphens(&label.id),
        size: label.size,
        group: newest.map(|(_, group)| group),
        in_a_group: label.used,
        warnings,
    }))
}

/// A group, and which physical volumes of it are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest metadata that any of its volumes holds.
    pub group: Group,
    /// For each physical volume of the group, the place of the one in the list of those that were looked at.
    pub there: Vec<Option<usize>>,
    /// What is odd about them.
    pub warnings: Vec<String>,
}

/// What physical volumes make up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The groups, in the order in which the first of their volumes came.
    pub groups: Vec<Found>,
    /// Volumes that are in none of them, by their places in the list, and why.
    pub alone: Vec<(usize, String)>,
}

/// Finds out which groups physical volumes make up: of the metadata that they hold of one group the
/// newest count.
///
/// # Errors
/// Where two of the volumes are the same one: `names` says what they are called.
pub fn groups(volumes: &[PhysicalVolume], names: &[String]) -> Result<Groups, String> {
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (at, volume) in volumes.iter().enumerate() {
        if let Some(other) = by_id.insert(&volume.id, at) {
            return Err(format!(
                "{} and {} are one physical volume, {}: leave out the one that is the copy",
                names[other], names[at], volume.id
            ));
        }
    }
    let mut newest: Vec<(usize, &Group)> = Vec::new();
    let mut by_group: HashMap<&str, usize> = HashMap::new();
    for (at, volume) in volumes.iter().enumerate() {
        let Some(group) = &volume.group else { continue };
        let slot = *by_group.entry(&group.id).or_insert_with(|| {
            newest.push((at, group));
            newest.len() - 1
        });
        if newest[slot].1.seqno < group.seqno {
            newest[slot] = (at, group);
        }
    }
    let mut taken = vec![false; volumes.len()];
    let mut found = Groups::default();
    for (_, group) in newest {
        let there: Vec<Option<usize>> =
            group.physical.iter().map(|it| by_id.get(it.id.as_str()).copied()).collect();
        let mut warnings = Vec::new();
        for at in there.iter().flatten() {
            taken[*at] = true;
            let old = volumes[*at].group.as_ref().filter(|old| old.seqno < group.seqno);
            if let Some(old) = old {
                warnings.push(format!(
                    "{}: its metadata are older ({} of {}): those of the others count",
                    names[*at], old.seqno, group.seqno
                ));
            }
        }
        found.groups.push(Found { group: group.clone(), there, warnings });
    }
    for (at, volume) in volumes.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        let why = match (&volume.group, volume.in_a_group) {
            (Some(group), _) => {
                format!("was a physical volume of {}, which goes on without it", group.name)
            }
            (None, Some(false)) => "is a physical volume of no group".to_owned(),
            (None, _) => {
                "is a physical volume, and has no metadata of its group: those of its other \
                          volumes are needed"
                    .to_owned()
            }
        };
        found.alone.push((at, why));
    }
    Ok(found)
}

/// Writes an id as the tools do: 6-4-4-4-4-4-6.
fn with_hyphens(id: &str) -> String {
    let mut text = String::new();
    for (at, c) in id.chars().enumerate() {
        if matches!(at, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push('-');
        }
        text.push(c);
    }
    text
}
