//! RAID sets, as people read them.

use std::fmt::Write as _;

use ops::raid::{Checked, Going, LegState, Set};
use ops::size::print_size;
use sim_core::SECTOR_SIZE;

/// Draws a set with its legs, and what goes on.
pub(crate) fn raid(set: &Set) -> String {
    let bytes = |sectors: u64| print_size(sectors * SECTOR_SIZE);
    let mut text = format!("{}: {}", set.name, set.level);
    let mut add = |more: std::fmt::Arguments<'_>| {
        text.write_fmt(more).expect("a string takes all");
    };
    if let (Some(format), Some(copies)) = (set.format, set.copies) {
        add(format_args!(" of {copies} {format} copies"));
    }
    add(format_args!(", {}", bytes(set.size)));
    if set.chunk_size > 0 {
        add(format_args!(", chunks of {}", bytes(set.chunk_size)));
    }
    add(format_args!(": {}\n", set.health));
    add(format_args!("{:<5}{:<17}image\n", "leg", "state"));
    for leg in &set.legs {
        let state = match (leg.state, &set.action) {
            (LegState::InSync, _) => "in sync".to_owned(),
            (LegState::Resyncing, _) => "resyncing".to_owned(),
            (LegState::Rebuilding, Some(going)) => format!("rebuilding {:.0} %", floor(going)),
            (LegState::Rebuilding, None) => "not in sync".to_owned(),
            (LegState::Failed, _) => "failed".to_owned(),
            (LegState::Missing, _) => "missing".to_owned(),
        };
        let file = leg.file.as_ref().map_or("-".to_owned(), |file| file.display().to_string());
        add(format_args!("{:<5}{state:<17}{file}\n", leg.leg));
    }
    if let Some(going) = &set.action {
        let (done, total) = (print_whole(going.done), print_whole(going.total));
        add(format_args!("{}: {:.0} %, {done} of {total}", going.what, floor(going)));
        match going.seconds_left {
            Some(left) => add(format_args!(", {} left\n", print_time(left))),
            None => add(format_args!("\n")),
        }
    }
    if set.differing > 0 {
        add(format_args!("the last check: {}\n", differ(set.differing)));
    }
    text
}

/// Says what a check or a repair has found.
pub(crate) fn checked(found: &Checked) -> String {
    let Checked { name, differing, repaired, left_out } = found;
    let what = match (*differing, *repaired) {
        (0, _) => "no sector differs".to_owned(),
        (some, false) => differ(some),
        (some, true) => format!("{}, and are repaired", differ(some)),
    };
    let left_out: Vec<String> = left_out.iter().map(usize::to_string).collect();
    let besides = match &left_out[..] {
        [] => String::new(),
        [leg] => format!("; leg {leg} is not in sync, and was left out"),
        legs => format!("; legs {} are not in sync, and were left out", legs.join(", ")),
    };
    format!("{name}: {what}{besides}\n")
}

fn differ(sectors: u64) -> String {
    format!("{sectors} sectors differ")
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
    use ops::raid::Leg;

    fn leg(leg: usize, state: LegState, file: Option<&str>) -> Leg {
        let number = |part| file.map(|_| part);
        Leg { leg, state, major: number(253), minor: number(1), file: file.map(Into::into) }
    }

    #[test]
    fn a_set_is_drawn_with_its_legs_and_what_goes_on() {
        let mut set = Set {
            name: "r".to_owned(),
            level: "raid10",
            format: Some("near"),
            copies: Some(2),
            size: 1 << 20,
            chunk_size: 128,
            region_size: 8192,
            health: "degraded",
            legs: vec![
                leg(0, LegState::InSync, Some("/a")),
                leg(1, LegState::Rebuilding, Some("/b")),
                leg(2, LegState::Failed, Some("/c")),
                leg(3, LegState::Missing, None),
            ],
            action: Some(Going {
                what: "recover",
                done: 1 << 18,
                total: 1 << 19,
                percent: 50.9,
                seconds_left: Some(61),
            }),
            differing: 0,
        };
        let expected = "r: raid10 of 2 near copies, 512 MiB, chunks of 64 KiB: degraded\n\
                        leg  state            image\n\
                        0    in sync          /a\n\
                        1    rebuilding 50 %  /b\n\
                        2    failed           /c\n\
                        3    missing          -\n\
                        recover: 50 %, 128 MiB of 256 MiB, 1 min 1 s left\n";
        assert_eq!(raid(&set), expected);
        (set.level, set.format, set.chunk_size, set.action) = ("raid1", None, 0, None);
        (set.health, set.differing) = ("in sync", 256);
        set.legs.truncate(1);
        let expected = "r: raid1, 512 MiB: in sync\n\
                        leg  state            image\n\
                        0    in sync          /a\n\
                        the last check: 256 sectors differ\n";
        assert_eq!(raid(&set), expected);
    }

    #[test]
    fn what_a_check_has_found_is_said() {
        let check = |differing, repaired, left_out: &[usize]| {
            let left_out = left_out.to_vec();
            checked(&Checked { name: "r".to_owned(), differing, repaired, left_out })
        };
        assert_eq!(check(0, false, &[]), "r: no sector differs\n");
        assert_eq!(check(128, false, &[]), "r: 128 sectors differ\n");
        assert_eq!(
            check(128, true, &[1]),
            "r: 128 sectors differ, and are repaired; leg 1 is not in sync, and was left out\n"
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
