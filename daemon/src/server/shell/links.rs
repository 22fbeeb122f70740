//! The links of LVM's volumes, `/dev/VG/LV`: lvm makes them when it activates a volume, and knows nothing of a restore.

use std::io;
use std::path::Path;

use backing::block_on;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use sim_core::Control;
use sim_core::control::{Answer, Command};

/// What the uuid of a device begins with that LVM has made.
const OF_LVM: &str = "LVM-";

/// How long such a uuid is where the device is a volume of its own, and no layer below one: those of the group and of
/// the volume follow.
const WHOLE: usize = OF_LVM.len() + 2 * 32;

/// What names of volumes have in them that users do not see, after LVM's `apply_lvname_restrictions`.
const HIDDEN: [&str; 11] = [
    "_cdata", "_cmeta", "_corig", "_cvol", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta",
    "_tdata", "_tmeta",
];

/// Makes the links that are missing in `dev`, and leaves alone what is there.
pub(super) fn make(control: &Control, dev: &Path) {
    let listed = match block_on(control.perform(Command::ListDevices)) {
        Ok(Answer::Devices(devices)) => devices,
        Ok(_) | Err(_) => return,
    };
    for listed in listed {
        let volume = listed.uuid.as_deref().and_then(|uuid| volume(&listed.name, uuid));
        let Some((group, volume)) = volume else { continue };
        if let Err(error) = link(dev, &group, &volume, &listed.name) {
            tracing::warn!(%error, group, volume, "no link to a volume");
        }
    }
}

fn link(dev: &Path, group: &str, volume: &str, name: &str) -> io::Result<()> {
    // Programs inside write here, those of containers too: no link of theirs is followed.
    let directory = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dev = openat(CWD, dev, directory, Mode::empty())?;
    match mkdirat(&dev, group, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = openat(&dev, group, directory, Mode::empty())?;
    match symlinkat(Path::new("../mapper").join(name), &folder, volume) {
        // What is there stays, a link to nowhere too.
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the group and the volume that a device's name is made of, where it is one that users see: both have their
/// hyphens twice, and one stands between them.
fn volume(name: &str, uuid: &str) -> Option<(String, String)> {
    if !uuid.starts_with(OF_LVM) || uuid.len() != WHOLE {
        return None;
    }
    let bytes = name.as_bytes();
    let mut at = 0;
    let between = loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'-', Some(b'-')) => at += 2,
            (b'-', _) => break at,
            _ => at += 1,
        }
    };
    let (group, volume) =
        (name[..between].replace("--", "-"), name[between + 1..].replace("--", "-"));
    let is_hidden = HIDDEN.iter().any(|part| volume.contains(part)) || volume.starts_with("pvmove");
    // Whatever a device is called: the link lies in a folder below.
    let is_plain =
        |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    (is_plain(&group) && is_plain(&volume) && !is_hidden).then_some((group, volume))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_from_what_lies_below_them() {
        let uuid = format!("LVM-{}", "a".repeat(64));
        let names =
            |name: &str| volume(name, &uuid).map(|(group, volume)| format!("{group} {volume}"));
        for (name, expected) in [
            ("vg-lv", Some("vg lv")),
            ("my--vg-my--lv", Some("my-vg my-lv")),
            ("vg--1-a--b--c", Some("vg-1 a-b-c")),
            ("vg---lv", Some("vg- lv")),
            ("vg-lv_mimage_0", None),
            ("vg-lv_rmeta_1", None),
            ("vg-pvmove0", None),
            ("vg", None),
            ("vg-", None),
            ("-lv", None),
            ("..-lv", None),
            ("vg-..", None),
        ] {
            assert_eq!(names(name).as_deref(), expected, "{name}");
        }
        for uuid in ["LVM-abc", &format!("{uuid}-real"), &format!("CRYPT{}", &uuid[5..]), ""] {
            assert_eq!(volume("vg-lv", uuid), None, "{uuid}");
        }
    }
}
