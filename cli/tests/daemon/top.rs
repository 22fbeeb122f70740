//! `top`: what all devices are doing.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{DMSIM, Instance, can_mount, wait_until};

/// Two linear devices on top of one another, and an image below.
fn stack() -> Instance {
    let instance = Instance::new();
    instance.ok(&["attach", "a.img", "--create", "8M", "--as", "/dev/vda"]);
    instance.ok(&["create", "lin", "--table", "0 2048 linear /dev/vda 8"]);
    instance.ok(&["create", "my top", "--table", "0 2048 linear lin 0"]);
    instance
}

/// Writes to a device until it goes.
struct Writes {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writes {
    fn begin(file: PathBuf) -> Writes {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = ends.clone();
        let thread = std::thread::spawn(move || {
            let file = std::fs::File::options().write(true).open(file).unwrap();
            while !is_over.load(Relaxed) {
                file.write_all_at(&[1; 4096], 8192).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Writes { ends, thread: Some(thread) }
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        let _ended = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn regions(instance: &Instance) -> String {
    instance.ok(&["message", "lin", "0", "@stats_list dmsim-top"]).trim().to_owned()
}

#[test]
fn rates_are_told_to_a_pipe_and_nothing_is_counted_afterwards() {
    if !can_mount() {
        return;
    }
    let instance = stack();
    instance.ok(&["create", "none", "--notable"]);
    let writes = Writes::begin(instance.path("mapper/my\\x20top"));
    let text = instance.ok(&["top", "--json", "--count", "2", "-n", "300ms"]);
    let told: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(told.len(), 2, "{text}");
    let device = |name: &str| {
        let devices = told[1]["devices"].as_array().unwrap();
        devices.iter().find(|device| device["name"] == name).unwrap().clone()
    };
    // What comes through the device above counts below, too.
    for name in ["my top", "lin"] {
        let device = device(name);
        let rate = device["writes_per_s"].as_f64().unwrap();
        assert!(rate > 1.0 && device["reads_per_s"] == 0.0, "{name}: {text}");
        let bytes = device["written_bytes_per_s"].as_f64().unwrap();
        assert!((bytes / rate - 4096.0).abs() < 1.0, "{name}: {text}");
        let [half, most] =
            ["latency_p50_ns", "latency_p99_ns"].map(|key| device[key].as_u64().unwrap());
        assert!(0 < half && half <= most, "{name}: {text}");
    }
    assert_eq!(device("none")["writes_per_s"], Value::Null);
    assert_eq!(device("my top")["below_devices"][0]["minor"], 0);
    let table = instance.ok(&["top", "--once", "-n", "100ms", "--sort", "iops"]);
    assert!(table.starts_with("device  ") && table.lines().count() == 4, "{table}");
    assert!(!table.lines().nth(1).unwrap().starts_with("none"), "{table}");
    assert_eq!(regions(&instance), "");
    // Nor where the command is killed: what it counted in goes with its connection.
    let args = ["top", "--json", "--count", "1000", "-n", "50ms"];
    let mut child = instance.command(&args).stdout(Stdio::null()).spawn().unwrap();
    wait_until("it counts", || regions(&instance).contains("dmsim-top"));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("it counts no more", || regions(&instance).is_empty());
    drop(writes);
    assert!(instance.run(&["top", "--once", "--json", "-n", "0"]).status.code() == Some(2));
}

/// A terminal, by tmux.
struct Tmux(String);

impl Tmux {
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.0, "-f", "/dev/null"]).args(args).env("LC_ALL", "C.UTF-8");
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    fn sees(&self, what: &str) {
        wait_until(&format!("`{what}` is shown"), || self.screen().contains(what));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ended_already = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}

impl Tmux {
    /// Finds one, for a test of this name.
    fn new(test: &str) -> Option<Tmux> {
        if Command::new("tmux").arg("-V").output().is_ok() {
            return Some(Tmux(format!("dmsim-{test}-{}", std::process::id())));
        }
        assert!(std::env::var_os("CI").is_none(), "no tmux");
        println!("skipped: no tmux");
        None
    }
}

/// Its window is closed, or a signal asks it to end: nothing of it is left, and it does not go on reading what
/// is no terminal any more.
#[test]
fn without_its_terminal_it_ends() {
    if !can_mount() {
        return;
    }
    let Some(tmux) = Tmux::new("ends") else { return };
    let instance = stack();
    let dir = instance.path("");
    let pid = instance.path("pid");
    let ends = |ignored: &str, end: &dyn Fn(&str)| {
        let run = format!(
            "trap '' {ignored}; echo $$ > {}; DMSIM_DIR={} exec {DMSIM} top -n 200ms",
            pid.display(),
            dir.display()
        );
        tmux.run(&["new-session", "-d", "-x", "100", "-y", "20", "sh", "-c", &run]);
        tmux.sees("dmsim top: 2 devices, by name");
        let number = std::fs::read_to_string(&pid).unwrap();
        let process = PathBuf::from("/proc").join(number.trim());
        assert!(process.exists());
        end(number.trim());
        wait_until("it is gone", || !process.exists());
        wait_until("it counts no more", || regions(&instance).is_empty());
    };
    // By the hang-up signal, and where that is ignored by what the terminal itself says.
    for ignored in ["USR1", "HUP"] {
        ends(ignored, &|_| drop(tmux.run(&["kill-server"])));
    }
    ends("USR1", &|pid| assert!(Command::new("kill").arg(pid).status().unwrap().success()));
}

#[test]
fn a_terminal_is_drawn_on_and_put_back() {
    if !can_mount() {
        return;
    }
    let Some(tmux) = Tmux::new("drawn") else { return };
    let instance = stack();
    let dir = instance.path("");
    let top = format!("DMSIM_DIR={} {DMSIM} top -n 200ms", dir.display());
    tmux.run(&["new-session", "-d", "-x", "100", "-y", "20", "sh"]);
    tmux.run(&["send-keys", &format!("{top}; echo status=$?"), "Enter"]);
    tmux.sees("dmsim top: 2 devices, by name");
    let writes = Writes::begin(instance.path("mapper/my\\x20top"));
    tmux.sees("us");
    // Into the stack of the second one.
    tmux.run(&["send-keys", "Down", "Enter"]);
    tmux.sees("the stack of my top");
    tmux.sees("    /dev/vda");
    tmux.run(&["resize-window", "-x", "22", "-y", "3"]);
    tmux.sees("the window");
    tmux.run(&["resize-window", "-x", "70", "-y", "12"]);
    tmux.sees("the stack of my top");
    tmux.run(&["send-keys", "p"]);
    tmux.sees("paused");
    tmux.run(&["send-keys", "p"]);
    // The device that is looked into goes.
    drop(writes);
    instance.ok(&["remove", "my top"]);
    tmux.sees("my top is gone");
    tmux.sees("dmsim top: 1 device,");
    tmux.run(&["send-keys", "q"]);
    tmux.sees("status=0");
    // The terminal is as it was: it echoes, and lines are lines.
    tmux.run(&["resize-window", "-x", "100", "-y", "30"]);
    tmux.run(&["send-keys", "clear; stty -a", "Enter"]);
    wait_until("the terminal is as it was", || {
        let screen = tmux.screen();
        screen.contains(" icanon") && screen.contains(" echo ") && !screen.contains("-icanon")
    });
    tmux.run(&["send-keys", &format!("clear; {top}; echo status=$?"), "Enter"]);
    tmux.sees("dmsim top: 1 device,");
    instance.ok(&["stop"]);
    tmux.sees("has ended, or cannot be asked");
    tmux.sees("status=3");
}
