//! Stacks in a control plane of this process, whose operations fail one by one.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::device_mapper::DeviceMapper;
use crate::rig::{Bench, Fails};

const TEXT: &str = r#"
[[image]]
file = "new.img"
name = "/dev/sda"
create = "1M"

[[device]]
name = "base"
suspended = true
table = "0 1024 linear disk 8"
inactive = "0 64 zero"

[[device]]
name = "b"
table = '''
0 8 linear /dev/mapper/my\ a 0
8 8 linear disk 0
'''
inactive = "0 8 zero"

[[device]]
name = "my a"
suspended = true
table = "0 64 linear /dev/sda 0"
"#;

fn load_into(bench: &mut Bench, text: &str, existing: Existing) -> Result<Loaded, daemon::Fault> {
    let stack = parse(text, bench.dir.path()).expect("a stack");
    load(bench, &stack, existing, &mut |_| Vec::new(), &AtomicBool::new(false))
}

fn images(bench: &mut Bench) -> String {
    format!("{:?}", bench.images().expect("images"))
}

#[test]
fn whichever_operation_fails_all_is_as_it_was() {
    let mut failed = 0;
    for at in 1.. {
        let mut bench = Bench::new();
        let before = (bench.records(), images(&mut bench));
        (bench.fails, bench.calls) = (Fails::At(at), 0);
        let Err(fault) = load_into(&mut bench, TEXT, Existing::Reload) else { break };
        bench.fails = Fails::Never;
        assert!(fault.why.ends_with("undone: all is as it was"), "{at}: {fault}");
        assert_eq!((bench.records(), images(&mut bench)), before, "{at}: {fault}");
        assert!(!bench.dir.path().join("new.img").exists(), "{at}");
        failed += 1;
    }
    assert_eq!(failed, 12);
}

#[test]
fn what_was_loaded_is_no_difference_and_saved_as_the_same() {
    let mut bench = Bench::new();
    let loaded = load_into(&mut bench, TEXT, Existing::Reload).expect("a load");
    assert_eq!(loaded.made, ["/dev/sda", "my a", "b"]);
    assert_eq!((loaded.changed, loaded.differs), (vec!["base".to_owned()], Vec::new()));
    let records = bench.records();
    bench.calls = 0;
    let again = load_into(&mut bench, TEXT, Existing::Refuse).expect("a load of nothing");
    assert_eq!((again, bench.calls), (Loaded::default(), 0));
    assert_eq!(bench.records(), records);
    let how = How { keys: Keys::LeftOut, minors: Minors::Any, images: ImagesBy::Name };
    let folder = bench.dir.path().to_owned();
    let saved = save(&mut bench, &folder, how).expect("a stack");
    let text = text(&saved);
    let read = parse(&text, &folder).expect("what was written");
    assert_eq!(diff(&mut bench, &read).expect("a look"), []);
    assert_eq!(super::text(&read), text);
    assert_eq!(read.devices.len(), 3);
}

#[test]
fn a_table_is_compared_as_its_target_prints_it() {
    for (one, other, same) in [
        ("flakey 7:0 0 5 1", "flakey 7:0 0 5 1 0", true),
        ("flakey 7:0 0 5 1", "flakey 7:0 0 5 2", false),
        (
            "crypt aes-xts-plain64 ?32 0 7:0 0 1 allow_discards",
            "crypt aes-xts-plain64 ?32 0 7:0 0 1 allow_discards",
            true,
        ),
        ("crypt aes-xts-plain64 ?32 0 7:0 0", "crypt aes-xts-plain64 ?64 0 7:0 0", false),
        ("theirs a  b", "theirs a b", true),
        ("theirs a b", "theirs a c", false),
    ] {
        let split = |line: &str| {
            let (kind, params) = line.split_once(' ').expect("words");
            let (start, len) = (sim_core::Sector(0), sim_core::Sectors(1024));
            let spec =
                TargetSpec { start, len, target_type: kind.to_owned(), params: params.into() };
            words::canonical(&spec).to_vec()
        };
        assert_eq!(split(one) == split(other), same, "{one}: {:?}", split(other));
    }
}

#[test]
fn a_deep_pile_is_sorted_without_recursion() {
    let many = 20_000;
    let device = |n: u32| {
        let device = Device::new(0, &format!("d{n}"), None).expect("a name");
        let table = Table::read(&format!("0 8 linear d{} 0", n + 1), Access::ReadWrite, |_| 0);
        Device { live: Some(table.expect("a table")), ..device }
    };
    let stack = Stack::new(Path::new("/"), Vec::new(), Vec::new(), (0..many).map(device).collect());
    let devices = stack.expect("no circle").devices;
    assert_eq!(devices.first().map(|first| first.name.as_str()), Some("d19999"));
    assert_eq!(devices.last().map(|last| last.name.as_str()), Some("d0"));
}
