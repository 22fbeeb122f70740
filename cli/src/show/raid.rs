//! RAID sets, as people read them.

use std::fmt::Write as _;

use daemon::Failing;
use ops::raid::{Checked, Going, Grown, Journal, JournalState, Leg, LegState, Set};
use ops::size::print_size;
use sim_core::SECTOR_SIZE;

/// Draws a set with its legs, and what goes on.
pub(crate) fn raid(set: &Set) -> String {
    let bytes = |sectors: u64| print_size(sectors * SECTOR_SIZE);
    let mut text = format!("{}: {}", set.name, set.level);
    let of_level = match set.parities {
        0 => None,
        _ => Some(set.raid_type).filter(|name| *name != set.level),
    };
    let mut add = |more: std::fmt::Arguments<'_>| {
        text.write_fmt(more).expect("a string takes all");
    };
    if let (Some(format), Some(copies)) = (set.format, set.copies) {
        add(format_args!(" of {copies} {format} copies"));
    }
    if let Some(of_level) = of_level {
        add(format_args!(" ({of_level})"));
    }
    add(format_args!(", {}", bytes(set.size)));
    if let Some(becomes) = set.becomes {
        add(format_args!(" (becomes {})", bytes(becomes)));
    }
    if set.chunk_size > 0 {
        add(format_args!(", chunks of {}", bytes(set.chunk_size)));
    }
    add(format_args!(": {}", set.health));
    if matches!(set.health, "degraded" | "rebuilding") {
        add(format_args!(", {}", spare(set.may_lose)));
    }
    if set.health == "broken" {
        add(format_args!(
            ", as it lacks more legs than it can do without: nothing is written before `dmsim heal {}`",
            set.name
        ));
    }
    if set.health == "journal failed" {
        add(format_args!(
            ": nothing can be written before `dmsim heal {}`, which takes it up again or says what helps",
            set.name
        ));
    }
    add(format_args!("\n"));
    add(format_args!("{:<5}{:<17}image\n", "leg", "state"));
    for leg in &set.legs {
        let state = match (leg.state, &set.action) {
            (LegState::InSync, _) => "in sync".to_owned(),
            (LegState::Resyncing, _) => "resyncing".to_owned(),
            (LegState::Rebuilding, Some(going)) => format!("rebuilding {:.0} %", floor(going)),
            (LegState::Reshaping, _) => "reshaping".to_owned(),
            (LegState::Rebuilding, None) => "not in sync".to_owned(),
            (LegState::Failed, _) => "failed".to_owned(),
            (LegState::Missing, _) => "missing".to_owned(),
        };
        let file = leg.file.as_ref().map_or("-".to_owned(), |file| file.display().to_string());
        add(format_args!("{:<5}{state:<17}{file}\n", leg.leg));
    }
    for leg in &set.legs {
        if let Some(fails) = leg.fails {
            let (leg, name) = (leg.leg, &set.name);
            add(format_args!(
                "leg {leg}: {}: `dmsim heal {name} {leg}` ends that\n",
                Failing::text(fails)
            ));
        }
        if let Some(lost) = leg.lost {
            let (leg, lost) = (leg.leg, lost.text());
            add(format_args!("leg {leg}: {lost}"));
            if set.replaceable {
                let name = &set.name;
                add(format_args!(
                    ": `dmsim raid replace {name} {leg} IMAGE` puts another in its place"
                ));
            }
            add(format_args!("\n"));
        }
    }
    let later = set.legs.iter().filter(|leg| leg.write_mostly);
    if let Some(legs) = named(later) {
        add(format_args!("write-mostly: {legs}\n"));
    }
    if let Some(Journal { state, file, lost, .. }) = &set.journal {
        let state = match state {
            JournalState::WriteThrough => "writethrough",
            JournalState::WriteBack => "writeback",
            JournalState::Failed => "failed",
        };
        let file = file.as_ref().map_or("-".to_owned(), |file| file.display().to_string());
        let lost = lost.map(|lost| format!(": {}", lost.text())).unwrap_or_default();
        add(format_args!("journal: {state}, {file}{lost}\n"));
    }
    if let Some(going) = &set.action {
        let (done, total) = (print_whole(going.done), print_whole(going.total));
        add(format_args!("{}: {:.0} %, {done} of {total}", going.what, floor(going)));
        match going.seconds_left {
            Some(left) => add(format_args!(", {} left\n", print_time(left))),
            None => add(format_args!("\n")),
        }
    }
    if set.unsettled {
        add(format_args!(
            "its last `raid replace` or `raid grow` was cut off: `dmsim heal {}` goes on with it\n",
            set.name
        ));
    }
    if let Some(marked) = set.marked.filter(|marked| *marked > 0) {
        add(format_args!("bitmap: {} marked\n", bytes(marked)));
        if let Some(legs) = lost(set).filter(|_| set.parities > 0 && !has_journal(set)) {
            add(format_args!(
                "write hole: after a crash, what {legs} had of that may be wrong, also where nobody wrote: \
                 run fsck then\n"
            ));
        }
    }
    if set.differing > 0 {
        add(format_args!("the last check: {}\n", differ(set.differing, set.parities > 0)));
    }
    text
}

/// Says what a set that was given more legs has become, or becomes.
pub(crate) fn grown(grown: &Grown, is_over: bool) -> String {
    let Grown { name, legs, was, becomes } = grown;
    if was == becomes {
        return String::new();
    }
    let (size, more) =
        (print_size(becomes.bytes()), print_size(becomes.bytes().saturating_sub(was.bytes())));
    const HINT: &str = "resize2fs or xfs_growfs makes its file system longer too";
    match is_over {
        true => format!("{name}: has {legs} legs, and {size}, {more} more: {HINT}\n"),
        false => format!(
            "{name}: data moves onto {legs} legs (`dmsim raid status {name}` shows how far it is); when all has \
             moved it has {size}, {more} more, and then {HINT}\n"
        ),
    }
}

/// Says how many legs more may fail.
fn spare(may_lose: usize) -> String {
    match may_lose {
        0 => "no leg more may fail".to_owned(),
        1 => "1 leg more may fail".to_owned(),
        more => format!("{more} legs more may fail"),
    }
}

/// Names the legs whose data parity alone knows: not those of a set that is synchronized for the first time, whose
/// data is what it is.
fn lost(set: &Set) -> Option<String> {
    let is_lost = |leg: &&Leg| match leg.state {
        LegState::Failed | LegState::Missing | LegState::Rebuilding => true,
        LegState::InSync | LegState::Resyncing | LegState::Reshaping => false,
    };
    named(set.legs.iter().filter(is_lost))
}

/// Tells whether what is being written is in a journal, so that nothing of it is lost.
fn has_journal(set: &Set) -> bool {
    set.journal.as_ref().is_some_and(|journal| journal.state != JournalState::Failed)
}

fn named<'a>(legs: impl Iterator<Item = &'a Leg>) -> Option<String> {
    let legs: Vec<String> = legs.map(|leg| leg.leg.to_string()).collect();
    match &legs[..] {
        [] => None,
        [leg] => Some(format!("leg {leg}")),
        legs => Some(format!("legs {}", legs.join(", "))),
    }
}

/// Says what a check or a repair has found.
pub(crate) fn checked(found: &Checked) -> String {
    let Checked { name, differing, repaired, left_out, has_parity, compared, .. } = found;
    let what = match (*differing, *repaired) {
        _ if !compared => "nothing was compared: no other leg in sync has what one has".to_owned(),
        (0, _) if *has_parity => "parity is right".to_owned(),
        (0, _) => "no sector differs".to_owned(),
        (some, false) => differ(some, *has_parity),
        (some, true) if *has_parity => format!("{}, and is computed anew", differ(some, true)),
        (some, true) => format!("{}, and are repaired", differ(some, false)),
    };
    let left_out: Vec<String> = left_out.iter().map(usize::to_string).collect();
    let besides = match &left_out[..] {
        [] => String::new(),
        [leg] => format!("; leg {leg} is not in sync, and was left out"),
        legs => format!("; legs {} are not in sync, and were left out", legs.join(", ")),
    };
    format!("{name}: {what}{besides}\n")
}

/// Says what helps where something differs.
pub(crate) fn repairs(found: &Checked) -> String {
    let name = &found.name;
    match found.has_parity {
        true => format!(
            "{name}: `dmsim raid repair {name}` computes parity anew from the data, which it takes for right; where a leg \
             is known to have wrong data, that leg is to be replaced instead"
        ),
        false => format!(
            "{name}: `dmsim raid repair {name}` makes the other copies what the first is; where the leg that has the \
             first is known to be wrong, that leg is to be replaced instead"
        ),
    }
}

fn differ(sectors: u64, has_parity: bool) -> String {
    match has_parity {
        true => format!("parity is wrong in {sectors} sectors of each leg"),
        false => format!("{sectors} sectors differ"),
    }
}

/// What is not done is not called so.
fn floor(going: &Going) -> f64 {
    going.percent.floor()
}

/// Writes a size that need not be exact.
fn print_whole(sectors: u64) -> String {
    let bytes = sectors * SECTOR_SIZE;
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >> unit >= 10) {
        Some((unit, name)) => format!("{} {name}", bytes >> unit),
        None => print_size(bytes),
    }
}

fn print_time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(leg: usize, state: LegState, file: Option<&str>) -> Leg {
        let number = |part| file.map(|_| part);
        let (major, minor, file) = (number(253), number(1), file.map(Into::into));
        Leg { leg, state, major, minor, file, lost: None, fails: None, write_mostly: false }
    }

    #[test]
    fn a_set_is_drawn_with_its_legs_and_what_goes_on() {
        let mut set = Set {
            name: "r".to_owned(),
            level: "raid10",
            raid_type: "raid10",
            format: Some("near"),
            copies: Some(2),
            parities: 0,
            size: 1 << 20,
            becomes: None,
            unsettled: false,
            chunk_size: 128,
            region_size: 8192,
            health: "degraded",
            may_lose: 0,
            replaceable: true,
            legs: vec![
                leg(0, LegState::InSync, Some("/a")),
                leg(1, LegState::Rebuilding, Some("/b")),
                leg(2, LegState::Failed, Some("/c")),
                leg(3, LegState::Missing, None),
            ],
            journal: None,
            action: Some(Going {
                what: "recover",
                done: 1 << 18,
                total: 1 << 19,
                percent: 50.9,
                seconds_left: Some(61),
            }),
            differing: 0,
            marked: Some(0),
        };
        let expected = "r: raid10 of 2 near copies, 512 MiB, chunks of 64 KiB: degraded, no leg more may \
                        fail\n\
                        leg  state            image\n\
                        0    in sync          /a\n\
                        1    rebuilding 50 %  /b\n\
                        2    failed           /c\n\
                        3    missing          -\n\
                        recover: 50 %, 128 MiB of 256 MiB, 1 min 1 s left\n";
        assert_eq!(raid(&set), expected);
        (set.level, set.raid_type, set.format, set.copies) = ("raid6", "raid6_nr", None, None);
        (set.parities, set.marked, set.differing) = (2, Some(8192), 8);
        set.legs.pop();
        (set.may_lose, set.action) = (1, None);
        let expected = "r: raid6 (raid6_nr), 512 MiB, chunks of 64 KiB: degraded, 1 leg more may fail\n\
                        leg  state            image\n\
                        0    in sync          /a\n\
                        1    not in sync      /b\n\
                        2    failed           /c\n\
                        bitmap: 4 MiB marked\n\
                        write hole: after a crash, what legs 1, 2 had of that may be wrong, also where \
                        nobody wrote: run fsck then\n\
                        the last check: parity is wrong in 8 sectors of each leg\n";
        assert_eq!(raid(&set), expected);
        (set.level, set.raid_type, set.chunk_size) = ("raid1", "raid1", 0);
        (set.parities, set.marked) = (0, None);
        (set.health, set.differing) = ("in sync", 256);
        set.legs.truncate(1);
        let expected = "r: raid1, 512 MiB: in sync\n\
                        leg  state            image\n\
                        0    in sync          /a\n\
                        the last check: 256 sectors differ\n";
        assert_eq!(raid(&set), expected);
    }

    #[test]
    fn the_write_hole_is_told_of_where_parity_alone_knows_data_that_no_journal_has() {
        let mut set = Set {
            name: "r".to_owned(),
            level: "raid6",
            raid_type: "raid6_zr",
            format: None,
            copies: None,
            parities: 2,
            size: 1 << 20,
            becomes: None,
            unsettled: false,
            chunk_size: 128,
            region_size: 8192,
            health: "resyncing",
            may_lose: 0,
            replaceable: true,
            legs: (0..4).map(|nr| leg(nr, LegState::Resyncing, Some("/a"))).collect(),
            journal: None,
            action: None,
            differing: 0,
            marked: Some(8192),
        };
        let is_told = |set: &Set| raid(set).contains("write hole");
        assert!(!is_told(&set), "it is new");
        (set.legs[1].state, set.legs[0].write_mostly) = (LegState::Failed, true);
        assert!(is_told(&set));
        let file = Some("/j".into());
        let state = JournalState::WriteBack;
        set.journal = Some(Journal { state, major: Some(7), minor: Some(9), file, lost: None });
        assert!(!is_told(&set));
        assert!(raid(&set).contains("write-mostly: leg 0\njournal: writeback, /j\n"));
        set.journal.iter_mut().for_each(|journal| journal.state = JournalState::Failed);
        assert!(is_told(&set) && raid(&set).contains("journal: failed, /j\n"));
    }

    #[test]
    fn what_a_check_has_found_is_said() {
        let found = |differing, repaired, left_out: &[usize]| Checked {
            name: "r".to_owned(),
            level: "raid1",
            has_parity: false,
            compared: true,
            differing,
            repaired,
            left_out: left_out.to_vec(),
        };
        let check = |differing, repaired, left_out: &[usize]| {
            checked(&found(differing, repaired, left_out))
        };
        let of_parity = |differing, repaired| {
            let found = found(differing, repaired, &[]);
            checked(&Checked { level: "raid5", has_parity: true, ..found })
        };
        assert_eq!(of_parity(0, true), "r: parity is right\n");
        assert_eq!(of_parity(8, false), "r: parity is wrong in 8 sectors of each leg\n");
        let computed = "r: parity is wrong in 8 sectors of each leg, and is computed anew\n";
        assert_eq!(of_parity(8, true), computed);
        assert_eq!(check(0, false, &[]), "r: no sector differs\n");
        assert_eq!(check(128, false, &[]), "r: 128 sectors differ\n");
        assert_eq!(
            check(128, true, &[1]),
            "r: 128 sectors differ, and are repaired; leg 1 is not in sync, and was left out\n"
        );
        let alone = checked(&Checked { compared: false, ..found(0, false, &[1]) });
        assert_eq!(
            alone,
            "r: nothing was compared: no other leg in sync has what one has; leg 1 is not in sync, and \
             was left out\n"
        );
        assert!(
            check(0, false, &[1, 2]).ends_with("; legs 1, 2 are not in sync, and were left out\n")
        );
    }

    #[test]
    fn a_time_is_said_in_two_units_at_most() {
        for (seconds, text) in [(5, "5 s"), (125, "2 min 5 s"), (7322, "2 h 2 min")] {
            assert_eq!(print_time(seconds), text);
        }
    }
}
