//! Whether an image is part of a RAID set, and of which.

use std::path::Path;

use sim_core::Sectors;
use targets::md::assembly::name_of;
use targets::md::superblock::Version;
use targets::raid::superblock::Superblock;

use super::leg::heads;
use super::leg::label::Label;
use super::level::level_of;
use super::{bios, md};

/// The set that an image is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belongs {
    /// What the images of one set have in common.
    pub(crate) key: String,
    /// What people call it, where it has a name.
    pub(crate) name: Option<String>,
    /// What it is.
    pub(crate) told: String,
    /// It has volumes, each of which is a device.
    pub(crate) has_volumes: bool,
    /// The superblock lies at the end and does not say where that is: it may be that of a partition which
    /// ends with the disk.
    pub(crate) may_be_of_a_part: bool,
}

/// Finds the set that an image is part of; nothing where it is of none, or what there is of it is damaged.
pub(crate) fn belongs(path: &Path, len: Sectors) -> Option<Belongs> {
    if let Ok(Some(candidate)) = md::candidate(path, len) {
        let facts = candidate.superblock.facts();
        let name = facts.name.rsplit(':').next().filter(|name| !name.is_empty());
        let uuid: String = facts.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        return Some(Belongs {
            key: format!("md {uuid}"),
            name: name.map(str::to_owned),
            told: format!("an array of md ({})", name_of(&facts)),
            has_volumes: false,
            may_be_of_a_part: candidate.superblock.version() == Version::V0_90,
        });
    }
    if let Ok(Some(member)) = bios::member(path, len) {
        return Some(Belongs {
            key: format!("bios {:?}", member.set_id()),
            name: None,
            told: member.kind().to_owned(),
            has_volumes: true,
            may_be_of_a_part: false,
        });
    }
    let (file, bytes) = heads(path).ok()??;
    let superblock = Superblock::read(&bytes)?;
    let set = Label::read(&file).ok()?.map(|label| label.set());
    Some(Belongs {
        key: format!("dmsim {set:?}"),
        name: None,
        told: format!("a {} of {} legs", level_of(&superblock), superblock.devices),
        has_volumes: false,
        may_be_of_a_part: false,
    })
}
