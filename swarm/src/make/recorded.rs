//! Lines over disks that were recorded: arrays that mdadm made.

use sim_core::Sectors;
use targets::md::assembly::{Candidate, Mode, decide};
use targets::md::superblock::{LEN, Superblock, Version};
use targets::raid::bitmap::{HEADER, Header};
use testkit::{DeviceBelow, MdImage, md_images};

use super::{Line, Maker, Promises, Space};

/// Recorded arrays of md with more than one copy, or parity, and all their members.
const ARRAYS: [&str; 10] = [
    "raid1-1.2",
    "raid1b-0.90",
    "raid5-1.2",
    "raid4-1.0",
    "raid6-1.1",
    "raid5-0.90",
    "raid10-1.0",
    "raid1b-1.1",
    "raid10o-1.2",
    "raid6-0.90",
];

/// An array that mdadm made, over disks of its own: its superblocks say all. It is longer than what is
/// soon read, so a range of it is all that is seen.
pub(super) fn md(maker: &mut Maker<'_>) -> Option<Line> {
    let array = maker.one(&ARRAYS);
    let images = md_images(array);
    let candidates: Vec<Candidate> = images.iter().map(member).collect::<Option<_>>()?;
    let len = decide(&candidates, Mode::Careful).ok()?.layout.len().0;
    let mut devices = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let disk = maker.disk(image.len / 512, Some((array.to_owned(), at)));
        devices.push(DeviceBelow::Disk(disk).number().to_string());
    }
    let words = format!("md 0 {} {}", devices.len(), devices.join(" "));
    let promises = Promises { faults_and_cut: false, ..Promises::ALL };
    maker.registry.find("linear")?;
    maker.device(Line { promises, alone: true, ..Line::over_all(&[], len, words) });
    let array = maker.free.pop()?;
    let shown = maker.length();
    let start = maker.rng.below((len - shown) as usize) as u64 / 8 * 8;
    let shown = shown.min(len - start);
    let range = Space { start, len: shown, ..array };
    Some(Line::over(&range, shown, format!("linear {}", range.text())))
}

/// Reads what a member says of its array.
fn member(image: &MdImage) -> Option<Candidate> {
    let len = Sectors::in_bytes(image.len);
    let read = |version: Version| {
        let at = version.place(len)?;
        Superblock::read(version, at, &image.bytes(at.0 * 512, LEN)).ok()
    };
    let superblock = Version::ALL.into_iter().find_map(read)?;
    let bitmap = superblock.facts().bitmap;
    let bitmap = bitmap
        .and_then(|at| Header::read(image.bytes(at.0 * 512, HEADER)[..].try_into().ok()?).ok());
    Some(Candidate { superblock, len, bitmap })
}
