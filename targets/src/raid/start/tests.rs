mod parity;

use std::fmt::Write;

use sim_core::Sectors;

use super::*;
use crate::lines::DeviceWord;

/// Reads what is there of a leg: `-`, `no-meta`, `unreadable`, `blank`, or what a superblock of a
/// good leg differs in from one of a raid1 in sync with two legs of 8192 sectors.
fn candidate(text: &str, nr: u32) -> Candidate {
    let size = Some(Sectors(8192));
    let found = match text {
        "-" => return Candidate { found: Found::NoDevice, size: None },
        "no-meta" => Found::NoDevice,
        "unreadable" => Found::Unreadable,
        "blank" => Found::Blank,
        words => Found::Superblock(superblock(words, nr)),
    };
    Candidate { found, size }
}

fn superblock(words: &str, nr: u32) -> Superblock {
    let geometry = Geometry { level: 1, layout: 0, chunk_sectors: 0 };
    let extension = Extension {
        unknown_flags: 0,
        reshape: None,
        reshape_position: DONE,
        new_geometry: geometry,
        delta_disks: 0,
        array_sectors: 8192,
        data_offset: 0,
        new_data_offset: 0,
        device_sectors: 8192,
        incompat: 0,
    };
    let mut superblock = Superblock {
        unknown_compat: 0,
        devices: 2,
        position: nr,
        events: 5,
        failed: Legs::default(),
        recovery_offset: DONE,
        resync_offset: DONE,
        geometry,
        extension: Some(extension.clone()),
    };
    let extension = superblock.extension.as_mut().expect("an extension");
    for word in words.split(' ') {
        let (name, value) = word.split_once('=').unwrap_or((word, "0"));
        let number: u64 = value.parse().expect("a number");
        match name {
            "good" | "old" => {}
            "events" => superblock.events = number,
            "failed" => superblock.failed.add(number as usize),
            "recovery" => superblock.recovery_offset = number,
            "resync" => superblock.resync_offset = number,
            "devices" => superblock.devices = number as u32,
            "position" => superblock.position = number as u32,
            "compat" => superblock.unknown_compat = number as u32,
            "incompat" => extension.incompat = number as u32,
            "level" => superblock.geometry.level = number as u32,
            "layout" => superblock.geometry.layout = number as u32,
            "chunk" => superblock.geometry.chunk_sectors = number as u32,
            "array" => extension.array_sectors = number,
            "device" => extension.device_sectors = number,
            "reshape" => {
                extension.reshape = Some(crate::raid::superblock::Reshape::Forwards);
            }
            other => panic!("{other}"),
        }
    }
    if words.contains("old") {
        superblock.extension = None;
    }
    superblock
}

fn start_of(line: &str, legs: &[&str], log: &mut Vec<String>) -> Result<Start, CtrError> {
    let (len, line) = line.split_once(' ').expect("a length");
    let devices = legs.iter().map(|leg| match *leg {
        "-" => " - -",
        "no-meta" => " - d",
        _ => " m d",
    });
    let text = format!("{line} {}{}", legs.len(), devices.collect::<String>());
    let len = Sectors(len.parse().expect("a length"));
    let line = Line::<DeviceWord>::from_text(&text, len).expect("a line");
    let legs: Vec<_> = legs.iter().zip(0..).map(|(leg, nr)| candidate(leg, nr)).collect();
    decide(&line, len, &legs, log)
}

/// Tells in words how a set starts, or why not.
fn told(line: &str, legs: &[&str]) -> (String, Vec<String>) {
    let mut log = Vec::new();
    let text = match start_of(line, legs, &mut log) {
        Err(error) => format!("{:?}: {}", error.errno, error.kernel),
        Ok(start) => {
            let mut text = String::new();
            for leg in &start.legs {
                match leg {
                    LegStart::InSync => text += "A",
                    LegStart::Recover { from, back: None } => write!(text, "r{from}").unwrap(),
                    LegStart::Recover { from, back: Some(events) } => {
                        write!(text, "r{from}b{events}").unwrap();
                    }
                    LegStart::Failed => text += "D",
                    LegStart::Missing => text += "-",
                    LegStart::Unused => text += "u",
                }
            }
            let resync = start.resync_from.map_or("-".to_owned(), |from| from.to_string());
            let write = if start.write_superblocks { " write" } else { "" };
            write!(text, " resync {resync} events {} {:?}{write}", start.events, start.bitmap)
                .unwrap();
            text
        }
    };
    (text, log)
}

#[track_caller]
fn check(line: &str, legs: &[&str], expected: &str, log: &[&str]) {
    assert_eq!(
        told(line, legs),
        (expected.to_owned(), log.iter().map(|s| s.to_string()).collect())
    );
}

const RAID1: &str = "8192 raid1 3 0 region_size 128";
const CREATED: &str = "Superblocks created for new raid set";
const INVALID: &str = "EINVAL(22): Unable to assemble array: Invalid superblocks";

fn rebuild(legs: &[u32]) -> String {
    let words: String = legs.iter().map(|leg| format!(" rebuild {leg}")).collect();
    format!("8192 raid1 {} 0 region_size 128{words}", 3 + 2 * legs.len())
}

#[test]
fn a_new_set_is_synchronized() {
    check(RAID1, &["blank", "blank"], "AA resync 0 events 1 New write", &[CREATED]);
    let nosync = "8192 raid1 2 0 nosync";
    check(nosync, &["blank", "blank"], "AA resync - events 1 New write", &[CREATED]);
    let sync = "8192 raid1 2 0 sync";
    check(sync, &["good", "good"], "AA resync 0 events 1 New write", &[]);
    let log = ["Device 1 specified for rebuild; clearing superblock", CREATED];
    check(&rebuild(&[1]), &["blank", "blank"], "Ar0 resync - events 1 New write", &log);
}

#[test]
fn a_set_goes_on_where_it_was() {
    check(RAID1, &["good", "good"], "AA resync - events 5 Load", &[]);
    check(RAID1, &["resync=2560", "resync=2560"], "AA resync 2560 events 5 Load", &[]);
    let nosync = "8192 raid1 2 0 nosync";
    check(nosync, &["resync=2560", "resync=2560"], "AA resync - events 5 Load", &[]);
    check(RAID1, &["good", "recovery=6400"], "Ar6400 resync - events 5 Load", &[]);
    // Who has more events is believed; who has less is not behind for that.
    check(RAID1, &["resync=8 events=4", "events=7"], "AA resync - events 7 Load", &[]);
    check(RAID1, &["events=7", "resync=8"], "AA resync - events 7 Load", &[]);
}

#[test]
fn a_leg_that_had_failed_is_rebuilt_by_the_bitmap() {
    check(RAID1, &["failed=1 events=9", "good"], "Ar0b5 resync - events 9 Load", &[]);
    // What one that is older says of another counts for nothing.
    check(RAID1, &["good", "failed=0 events=4"], "AA resync - events 5 Load", &[]);
    // One that is as fresh went on alone. (The kernel takes the first.)
    check(RAID1, &["good", "failed=0"], "r0b5A resync - events 5 Load", &[]);
    let raid10 = "4096 raid10 3 64 region_size 128";
    let leg = "devices=4 level=10 layout=258 chunk=64 array=4096 device=2048";
    let first = format!("{leg} failed=1 events=9");
    check(raid10, &[&first, leg, leg, leg], "Ar0b5AA resync - events 9 Load", &[]);
}

#[test]
fn a_set_that_lacks_too_much_does_not_start() {
    let run = "EINVAL(22): Failed to run raid array";
    check(RAID1, &["failed=0 failed=1", "failed=0"], run, &[]);
    check(
        RAID1,
        &["unreadable", "unreadable"],
        run,
        &[
            "Failed to read superblock of device at position 0",
            "Failed to read superblock of device at position 1",
        ],
    );
    check(RAID1, &["-", "-"], "EINVAL(22): Invalid rdev size", &[]);
    let both = [
        "Device 0 specified for rebuild; clearing superblock",
        "Device 1 specified for rebuild; clearing superblock",
        CREATED,
    ];
    check(&rebuild(&[0, 1]), &["good", "good"], run, &both);
    check(&rebuild(&[0, 1]), &["blank", "blank"], run, &both);
    let raid10 = "4096 raid10 5 8 rebuild 0 rebuild 1";
    let blank = ["blank"; 4];
    check(raid10, &blank, "EIO(5): Failed to run raid array", &both);
    let raid10 = "4096 raid10 1 8";
    let leg = "devices=4 level=10 layout=258 chunk=8 array=4096 device=2048";
    let redundancy = "EINVAL(22): Insufficient redundancy to activate array";
    check(raid10, &["-", "-", leg, leg], redundancy, &[]);
    check(raid10, &["-", leg, "-", leg], "-A-A resync - events 5 Load", &[]);
    check(raid10, &["no-meta"; 4], "AAAA resync - events 0 None", &[]);
    check("4096 raid0 1 8", &["blank", "-"], run, &[]);
    // The bitmap is looked for on the data device of the first leg.
    check(RAID1, &["no-meta", "good", "good"], run, &[]);
    check(RAID1, &["devices=3", "no-meta", "-"], "AA- resync - events 5 Load", &[]);
}

/// Four legs of a raid10 of 4096 sectors; those of `words` differ in something.
fn four(layout: u32, words: [&str; 4]) -> Vec<String> {
    let leg = format!("devices=4 level=10 layout={layout} chunk=64 array=4096 device=2048");
    let leg = |words: &str| match words {
        "-" | "blank" | "no-meta" => words.to_owned(),
        words => format!("{leg} {words}"),
    };
    words.map(leg).to_vec()
}

#[test]
fn raid10_starts_with_what_md_thinks_is_enough() {
    let four = |format: &str, params: &str, words, expected: &str| {
        let layout = match format {
            "near" => 0x102,
            "far" => 0x40201,
            _ => 0x50201,
        };
        let count = 3 + params.split_whitespace().count();
        let line = format!("4096 raid10 {count} 64 raid10_format {format}{params}");
        let legs = four(layout, words);
        let legs: Vec<&str> = legs.iter().map(String::as_str).collect();
        assert_eq!(told(&line, &legs).0, expected, "{line} {words:?}");
    };
    let redundancy = "EINVAL(22): Insufficient redundancy to activate array";
    let enough = "EIO(5): Failed to run raid array";
    for format in ["near", "far", "offset"] {
        let near = format == "near";
        four(format, "", ["-", "-", "good", "good"], redundancy);
        four(format, "", ["-", "good", "-", "good"], "-A-A resync - events 5 Load");
        let some = |text: &'static str| if near { text } else { enough };
        four(format, "", ["good", "-", "-", "good"], some("A--A resync - events 5 Load"));
        four(format, "", ["-", "good", "good", "-"], some("-AA- resync - events 5 Load"));
        four(format, "", ["no-meta", "no-meta", "good", "good"], redundancy);
        let run = "EINVAL(22): Failed to run raid array";
        four(format, "", ["no-meta", "good", "good", "good"], run);
        four(format, " rebuild 0", ["good", "-", "good", "good"], enough);
        four(format, " rebuild 0 rebuild 1", ["good"; 4], enough);
        let both = " rebuild 1 rebuild 2";
        four(format, both, ["good"; 4], some("Ar0r0A resync - events 5 Load write"));
        let failed = ["failed=1 failed=2", "good", "good", "good"];
        let failed = failed.map(|words| words.trim_end());
        four(format, "", failed, some("Ar0b5r0b5A resync - events 5 Load"));
        four(format, "", ["failed=0 failed=1", "good", "good", "good"], enough);
        four(
            format,
            "",
            ["failed=1 events=1", "good", "good", "good"],
            "AAAA resync - events 5 Load",
        );
        four(format, " rebuild 1", ["good", "good", "blank", "good"], INVALID);
    }
}

#[test]
fn raid10_has_as_many_legs_as_its_superblocks_say() {
    let of = |line: &str, words: &[&str]| {
        let legs: Vec<String> = words
            .iter()
            .map(|word| match *word {
                "blank" => "blank".to_owned(),
                _ => "devices=4 level=10 layout=258 chunk=64 array=4096 device=2048".to_owned(),
            })
            .collect();
        let legs: Vec<&str> = legs.iter().map(String::as_str).collect();
        let start = start_of(line, &legs, &mut Vec::new()).expect("a start");
        let layout = start.layout().expect("a layout");
        (layout.legs(), layout.len().0, start.lengths.array.0, start.legs.last().copied())
    };
    let three = of("3072 raid10 1 64", &["good"; 3]);
    assert_eq!(three, (4, 4096, 4096, Some(LegStart::InSync)));
    let five = ["good", "good", "good", "good", "blank"];
    let five = of("5120 raid10 3 64 rebuild 4", &five);
    assert_eq!(five, (4, 4096, 4096, Some(LegStart::Unused)));
}

#[test]
fn a_leg_that_is_missing_or_unreadable_is_left_out() {
    check(RAID1, &["good", "-"], "A- resync - events 5 Load", &[]);
    check(RAID1, &["resync=8", "-"], "A- resync - events 5 Load", &[]);
    let log = ["Failed to read superblock of device at position 1"];
    check(RAID1, &["good", "unreadable"], "AD resync - events 5 Load", &log);
    check(RAID1, &["good", "good", "-"], "AA- resync - events 5 Load", &[]);
    let mut log = Vec::new();
    let start = start_of(RAID1, &["good", "-"], &mut log).expect("a start");
    assert!(start.failed().has(1) && start.superblock(0).failed.has(1));
}

#[test]
fn new_legs_are_rebuilt_where_the_line_says_so() {
    const INJECTED: &str = "New device injected into existing raid set without 'delta_disks' or \
                            'rebuild' parameter specified";
    check(RAID1, &["good", "blank"], INVALID, &[INJECTED]);
    check(RAID1, &["blank", "-"], INVALID, &[INJECTED]);
    check(RAID1, &["blank", "no-meta"], INVALID, &[INJECTED]);
    check(RAID1, &["good", "good", "blank"], INVALID, &[INJECTED]);
    let log = ["Device 1 specified for rebuild; clearing superblock"];
    check(&rebuild(&[1]), &["good", "blank"], "Ar0 resync - events 5 Load write", &log);
    check(&rebuild(&[1]), &["good", "good"], "Ar0 resync - events 5 Load write", &log);
    check(&rebuild(&[1]), &["resync=4096", "good"], "Ar0 resync - events 5 Load write", &log);
    let log = ["Device 2 specified for rebuild; clearing superblock"];
    check(&rebuild(&[2]), &["good", "good", "blank"], "AAr0 resync - events 5 Load", &log);
    // The one that is good is to be rebuilt from the new one: all are new, then.
    let log = ["Device 0 specified for rebuild; clearing superblock", CREATED];
    check(&rebuild(&[0]), &["good", "blank"], "r0A resync - events 1 New write", &log);
    check(
        &rebuild(&[0]),
        &["good", "good", "blank"],
        INVALID,
        &[
            "Device 0 specified for rebuild; clearing superblock",
            "1 'rebuild' devices cannot be injected into a raid set with 2 other first-time devices",
        ],
    );
}

#[test]
fn a_set_without_metadata_is_in_sync() {
    check(RAID1, &["no-meta", "no-meta"], "AA resync - events 0 None", &[]);
    check(&rebuild(&[0]), &["no-meta", "no-meta"], "r0A resync - events 0 None write", &[]);
    check("4096 raid0 1 8", &["blank", "blank"], "AA resync - events 0 None", &[]);
}

#[test]
fn places_of_legs_are_held() {
    let log = ["raid device #1 now at position #0", "raid device #0 now at position #1"];
    let swapped = ["position=1", "position=0"];
    check(RAID1, &swapped, "AA resync - events 5 Load", &log);
    let raid10 = |format: &str| format!("4096 raid10 3 64 raid10_format {format}");
    let legs = |layout: u32| {
        let leg = |position: u32| {
            format!(
                "position={position} devices=4 level=10 layout={layout} chunk=64 array=4096 \
                 device=2048"
            )
        };
        [leg(1), leg(0), leg(2), leg(3)]
    };
    let near = legs(0x102);
    let near: Vec<&str> = near.iter().map(String::as_str).collect();
    check(&raid10("near"), &near, "AAAA resync - events 5 Load", &log);
    for (format, layout) in [("far", 0x40201), ("offset", 0x50201)] {
        let legs = legs(layout);
        let legs: Vec<&str> = legs.iter().map(String::as_str).collect();
        let why = "EINVAL(22): Cannot change device positions in raid set";
        check(&raid10(format), &legs, why, &[]);
    }
}

#[test]
fn features_that_nobody_knows_are_refused() {
    let compat = "EINVAL(22): Unable to assemble array: Unknown flag(s) in compatible feature \
                  flags";
    let incompat = "EINVAL(22): Unable to assemble array: No incompatible feature flags \
                    supported yet";
    for legs in [["compat=2", "good"], ["good", "compat=2"]] {
        check(RAID1, &legs, compat, &[]);
    }
    for legs in [["incompat=1", "good"], ["good", "incompat=1"]] {
        check(RAID1, &legs, incompat, &[]);
    }
}

#[test]
fn an_old_superblock_is_believed_where_nothing_changes() {
    let log = ["Discovered old metadata format; upgrading to extended metadata format"];
    check(RAID1, &["old", "old"], "AA resync - events 5 Load", &log);
    let log =
        ["Takeover raid sets from raid10 to raid1 not yet supported by metadata. (raid level \
                change)"];
    let raid10 = "old level=10 layout=258 chunk=64";
    check(RAID1, &[raid10, raid10], INVALID, &log);
    let log = ["Reshaping raid sets not yet supported by metadata. (raid layout change keeping \
                level)"];
    check(RAID1, &["old", "old", "-"], INVALID, &log);
    let raid10 = ["old devices=4 level=10 layout=258 chunk=64"; 4];
    let line = "4096 raid10 1 32";
    check(
        line,
        &raid10,
        INVALID,
        &[
            "Reshaping raid sets not yet supported by metadata. (raid layout change keeping level)",
            "\t current stripe sectors 64 vs new stripe sectors 32",
            "\t Old layout: near w/ 2 copies",
            "\t New layout: near w/ 2 copies",
        ],
    );
    let log = ["Discovered old metadata format; upgrading to extended metadata format"];
    let line = "4096 raid10 3 32 raid10_format far";
    check(line, &raid10, "AAAA resync - events 5 Load", &log);
}

#[test]
fn a_set_does_not_change_by_its_line() {
    let of = |line: &str, legs: &[&str]| {
        let start = start_of(line, legs, &mut Vec::new())?;
        Ok::<_, CtrError>((start.geometry.layout, start.geometry.chunk_sectors, start.devices))
    };
    let leg = "devices=4 level=10 layout=262657 chunk=64 array=4096 device=2048";
    let near = "devices=4 level=10 layout=258 chunk=64 array=4096 device=2048";
    assert_eq!(of("4096 raid10 3 32 raid10_format far", &[leg; 4]), Ok((0x40201, 64, 4)));
    assert_eq!(of("4096 raid10 1 32", &[near; 4]), Ok((0x102, 64, 4)));
    assert_eq!(of("2048 raid10 3 64 raid10_copies 4", &[near; 4]), Ok((0x102, 64, 4)));
    // But raid1 has as many legs as the line.
    assert_eq!(of(RAID1, &["devices=3"; 2]), Ok((0, 0, 2)));
    let refused = |line: &str, legs: &[&str], why: &str| {
        assert_eq!(of(line, legs).map_err(|error| error.kernel), Err(why.to_owned()));
    };
    refused("4096 raid1 1 0", &[near; 4], "takeover not possible");
    refused(RAID1, &["reshape=1"; 2], "Reshape not supported");
    let delta = "8192 raid1 3 0 delta_disks -1";
    refused(delta, &["devices=3"; 2], "Can't reshape degraded raid set");
}

#[test]
fn a_raid1_is_given_legs() {
    let delta = "8192 raid1 5 0 region_size 128 delta_disks 1";
    check(delta, &["good", "good", "blank"], "AAr0 resync - events 5 Load write", &[]);
    // The same line again, when they were told.
    let told = ["devices=3", "devices=3", "devices=3 recovery=0"];
    check(delta, &told, "AAr0 resync - events 5 Load", &[]);
    let log = ["New device injected into existing raid set without 'delta_disks' or 'rebuild' \
                parameter specified"];
    check(&delta.replace("disks 1", "disks 2"), &["good", "good", "blank"], INVALID, &log);
    let degraded = "EPERM(1): Can't reshape degraded raid set";
    check(delta, &["good", "-", "blank"], degraded, &[]);
}

#[test]
fn a_set_grows_and_shrinks_with_its_line() {
    let lengths = |line: &str, leg: &str| {
        let start = start_of(line, &[leg, leg], &mut Vec::new()).expect("a start");
        let device = |lengths: Lengths| lengths.device.0;
        let from = start.resync_from.map(|from| from.0);
        (device(start.lengths), start.grown.map(device), from, start.write_superblocks)
    };
    let leg = "array=4096 device=4096";
    assert_eq!(lengths(RAID1, leg), (4096, Some(8192), Some(4096), false));
    let leg = "array=4096 device=4096 resync=1024";
    assert_eq!(lengths(RAID1, leg), (4096, Some(8192), Some(1024), false));
    assert_eq!(lengths("4096 raid1 1 0", "good"), (4096, None, None, true));
    let nosync = "8192 raid1 2 0 nosync";
    assert_eq!(lengths(nosync, "array=4096 device=4096"), (4096, Some(8192), None, false));
}

#[test]
fn a_reshape_needs_space() {
    let line = "8192 raid1 3 0 data_offset 32";
    let why = "ENOSPC(28): No space for backward reshape";
    check(line, &["blank", "blank"], why, &[CREATED]);
    let line = "8160 raid1 3 0 data_offset 32";
    let start = start_of(line, &["blank", "blank"], &mut Vec::new()).expect("a start");
    assert_eq!(start.data_offsets, Some((Sectors(0), Sectors(32))));
}

#[test]
fn superblocks_are_as_the_kernel_writes_them() {
    use crate::raid::recorded::recorded;
    let recorded = |name: &str| Superblock::read(&recorded(name).superblock).expect("a superblock");
    let blank = |line: &str, legs: usize| {
        start_of(line, &vec!["blank"; legs], &mut Vec::new()).expect("a start")
    };
    let own = Superblock { events: 7, resync_offset: 2560, ..blank(RAID1, 2).superblock(0) };
    assert_eq!(own, recorded("raid1-resync-leg-0"));
    for format in ["near", "far", "offset"] {
        let line = format!("4096 raid10 3 64 raid10_format {format}");
        let own = blank(&line, 4).superblock(1);
        let own = Superblock { events: 10, resync_offset: 2240, ..own };
        assert_eq!(own, recorded(&format!("raid10-{format}-leg-1")));
    }
    let own = Superblock { events: 1, ..blank("16384 raid0 1 64", 4).superblock(0) };
    assert_eq!(own, recorded("raid0-leg-0"));
    let missing = start_of(RAID1, &["events=22 devices=3", "good", "-"], &mut Vec::new());
    assert_eq!(missing.expect("a start").superblock(0), recorded("raid1-leg-2-missing"));
}
