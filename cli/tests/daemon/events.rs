//! The stream of what happens to devices.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::harness::{Instance, can_mount, wait_until};

/// A stream under way.
struct Stream {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Stream {
    /// Begins one that has seen all that has happened since the daemon was started.
    fn past(instance: &Instance, args: &[&str]) -> Stream {
        let args = [&["events", "--json", "--past"][..], args].concat();
        let mut child = instance.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Stream { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn what_happens_comes_in_order_and_without_a_gap() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    let mut stream = Stream::past(&instance, &[]);
    instance.ok(&["create", "my disk", "-u", "u", "--table", "0 8 zero"]);
    instance.ok(&["suspend", "my disk"]);
    instance.ok(&["suspend", "my disk"]);
    instance.ok(&["resume", "my disk"]);
    instance.ok(&["resume", "my disk"]);
    instance.ok(&["load", "my disk", "--table", "0 16 zero"]);
    instance.ok(&["clear", "my disk"]);
    instance.ok(&["clear", "my disk"]);
    instance.ok(&["load", "my disk", "--table", "0 16 zero"]);
    instance.ok(&["resume", "my disk"]);
    instance.ok(&["rename", "my disk", "other"]);
    instance.ok(&["create", "b", "--notable"]);
    instance.ok(&["rename", "b", "--setuuid", "late"]);
    instance.ok(&["remove_all"]);
    let expected = [
        "created my disk",
        "table_loaded my disk",
        "resumed my disk new_table",
        "suspended my disk",
        "resumed my disk",
        "table_loaded my disk",
        "table_cleared my disk",
        "table_loaded my disk",
        "resumed my disk new_table",
        "renamed other from my disk",
        "event other",
        "created b",
        "uuid_set b",
        "removed other",
        "removed b",
    ];
    for (at, expected) in expected.iter().enumerate() {
        let event = stream.next();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let mut told = format!("{} {}", text("event"), text("name"));
        if event["new_table"] == true {
            told += " new_table";
        }
        if event["old_name"].is_string() {
            told += &format!(" from {}", text("old_name"));
        }
        assert_eq!((told.as_str(), &event["seq"]), (*expected, &(at as u64 + 1).into()), "{event}");
        assert_eq!((&event["major"], &event["missed_count"]), (&253.into(), &0.into()));
    }
    let named = instance.ok(&["events", "--past", "--count", "2", "b"]);
    assert_eq!(named, "12 253:1 b: created\n13 253:1 b: uuid_set\n");
    let renamed = instance.ok(&["events", "--past", "--timeout", "0.3", "other"]);
    let expected =
        "10 253:0 other: renamed from my disk\n11 253:0 other: event 1\n14 253:0 other: removed\n";
    assert_eq!(renamed, expected);
}

#[test]
fn events_of_targets_have_the_numbers_that_wait_waits_for() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "1M", "--as", "/dev/sdb"]);
    let table = "0 1024 mirror core 2 64 nosync 2 /dev/sda 0 /dev/sdb 0 2 handle_errors keep_log";
    instance.ok(&["create", "m", "--table", table]);
    let mut stream = Stream::past(&instance, &["m"]);
    assert_eq!(
        ["created", "table_loaded", "resumed"],
        [(); 3].map(|()| stream.next()["event"].clone())
    );
    instance.ok(&["fail", "m", "/dev/sda"]);
    std::fs::write(instance.path("mapper/m"), [1; 4096]).unwrap();
    let event = stream.next();
    assert_eq!((&event["event"], &event["name"]), (&"event".into(), &"m".into()));
    let number = event["event_nr"].as_u64().unwrap();
    assert_eq!(number, 1);
    // A wait for the number before ends at once.
    instance.ok(&["wait", "m", &(number - 1).to_string()]);
}

#[test]
fn nothing_of_the_past_comes_unless_asked_for() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "a", "--table", "0 8 zero"]);
    assert_eq!(instance.ok(&["events", "--timeout", "0.2"]), "");
    let output = instance.run(&["events", "--timeout", "0.2", "--count", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "dmsim: events: the time is up after 0 of 1\n");
    let past = instance.ok(&["events", "--past", "--count", "3"]);
    assert_eq!(
        past,
        "1 253:0 a: created\n2 253:0 a: table_loaded\n3 253:0 a: resumed with a new table\n"
    );
}

#[test]
fn the_daemons_end_ends_the_stream() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "a", "--table", "0 8 zero"]);
    let pid = instance.pid().unwrap();
    let end = |end: &dyn Fn()| {
        let mut command = instance.command(&["events"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = child.id();
        // It is connected when it waits for the daemon, in a thread of its own.
        wait_until("it waits", || {
            let threads = std::fs::read_dir(format!("/proc/{events}/task"));
            threads.is_ok_and(|threads| threads.count() > 1)
        });
        end();
        child.wait_with_output().unwrap()
    };
    let stopped = end(&|| drop(instance.ok(&["stop"])));
    let told = String::from_utf8(stopped.stderr).unwrap();
    assert_eq!(told, format!("dmsim: events: the daemon (pid {pid}) has ended\n"));
    assert_eq!(stopped.status.code(), Some(3));
    instance.ok(&["restore"]);
    let killed = end(&|| instance.crash());
    assert_eq!(killed.status.code(), Some(3), "{killed:?}");
}

#[test]
fn who_reads_slowly_holds_up_nobody_and_is_told_what_is_missed() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "a", "--table", "0 8 zero"]);
    // Ten thousand and more happenings, and a reader that reads none of them: its pipe is full soon.
    let mut stream = Stream::past(&instance, &[]);
    let first = stream.next();
    assert_eq!(first["seq"], 1);
    let devices: Vec<String> = (0..1200).map(|n| format!("d{n},,,rw,0 8 zero")).collect();
    for _ in 0..3 {
        instance.ok(&["create", "--concise", &devices.join(";")]);
        instance.ok(&["remove_all"]);
    }
    let mut seq = 1;
    let mut missed = 0;
    let last = {
        let all = instance.ok(&["events", "--past", "--json", "--timeout", "1"]);
        let last: Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
        last["seq"].as_u64().unwrap()
    };
    assert!(last > 10_000, "{last}");
    while seq < last {
        let event = stream.next();
        let lost = event["missed_count"].as_u64().unwrap();
        let next = event["seq"].as_u64().unwrap();
        assert_eq!(next, seq + lost + 1, "{event}");
        (seq, missed) = (next, missed + lost);
    }
    assert!(missed > 0);
    assert_eq!(instance.ok(&["ls"]), "No devices found\n");
}
