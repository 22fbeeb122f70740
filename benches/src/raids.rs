//! `side-by-side --raids`: RAID sets through the mount, beside a linear device over one image as large.
//!
//! No other program shows a RAID set as a file without the kernel's help. Sets are in sync; those with legs
//! lost compute what these had.

use std::path::Path;

use crate::peers::{Content, Peer, Raid};
use crate::{Entrant, Options, measure};

/// Measures all rows. Stripes of 256 KiB: a large write is whole ones.
pub(crate) fn run(options: &Options, dir: &Path, image: &Path, dmsim: &Peer) -> Result<(), String> {
    let set =
        |name, level, legs, data, lost| (name, Content::Raid(Raid { level, legs, data, lost }));
    let contents = [
        ("linear", Content::Raw),
        set("raid0 of 4", "raid0", 4, 4, 0),
        set("raid1 of 2", "raid1", 2, 1, 0),
        set("raid10 of 4", "raid10", 4, 2, 0),
        set("raid5 of 5", "raid5", 5, 4, 0),
        set("raid6 of 6", "raid6", 6, 4, 0),
        set("raid5, 1 lost", "raid5", 5, 4, 1),
        set("raid6, 2 lost", "raid6", 6, 4, 2),
    ];
    let entrants = contents.iter().map(|(name, content)| Entrant { name, peer: dmsim, content });
    let entrants: Vec<Entrant<'_>> = entrants.collect();
    let ratios: Vec<(usize, usize)> = (1..entrants.len()).map(|set| (set, 0)).collect();
    measure(options, dir, image, &entrants, &ratios)
}
