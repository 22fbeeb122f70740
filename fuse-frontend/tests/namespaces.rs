//! Callers that the daemon cannot see, as they live in another PID namespace than its mount: all of
//! them have the number 0.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use common::mounted::{errno, mount, skip};
use common::pattern;
use fuse_frontend::Options;
use sim_core::Errno;

const SIZE: usize = 1 << 20;

/// Set for the daemon's half of the test, which this program is too.
const DAEMON: &str = "DMSIM_TEST_DAEMON";

/// A mount that is served in a PID namespace of its own.
struct Apart {
    path: std::path::PathBuf,
    // The daemon ends, with all that it has mounted, when its input does.
    input: Option<ChildStdin>,
    daemon: Child,
}

impl Apart {
    fn start() -> Option<Apart> {
        let mut daemon = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_daemons_half", "--nocapture", "--test-threads=1"])
            .env(DAEMON, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let path =
            lines.map_while(Result::ok).find_map(|line| Some(line.split_once("at ")?.1.into()));
        let input = daemon.stdin.take();
        let apart = Apart { path: path.unwrap_or_default(), input, daemon };
        apart.path.is_absolute().then_some(apart)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.input.take());
        self.daemon.wait().unwrap();
    }
}

/// Not a test of its own: mounts, says where, and serves until nobody listens.
#[test]
fn the_daemons_half() {
    if std::env::var_os(DAEMON).is_none() {
        return;
    }
    let mounted = mount(&Options::default()).unwrap();
    mounted.world.create("d", &format!("0 {} linear disk 0", SIZE / 512));
    println!("at {}", mounted.path("d").display());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn by_name(path: &Path, size: usize) -> bool {
    let truncate = format!("import os; os.truncate('{}', {size})", path.display());
    let run = Command::new("python3").args(["-c", &truncate]).stderr(Stdio::null()).status();
    run.unwrap().success()
}

#[test]
fn a_truncation_by_a_process_that_cannot_be_seen_hits_nobodys_file() {
    let Some(apart) = Apart::start() else {
        let _skipped: Option<()> = skip("no mount in a PID namespace");
        return;
    };
    let open = || File::options().read(true).write(true).open(&apart.path).unwrap();
    let mut model = pattern(SIZE);
    open().write_all_at(&model, 0).unwrap();
    for (number, name) in ["an open", "a truncate(2)"].into_iter().enumerate() {
        // The one file of this device that somebody has just opened, and not used yet.
        let other = open();
        match number {
            0 => assert_eq!(errno(File::create(&apart.path).map(drop)), Err(Errno::INVAL)),
            _ => assert!(!by_name(&apart.path, 0)),
        }
        assert!(by_name(&apart.path, SIZE), "it is as long as that");
        let at = 100_000 * (number + 1);
        other.write_all_at(&[9; 10], at as u64).unwrap();
        model[at..at + 10].fill(9);
        let mut found = vec![0; SIZE];
        open().read_exact_at(&mut found, 0).unwrap();
        assert!(found == model, "after {name}");
    }
    // By its own handle, everybody can.
    let own = open();
    own.set_len(1000).unwrap();
    own.write_all_at(&[8; 10], 2000).unwrap();
    model[1000..2000].fill(0);
    model[2000..2010].fill(8);
    let mut found = vec![0; SIZE];
    own.read_exact_at(&mut found, 0).unwrap();
    assert!(found == model);
}
