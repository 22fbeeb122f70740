//! `dmsim shell --enter`: the private device-mapper in the namespaces of a process that runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::{self, Instance, has, text, wait_until};
use crate::users::{as_nobody, folder, went_well};
use crate::{disks, start};

/// Makes a root of its own at `$1`, as a container has one, of the machine's programs and little else, says so,
/// and waits.
pub(crate) const CONTAINER: &str = r#"
set -e; PATH="$PATH:/usr/sbin:/sbin"; mkdir -p "$1"; mount -t tmpfs tmpfs "$1"; cd "$1"
for name in bin sbin lib lib64 usr proc sys; do
    test ! -e /$name || { mkdir $name; mount --rbind /$name $name; }
done
mkdir dev etc tmp old run run/udev run/lock run/lock/lvm run/lvm
for name in null zero urandom; do touch dev/$name; mount --bind /dev/$name dev/$name; done
pivot_root . old; umount -l /old
echo there; exec sleep 120
"#;

/// What shows whether something is left in a container.
const LEFT: &str = "find /dev /run /tmp; cat /proc/self/mountinfo | wc -l";

/// A container, until it is dropped.
pub(crate) struct Container {
    child: Child,
    pid: u32,
}

impl Container {
    /// Starts one in an instance's folder.
    pub(crate) fn start(instance: &Instance) -> Container {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        unshare.args(["setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"]);
        unshare.args(["sh", "-c", CONTAINER, "sh", text(&instance.path("root"))]);
        let mut child = unshare.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "there\n");
        let pid = harness::sh("pgrep", &["--parent", &child.id().to_string()]);
        Container { child, pid: pid.trim().parse().expect("a number") }
    }

    pub(crate) fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// Runs a script in it, as a program of its own.
    pub(crate) fn sh(&self, script: &str) -> String {
        let (pid, path) = (self.pid(), "PATH=$PATH:/usr/sbin:/sbin; ");
        harness::sh("nsenter", &["-t", &pid, "-m", "-p", "sh", "-c", &format!("{path}{script}")])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _best_effort = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A container in an instance with a disk; nothing where that cannot be.
pub(crate) fn contained() -> Option<(Instance, Container)> {
    let instance = start(&["dmsetup", "lvm", "mke2fs", "pgrep", "nsenter", "pivot_root"])?;
    disks(&instance, &[("a", 64)]);
    let container = Container::start(&instance);
    Some((instance, container))
}

/// A shell in a container that has said a line and waits for the end of its input.
pub(crate) fn waits(instance: &Instance, pid: &str) -> Child {
    let mut shell = instance.command(&["shell", "--enter", pid, "--", "sh", "-c", "echo; cat"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let out = shell.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut String::new()).expect("a line");
    shell
}

#[test]
fn all_programs_of_a_process_see_the_devices_as_long_as_the_command_runs() {
    let Some((instance, container)) = contained() else { return };
    let before = container.sh(LEFT);
    let script = "set -e
        dmsetup create d --table '0 65536 linear /dev/mapper/a 0'; mke2fs -q /dev/mapper/d; dmsetup remove d
        pvcreate -qff -y /dev/mapper/a; vgcreate -q vg /dev/mapper/a; lvcreate -qn lv -L 8M -Wn vg; vgs --noheadings -o name
        mke2fs -q /dev/vg/lv; vgremove -qfy vg
        test -e /old; test ! -e /home; test ! -e /run/udev/control; test -n \"$LVM_SYSTEM_DIR\"; echo $$";
    let said = instance.run(&["shell", "--enter", &container.pid(), "--", "sh", "-c", script]);
    let (printed, errors) = went_well(&said);
    assert!(printed.contains("vg\n"), "{printed}{errors}");
    let own = printed.lines().last().and_then(|pid| pid.parse::<u32>().ok());
    assert!(own.is_some_and(|pid| pid < 1000), "it is in the namespace of processes: {printed}");
    assert_eq!(container.sh(LEFT), before);

    // By whichever way the instance's directory is named.
    std::os::unix::fs::symlink(instance.path("run"), instance.path("link")).expect("a link");
    let mut linked =
        instance.command(&["shell", "--enter", &container.pid(), "--", "dmsetup", "ls"]);
    let output = linked.env("DMSIM_DIR", instance.path("link")).output().expect("it runs");
    assert!(went_well(&output).0.starts_with("a\t(259:"), "{output:?}");

    let mut shell = waits(&instance, &container.pid());
    let seen =
        container.sh("dmsetup ls; test -b /dev/mapper/a; head -c 4096 /dev/mapper/a | wc -c");
    assert!(seen.starts_with("a\t(259:") && seen.ends_with("\n4096\n"), "{seen}");
    let said = instance.refused(&["shell", "--enter", &container.pid(), "--", "true"]);
    assert!(said.contains("is there already, by another"), "{said}");
    drop(shell.stdin.take());
    assert!(shell.wait().expect("it ends").success());
    assert_eq!(container.sh(LEFT), before);
    instance.dmsim(&["stop"]);
}

/// What a container calls a program is its own, and is to have no more than that has.
#[test]
fn the_command_has_no_capability_that_the_process_cannot_have() {
    let Some((instance, container)) = contained() else { return };
    let script = "grep CapBnd /proc/self/status; grep CapEff /proc/self/status";
    let output = instance.run(&["shell", "--enter", &container.pid(), "--", "sh", "-c", script]);
    let (printed, _) = went_well(&output);
    let theirs =
        std::fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("it runs");
    let bound = theirs.lines().find(|line| line.starts_with("CapBnd")).expect("a line");
    let digits = bound.split_whitespace().nth(1).expect("digits");
    assert_eq!(u64::from_str_radix(digits, 16).expect("digits") >> 25 & 1, 0, "{bound}");
    assert_eq!(printed, format!("CapBnd:\t{digits}\nCapEff:\t{digits}\n"));
}

#[test]
fn what_outlives_the_daemon_is_taken_away_too() {
    let Some((instance, container)) = contained() else { return };
    let before = container.sh(LEFT);
    let mut shell = waits(&instance, &container.pid());
    let dir = instance.crash();
    drop(shell.stdin.take());
    assert!(shell.wait().expect("it ends").success());
    assert_eq!(container.sh(LEFT), before);
    drop(Instance::start_in(dir, &[]));
}

#[test]
fn what_a_killed_shell_leaves_goes_with_the_next_one() {
    let Some((instance, container)) = contained() else { return };
    let before = container.sh(LEFT);
    let mut shell = waits(&instance, &container.pid());
    shell.kill().expect("it runs");
    shell.wait().expect("it has ended");
    assert!(container.sh("dmsetup ls").starts_with("a\t"), "it is left");
    let output = instance.run(&["shell", "--enter", &container.pid(), "--", "dmsetup", "ls"]);
    assert!(went_well(&output).0.starts_with("a\t"), "{output:?}");
    assert_eq!(container.sh(LEFT), before);
}

#[test]
fn signals_and_the_exit_status_are_the_commands() {
    let Some((instance, container)) = contained() else { return };
    let pid = container.pid();
    let run = |script: &str| instance.run(&["shell", "--enter", &pid, "--", "sh", "-c", script]);
    assert_eq!(run("exit 7").status.code(), Some(7));
    assert_eq!(run("kill -9 $$").status.code(), Some(137));
    let output = instance.run(&["shell", "--enter", &pid, "--", "no-such-program"]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    for (signal, number) in [("-TERM", 15), ("-HUP", 1)] {
        let mut shell = waits(&instance, &pid);
        harness::sh("kill", &[signal, &shell.id().to_string()]);
        // To wait closes it, by which the command ends too.
        let _stdin = shell.stdin.take();
        assert_eq!(shell.wait().expect("it ends").code(), Some(128 + number));
    }
    // One of a terminal is the command's own business: it has it too.
    let mut shell = waits(&instance, &pid);
    harness::sh("kill", &["-INT", &shell.id().to_string()]);
    drop(shell.stdin.take());
    assert!(shell.wait().expect("it ends").success());
    assert_eq!(container.sh("ls /dev"), "null\nurandom\nzero\n");
}

#[test]
fn what_cannot_be_entered_is_named() {
    let Some((instance, container)) = contained() else { return };
    let refused = |pid: &str| instance.refused(&["shell", "--enter", pid, "--", "true"]);
    let itself = std::process::id().to_string();
    // The second process is the kernel's, which begins all others of its own.
    for (pid, expected) in [
        ("4194305", "no such process"),
        (&*itself, "in which nothing is changed"),
        ("2", "a thread of the kernel"),
    ] {
        let is_kernels =
            std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
        if pid != "2" || is_kernels {
            assert!(refused(pid).contains(expected), "{pid}: {}", refused(pid));
        }
    }
    // A shell of the instance has it already.
    let inside = format!("exec {} shell --enter $$ -- true", harness::DMSIM);
    let output = instance.run(&["shell", "--", "sh", "-c", &inside]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing is changed"), "{output:?}");
    // One with a user namespace.
    let mut other = Command::new("unshare");
    other.args(["--user", "--map-root-user", "--mount", "sleep", "120"]);
    let mut other = other.spawn().expect("it runs");
    let comm = format!("/proc/{}/comm", other.id());
    wait_until("it sleeps", || std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
    let said = refused(&other.id().to_string());
    other.kill().expect("it runs");
    other.wait().expect("it has ended");
    assert!(said.contains("in a user namespace of its own"), "{said}");
    // One whose mounts are those of whoever enters it.
    let script = "unshare --mount --propagation unchanged sleep 120 & pid=$!; trap \"kill $pid\" EXIT
        while ! grep -q sleep /proc/$pid/comm; do sleep 0.01; done; \"$0\" shell --enter $pid -- true";
    let mut shared = Command::new("unshare");
    shared.args(["--mount", "--propagation", "shared", "sh", "-c", script, harness::DMSIM]);
    let output = shared.env("DMSIM_DIR", instance.path("run")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is mounted outside too"), "{said}");
    // A root that would have us put something elsewhere.
    container.sh("ln -s /tmp /dev/mapper");
    let said = refused(&container.pid());
    assert!(said.contains("it leads to /tmp, and nothing is put there"), "{said}");
    assert_eq!(
        container.sh("rm /dev/mapper; ls /tmp; grep -c dmsim /proc/self/mountinfo || true"),
        "0\n"
    );
}

#[test]
fn a_user_enters_what_the_user_has_unshared() {
    if !has(&["pivot_root", "nsenter", "mke2fs"]) {
        return;
    }
    let Some(dir) = folder(&[]) else { return };
    let script = r#"
        mkdir root; mkfifo says go; unshare --user --map-root-user --mount sh -c "$CONTAINER" sh "$PWD/root" > says &
        pid=$!; trap "kill $pid; dmsim stop --force > /dev/null 2>&1 || true" EXIT; read line < says; test "$line" = there
        truncate -s 16M a.img; dmsim start
        dmsim shell --disk a.img --enter $pid -- sh -c 'set -e; PATH=$PATH:/usr/sbin:/sbin
            dmsetup create d --table "0 16384 linear /dev/mapper/a 0"
            mke2fs -q /dev/mapper/d; test -e /old; test ! -e /home; dmsetup ls; read line' <> go > out &
        shell=$!; while test -d /proc/$shell && ! grep -q '^d' out; do sleep 0.05; done; cat out
        nsenter -t $pid -U -m --preserve-credentials dmsetup table d; echo > go; wait $shell
        nsenter -t $pid -U -m --preserve-credentials find /dev /run/udev
        dmsim shell --enter 1 -- true 2>&1 || true
        dmsim remove d; dmsim stop
    "#;
    let mut command = as_nobody(&dir, "", script);
    let (printed, said) =
        went_well(&command.env("CONTAINER", CONTAINER).output().expect("it runs"));
    assert!(printed.contains("a\t(253:0)\nd\t(253:1)\n"), "{printed}{said}");
    assert!(printed.contains("0 16384 linear 253:0 0\n"), "{printed}{said}");
    let left = "/dev\n/dev/urandom\n/dev/zero\n/dev/null\n/run/udev\n";
    assert!(printed.contains(left), "{printed}{said}");
    assert!(printed.contains("it may not be entered"), "{printed}{said}");
}

#[test]
fn what_a_container_lacks_for_block_nodes_is_named() {
    if start(&["setpriv"]).is_none() {
        return;
    }
    for (lacks, expected) in [
        (
            "exec setpriv --bounding-set=-mknod --inh-caps=-mknod",
            "no device node: Operation not permitted",
        ),
        ("mount --bind /dev/null /dev/loop-control; exec", "loop"),
    ] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let script =
            format!("{lacks} sh -c '\"$0\" start; \"$0\" shell -- true; \"$0\" stop' \"$0\"");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, harness::DMSIM]);
        let output = unshare.env("DMSIM_DIR", dir.path().join("run")).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(expected) && said.contains("a container needs CAP_SYS_ADMIN"),
            "{said}"
        );
        assert!(output.status.success(), "it stops: {said}");
    }
}
