//! Where things lie: the default instance, and one with a directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{DMSIM, Instance, can_mount, wait_until};

/// The default instance of a user whose directories are ours.
pub(crate) struct Default(pub(crate) TempDir);

impl Default {
    pub(crate) fn new() -> Default {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        Default(root)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.0.path().join("xdg-run/dmsim")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.0.path().join("xdg-state/dmsim")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DMSIM);
        let root = self.0.path();
        command.args(args).current_dir(root).stdin(Stdio::null()).env("NO_COLOR", "1");
        command.env_remove("DMSIM_DIR").env("XDG_RUNTIME_DIR", root.join("xdg-run"));
        command.env("XDG_STATE_HOME", root.join("xdg-state")).env("HOME", root.join("home"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn ok(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Ends the daemon as a crash would, and takes away what a reboot does.
    pub(crate) fn reboot(&self) {
        self.crash();
        fs::remove_dir_all(self.run_dir()).unwrap();
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn crash(&self) {
        let pid = fs::read_to_string(self.run_dir().join("lock")).unwrap();
        let pid = pid.split(' ').next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        // One that is not waited for yet has nothing open any more.
        let open = PathBuf::from(format!("/proc/{pid}/fd"));
        wait_until("it is gone", || fs::read_dir(&open).map_or(0, Iterator::count) == 0);
        umount(&self.run_dir());
    }
}

impl Drop for Default {
    fn drop(&mut self) {
        let _by_force = self.run(&["stop", "--force"]);
        umount(&self.run_dir());
    }
}

fn umount(run: &Path) {
    let mount = run.join("mapper");
    let _not_mounted =
        Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_must_survive_a_reboot_lies_apart_from_what_need_not() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    instance.ok(&["create", "data", "--table", "0 2048 linear /dev/sda 0"]);
    let (snapshot, _) = instance.ok(&["snapshot", "data", "snap"]);
    assert_eq!(Path::new(snapshot.trim_end()), instance.run_dir().join("mapper/snap"));
    assert_eq!(names(&instance.run_dir()), ["control.sock", "kmsg", "lock", "mapper"]);
    assert_eq!(names(&instance.state_dir()), ["cow", "lock", "log", "record.log"]);
    fs::write(instance.run_dir().join("mapper/snap"), vec![7; 65536]).unwrap();
    fs::File::open(snapshot.trim_end()).unwrap().sync_all().unwrap();
    let (table, _) = instance.ok(&["table"]);
    instance.reboot();
    let (_, note) = instance.ok(&["start"]);
    let record = instance.state_dir().join("record.log");
    assert!(note.contains(record.to_str().unwrap()), "{note}");
    instance.ok(&["restore"]);
    assert_eq!(instance.ok(&["table"]).0, table);
    assert_eq!(fs::read(snapshot.trim_end()).unwrap()[..65536], [7; 65536]);
}

#[test]
fn a_daemon_is_asked_where_it_keeps_things() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    instance.ok(&["create", "data", "--table", "0 2048 zero"]);
    let mut snapshot = instance.command(&["snapshot", "data", "snap"]);
    let output = snapshot.env("XDG_STATE_HOME", "/nowhere").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(&instance.state_dir().join("cow")), ["snap.cow"]);
    // Another directory to run in, and the same record.
    let other = instance.0.path().join("other");
    let output = instance.command(&["start"]).env("XDG_RUNTIME_DIR", &other).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the record is kept by another daemon (pid "), "{told}");
}

#[test]
fn the_record_of_an_earlier_version_is_taken_over_once() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    let earlier = |args: &[&str]| {
        // As earlier versions did, it keeps everything where it runs.
        let mut command = instance.command(args);
        let output = command.env("DMSIM_DIR", instance.run_dir()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    earlier(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
    earlier(&["create", "data", "--table", "0 2048 linear /dev/sda 0"]);
    earlier(&["snapshot", "data", "snap"]);
    let table = earlier(&["table"]);
    earlier(&["stop"]);
    let (_, note) = instance.ok(&["start"]);
    assert!(note.contains(": 5 images and devices are on record"), "{note}");
    assert!(!instance.run_dir().join("record.log").exists());
    assert!(instance.run_dir().join("record.log.taken-over").exists());
    instance.ok(&["restore"]);
    assert_eq!(instance.ok(&["table"]).0, table);
    // What it made goes with the snapshot, wherever it lies.
    instance.ok(&["drop", "snap"]);
    assert!(names(&instance.run_dir().join("cow")).is_empty());
    instance.ok(&["stop"]);
    let (_, note) = instance.ok(&["start"]);
    assert!(note.contains(": 2 images and devices are on record"), "{note}");
    // Both have something.
    instance.ok(&["stop"]);
    earlier(&["create", "other", "-j", "253", "-m", "9", "--table", "0 8 zero"]);
    earlier(&["stop"]);
    instance.ok(&["restore"]);
    let (table, _) = instance.ok(&["table"]);
    assert!(table.contains("data: 0 2048 linear") && table.contains("other: 0 8 zero"), "{table}");
}

#[test]
fn a_restore_without_a_record_is_an_error() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    let told = instance.fails(&["restore"]);
    let record = instance.state_dir().join("record.log");
    assert!(
        told.contains("there is no record") && told.contains(record.to_str().unwrap()),
        "{told}"
    );
    assert!(!instance.run_dir().exists(), "nothing is started for it");
    instance.ok(&["start"]);
    assert_eq!(instance.fails(&["restore"]), told, "a daemon without a record is no better");
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    let (_, told) = instance.ok(&["restore"]);
    assert!(told.contains("nothing is left to bring back"), "{told}");
}

#[test]
fn directories_that_cannot_be_used_are_named_with_the_remedy() {
    let instance = Default::new();
    let (run, state) = (instance.0.path().join("xdg-run"), instance.0.path().join("xdg-state"));
    for (dir, variable) in [(&run, "XDG_RUNTIME_DIR"), (&state, "XDG_STATE_HOME")] {
        let refused = |words: &str| {
            let told = instance.fails(&["create", "z", "--table", "0 8 zero"]);
            for words in [dir.to_str().unwrap(), words, variable, "--dir"] {
                assert!(told.contains(words), "{words}: {told}");
            }
        };
        fs::write(dir, "").unwrap();
        refused("expected a directory, found another file");
        fs::remove_file(dir).unwrap();
        // What nobody can write to, root included.
        std::os::unix::fs::symlink("/proc", dir).unwrap();
        refused("cannot be made: No such file or directory");
        fs::remove_file(dir).unwrap();
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all(dir.join("dmsim")).unwrap();
            std::os::unix::fs::chown(dir.join("dmsim"), Some(65534), None).unwrap();
            refused("belongs to another user (uid 65534, not 0)");
            fs::remove_dir_all(dir).unwrap();
            fs::create_dir(dir).unwrap();
            let mount = |words: &[&str]| {
                let mut command = Command::new("mount");
                assert!(command.args(words).arg(dir).status().unwrap().success());
            };
            // No inode is left.
            mount(&["-t", "tmpfs", "-o", "size=64k,nr_inodes=1", "tmpfs"]);
            let _mounted = Unmount(dir);
            refused("No space left on device");
            mount(&["-o", "remount,ro,nr_inodes=9"]);
            refused("Read-only file system");
        } else {
            println!("skipped in part: no root");
        }
    }
}

/// A mount that goes when this is dropped.
pub(crate) struct Unmount<'a>(pub(crate) &'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn an_instance_in_memory_says_so_at_its_start() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let instance = Instance::new();
    fs::create_dir(instance.path("")).unwrap();
    let dir = instance.path("");
    assert!(instance.run(&["start"]).stderr.is_empty(), "it does not lie in memory");
    instance.ok(&["stop"]);
    for kind in ["tmpfs", "ramfs"] {
        // Root's is where nobody else can write.
        let mounted = ["-o", "mode=755", "-t", kind, kind];
        let mounted = Command::new("mount").args(mounted).arg(&dir).status().unwrap();
        assert!(mounted.success());
        let _mounted = Unmount(&dir);
        let output = instance.run(&["start"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.contains("do not survive a reboot"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        instance.ok(&["create", "z", "--table", "0 8 zero"]);
        assert!(instance.run(&["ls"]).stderr.is_empty(), "once is enough");
        instance.ok(&["stop", "--force"]);
        // So does whoever starts it besides, but for dmsetup.
        for (program, verb) in [("dmsim", "create"), ("dmsim", "attach"), ("dmsetup", "create")] {
            let args: &[&str] = match verb {
                "create" => &["create", "y", "--table", "0 8 zero"],
                _ => &["attach", "y.img", "--create", "1M"],
            };
            let output = instance.command(args).arg0(program).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            let lines = told.matches("do not survive a reboot").count();
            assert_eq!(lines, usize::from(program == "dmsim"), "{program} {verb}: {told}");
            if program == "dmsim" {
                let again = instance.run(&["create", "x", "--table", "0 8 zero"]);
                assert!(again.stderr.is_empty(), "once is enough: {again:?}");
            }
            instance.ok(&["stop"]);
        }
    }
}

#[test]
fn where_the_record_lies_matters_only_to_who_starts_a_daemon() {
    if !can_mount() {
        return;
    }
    let instance = Default::new();
    fs::set_permissions(instance.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bare = |args: &[&str]| {
        let mut command = instance.command(args);
        command.current_dir("/");
        // As a service or a cron job has it. Root has a directory without HOME.
        command.env_remove("HOME").env_remove("XDG_STATE_HOME");
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    };
    let stderr = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let told = stderr(&bare(&["create", "z", "--table", "0 8 zero"]));
    assert!(told.contains("set HOME or XDG_STATE_HOME"), "{told}");
    let told = stderr(&bare(&["ls"]));
    assert!(told.contains("no daemon runs here"), "{told}");
}
