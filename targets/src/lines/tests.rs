use std::fmt::{Debug, Display};

use crypto::{IvUnit, Secret, Spec};
use proptest::prelude::*;
use proptest::sample::select;
use sim_core::{Arg, CtrError, DevNumber, DeviceStyle, Sector, Sectors, StatusWriter, Words};

use super::crypt::{Head, Key, Options};
use super::mirror::{Behind, InitialSync, LegHealth, LegStatus, LogHealth, LogStatus};
use super::snapshot::{StoreKind, WhenFull};
use super::striped::StripeStatus;
use super::*;
use crate::snapshot::ChunkSize;

/// As long as no line minds.
const LEN: Sectors = Sectors(1 << 40);

fn device() -> impl Strategy<Value = DeviceWord> {
    let number = (0u32..1000, 0u32..1000).prop_map(|(major, minor)| format!("{major}:{minor}"));
    // Whatever a word may hold, what would end it too.
    prop_oneof![number, "/[a-z]{1,8}", "[a-z \t\\\\é]{1,6}"].prop_map(DeviceWord)
}

fn place() -> impl Strategy<Value = Place<DeviceWord>> {
    (device(), any::<u64>()).prop_map(|(device, start)| Place { device, start: Sector(start) })
}

#[track_caller]
fn goes_both_ways<T: Display + Debug + PartialEq>(value: T, parse: impl Fn(&str) -> Option<T>) {
    let text = value.to_string();
    assert_eq!(parse(&text), Some(value), "{text}");
}

fn mirror_line() -> impl Strategy<Value = mirror::Line<DeviceWord>> {
    let sync = select(vec![InitialSync::AsLogged, InitialSync::Nothing, InitialSync::Everything]);
    // No more than 2^32 regions of `LEN`.
    let log = (proptest::option::of(device()), 9u32..32, sync);
    let log =
        log.prop_map(|(disk, shift, sync)| mirror::Log { disk, region: Sectors(1 << shift), sync });
    let features = select(vec![(false, false), (true, false), (true, true)]);
    let legs = prop::collection::vec(place(), 2..=9);
    (log, legs, features).prop_map(|(log, legs, (handle_errors, keep_log))| mirror::Line {
        log,
        legs,
        features: mirror::Features { handle_errors, keep_log },
    })
}

fn snapshot_line() -> impl Strategy<Value = snapshot::Line<DeviceWord>> {
    let store = select(vec![
        StoreKind::Persistent(WhenFull::Invalidate),
        StoreKind::Persistent(WhenFull::Overflow),
        StoreKind::Transient,
    ]);
    let chunk = proptest::option::of(0u32..22).prop_map(|shift| {
        shift.map(|shift| ChunkSize::new(Sectors(1 << shift), &[]).expect("a chunk size"))
    });
    let features = select(vec![(false, false), (true, false), (true, true)]);
    (device(), device(), store, chunk, features).prop_map(
        |(origin, cow, store, chunk, (discard_zeroes_cow, discard_passdown_origin))| {
            let features = snapshot::Features { discard_zeroes_cow, discard_passdown_origin };
            snapshot::Line { origin, cow, store, chunk, features }
        },
    )
}

fn crypt_line() -> impl Strategy<Value = crypt::Line<DeviceWord>> {
    let spec = select(vec!["aes-xts-plain64", "aes-cbc-essiv:sha256", "capi:cbc(aes)-plain64"]);
    let key = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64).prop_map(|key| Key::Bytes(Secret::new(key))),
        (1usize..99, "[a-z:]{1,8}").prop_map(|(size, description)| {
            Key::Ring { size, kind: "user".to_owned(), description }
        }),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<[bool; 5]>());
    let integrity = proptest::option::of((1u32..=480, Just("none".to_owned())));
    let sizes = (select(vec![512u32, 4096]), proptest::option::of(1u32..100));
    let options = (flags, integrity, sizes).prop_map(|(flags, integrity, sizes)| {
        let ((allow_discards, large, mut scheduling), (sector_size, integrity_key_size)) =
            (flags, sizes);
        let iv_unit = if large { IvUnit::Large } else { IvUnit::Sector512 };
        // No line has more than nine.
        scheduling[4] &= integrity_key_size.is_none();
        Options { allow_discards, scheduling, integrity, integrity_key_size, sector_size, iv_unit }
    });
    (spec, key, 0u64..1000, place(), options).prop_map(|(spec, key, iv, place, options)| {
        let head = Head { spec: Spec::parse(spec).expect("a cipher"), key, options };
        crypt::Line { head, iv_offset: Sectors(iv * 8), place }
    })
}

fn mirror_status() -> impl Strategy<Value = mirror::Status<DeviceWord>> {
    use LegHealth::{FlushFailed, Good, ReadFailed, SyncFailed, WriteFailed};
    let number = || (0u32..300, 0u32..300).prop_map(|(a, b)| DeviceWord(format!("{a}:{b}")));
    let health = select(vec![Good, FlushFailed, WriteFailed, SyncFailed, ReadFailed]);
    let leg = (number(), health).prop_map(|(device, health)| LegStatus { device, health });
    let health = select(vec![LogHealth::Good, LogHealth::FlushFailed, LogHealth::Failed]);
    let log = (number(), health).prop_map(|(device, health)| LogStatus { device, health });
    let log = proptest::option::of(log);
    let legs = prop::collection::vec(leg, 2..=9);
    (legs, any::<u64>(), any::<u64>(), log)
        .prop_map(|(legs, in_sync, regions, log)| mirror::Status { legs, in_sync, regions, log })
}

fn delay_line() -> impl Strategy<Value = delay::Line<DeviceWord>> {
    let class =
        || (place(), any::<u32>()).prop_map(|(place, delay_ms)| delay::Class { place, delay_ms });
    let write = proptest::option::of((class(), proptest::option::of(class())));
    (class(), write).prop_map(|(read, write)| delay::Line { read, write })
}

fn flakey_line() -> impl Strategy<Value = flakey::Line<DeviceWord>> {
    use flakey::{Corrupt, Direction, Features, PROBABILITY_BASE, Writes};
    let writes = select(vec![Writes::Pass, Writes::Drop, Writes::Fail]);
    let corrupt = (1u32.., any::<bool>(), any::<u8>(), any::<u32>());
    let random = || prop_oneof![Just(0), 0..=PROBABILITY_BASE];
    let features = (any::<bool>(), writes, proptest::option::of(corrupt), random(), random());
    let features =
        features.prop_map(|(error_reads, writes, corrupt, random_read, random_write)| {
            let corrupt = corrupt.map(|(byte, writes_too, value, flags)| {
                let may = writes_too && writes == Writes::Pass;
                let direction = if may { Direction::Write } else { Direction::Read };
                Corrupt { byte, direction, value, flags }
            });
            // The kernel takes no feature at all for two.
            let none =
                writes == Writes::Pass && corrupt.is_none() && random_read + random_write == 0;
            Features {
                error_reads: error_reads || none,
                writes,
                corrupt,
                random_read,
                random_write,
            }
        });
    (place(), 0u32..1 << 30, 1u32..1 << 30, features)
        .prop_map(|(place, up_s, down_s, features)| flakey::Line { place, up_s, down_s, features })
}

fn ebs_line() -> impl Strategy<Value = ebs::Line<DeviceWord>> {
    (place(), 0u32..4, proptest::option::of(0u32..16)).prop_map(|(place, emulated, underlying)| {
        let block = |shift: u32| Sectors(1 << shift);
        ebs::Line { place, emulated: block(emulated), underlying: underlying.map(block) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_again(
        place in place(),
        other in place(),
        chunk in 1u64..64,
        mirror in mirror_line(),
        snapshot in snapshot_line(),
        crypt in crypt_line(),
    ) {
        goes_both_ways(linear::Line { place: place.clone() }, |text| {
            linear::Line::from_text(text, LEN).ok()
        });
        let stripes = vec![place.clone(), other];
        let len = Sectors(chunk * 2);
        goes_both_ways(striped::Line { chunk: Sectors(chunk), stripes }, |text| {
            striped::Line::from_text(text, len).ok()
        });
        goes_both_ways(snapshot_origin::Line { device: place.device.clone() }, |text| {
            snapshot_origin::Line::from_text(text, LEN).ok()
        });
        goes_both_ways(mirror, |text| mirror::Line::from_text(text, LEN).ok());
        goes_both_ways(snapshot, |text| snapshot::Line::from_text(text, LEN).ok());
        goes_both_ways(crypt, |text| crypt::Line::from_text(text, LEN).ok());
    }

    #[test]
    fn what_is_printed_of_targets_for_tests_is_read_again(
        place in place(),
        other in place(),
        (shift, stripes, stripe) in (0u32..22, 2u32..9, 0u32..9),
        delay in delay_line(),
        flakey in flakey_line(),
        ebs in ebs_line(),
    ) {
        let (chunk, stripe) = (Sectors(1 << shift), stripe.min(stripes));
        let line = unstriped::Line { stripes, chunk, stripe, place: place.clone() };
        goes_both_ways(line, |text| unstriped::Line::from_text(text, LEN).ok());
        let paths = vec![place.clone(), other.clone()];
        goes_both_ways(switch::Line { region: chunk, paths }, |text| {
            switch::Line::from_text(text, LEN).ok()
        });
        goes_both_ways(dust::Line { place: place.clone(), block: chunk }, |text| {
            dust::Line::from_text(text, LEN).ok()
        });
        goes_both_ways(log_writes::Line { device: place.device, log: other.device }, |text| {
            log_writes::Line::from_text(text, LEN).ok()
        });
        goes_both_ways(delay, |text| delay::Line::from_text(text, LEN).ok());
        goes_both_ways(flakey, |text| flakey::Line::from_text(text, LEN).ok());
        goes_both_ways(ebs, |text| ebs::Line::from_text(text, LEN).ok());
    }

    #[test]
    fn what_is_told_is_read_again(
        status in mirror_status(),
        (allocated, size, metadata) in any::<(u64, u64, u64)>(),
        behind in prop::collection::vec(prop::collection::vec((0u64..1 << 40, 1u64..1000), 0..5), 1..9),
        failed in prop::collection::vec(any::<bool>(), 1..9),
        (reads, writes, flushes) in any::<(u32, u32, u32)>(),
        (fails, quiet, entries, last) in any::<(bool, bool, u64, u64)>(),
    ) {
        goes_both_ways(delay::Status { reads, writes, flushes }, delay::Status::parse);
        goes_both_ways(dust::Status { device: "7:0".into(), fails, quiet }, dust::Status::parse);
        let logged = log_writes::Status { entries, last: Sector(last), disabled: fails };
        goes_both_ways(logged, log_writes::Status::parse);
        goes_both_ways(status, mirror::Status::parse);
        let (allocated, size, metadata) = (Sectors(allocated), Sectors(size), Sectors(metadata));
        goes_both_ways(snapshot::Status::Used { allocated, size, metadata }, snapshot::Status::parse);
        let run = |(first, count): (u64, u64)| first..first + count;
        let legs = behind.into_iter().map(|leg| leg.into_iter().map(run).collect());
        goes_both_ways(Behind(legs.collect()), Behind::parse);
        let stripe = |failed| StripeStatus { device: "7:0".into(), failed };
        let stripes = failed.into_iter().map(stripe).collect();
        goes_both_ways(striped::Status { stripes }, striped::Status::parse);
    }
}

#[test]
fn a_status_in_a_word_is_read_again() {
    use snapshot::Status::{Invalid, MergeFailed, Overflow, Unknown};
    for status in [Invalid, Overflow, MergeFailed, Unknown] {
        goes_both_ways(status, snapshot::Status::parse);
    }
    for text in ["", "1/2", "Merge", "x/1 2"] {
        assert_eq!(snapshot::Status::parse(text), None, "{text}");
    }
    for text in ["2 7:0 7:1 16 1 AA", "2 7:0 7:1 1/1 1 A 1 core", "2 7:0 7:1 1/1 1 AX 1 core"] {
        assert_eq!(mirror::Status::parse(text), None, "{text}");
    }
}

#[test]
fn lines_without_words_are_read_and_printed() {
    assert_eq!(zero::Line::from_text(" ", LEN).map(|line| line.to_string()), Ok(String::new()));
    assert!(zero::Line::from_text("a", LEN).is_err());
    // `error` shows nothing of its words.
    let line = error::Line::from_text("7:0 8", LEN).expect("a line");
    assert_eq!(line.to_string(), "");
    assert_eq!(line.place, Some(Place { device: "7:0".into(), start: Sector(8) }));
    assert_eq!(error::Line::from_text("7:0", LEN), Ok(error::Line { place: None }));
}

#[test]
fn a_tool_is_told_in_the_kernels_words_what_is_wrong_with_a_line() {
    let refused = |text: &str| -> CtrError {
        mirror::Line::from_text(text, Sectors(2048)).expect_err("a fault")
    };
    let error = refused("core 1 1000 2 a 0 b 0");
    assert_eq!((error.arg, &*error.kernel), (Some(2), "Error creating mirror dirty log"));
    assert_eq!(
        refused("core 1 512 2 a 0 b x").to_string(),
        "argument 8: expected a sector number, found `x`: Invalid offset"
    );
}

/// Devices of one logical block size, with a number for each letter.
#[derive(Default)]
struct Lettered(Vec<String>);

impl Devices for Lettered {
    type Device = char;

    fn open(&mut self, word: Arg<'_>, kernel: &str) -> Result<char, CtrError> {
        let letter = word.text().chars().next().filter(char::is_ascii_lowercase);
        letter.ok_or_else(|| word.error("a letter", kernel))
    }

    fn facts(&self, device: &char) -> Option<DeviceFacts> {
        let number = DevNumber::mapped(*device as u32);
        Some(DeviceFacts { number, size: Sectors(3), logical_block: Sectors(8) })
    }

    fn log(&mut self, module: &str, line: std::fmt::Arguments<'_>) {
        self.0.push(format!("{module}: {line}"));
    }
}

#[test]
fn what_is_known_of_devices_is_checked_in_its_turn() {
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let mirror = |text| {
        let mut devices = Lettered::default();
        let line = mirror::Line::parse(&mut Words::new(&words(text), Sectors(2048)), &mut devices);
        (line.map_err(|error| error.kernel), devices.0)
    };
    let (line, log) = mirror("disk 2 c 512 2 A 0 B 0");
    assert_eq!(line, Err("Error creating mirror dirty log".to_owned()), "before the legs");
    let number = DevNumber::mapped('c' as u32);
    assert_eq!(log, [format!("dirty region log: log device {number} too small: need 4096 bytes")]);
    assert_eq!(mirror("core 1 512 2 A 0 b 0").0, Err("Device lookup failure".to_owned()));
    let snapshot = |text| {
        let mut devices = Lettered::default();
        let words = words(text);
        let line = snapshot::Line::parse(&mut Words::new(&words, LEN), &mut devices);
        line.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(snapshot("a b P 8"), Ok(()));
    let refused = |text, why| assert!(snapshot(text).is_err_and(|error| error.contains(why)));
    refused("a a X 8", "COW device cannot be the same as origin device");
    refused("a b P 4", "Chunk size is not a multiple of device blocksize");
}

#[test]
fn a_key_is_printed_by_display_alone() {
    let line = "aes-cbc-plain64 00112233445566778899aabbccddeeff 0 7:0 0";
    let line = crypt::Line::from_text(line, LEN).expect("a line");
    assert!(line.to_string().contains("00112233") && !format!("{line:?}").contains("112233"));
    let mut text = String::new();
    line.write(&mut StatusWriter::new(&mut text, DeviceStyle::Number)).expect("a text");
    assert_eq!(text, "aes-cbc-plain64 00000000000000000000000000000000 0 7:0 0");
}
