//! What `check` has found, as text.

use std::fmt::Write as _;

use ops::mirror::{Comparison, Differing, OutOfSync};
use ops::size::print_size;
use sim_core::SECTOR_SIZE;

/// Writes what a comparison has found.
pub(crate) fn check(found: &Comparison) -> String {
    let size = print_size(found.region_size * SECTOR_SIZE);
    let mut text =
        format!("{}: {} legs, {} regions of {size}\n", found.name, found.legs.len(), found.regions);
    let mut add = |line: String| writeln!(text, "{line}").expect("a string takes all");
    for run in &found.differing {
        let Differing { region, regions, start, len, legs } = run;
        let legs: Vec<String> = legs.iter().map(|leg| found.legs[*leg].dev.to_string()).collect();
        let legs = match &legs[..] {
            [leg] => format!("leg {leg} differs"),
            _ => format!("legs {} differ", legs.join(", ")),
        };
        let from = found.legs[found.from].dev;
        add(format!("{}, sectors {start}+{len}: {legs} from {from}", runs(*region, *regions)));
    }
    for OutOfSync { region, regions } in &found.out_of_sync {
        add(format!("{}: not in sync", runs(*region, *regions)));
    }
    let repaired = if found.repaired { ", and are repaired" } else { "" };
    add(match (found.differing_regions, found.out_of_sync_regions) {
        (0, 0) => "no region differs".to_owned(),
        (0, out) => format!("no region differs, {out} are not in sync"),
        (differ, 0) => format!("{differ} regions differ{repaired}"),
        (differ, out) => format!("{differ} regions differ{repaired}; {out} are not in sync"),
    });
    text
}

fn runs(region: u64, regions: u64) -> String {
    match regions {
        1 => format!("region {region}"),
        more => format!("regions {region}-{}", region + more - 1),
    }
}
