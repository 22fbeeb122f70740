//! Faults on demand, as programs see them that use a device's file.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Instance, bytes, read_at, text, write_at};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SECTOR: usize = 512;
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/faults.md");

/// A device of 8 MiB over an image, with random content; and one above.
fn device(instance: &Instance) -> (PathBuf, PathBuf, Vec<u8>) {
    instance.image("a.img", "/dev/sda", 8 << 20);
    let device = instance.create("d", "0 16384 linear /dev/sda 0");
    let above = instance.create("top", "0 8192 linear d 0");
    let content = bytes(3, 64 << 10);
    write_at(&device, 0, &content).expect("no fault");
    (device, above, content)
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn fault(instance: &Instance, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    instance.dmsim(&[&["fault", "d", "--replace", "--seed", "7"], &words[..]].concat())
}

fn armed(instance: &Instance) -> Value {
    serde_json::from_str(&instance.dmsim(&["fault", "d", "--json"])).expect("JSON")
}

#[test]
fn a_program_sees_each_fault_and_none_after_heal() {
    let instance = Instance::start();
    let (device, above, content) = device(&instance);
    let read = || read_at(&device, 0, 64 << 10);
    let file = File::options().read(true).write(true).open(&device).expect("the device");

    let told = fault(&instance, "error --on reads --start 8 --len 8");
    assert!(told.starts_with("d: 1 rule armed, seed 7: until `dmsim heal d`"), "{told}");
    // Whole and in part, by the device and by one above, whose map led past.
    assert_eq!(errno(read()), Some(EIO));
    assert_eq!(errno(read_at(&device, 4096, 512)), Some(EIO));
    assert_eq!(errno(read_at(&above, 4096, 512)), Some(EIO));
    assert_eq!(read_at(&device, 0, 4096).expect("before the range"), content[..4096]);

    fault(&instance, "full --on writes --nth 2 --once");
    let write = |at: usize| write_at(&device, at as u64, &content[at..at + 4096]);
    assert_eq!([write(0), write(4096), write(8192)].map(errno), [None, Some(ENOSPC), None]);

    fault(&instance, "flip --on reads --start 3");
    let seen = read().expect("a lie");
    let differs: Vec<_> = (0..seen.len()).filter(|at| seen[*at] != content[*at]).collect();
    assert!(matches!(differs[..], [at] if at / SECTOR == 3), "{differs:?}");
    assert_eq!((seen[differs[0]] ^ content[differs[0]]).count_ones(), 1);

    fault(&instance, "short --on writes --done 2");
    let zeros = vec![0; 8 * SECTOR];
    assert_eq!(errno(write_at(&device, 0, &zeros)), Some(EIO));
    fault(&instance, "lost-write");
    write_at(&device, 0, &vec![1; 64 << 10]).expect("a lie");
    fault(&instance, "misdirected --to 64 --on writes");
    write_at(&device, 0, &vec![2; SECTOR]).expect("a lie");
    fault(&instance, "torn --on writes --done 1");
    write_at(&device, 96 * SECTOR as u64, &vec![3; 4 * SECTOR]).expect("a lie");

    fault(&instance, "slow --delay-ms 400 --times 2");
    let began = Instant::now();
    read().expect("late, and well");
    file.sync_data().expect("late, and well");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(20), "{took:?}");

    instance.dmsim(&["fault", "d", "error", "--on", "flushes", "--below", "/dev/sda"]);
    instance.dmsim(&["heal", "d", "/dev/sda"]);
    instance.dmsim(&["fault", "d", "error", "--on", "flushes", "--below", "/dev/sda"]);
    assert!(instance.dmsim(&["tree"]).contains("(8:0) 8 MiB: "), "it is below");
    assert_eq!(errno(file.sync_data()), Some(EIO));
    fault(&instance, "lost-flush");
    file.sync_data().expect("a lie: nothing reaches what fails");

    let told = instance.dmsim(&["heal", "d"]);
    assert_eq!(
        told,
        "d: 1 rule is taken away, struck so far: 1\nd: 1 rule is taken away for 8:0, struck so far: 1\n"
    );
    file.sync_data().expect("no fault");
    let mut expected = content;
    expected[..2 * SECTOR].fill(0);
    let left = read_at(&device, 0, 100 * SECTOR).expect("no fault");
    expected.truncate(100 * SECTOR);
    expected[64 * SECTOR..65 * SECTOR].fill(2);
    expected[96 * SECTOR..97 * SECTOR].fill(3);
    let differs: Vec<_> = (0..100)
        .filter(|at| left[at * SECTOR..][..SECTOR] != expected[at * SECTOR..][..SECTOR])
        .collect();
    assert!(differs.is_empty(), "sectors {differs:?}");
    let told = instance.dmsim(&["heal", "d"]);
    assert_eq!(told, "d: no faults are armed: there is nothing to heal\n");
}

#[test]
fn what_is_armed_and_what_was_struck_is_told() {
    let instance = Instance::start();
    let (device, _, _) = device(&instance);
    assert_eq!(instance.dmsim(&["fault", "d"]), "d: no faults are armed\n");
    fault(&instance, "error --on reads --start 8 --len 4 --nth 2 --times 3");
    for _ in 0..3 {
        let _refused_or_not = read_at(&device, 4096, 512);
    }
    let told = instance.dmsim(&["fault", "d"]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines[0].starts_with("d: 1 rule, seed 7, armed ") && lines[0].ends_with("3 I/O since"),
        "{told}"
    );
    assert_eq!(
        lines[1],
        "rule 1: error of reads at 8+4, from the 2. on, 3 times: 2 struck of 3 that fit"
    );
    assert!(lines[2].ends_with(" s: rule 1: read 8+1: input/output error"), "{told}");
    assert_eq!(lines.len(), 4, "{told}");

    let json = armed(&instance);
    let plan = &json["plans"][0];
    assert_eq!((&plan["seed"], &plan["rules"][0]["struck_count"]), (&7.into(), &2.into()));
    assert_eq!(plan["strikes"][1]["fate"], "input/output error");

    // Its status is the kernel's; that there is more is said besides, but not as dmsetup.
    let status = instance.run(&["status", "d"]);
    assert_eq!(String::from_utf8_lossy(&status.stdout), "0 16384 linear \n");
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert_eq!(said, "dmsim: d: faults are armed by 1 rule: `dmsim fault d` lists them\n");
    assert!(instance.run(&["status", "d", "--quiet"]).stderr.is_empty());
    let status: Value =
        serde_json::from_str(&instance.dmsim(&["status", "d", "--json"])).expect("JSON");
    assert_eq!(status[0]["fault_rule_count"], 1);
    let info: Value =
        serde_json::from_str(&instance.dmsim(&["info", "--json", "d"])).expect("JSON");
    assert_eq!(info[0]["faults"], serde_json::json!({ "rule_count": 1, "struck_count": 2 }));
    assert!(instance.dmsim(&["tree"]).contains("d (253:0) 8 MiB: linear, has faults, on purpose"));
    assert!(instance.dmsim(&["heal", "d"]).contains("struck so far: 2"));
    assert!(instance.run(&["status", "d"]).stderr.is_empty());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let instance = Instance::start();
    device(&instance);
    fault(&instance, "error --start 9");
    let before = armed(&instance)["plans"][0]["rules"].clone();
    let file = |content: &str| {
        let path = instance.path("plan.toml");
        std::fs::write(&path, content).expect("room");
        text(&path).to_owned()
    };
    let (rate, none) =
        (file("[[rule]]\nkind = \"error\"\nrate = 2.0\n"), instance.path("none.toml"));
    for (words, why) in [
        (
            vec!["error"],
            "has faults already: --replace arms these instead, `dmsim heal d` takes them away",
        ),
        (
            vec!["error", "--replace", "--start", "16384"],
            "start, len: 16384+1 is not within the device's 16384 sectors",
        ),
        (vec!["error", "--replace", "--nth", "0"], "nth: expected 1 or more, found 0"),
        (vec!["misdirected", "--replace", "--to", "99999"], "to: 99999 is not on the device"),
        (vec!["error", "--replace", "--to", "9"], "to: not for `error`"),
        (
            vec!["full", "--replace", "--on", "reads"],
            "on: expected some of writes, fua, flushes, discards for `full`, found `reads`",
        ),
        (
            vec!["--replace", "--plan", &rate],
            "line 3: expected a rate above 0, a billionth at least, and up to 1, found 2",
        ),
        (vec!["--replace", "--plan", text(&none)], "No such file"),
        (vec!["error", "--below", "/dev/sdq"], "nothing is called `/dev/sdq`"),
        (vec!["error", "--below", "253:1"], "no table of it maps onto 253:1"),
    ] {
        let told = instance.refused(&[&["fault", "d"], &words[..]].concat());
        assert!(told.contains(why), "{words:?}: {told}");
    }
    assert!(instance.refused(&["fault", "nobody", "error"]).contains("no such device"));
    for words in [
        &["error", "--rate", "1.5"][..],
        &["error", "--rate", "0"],
        &["error", "--rate", "-1"],
        &["eror"],
        &["error", "--on", "read"],
        &["error", "--len", "3"],
        &["error", "--once", "--times", "2"],
        &["error", "--plan", "x"],
        &["--rate", "0.5"],
        &["--replace"],
        &["--below", "/dev/sda"],
        &["--seed", "7"],
        &["error", "--nth", "-1"],
    ] {
        let output = instance.run(&[&["fault", "d"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    }
    assert_eq!(armed(&instance)["plans"][0]["rules"], before);
}

/// The example of the book is a plan, and does what its comments say.
#[test]
fn the_plan_of_the_book_runs() {
    let instance = Instance::start();
    let (device, _, content) = device(&instance);
    let docs = std::fs::read_to_string(DOCS).expect("the book");
    let example = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let plan = instance.path("faults.toml");
    std::fs::write(&plan, example.expect("an example")).expect("room");
    let told = instance.dmsim(&["fault", "d", "--plan", text(&plan)]);
    assert!(told.starts_with("d: 5 rules armed, seed 7: "), "{told}");
    let write = |at: u64| errno(write_at(&device, at * 512, &content[..4096]));
    // Bad sectors; a disk that is full once.
    assert_eq!(errno(read_at(&device, 2048 * 512, 4096)), Some(EIO));
    let ends: Vec<_> = (0..101).map(|_| write(4096)).collect();
    assert_eq!((ends[98], ends[99], ends[100]), (None, Some(ENOSPC), None));
    File::options().write(true).open(&device).expect("the device").sync_data().expect("a lie");
    let json = armed(&instance);
    let struck: Vec<_> = json["plans"][0]["rules"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|rule| rule["struck_count"].as_u64().expect("a count"))
        .collect();
    assert_eq!((struck[0], struck[1], struck[2]), (1, 1, 1), "{struck:?}");
    // The same plan and the same I/O: the same faults.
    let fates = |json: &Value| {
        json["plans"][0]["strikes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|strike| strike["fate"].clone())
            .collect::<Vec<_>>()
    };
    let run = || {
        instance.dmsim(&["fault", "d", "--replace", "--plan", text(&plan)]);
        (0..200).for_each(|_| drop(read_at(&device, 0, 4096)));
        fates(&armed(&instance))
    };
    let first = run();
    assert_eq!(first, run());
    assert!(!first.is_empty());
}

/// Nothing of it is on record, and who stops the daemon is told.
#[test]
fn a_restart_takes_faults_away_and_a_stop_says_so() {
    let instance = Instance::start();
    let (device, _, _) = device(&instance);
    fault(&instance, "error");
    for verb in ["suspend", "resume"] {
        instance.dmsim(&[verb, "d"]);
    }
    instance.dmsim(&["load", "d", "--table", "0 16384 linear /dev/sda 0"]);
    instance.dmsim(&["resume", "d"]);
    instance.dmsim(&["rename", "d", "e"]);
    assert_eq!(errno(read_at(&instance.device("e"), 0, 512)), Some(EIO));
    instance.dmsim(&["rename", "e", "d"]);
    assert_eq!(errno(read_at(&device, 0, 512)), Some(EIO));

    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(instance.dmsim(&["fault", "d"]), "d: no faults are armed\n");
    read_at(&instance.device("d"), 0, 512).expect("no fault");

    fault(&instance, "error");
    let stopped = instance.run(&["stop"]);
    let told = String::from_utf8_lossy(&stopped.stderr);
    assert!(
        stopped.status.success()
            && told.contains("faults that were armed are not on record, and gone: `d`"),
        "{told}"
    );
}
