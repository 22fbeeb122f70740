//! Mounts whose pages the kernel keeps, and changes of what they show.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use common::World;
use common::asked::Slow;
use common::mounted::{Mounted, apart, eventually, mount, mount_world, skip, soon};
use fuse_frontend::{Frontend, Options, clean_dead_mount};
use sim_core::MappedDevice;
use sim_core::control::Changed;

/// The environment variable that makes this program a daemon.
const SERVE: &str = "FUSE_FRONTEND_TEST_SERVE_CACHED";

#[test]
fn a_cached_file_reads_as_the_new_table_says_once_it_is_resumed() {
    let Some(mounted) = mount(&cached()) else { return };
    mounted.world.create("a", "0 2048 linear disk 0");
    mounted.world.create("d", "0 2048 linear disk 2048");
    mounted.open("a").write_all_at(&[b'a'; 4096], 0).unwrap();
    let file = mounted.open("d");
    file.write_all_at(&[b'd'; 4096], 0).unwrap();
    for round in 0..20 {
        let (start, byte) = if round % 2 == 0 { (0, b'a') } else { (2048, b'd') };
        mounted.world.reload("d", &format!("0 2048 linear disk {start}"));
        mounted.frontend.settled();
        let mut back = [0; 4096];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back == [byte; 4096], "round {round}");
    }
}

#[test]
fn a_change_waits_for_no_page_that_is_being_read_and_settling_only_so_long() {
    let world = World::new();
    let slow = Slow::over(world.create("below", "0 8192 linear disk 0"));
    world.devices.add("slow", slow.clone());
    let Some(mounted) = mount_world(world, &cached()) else { return };
    let device = mounted.world.create("d", "0 2048 linear slow 0");
    let (read, times) = change_while_reading(&mounted, &device, || slow.gate.close());
    slow.gate.open();
    assert!(soon(&read).is_ok());
    let [changed, settled] = times;
    assert!(changed < Duration::from_millis(100), "{changed:?}");
    assert!(
        settled > Duration::from_millis(300) && settled < Duration::from_secs(5),
        "{settled:?}"
    );
    settles(&mounted);
}

#[test]
fn what_a_suspended_device_holds_is_not_waited_for() {
    let Some(mounted) = mount(&cached()) else { return };
    let device = mounted.world.create("d", "0 2048 linear disk 0");
    let suspend = || mounted.world.suspend("d");
    let (read, times) = change_while_reading(&mounted, &device, suspend);
    mounted.world.resume("d");
    assert!(soon(&read).is_ok());
    assert!(times.iter().all(|time| *time < Duration::from_millis(300)), "{times:?}");
    settles(&mounted);
}

fn cached() -> Options {
    Options { cache: true, ..Options::default() }
}

/// Changes a device while a page of it is being read, which `stop` keeps from ending, and tells how
/// long that took, and how long it took to settle.
fn change_while_reading(
    mounted: &Mounted,
    device: &MappedDevice,
    stop: impl FnOnce(),
) -> (Receiver<io::Result<()>>, [Duration; 2]) {
    let file = mounted.open("d");
    stop();
    let read = apart(move || file.read_exact_at(&mut [0; 4096], 0));
    // Until the read has the page, nothing would wait, and the test would see nothing.
    thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    for _ in 0..100 {
        mounted.frontend.changed(&Changed::Content(device.minor()));
    }
    let changed = started.elapsed();
    mounted.frontend.settled();
    (read, [changed, started.elapsed()])
}

/// Sees that nothing is due any more: settling comes at once then.
fn settles(mounted: &Mounted) {
    eventually("it settles", || {
        let started = Instant::now();
        mounted.frontend.settled();
        started.elapsed() < Duration::from_millis(100)
    });
}

/// Not a test of its own: what the next one starts, and kills.
#[test]
fn serves_a_suspended_device_until_it_is_killed() {
    let Some(dir) = std::env::var_os(SERVE) else { return };
    let world = World::new();
    let device = world.create("d", "0 2048 linear disk 0");
    let (control, pool) = (world.control.clone(), world.pool.clone());
    let frontend = match Frontend::mount(control, pool, Path::new(&dir), &cached()) {
        Ok(frontend) => frontend,
        Err(error) => return println!("\nnot mounted: {error}"),
    };
    world.suspend("d");
    println!("\nmounted");
    // The other end has read by then, and waits.
    io::stdin().read_line(&mut String::new()).unwrap();
    frontend.changed(&Changed::Content(device.minor()));
    println!("changed");
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_daemon_that_is_killed_ends_whatever_the_kernel_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serves_a_suspended_device_until_it_is_killed", "--nocapture"])
        .env(SERVE, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.find(|line| line.contains("mounted")).unwrap();
    if said != "mounted" {
        daemon.wait().unwrap();
        return skip(&said).unwrap_or_default();
    }
    let file = File::open(dir.path().join("d")).unwrap();
    let read = apart(move || file.read_exact_at(&mut [0; 4096], 0));
    thread::sleep(Duration::from_millis(100));
    daemon.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(lines.any(|line| line == "changed"));
    thread::sleep(Duration::from_millis(100));
    daemon.kill().unwrap();
    eventually("it ends", || daemon.try_wait().unwrap().is_some());
    daemon.wait().unwrap();
    assert!(soon(&read).is_err());
    assert!(clean_dead_mount(dir.path()).unwrap());
}
