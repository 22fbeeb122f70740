//! The devices that were made for the legs of a RAID set, or for a recording, as their names and uuids say.

use crate::mangle::decode;

/// What the uuids begin with of all devices that `dmsim raid` makes.
pub const MADE_FOR_RAID: &str = "DMSIM-RAID-";

/// What the uuid of a device begins with that has the table of one which `dmsim crash` records.
pub const MADE_FOR_CRASH: &str = "DMSIM-RECORDED-";

/// What comes behind the set's name, in front of the leg's place.
const OF_LEGS: [&str; 2] = ["_rmeta_", "_rimage_"];

/// What is called so while the leg that it replaces is there.
const NEW: &str = "_new";

/// What comes behind the set's name for its journal.
const JOURNAL: &str = "_rjournal";

/// Returns the name of the set that a device was made for as a part, by its own name; nothing where it is none.
pub fn set_of(name: &str) -> Option<String> {
    let name = decode(name);
    if let Some(set) = name.strip_suffix(JOURNAL) {
        return Some(set.to_owned());
    }
    let leg = name.strip_suffix(NEW).unwrap_or(&name);
    OF_LEGS.iter().find_map(|part| {
        let (set, place) = leg.rsplit_once(part)?;
        place.parse::<usize>().ok().map(|_| set.to_owned())
    })
}

/// Tells whether a device was made for a set as a part of it: by its name, and by its uuid, which a name alone
/// does not have that somebody else has chosen.
pub fn is_part_of(set: &str, name: &str, uuid: Option<&str>) -> bool {
    uuid.is_some_and(|uuid| uuid.starts_with(MADE_FOR_RAID)) && set_of(name) == Some(decode(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_set_are_known_by_name_and_uuid() {
        for (name, set) in [
            ("r_rmeta_0", Some("r")),
            ("r_rimage_12", Some("r")),
            ("r_rimage_12_new", Some("r")),
            ("r_rjournal", Some("r")),
            ("my\\x20r_rmeta_0", Some("my r")),
            ("r_rmeta_0_rmeta_1", Some("r_rmeta_0")),
            ("r_rmeta_x", None),
            ("r_rmeta_", None),
            ("r", None),
        ] {
            assert_eq!(set_of(name).as_deref(), set, "{name}");
        }
        let uuid = Some("DMSIM-RAID-3-1");
        assert!(
            is_part_of("r", "r_rmeta_0", uuid) && is_part_of("my\\x20r", "my\\x20r_rjournal", uuid)
        );
        assert!(
            !is_part_of("r", "r_rmeta_0", None) && !is_part_of("r", "r_rmeta_0", Some("LVM-1"))
        );
        assert!(!is_part_of("s", "r_rmeta_0", uuid) && !is_part_of("r", "r", uuid));
    }
}
