//! A program that waits for a suspended device, and signals that kill it or do not.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::mounted::{Mounted, direct, eventually, mount};
use common::pattern;
use fuse_frontend::{Busy, Options};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Long enough that what does not end by then waits.
const WHILE: Duration = Duration::from_millis(300);

fn dd(words: &[&str], file: &Path, of: &str) -> Child {
    let mut dd = Command::new("dd");
    start(dd.arg(format!("{of}={}", file.display())).args(words))
}

fn start(program: &mut Command) -> Child {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until a program sleeps in the kernel, for an answer.
fn sleeps(child: &Child) {
    let stat = format!("/proc/{}/stat", child.id());
    let waits = format!("/proc/{}/wchan", child.id());
    eventually("it waits", || {
        let state = fs::read_to_string(&stat).unwrap();
        let state = state.rsplit(") ").next().unwrap().chars().next().unwrap();
        let wchan = fs::read_to_string(&waits).unwrap_or_default();
        matches!(state, 'S' | 'D') && (wchan == "0" || wchan.contains("request_wait"))
    });
    thread::sleep(Duration::from_millis(20));
}

/// Waits for the end of a program, and returns the signal that it died of.
fn died(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.signal(),
            None => assert!(Instant::now() < deadline, "it cannot be killed"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, signal: i32) {
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A mount with a suspended device `held` under a linear one, `above`.
fn held() -> Option<Mounted> {
    let mounted = direct()?;
    mounted.world.create("held", "0 2048 linear disk 0");
    mounted.world.create("above", "0 2048 linear held 0");
    mounted.open("held").write_all_at(&pattern(8192), 0).unwrap();
    mounted.world.suspend("held");
    Some(mounted)
}

#[test]
fn whoever_waits_for_a_suspended_device_can_be_killed() {
    let Some(mounted) = held() else { return };
    for (file, with) in [("held", SIGKILL), ("held", SIGTERM), ("above", SIGKILL)] {
        let path = mounted.path(file);
        // One after the other: a flush keeps the kernel from sending a write.
        let programs: [&dyn Fn() -> Child; 4] = [
            &|| dd(&["bs=4096", "count=1"], &path, "if"),
            &|| dd(&["if=/dev/zero", "bs=4096", "count=1", "conv=notrunc"], &path, "of"),
            &|| dd(&["if=/dev/zero", "bs=1", "count=1", "conv=notrunc"], &path, "of"),
            &|| start(Command::new("sync").arg(&path)),
        ];
        for program in programs {
            let mut child = program();
            sleeps(&child);
            signal(&child, with);
            assert_eq!(died(&mut child), Some(with), "{file}");
        }
    }
    mounted.world.resume("held");
    let mut back = vec![0; 8192];
    mounted.open("held").read_exact_at(&mut back, 0).unwrap();
    assert!(back == pattern(8192), "nothing of what was killed is written after the resume");
    eventually("all are closed", || mounted.frontend.users().is_empty());
    mounted.frontend.unmount(Busy::Refuse).unwrap();
}

#[test]
fn whoever_reads_or_flushes_can_be_killed_whatever_lies_above_the_suspended_device() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("held", "0 2048 linear disk 0");
    let crypt = format!("0 1024 crypt aes-xts-plain64 {} 0 held 0", "5a".repeat(32));
    for (name, table) in [
        ("crypt", &*crypt),
        ("mirror", "0 1024 mirror core 2 512 nosync 2 held 0 held 1024"),
        ("origin", "0 2048 snapshot-origin held"),
    ] {
        mounted.world.create(name, table);
    }
    mounted.world.suspend("held");
    for name in ["crypt", "mirror", "origin"] {
        let path = mounted.path(name);
        for mut child in
            [dd(&["bs=4096", "count=1"], &path, "if"), start(Command::new("sync").arg(&path))]
        {
            sleeps(&child);
            signal(&child, SIGKILL);
            assert_eq!(died(&mut child), Some(SIGKILL), "{name}");
        }
    }
    // What was left in the targets' hands ends with the resume.
    mounted.world.resume("held");
    for name in ["crypt", "mirror", "origin", "held"] {
        let device = mounted.world.control.find_shown(name).unwrap().device;
        eventually("nothing is in flight", || device.in_flight() == 0);
        mounted.open(name).read_exact_at(&mut [0; 4096], 0).unwrap();
    }
    eventually("all are closed", || mounted.frontend.users().is_empty());
    mounted.frontend.unmount(Busy::Refuse).unwrap();
}

#[test]
fn a_signal_that_does_not_kill_breaks_no_read_off_and_a_later_one_kills() {
    let Some(mounted) = held() else { return };
    // dd counts what it has done at this signal, by a handler.
    const SIGUSR1: i32 = 10;
    let mut first = dd(&["bs=4096", "count=1", "status=none"], &mounted.path("held"), "if");
    let mut second = dd(&["bs=4096", "count=1"], &mounted.path("held"), "if");
    for child in [&first, &second] {
        sleeps(child);
        signal(child, SIGUSR1);
    }
    thread::sleep(WHILE);
    assert_eq!(second.try_wait().unwrap(), None, "it waits still");
    signal(&second, SIGKILL);
    assert_eq!(died(&mut second), Some(SIGKILL));
    assert_eq!(first.try_wait().unwrap(), None, "it waits still");
    mounted.world.resume("held");
    let mut read = Vec::new();
    first.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert!(first.wait().unwrap().success());
    assert!(read == pattern(8192)[..4096]);
}

#[test]
fn a_program_killed_at_any_moment_dies_and_leaves_nothing() {
    let options = Options { threads: 1, ..Options::default() };
    let Some(mounted) = mount(&options) else { return };
    mounted.world.create("d", "0 2048 linear disk 0");
    for round in 0..60 {
        let words = ["if=/dev/zero", "bs=1000", "conv=notrunc,fsync"];
        let mut child = dd(&words, &mounted.path("d"), "of");
        thread::sleep(Duration::from_millis(round % 7));
        if round % 2 == 0 {
            mounted.world.suspend("d");
        }
        thread::sleep(Duration::from_millis(round % 5));
        // It may have come to the end of the device, and have ended.
        let _ = child.kill();
        died(&mut child);
        mounted.world.resume("d");
    }
    eventually("all are closed", || mounted.frontend.users().is_empty());
    let device = mounted.world.control.find_shown("d").unwrap().device;
    eventually("nothing is in flight", || device.in_flight() == 0);
    assert_eq!(mounted.open("d").write_at(&[1; 10], 0).unwrap(), 10);
}
