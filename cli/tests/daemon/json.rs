//! What JSON says, it says the same way everywhere: the rules of `docs/src/json.md`, held by every verb
//! that has `--json`, over one stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Instance, can_mount};

/// Every verb with `--json`, over the stack of [`build`].
const VERBS: &[&str] = &[
    "info --json",
    "images --json",
    "tree --json",
    "ls --json",
    "deps --json",
    "table --json",
    "status --json",
    "version --json",
    "targets --json",
    "target-version linear --json",
    "diff snap --json",
    "check m --json",
    "raid status r --json",
    "raid status p --json",
    "raid check r --json",
    "raid check p --json",
    "raid repair p --from parity --json",
    "dump run/cow/snap.cow --json --entries",
    "partitions disk.img --json",
    "open disk.img --json",
    "fault f --json",
    "stack diff stack.toml --json",
    "events --json --past --count 1",
    "heat base --for 50ms --json",
    "top --json -n 100ms",
    "trace base --json --count 1",
    "where base 3 --json",
    "where r 3 --json",
    "where --image /dev/sda 515 --json",
    "crash states run.log --json --list",
    "crash check run.log --json --with false\t{}",
];

/// Two images, one without a name of its own; a device whose name is no word, a mirror with a leg that
/// fails, a snapshot, a device without a table, and two RAID sets, one of which lacks a leg.
fn build(instance: &Instance) {
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M"]);
    let image = instance.root().join("b.img");
    let image = image.to_str().unwrap();
    let linear = format!("0 1024 linear {image} 0");
    instance.ok(&["create", "my disk", "-u", "my uuid", "--table", &linear]);
    let features = "2 handle_errors keep_log";
    let mirror = format!("0 512 mirror core 2 64 nosync 2 /dev/sda 0 {image} 1024 {features}");
    instance.ok(&["create", "m", "--table", &mirror]);
    instance.ok(&["create", "base", "--table", "0 256 linear /dev/sda 512"]);
    instance.ok(&["snapshot", "base", "snap"]);
    std::fs::write(instance.path("mapper/snap"), [1; 4096]).unwrap();
    instance.ok(&["create", "none", "--notable"]);
    instance.ok(&["fail", "m", image]);
    instance.ok(&["create", "f", "--table", "0 64 linear /dev/sda 1024"]);
    instance.ok(&["fault", "f", "flip", "--rate", "1", "--for-s", "900", "--start", "0"]);
    instance.ok(&["fault", "f", "slow", "--delay-ms", "1", "--below", "/dev/sda"]);
    std::fs::read(instance.path("mapper/f")).unwrap();
    let legs = ["1.img", "2.img", "3.img"];
    let size = ["r", "--size", "2M"];
    instance.ok(&[&["raid", "create", "raid1"][..], &legs, &size].concat());
    instance.ok(&["raid", "remove", "r"]);
    // One is missing.
    instance.ok(&["raid", "assemble", "1.img", "3.img", "--name", "r"]);
    let legs = ["4.img", "5.img", "6.img", "7.img"];
    instance.ok(&[&["raid", "create", "raid6"][..], &legs, &["p", "--size", "2M"]].concat());
    instance.ok(&["wait", "--sync", "p"]);
    let log = concat!(env!("CARGO_MANIFEST_DIR"), "/../crash/tests/states/kernel.log");
    std::fs::copy(log, instance.root().join("run.log")).unwrap();
    let mut disk = vec![0; 1 << 20];
    disk[450..462].copy_from_slice(&[0x83, 0, 0, 0, 8, 0, 0, 0, 64, 0, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(instance.root().join("disk.img"), disk).unwrap();
    let stack = "[[device]]\nname = \"my disk\"\nminor = 9\ntable = \"0 8 zero\"\n[[image]]\nfile = \"disk.img\"\n";
    std::fs::write(instance.root().join("stack.toml"), stack).unwrap();
}

/// What was seen of all answers.
#[derive(Default)]
struct Seen {
    /// The types of each key's values.
    types: BTreeMap<String, BTreeSet<&'static str>>,
    faults: Vec<String>,
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "truth",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Keys that end so are of sizes.
fn is_size(key: &str) -> bool {
    key == "size" || key.ends_with("_size") || key.ends_with("_sectors")
}

/// Tells whether a text is a device's number.
fn is_number(text: &str) -> bool {
    text.split_once(':').is_some_and(|(major, minor)| {
        [major, minor].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

impl Seen {
    /// Looks at a value that is said under `path`.
    fn look(&mut self, path: &str, value: &Value) {
        match value {
            Value::Array(values) => {
                let keys = |value: &Value| {
                    value.as_object().map(|object| {
                        // A tree has two kinds of nodes.
                        (object.get("kind").cloned(), object.keys().cloned().collect::<Vec<_>>())
                    })
                };
                for (one, other) in values.iter().zip(values.iter().skip(1)) {
                    let (one, other) = (keys(one), keys(other));
                    if let (Some((kind, one)), Some((same, other))) = (one, other)
                        && kind == same
                        && one != other
                    {
                        self.faults.push(format!("{path}: {one:?} and {other:?}"));
                    }
                }
                values.iter().for_each(|value| self.look(path, value));
            }
            Value::Object(object) => {
                if object.contains_key("major") != object.contains_key("minor") {
                    self.faults.push(format!("{path}: half of a number"));
                }
                for (key, value) in object {
                    let path = format!("{path}.{key}");
                    self.types.entry(key.clone()).or_default().insert(type_of(value));
                    // The kernel's names, of the files in /sys/block/*/queue.
                    if is_size(key) && !path.contains(".limits.") {
                        self.faults.push(format!("{path}: a size that does not say its unit"));
                    }
                    if key.ends_with("_bytes") && !matches!(type_of(value), "number" | "null") {
                        self.faults.push(format!("{path}: {value} bytes"));
                    }
                    let is_mangled = value.as_str().is_some_and(|text| text.contains("\\x"));
                    if is_mangled && key != "mangled_name" {
                        self.faults.push(format!("{path}: {value} is as the kernel has it"));
                    }
                    // A table's line is one text, as the kernel has it.
                    if value.as_str().is_some_and(is_number) && key != "params" {
                        self.faults.push(format!("{path}: {value} is a number as a text"));
                    }
                    if key == "name" && value.as_str().is_none_or(str::is_empty) {
                        self.faults.push(format!("{path}: no name"));
                    }
                    self.look(&path, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[test]
fn every_verb_says_the_same_things_the_same_way() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    build(&instance);
    let mut seen = Seen::default();
    let mut said = BTreeMap::new();
    // What `trace` is to see.
    let (base, ends) = (instance.path("mapper/base"), Arc::new(AtomicBool::new(false)));
    let is_over = ends.clone();
    let reads = std::thread::spawn(move || {
        while !is_over.load(Relaxed) {
            std::fs::read(&base).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for verb in VERBS {
        let output = instance.run(&verb.split(' ').collect::<Vec<_>>());
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{verb}: {error}: {output:?}"));
        seen.look(verb, &value);
        said.insert(*verb, value);
    }
    ends.store(true, Relaxed);
    reads.join().unwrap();
    for (key, mut types) in seen.types {
        types.remove("null");
        // Of a store it is what the header has, of a target three numbers.
        if types.len() > 1 && key != "version" {
            seen.faults.push(format!("`{key}` is {types:?}"));
        }
    }
    assert!(seen.faults.is_empty(), "{}", seen.faults.join("\n"));
    let named = |verb: &str, name: &str| {
        let all = said[verb].as_array().unwrap();
        all.iter().find(|value| value["name"] == name).unwrap_or_else(|| panic!("{verb}")).clone()
    };
    let info = named("info --json", "my disk");
    assert_eq!((&info["mangled_name"], &info["uuid"]), (&"my\\x20disk".into(), &"my uuid".into()));
    assert_eq!((&info["size_bytes"], &info["major"]), (&524_288.into(), &253.into()));
    assert_eq!(info["failing"], serde_json::json!([]));
    let failing = &named("info --json", "m")["failing"][0];
    assert_eq!((&failing["major"], &failing["fails"]), (&7.into(), &"all".into()));
    let plans = &said["fault f --json"]["plans"];
    assert_eq!(
        (&plans[0]["below_device"], &plans[1]["below_device"]["minor"]),
        (&Value::Null, &0.into())
    );
    assert_eq!(
        (&plans[0]["rules"][0]["len"], &plans[0]["strikes"][0]["op"]),
        (&1.into(), &"read".into())
    );
    assert_eq!(named("ls --json", "my disk")["uuid"], "my uuid");
    assert_eq!(named("info --json", "m")["uuid"], Value::Null);
    let tree = named("tree --json", "my disk");
    assert_eq!((&tree["size_bytes"], &tree["tables"]), (&info["size_bytes"], &info["tables"]));
    // The leg that was named last stands first.
    let mirror = named("tree --json", "m");
    let fails = |at: usize| mirror["below"][at]["fails"].clone();
    assert_eq!((fails(0), fails(1), &tree["fails"]), ("all".into(), Value::Null, &Value::Null));
    let image = named("images --json", "/dev/sda");
    let below = &mirror["below"][1];
    for key in ["name", "major", "minor", "size_bytes", "file", "read_only", "fault", "file_lost"] {
        assert_eq!(image[key], below[key], "{key}");
    }
    assert_eq!(said["check m --json"]["legs"][0]["minor"], image["minor"]);
    let legs = &said["raid status r --json"]["legs"];
    assert_eq!((&legs[0]["state"], &legs[1]["state"]), (&"in_sync".into(), &"missing".into()));
}

#[test]
fn every_verb_with_json_is_held_to_the_rules() {
    let instance = Instance::new();
    let help = |args: &[&str]| String::from_utf8(instance.run(args).stdout).unwrap();
    // Verbs are the first words of lines that stand two columns in.
    let verbs = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let words = lines.filter_map(|line| line.split_whitespace().next());
        words.filter(|verb| !verb.starts_with('-')).map(str::to_owned).collect()
    };
    let mut count = 0;
    for verb in verbs(&help(&["help"])) {
        let text = help(&[&verb, "--help"]);
        // Those of `raid` have verbs of their own.
        let (own, further) = text.split_once("Commands:\n").unwrap_or((&text, ""));
        let further = verbs(further).into_iter().filter(|further| further != "help");
        let mut all: Vec<(String, String)> = further
            .map(|further| {
                let text = help(&[&verb, &further, "--help"]);
                (format!("{verb} {further}"), text)
            })
            .collect();
        all.push((verb.clone(), own.to_owned()));
        for (verb, text) in all {
            if text.contains("--json") {
                count += 1;
                assert!(VERBS.iter().any(|known| known.starts_with(&verb)), "{verb} --json");
            }
        }
    }
    assert!(count >= 6, "{count}");
}
