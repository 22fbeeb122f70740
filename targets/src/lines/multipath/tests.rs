use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;
use sim_core::{Arg, CtrError, DevNumber, Errno, Sectors, Words};

use super::*;
use crate::lines::{DeviceFacts, DeviceWord, Devices};

/// Three loop devices of a machine with one processor, and what is logged.
#[derive(Default)]
struct Loops(Vec<String>);

impl Devices for Loops {
    type Device = DevNumber;

    fn open(&mut self, word: Arg<'_>, kernel: &str) -> Result<DevNumber, CtrError> {
        let refuse = |errno| Err(word.error("a device", kernel).errno(errno));
        match word.text().parse::<DevNumber>() {
            Ok(number) if number.major == 7 && number.minor < 3 => Ok(number),
            Ok(_) => refuse(Errno::NXIO),
            Err(_) => refuse(Errno::NOENT),
        }
    }

    fn facts(&self, device: &DevNumber) -> Option<DeviceFacts> {
        Some(DeviceFacts { number: *device, size: Sectors(2048), logical_block: Sectors(1) })
    }

    fn processors(&self) -> Option<u32> {
        Some(1)
    }

    fn log(&mut self, module: &str, line: fmt::Arguments<'_>) {
        self.0.push(format!("k {module}: {line}"));
    }
}

/// Reads a recorded line, and tells what comes of it as the file has it.
fn outcome(line: &str) -> Vec<String> {
    let (len, text) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut devices = Loops::default();
    let len = Sectors(len.parse().expect("a length"));
    let result = match Line::parse(&mut Words::new(&words, len), &mut devices) {
        Ok(line) => {
            let text = line.to_string();
            assert!(text.ends_with(' '), "the kernel leaves a blank: `{text}`");
            format!("= {}", text.trim_end())
        }
        Err(error) => format!("! {} {}", error.errno.name(), error.kernel),
    };
    devices.0.into_iter().chain([result]).collect()
}

#[test]
fn lines_are_read_refused_and_shown_as_the_kernel_does() {
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in include_str!("recorded.txt").lines() {
        match line.strip_prefix("    ") {
            Some(outcome) => cases.last_mut().expect("a line").1.push(outcome),
            None if line.starts_with('#') || line.is_empty() => {}
            None => cases.push((line, Vec::new())),
        }
    }
    assert!(cases.len() > 200, "{} lines", cases.len());
    let different: Vec<String> = cases
        .iter()
        .map(|(line, expected)| (line, expected, outcome(line)))
        .filter(|(_, expected, found)| *expected != found)
        .map(|(line, expected, found)| format!("{line}\n  {expected:?}\n  {found:?}"))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_tool_reads_a_line_with_a_handler() {
    let text = "1 retain_attached_hw_handler 1 alua 1 1 service-time 0 1 2 8:0 1 1 ";
    let line = Line::from_text(text, Sectors(2048)).expect("a line");
    assert_eq!(line.handler.as_deref(), Some("alua"));
    assert_eq!(line.to_string(), text);
}

#[test]
fn there_are_no_more_than_1024_groups_and_paths() {
    let groups = |count: u32| {
        let text = format!("0 0 {count} 1{}", " round-robin 0 1 0 7:0".repeat(count as usize));
        Line::from_text(&text, Sectors(2048)).map(|line| line.groups.len())
    };
    assert_eq!(groups(MAX_COUNT), Ok(1024));
    assert_eq!(groups(MAX_COUNT + 1).unwrap_err().kernel, "invalid number of priority groups");
    let paths = |count: u32| {
        let text = format!("0 0 1 1 round-robin 0 {count} 0{}", " 7:0".repeat(count as usize));
        Line::from_text(&text, Sectors(2048)).map(|line| line.groups[0].paths.len())
    };
    assert_eq!(paths(MAX_COUNT), Ok(1024));
    assert_eq!(paths(MAX_COUNT + 1).unwrap_err().kernel, "invalid number of paths");
}

fn device() -> impl Strategy<Value = DeviceWord> {
    prop_oneof!["[0-9]{1,3}:[0-9]{1,3}", "/[a-z]{1,8}", "[a-z \\\\é]{1,6}"].prop_map(DeviceWord)
}

fn features() -> impl Strategy<Value = Features> {
    let delay = proptest::option::of(0u32..=60000);
    (any::<[bool; 3]>(), 0u32..=50, delay).prop_map(|(flags, pg_init_retries, delay)| {
        let [queue_if_no_path, retain, is_bios] = flags;
        let queue_mode = if is_bios { QueueMode::Bios } else { QueueMode::Requests };
        Features {
            queue_if_no_path,
            pg_init_retries,
            pg_init_delay_msecs: delay,
            retain_attached_hw_handler: retain || is_bios,
            queue_mode,
        }
    })
}

fn line_group() -> impl Strategy<Value = Group<DeviceWord>> {
    let selector = prop_oneof![
        Just(Selector::RoundRobin),
        Just(Selector::QueueLength),
        Just(Selector::ServiceTime),
        (0u32..1024, any::<u32>()).prop_map(|(base_weight, threshold_multiplier)| {
            Selector::HistoricalServiceTime { base_weight, threshold_multiplier }
        }),
        Just(Selector::IoAffinity),
    ];
    let paths = prop::collection::vec((device(), 0u32..=1, 0u32..=100), 1..5);
    (selector, paths).prop_map(|(selector, paths)| {
        let path = |(nr, (device, repeat_count, relative_throughput))| {
            let mut args = PathArgs::default();
            match selector {
                Selector::RoundRobin | Selector::QueueLength => args.repeat_count = repeat_count,
                Selector::ServiceTime => {
                    (args.repeat_count, args.relative_throughput) =
                        (repeat_count, relative_throughput);
                }
                Selector::HistoricalServiceTime { .. } => {}
                Selector::IoAffinity => {
                    let mask = format!("{:04x}", 1 << nr);
                    args.processors = ProcessorMask::parse(&mask, None).expect("a mask");
                }
            }
            Path { device, args }
        };
        Group { selector, paths: paths.into_iter().enumerate().map(path).collect() }
    })
}

fn line() -> impl Strategy<Value = Line<DeviceWord>> {
    let groups = prop::collection::vec(line_group(), 0..4);
    (features(), groups, any::<prop::sample::Index>()).prop_map(|(features, groups, first)| {
        let first = (!groups.is_empty()).then(|| first.index(groups.len()));
        Line { features, handler: None, groups, first }
    })
}

fn status() -> impl Strategy<Value = Status<DeviceWord>> {
    let state = select(vec![GroupState::Active, GroupState::Enabled, GroupState::Disabled]);
    let path = ((0u32..300, 0u32..300), any::<bool>(), any::<u32>(), any::<[u64; 3]>());
    let selector = prop::collection::vec(any::<u32>(), 0..3);
    let group = (state, selector, prop::collection::vec(path, 1..4), 0usize..=3);
    let group = group.prop_map(|(state, selector, paths, words)| {
        let path =
            |((major, minor), is_active, failures, of_path): (_, _, _, [u64; 3])| PathStatus {
                device: DevNumber { major, minor }.into(),
                is_active,
                failures,
                selector: of_path[..words].to_vec(),
            };
        GroupStatus { state, selector, paths: paths.into_iter().map(path).collect() }
    });
    let groups = prop::collection::vec(group, 0..4);
    (any::<bool>(), any::<u32>(), groups).prop_map(|(queues, pg_init_count, groups)| Status {
        queues,
        pg_init_count,
        current: groups.len(),
        groups,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_that_is_printed_is_read_again(line in line()) {
        let text = line.to_string();
        prop_assert_eq!(Line::from_text(&text, Sectors(2048)), Ok(line), "{}", text);
    }

    #[test]
    fn a_status_that_is_printed_is_read_again(status in status()) {
        prop_assert_eq!(Status::parse(&status.to_string()), Some(status));
    }
}

#[test]
fn recorded_statuses_are_read() {
    for text in [
        "2 1 0 0 2 1 E 0 2 2 253:0 A 0 0 1 253:1 A 0 0 2 E 0 2 1 253:2 A 0 0 253:3 A 0 0 ",
        "2 0 0 0 2 1 A 0 2 2 253:0 F 1 0 1 253:1 A 0 0 2 D 0 2 1 253:2 A 0 0 253:3 A 0 0 ",
        "2 0 0 0 1 1 A 2 972 0 2 3 7:0 A 0 15800548 0 17077362794 7:1 A 0 1024 0 0 ",
        "2 1 0 0 0 0 ",
    ] {
        assert_eq!(Status::parse(text).map(|status| status.to_string()).as_deref(), Some(text));
    }
    for text in ["", "2 0 0 0 1 2 ", "2 0 0 0 1 1 X 0 1 0 7:0 A 0 ", "2 0 0 0 1 1 A 0 1 1 7:0 A 0 "]
    {
        assert_eq!(Status::parse(text), None, "{text}");
    }
}
