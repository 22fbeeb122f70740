use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use sim_core::{Arg, CtrError, DevNumber, Errno, Sectors, Words};

use super::*;
use crate::lines::{DeviceFacts, DeviceWord, Devices};
use crate::raid::layout::Format;

/// Loop devices of given lengths, and what is logged.
struct Loops<'a> {
    sizes: &'a BTreeMap<String, u64>,
    log: Vec<String>,
}

impl Devices for Loops<'_> {
    type Device = DevNumber;

    fn open(&mut self, word: Arg<'_>, kernel: &str) -> Result<DevNumber, CtrError> {
        match self.sizes.contains_key(word.text()) {
            true => Ok(word.text().parse().expect("a number")),
            false => Err(word.error("a device", kernel).errno(Errno::NOENT)),
        }
    }

    fn facts(&self, device: &DevNumber) -> Option<DeviceFacts> {
        let size = Sectors(self.sizes[&device.to_string()]);
        Some(DeviceFacts { number: *device, size, logical_block: Sectors(1) })
    }

    fn log(&mut self, module: &str, line: fmt::Arguments<'_>) {
        assert_eq!(module, "raid");
        self.log.push(line.to_string());
    }
}

/// Reads a recorded line, and tells what comes of it as the file has it.
fn outcome(line: &str, sizes: &BTreeMap<String, u64>) -> Vec<String> {
    let (len, text) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut devices = Loops { sizes, log: Vec::new() };
    let len = Sectors(len.parse().expect("a length"));
    let result = match Line::parse(&mut Words::new(&words, len), &mut devices) {
        Ok(line) => format!("= {line}"),
        Err(error) => {
            let errno = match error.errno {
                Errno::INVAL => "EINVAL",
                Errno::NOENT => "ENOENT",
                Errno::NOSPC => "ENOSPC",
                other => panic!("{other:?}"),
            };
            format!("! {errno} {}", error.kernel)
        }
    };
    devices.log.iter().map(|line| format!("k {line}")).chain([result]).collect()
}

#[test]
fn lines_are_read_refused_and_shown_as_the_kernel_does() {
    let mut sizes = BTreeMap::new();
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut different = Vec::new();
    let text = include_str!("recorded.txt");
    let size = |word: &str| {
        let (name, size) = word.split_once('=').expect("a device");
        (name.to_owned(), size.parse().expect("a length"))
    };
    let mut count = 0;
    let mut run = |cases: &mut Vec<(&str, Vec<&str>)>, sizes: &BTreeMap<String, u64>| {
        for (line, expected) in cases.drain(..) {
            count += 1;
            let found = outcome(line, sizes);
            if found != expected {
                different.push(format!("{line}\n  {expected:?}\n  {found:?}"));
            }
        }
    };
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match (line.strip_prefix("@ "), line.strip_prefix("    ")) {
            (Some(devices), _) => {
                run(&mut cases, &sizes);
                sizes = devices.split(' ').map(size).collect();
            }
            (_, Some(outcome)) => cases.last_mut().expect("a line").1.push(outcome),
            _ => cases.push((line, Vec::new())),
        }
    }
    run(&mut cases, &sizes);
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(count > 200, "{count} lines");
}

#[test]
fn no_set_has_more_legs_than_md_counts() {
    let line = |count: usize| {
        let text = format!("raid1 1 0 {count}{}", " - -".repeat(count));
        Line::from_text(&text, Sectors(2048)).map(|line| line.legs.len())
    };
    assert_eq!(line(253), Ok(253));
    for count in [254, 255] {
        let error = line(count).expect_err("too many");
        assert_eq!(error.kernel, "Invalid number of supplied raid devices");
    }
}

#[test]
fn a_journal_is_for_parity_alone() {
    let sizes: BTreeMap<String, u64> = [("7:0", 8192), ("7:1", 64), ("7:2", 2048)]
        .map(|(name, len)| (name.to_owned(), len))
        .into();
    let legs = "3 - 7:2 - 7:2 - 7:2";
    let line = |params: &str| outcome(&format!("2048 raid5_ls {params} {legs}"), &sizes);
    let refused = |params: &str, why: &str| {
        let found = line(params);
        assert_eq!(found.last().map(String::as_str), Some(why), "{params}");
    };
    refused("3 8 journal_dev 7:1", "! ENOSPC No space for raid4/5/6 journal");
    refused("3 8 journal_dev 7:9", "! ENOENT raid4/5/6 journal device lookup failure");
    refused("5 8 journal_dev 7:0 journal_mode x", "! EINVAL Invalid 'journal_mode' argument");
    let first = "raid4/5/6 'journal_mode' is invalid without 'journal_dev'";
    refused("5 8 journal_mode writeback journal_dev 7:0", &format!("! EINVAL {first}"));
    let shown = "= raid5_ls 5 8 journal_dev 7:0 journal_mode writeback 3 - 7:2 - 7:2 - 7:2";
    refused("5 8 journal_dev 7:0 journal_mode WriteBack", shown);
}

#[test]
fn what_a_line_asks_for_is_told() {
    let line = |text: &str| Line::from_text(text, Sectors(160)).expect("a line");
    let lengths = |text: &str| line(text).lengths(Sectors(160)).expect("lengths");
    let far = "raid10 5 8 raid10_format far raid10_copies 3 5 - a - b - c - d - e";
    assert_eq!(lengths(far), Lengths { device: Sectors(96), array: Sectors(160) });
    assert_eq!(line(far).layout_word(), 0x40301);
    assert_eq!(line(far).max_io_len(), Some(Sectors(8)));
    let mirror = "raid1 3 0 region_size 16 2 - a - b";
    assert_eq!(lengths(mirror), Lengths { device: Sectors(160), array: Sectors(160) });
    assert_eq!(line(mirror).max_io_len(), Some(Sectors(16)));
    assert_eq!(line("raid1 1 0 2 - a - b").max_io_len(), None);
    // 8 PiB have regions of 2^23 sectors.
    let mirror = line("raid1 1 0 2 - a - b");
    assert_eq!(mirror.region_size(Sectors(1 << 44)), Sectors(1 << 23));
    assert_eq!(mirror.region_size(Sectors(1 << 34)), Sectors(8192));
}

#[test]
fn a_set_is_called_after_its_level_and_layout() {
    let of = |level, layout| Kind::of(level, layout).map(Kind::name);
    assert_eq!(of(10, 0x102), Some("raid10"));
    assert_eq!(of(10, 0x40201), Some("raid10_far"));
    assert_eq!(of(10, 0x10201), Some("raid10_offset"));
    assert_eq!(of(5, 4), Some("raid4"));
    assert_eq!(of(6, 10), Some("raid6_nc"));
    assert_eq!((of(4, 0), of(10, 0x20201)), (None, None));
    for kind in Kind::all() {
        assert_eq!(Kind::named(&kind.name().to_uppercase()), Some(kind));
    }
}

fn params(legs: usize, family: Family) -> impl Strategy<Value = Params<DeviceWord>> {
    let number = || proptest::option::of(1u32..=1 << 30);
    let some_legs = move || prop::collection::btree_set(0..legs, 0..legs);
    let raid1 = family == Family::Raid1;
    let synchronize =
        select(vec![Synchronize::AsRecorded, Synchronize::Everything, Synchronize::Nothing]);
    // Of those that the kernel shows halved, 0 is 0 again.
    let behind = proptest::option::of(Just(0u32));
    let region = proptest::option::of((3u32..20).prop_map(|shift| Sectors(1 << shift)));
    let copies = proptest::option::of(2..=legs);
    let format = select(vec![None, Some(Format::Near), Some(Format::Far), Some(Format::Offset)]);
    (synchronize, some_legs(), some_legs(), (number(), number(), behind), region, (copies, format))
        .prop_map(move |(synchronize, rebuild, mostly, numbers, region_size, (copies, format))| {
            let (daemon_sleep, rate, behind) = numbers;
            let rebuild = match synchronize {
                Synchronize::AsRecorded => rebuild,
                _ => Default::default(),
            };
            let raid10 = family == Family::Raid10;
            Params {
                synchronize,
                rebuild,
                daemon_sleep,
                min_recovery_rate: rate,
                max_recovery_rate: rate,
                write_mostly: if raid1 { mostly } else { Default::default() },
                max_write_behind: behind.filter(|_| raid1),
                region_size,
                raid10_copies: copies.filter(|_| raid10),
                raid10_format: format.filter(|_| raid10),
                ..Params::default()
            }
        })
}

fn line() -> impl Strategy<Value = Line<DeviceWord>> {
    let kind = select(vec![Kind::Raid1, Kind::Raid10, Kind::Raid10Far, Kind::Raid5Ls]);
    (kind, 2usize..8).prop_flat_map(|(kind, legs)| {
        let device = || (0u32..9, 0u32..99).prop_map(|(a, b)| format!("{a}:{b}").as_str().into());
        let leg = (proptest::option::of(device()), device());
        let legs_of = prop::collection::vec(leg, legs);
        (params(legs, kind.family()), legs_of).prop_map(move |(params, legs)| {
            let leg = |(meta, data)| Leg { meta, data: Some(data) };
            let legs = legs.into_iter().map(leg).collect();
            let chunk = if kind == Kind::Raid1 { 0 } else { 8 };
            Line { kind, chunk: Sectors(chunk), params, legs }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_that_is_printed_is_read_again(line in line()) {
        // A length that every number of legs divides, and no region is too small for.
        let len = Sectors(840 << 12);
        let text = line.to_string();
        prop_assert_eq!(Line::from_text(&text, len), Ok(line), "{}", text);
    }

    #[test]
    fn a_status_that_is_printed_is_read_again(
        kind in select(Kind::all().collect::<Vec<_>>()),
        legs in prop::collection::vec(select(vec![
            LegHealth::InSync, LegHealth::Behind, LegHealth::Failed, LegHealth::Missing,
        ]), 1..9),
        (done, total, mismatches, data_offset) in any::<(u64, u64, u64, u64)>(),
        action in select(vec![
            Action::Idle, Action::Frozen, Action::Resync, Action::Recover, Action::Check,
            Action::Repair, Action::Reshape,
        ]),
        journal in select(vec![
            JournalHealth::Missing, JournalHealth::WriteThrough, JournalHealth::WriteBack,
            JournalHealth::Failed,
        ]),
    ) {
        let devices = legs.len();
        let status =
            Status { kind, devices, legs, done, total, action, mismatches, data_offset, journal };
        prop_assert_eq!(Status::parse(&status.to_string()), Some(status));
    }
}

#[test]
fn recorded_statuses_are_read() {
    for text in [
        "raid1 2 aa 2560/8192 resync 0 0 -",
        "raid1 3 AAa 0/8192 idle 0 0 -",
        "raid10_far 4 AaAA 1920/4096 recover 0 0 -",
        "raid1 2 -A 8192/8192 idle 128 0 -",
        "raid5_ls 3 AAA 1024/1024 idle 0 0 -",
    ] {
        assert_eq!(Status::parse(text).map(|status| status.to_string()).as_deref(), Some(text));
    }
    for text in ["", "raid1 2 AX 1/1 idle 0 0 -", "raid1 2 AA 1 idle 0 0 -", "raid1 2 AA 1/1 idle"]
    {
        assert_eq!(Status::parse(text), None, "{text}");
    }
    let whole = |text| Status::parse(text).expect("a status").is_whole();
    assert!(whole("raid1 2 AA 8/8 check 0 0 -") && !whole("raid1 2 AD 8/8 idle 0 0 -"));
}
