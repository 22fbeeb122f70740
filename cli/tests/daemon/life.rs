//! How the daemon starts and ends.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{Instance, can_mount, wait_until};

#[test]
fn a_started_instance_is_its_owners_alone_and_a_stopped_one_leaves_no_socket() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    let mode = |name| instance.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["control.sock", "kmsg", "log", "lock"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    instance.ok(&["stop"]);
    assert_eq!(instance.pid(), None);
    assert!(!instance.path("control.sock").exists());
}

#[test]
fn a_second_start_is_told_who_runs_already() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    let pid = instance.pid().unwrap();
    let complaint = instance.fails(&["start"]);
    assert!(complaint.starts_with("dmsim: "), "{complaint}");
    assert!(complaint.contains(&format!("pid {pid}")), "{complaint}");
    assert_eq!(instance.pid(), Some(pid));
}

#[test]
fn attach_and_create_start_a_daemon_and_reports_do_not() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    for verb in ["images", "tree", "ls", "stop"] {
        let complaint = instance.fails(&[verb]);
        assert!(complaint.contains("no daemon runs"), "{verb}: {complaint}");
    }
    assert!(!instance.path("").exists());
    assert_eq!(instance.ok(&["attach", "a.img", "--create", "1M"]), "7:4096\n");
    instance.ok(&["stop"]);
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    assert!(instance.path("mapper/z").exists());
}

#[test]
fn many_commands_at_once_start_one_daemon() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let names: Vec<String> = (0..16).map(|n| format!("z{n}")).collect();
    let create =
        |name: &String| instance.command(&["create", name, "--table", "0 8 zero"]).spawn().unwrap();
    let children: Vec<_> = names.iter().map(create).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(instance.ok(&["ls"]).lines().count(), names.len());
}

#[test]
fn instances_know_nothing_of_each_other() {
    if !can_mount() {
        return;
    }
    let instances: Vec<Instance> = (0..8).map(|_| Instance::new()).collect();
    std::thread::scope(|scope| {
        for instance in &instances {
            scope.spawn(|| {
                instance.ok(&["attach", "a.img", "--create", "1M", "--as", "/dev/sda"]);
                instance.ok(&["create", "d", "--table", "0 8 linear /dev/sda 0"]);
                assert_eq!(instance.ok(&["table", "d"]), "0 8 linear 8:0 0\n");
            });
        }
    });
    instances[0].ok(&["stop"]);
    instances[1].ok(&["table", "d"]);
}

#[test]
fn stop_names_who_has_a_device_open_and_force_stops_all_the_same() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "held", "--table", "0 8 zero"]);
    let file = File::open(instance.path("mapper/held")).unwrap();
    let complaint = instance.fails(&["stop"]);
    for part in ["held", &std::process::id().to_string(), "dmsim: stop: "] {
        assert!(complaint.contains(part), "{complaint}");
    }
    assert_eq!(instance.ok(&["table", "held"]), "0 8 zero \n");
    instance.ok(&["stop", "--force"]);
    assert_eq!(instance.pid(), None);
    drop(file);
}

#[test]
fn a_reader_of_a_suspended_device_gets_an_error_when_the_daemon_is_forced_to_stop() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "slow", "--table", "0 8 zero"]);
    instance.ok(&["suspend", "slow"]);
    let device = instance.path("mapper/slow");
    let reader = std::thread::spawn(move || std::fs::read(device));
    let is_open = || instance.json(&["info", "--json", "slow"])[0]["open_count"] == 1;
    wait_until("the reader has it open", is_open);
    assert!(instance.fails(&["stop"]).contains("slow"));
    instance.ok(&["stop", "--force"]);
    reader.join().unwrap().unwrap_err();
}

#[test]
fn a_signal_stops_the_daemon_as_the_verb_does() {
    if !can_mount() {
        return;
    }
    for signal in ["-TERM", "-INT"] {
        let instance = Instance::new();
        instance.ok(&["create", "z", "--table", "0 8 zero"]);
        instance.signal(signal);
        wait_until("it has ended", || instance.pid().is_none());
        assert!(!instance.path("control.sock").exists());
        assert!(!instance.path("mapper/z").exists());
    }
}

#[test]
fn a_start_cleans_up_after_a_daemon_that_was_killed() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let elsewhere = instance.root().join("elsewhere");
    instance.ok(&["start", "--mount", elsewhere.to_str().unwrap()]);
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    instance.crash();
    // The mount is dead, and elsewhere than the next daemon's.
    std::fs::metadata(&elsewhere).unwrap_err();
    instance.ok(&["start"]);
    assert!(elsewhere.is_dir());
    assert!(instance.path("mapper").is_dir());
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let instance = Instance::new();
    std::fs::write(instance.root().join("run"), "a file").unwrap();
    let complaint = instance.fails(&["start"]);
    assert!(complaint.starts_with("dmsim: ") && complaint.contains("run"), "{complaint}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let instance = Instance::new();
    for args in [&["frobnicate"][..], &["attach"], &["start", "--no-such"], &["stop", "x"]] {
        let output = instance.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stderr.starts_with(b"dmsim: usage: "), "{args:?}");
    }
    assert!(instance.ok(&["--help"]).contains("remove_all"));
}

#[test]
fn a_demonstration_leaves_nothing_behind() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let dir = instance.root().join("demo");
    let told = instance.ok(&["demo", "--dir", dir.to_str().unwrap()]);
    assert!(told.contains("Everything came back as it went in."), "{told}");
    assert!(!dir.exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()));
    let losetup = Command::new("losetup").arg("-a").output();
    assert!(
        !losetup.is_ok_and(|out| {
            String::from_utf8_lossy(&out.stdout).contains(dir.to_str().unwrap())
        })
    );
}

#[test]
fn others_are_let_in_where_they_are_to_be_and_told_of_what_bars_them() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        println!("skipped: not root, who can be somebody else");
        return;
    }
    let instance = Instance::new();
    let folder = |mode| std::fs::Permissions::from_mode(mode);
    let as_nobody = |args: &[&str]| {
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        Command::new("setpriv").args(nobody).args(args).output().unwrap()
    };
    std::fs::set_permissions(instance.root(), folder(0o700)).unwrap();
    let mapper = instance.path("mapper");
    let list = ["ls", mapper.to_str().unwrap()];
    for (mode, barred) in [(0o700, true), (0o711, false)] {
        std::fs::set_permissions(instance.root(), folder(mode)).unwrap();
        let started = instance.run(&["start", "--allow-other"]);
        assert!(started.status.success(), "{started:?}");
        let told = String::from_utf8(started.stderr).unwrap();
        assert_eq!(told.contains("others cannot pass it"), barred, "{told}");
        assert_eq!(told.contains(instance.root().to_str().unwrap()), barred, "{told}");
        assert_eq!(as_nobody(&list).status.success(), !barred);
        if !barred {
            instance.ok(&["create", "d", "--table", "0 8 zero", "--mode", "0644"]);
            let file = instance.path("mapper/d");
            assert!(
                as_nobody(&["cmp", "-n4096", file.to_str().unwrap(), "/dev/zero"]).status.success()
            );
            let record = instance.path("record.log");
            assert!(!as_nobody(&["cat", record.to_str().unwrap()]).status.success());
        }
        instance.ok(&["stop", "--force"]);
    }
    instance.ok(&["start"]);
    assert!(!as_nobody(&list).status.success(), "nobody else is let in unasked");
}

#[test]
fn a_log_that_has_grown_long_is_put_away_at_a_start() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    instance.ok(&["stop"]);
    let (log, old) = (instance.path("log"), instance.path("log.old"));
    for (len, is_put_away) in [(1 << 20, false), (2 << 20, true), (3 << 20, true)] {
        let file = File::options().write(true).open(&log).unwrap();
        file.set_len(len).unwrap();
        instance.ok(&["start"]);
        instance.ok(&["stop"]);
        let kept = old.metadata().map_or(0, |old| old.len());
        assert_eq!(kept, if is_put_away { len } else { 0 });
        assert_eq!(log.metadata().unwrap().len() > len, !is_put_away);
        assert!(log.metadata().unwrap().len() > 0);
    }
}
