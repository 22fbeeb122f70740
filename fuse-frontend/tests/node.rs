//! The control node, with programs that take it for a kernel's: dmsetup, and callers of their own whom
//! perl makes.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{self, Output, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backing::{Cancel, block_on_or};
use common::World;
use common::mounted::{apart, eventually, skip, soon};
use fuse_frontend::files::Caller;
use fuse_frontend::node::{Calls, ControlNode};
use sim_core::Control;
use sim_core::control::ioctl::{Reply, Request};
use sim_core::control::{Command, WhenOpen};
use tempfile::TempDir;

/// What starts each program of perl: `call(number, payload, size)` makes an ioctl on the open node `F`
/// with a header for the device `d`, and returns the errno and the buffer.
const PERL: &str = r#"
use strict; use warnings; $| = 1;
open(F, '+<', $ARGV[0]) or die "open: $!\n";
sub header { my ($size, $flags, $name) = @_;
    return pack('L10 Q a128 a129 x7', 4, 0, 0, $size, 312, 0, 0, $flags, 0, 0, 0, $name, ''); }
sub call { my ($nr, $buffer) = @_;
    my $done = ioctl(F, 0xc138fd00 | $nr, $buffer);
    return ($done ? 0 : $!+0, $buffer); }
"#;

struct Node {
    // Unmounts before the directory goes.
    node: Arc<ControlNode>,
    calls: Arc<Direct>,
    world: World,
    dir: TempDir,
}

/// Hands each call to the control plane.
struct Direct {
    control: Arc<Control>,
    log: Mutex<Vec<String>>,
    /// Who asks what is below a device waits for this; so a call waits that nobody could know to wait.
    gate: Mutex<()>,
}

impl Calls for Direct {
    fn call(&self, _caller: Caller, request: Request, given_up: &Cancel) -> Reply {
        if let Command::TableDeps { .. } = request.command() {
            drop(self.gate.lock());
        }
        let reply = block_on_or(self.control.ioctl(request), given_up);
        reply.unwrap_or_else(Reply::interrupted)
    }

    fn log(&self, line: &str) {
        self.log.lock().unwrap().push(line.to_owned());
    }
}

impl Node {
    fn mount() -> Option<Node> {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let at = dir.path().join("node");
        fs::create_dir_all(dir.path().join("dev/mapper")).unwrap();
        fs::create_dir(&at).unwrap();
        symlink(at.join("control"), dir.path().join("dev/mapper/control")).unwrap();
        let calls = Arc::new(Direct {
            control: world.control.clone(),
            log: Mutex::default(),
            gate: Mutex::default(),
        });
        let pool = world.pool.clone();
        match ControlNode::mount(calls.clone(), world.control.clone(), pool, &at) {
            Ok(node) => Some(Node { node: Arc::new(node), calls, world, dir }),
            Err(error) => skip(&format!("no mount: {error}")),
        }
    }

    fn path(&self) -> PathBuf {
        self.node.path()
    }

    fn dmsetup(&self, args: &[&str]) -> Option<Output> {
        if !rustix::process::geteuid().is_root() {
            return skip("libdevmapper reads /proc/devices, over which only root may mount");
        }
        let mut command = process::Command::new("unshare");
        let devices = self.dir.path().join("devices");
        fs::write(&devices, "Block devices:\n253 device-mapper\n").unwrap();
        let program = "mount --bind \"$1\" /proc/devices && shift && exec dmsetup \"$@\"";
        command.args(["-m", "sh", "-c", program, "sh"]).arg(devices).args(args);
        command.env("DM_DEV_DIR", self.dir.path().join("dev"));
        command.env("DM_DISABLE_UDEV", "1").env("LC_ALL", "C");
        match command.output() {
            Ok(output) => Some(output),
            Err(error) => skip(&format!("dmsetup: {error}")),
        }
    }

    /// What dmsetup prints; it must succeed.
    #[track_caller]
    fn says(&self, args: &[&str]) -> Option<String> {
        let output = self.dmsetup(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "dmsetup {args:?}: {said}");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// Makes a call by perl, which must succeed.
    #[track_caller]
    fn perl_ok(&self, call: &str) {
        assert_eq!(self.perl(&format!("print +({call})[0];")), "0", "{call}");
    }

    /// Runs a program of perl on the node, and returns what it prints.
    #[track_caller]
    fn perl(&self, program: &str) -> String {
        let output = perl(program).arg(self.path()).output().expect("perl");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn perl(program: &str) -> process::Command {
    let mut command = process::Command::new("perl");
    command.arg("-e").arg(format!("{PERL}{program}"));
    command
}

#[test]
fn it_looks_like_a_device_and_opens_like_a_file() {
    let Some(node) = Node::mount() else { return };
    for _ in 0..50 {
        let seen = fs::metadata(node.path()).unwrap();
        assert!(seen.file_type().is_char_device(), "{:?}", seen.file_type());
        assert_eq!(seen.rdev(), 10 << 8 | 236);
        let opened = fs::File::options().read(true).write(true).open(node.path());
        assert!(opened.unwrap().metadata().unwrap().file_type().is_file());
    }
    let names = fs::read_dir(node.path().parent().unwrap()).unwrap();
    let names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    assert_eq!(names, ["control"]);
    fs::write(node.path(), "x").expect_err("nothing can be written");
    fs::remove_file(node.path()).expect_err("it stays");
    assert!(fs::metadata(node.path().with_file_name("other")).is_err());
}

#[test]
fn many_look_and_open_at_once() {
    let Some(node) = Node::mount() else { return };
    std::thread::scope(|scope| {
        for nr in 0..8 {
            let path = node.path();
            scope.spawn(move || {
                for _ in 0..200 {
                    match nr % 2 {
                        0 => assert!(fs::metadata(&path).unwrap().file_type().is_char_device()),
                        _ => drop(fs::File::open(&path).unwrap()),
                    }
                }
            });
        }
    });
}

#[test]
fn dmsetup_takes_it_for_a_kernels() {
    let Some(node) = Node::mount() else { return };
    let Some(version) = node.says(&["version"]) else { return };
    assert!(version.contains("Driver version:    4.48.0"), "{version}");
    assert_eq!(node.says(&["ls"]).unwrap(), "No devices found\n");
    node.says(&["create", "d", "--uuid", "U-1", "--table", "0 2048 linear 7:0 16"]);
    assert_eq!(node.says(&["table", "d"]).unwrap(), "0 2048 linear 7:0 16\n");
    assert_eq!(node.says(&["deps", "d"]).unwrap(), "1 dependencies\t: (7, 0)\n");
    let info = node.says(&["info", "-c", "--noheadings", "-o", "name,uuid,attr,open"]).unwrap();
    assert_eq!(info, "d:U-1:L--w:0\n");
    node.says(&["suspend", "d"]);
    node.says(&["load", "d", "--table", "0 4096 zero"]);
    node.says(&["resume", "d"]);
    assert_eq!(node.says(&["status"]).unwrap(), "d: 0 4096 zero \n");
    node.says(&["rename", "d", "e f"]);
    assert_eq!(node.says(&["ls"]).unwrap(), "e f\t(253:0)\n");
    let output = node.dmsetup(&["create", "x", "--table", "0 8 nothing"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("Invalid argument"), "{said}");
    node.says(&["remove", "e f"]);
    let targets = node.says(&["targets"]).unwrap();
    assert!(targets.contains("linear           v1.4.0"), "{targets}");
    assert_eq!(node.world.control.shown().len(), 0);
}

#[test]
fn who_waits_for_an_event_holds_up_nobody() {
    let Some(node) = Node::mount() else { return };
    node.world.create("d", "0 2048 linear disk 0");
    // DEV_WAIT for an event that does not come, ended by a signal that does not kill.
    let program =
        "$SIG{ALRM} = sub {}; alarm 1; my ($errno) = call(8, header(512, 0, 'd')); print $errno;";
    let path = node.path();
    let waits = apart(move || {
        let output = perl(program).arg(path).output().expect("perl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    for _ in 0..20 {
        assert_eq!(node.perl("my ($errno) = call(7, header(512, 0, 'd')); print $errno;"), "0");
    }
    assert_eq!(soon(&waits), "4", "EINTR");
    // And one that is killed lets go too.
    let mut killed = perl("call(8, header(512, 0, 'd'));").arg(node.path()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    killed.kill().unwrap();
    let started = Instant::now();
    killed.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn calls_that_hang_hold_up_nobody() {
    let Some(node) = Node::mount() else { return };
    node.world.create("d", "0 2048 linear disk 0");
    let closed = node.calls.gate.lock().unwrap();
    let hang = || {
        let mut hangs = perl("print +(call(11, header(512, 0, 'd') . \"\\0\" x 200))[0];");
        hangs.arg(node.path()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let hung: Vec<_> = (0..8).map(|_| hang()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let path = node.path();
    let others = apart(move || {
        let mut others = perl("print +(call($_, header(512, 0, 'd')))[0] for (0, 7, 7, 7);");
        String::from_utf8_lossy(&others.arg(path).output().unwrap().stdout).into_owned()
    });
    assert_eq!(soon(&others), "0000");
    drop(closed);
    for hangs in hung {
        assert_eq!(hangs.wait_with_output().unwrap().stdout, b"0");
    }
}

/// As Linux 6.12 has it: whatever wakes the waiter, the call succeeds.
/// What answers its page faults itself, and does not: the call waits for its memory for ever.
#[cfg(target_arch = "x86_64")]
const NO_MEMORY: &str = r#"
my $fd = syscall(323, 0); if ($fd < 0) { print "no userfaultfd\n"; exit; }
open(my $faults, '+<&=', $fd) or die;
ioctl($faults, 0xc018aa3f, my $api = pack('Q3', 0xaa, 0, 0)) or die "api: $!";
my $at = syscall(9, 0, 1 << 20, 3, 0x22, -1, 0);
ioctl($faults, 0xc020aa00, my $range = pack('Q4', $at + 4096, 4096, 1, 0)) or die "range: $!";
my $call = header(8192, 0, 'd'); $call .= "\0" x (312 - length $call);
pipe(my $read, my $write) or die; syswrite($write, $call);
syscall(0, fileno($read), $at, 312) == 312 or die "read: $!";
print "calls\n"; ioctl(F, 0xc138fd09, $at + 0); print "it has an answer\n";"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn a_caller_whose_memory_never_comes_can_be_killed_and_holds_up_nobody() {
    let Some(node) = Node::mount() else { return };
    let mut callers = Vec::new();
    for _ in 0..10 {
        let mut caller = perl(NO_MEMORY);
        let mut caller = caller.arg(node.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 6];
        caller.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        if &said != b"calls\n" {
            caller.wait().unwrap();
            eprintln!("skipped: no userfaultfd");
            return;
        }
        callers.push(caller);
    }
    std::thread::sleep(Duration::from_millis(300));
    node.perl_ok("call(0, header(312, 0, ''))");
    for caller in &mut callers {
        assert!(caller.try_wait().unwrap().is_none(), "it waits");
        caller.kill().unwrap();
    }
    for mut caller in callers {
        eventually("a killed caller ends", || caller.try_wait().unwrap().is_some());
    }
    node.perl_ok("call(0, header(312, 0, ''))");
}

#[test]
fn a_wait_ends_well_when_the_device_is_renamed_or_goes() {
    let Some(node) = Node::mount() else { return };
    let program = "my ($errno, $buffer) = call(8, header(512, 0, 'd') . \"\\0\" x 200); \
        print $errno, ' ', unpack('x48 Z*', $buffer);";
    type Act = fn(&Node);
    let acts: [(Act, &str); 3] = [
        (|node| node.perl_ok("call(5, header(512, 0, 'd') . \"e\\0\" . \"\\0\" x 198)"), "0 e"),
        (|node| node.world.remove("d", WhenOpen::Refuse).unwrap(), "0 d"),
        (|node| node.perl_ok("call(1, header(512, 0, ''))"), "0 d"),
    ];
    for (act, expected) in acts {
        node.world.create("d", "0 2048 linear disk 0");
        let path = node.path();
        let waits = apart(move || {
            let output = perl(program).arg(path).output().expect("perl");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        });
        std::thread::sleep(Duration::from_millis(500));
        act(&node);
        assert_eq!(soon(&waits), expected);
    }
}

#[test]
fn a_poll_wakes_when_an_event_comes() {
    let Some(node) = Node::mount() else { return };
    node.world.create("d", "0 2048 linear disk 0");
    let program = "my $in = ''; vec($in, fileno(F), 1) = 1; \
        my ($errno) = call(16, header(512, 0, '')); \
        my $ready = select(my $none = $in, undef, undef, 0.2); \
        $| = 1; print \"$errno $ready\\n\"; \
        $ready = select($in, undef, undef, 20); print \"$ready\\n\"; \
        call(16, header(512, 0, '')); vec($in, fileno(F), 1) = 1; \
        print scalar select($in, undef, undef, 0), \"\\n\";";
    let path = node.path();
    let polled = apart(move || {
        let output = perl(program).arg(path).output().expect("perl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    std::thread::sleep(Duration::from_millis(700));
    // The mirror's first synchronization ends with an event.
    node.world.create("m", "0 2048 mirror core 1 1024 2 disk 4096 disk 8192");
    assert_eq!(soon(&polled), "0 0\n1\n0\n");
}

#[test]
fn hostile_callers_are_refused() {
    let Some(node) = Node::mount() else { return };
    node.world.create("d", "0 2048 linear disk 0");
    for (what, program, expected) in [
        ("no ioctl of ours", "print +(call(0, 'x' x 312))[0];", "22"),
        ("another's", "ioctl(F, 0x5401, my $x = 'x' x 512); print $!+0;", "25"),
        ("unknown", "print +(call(99, header(512, 0, 'd')))[0];", "25"),
        ("a size below the header", "print +(call(7, header(100, 0, 'd')))[0];", "22"),
        ("a size past the limit", "print +(call(7, header(2000000000, 0, 'd')))[0];", "22"),
        (
            "a table that is announced and not there",
            "print +(call(9, header(1 << 30, 0, 'd')))[0];",
            "14",
        ),
        (
            "an answer for which there is no room",
            "my $p = 0; ioctl(F, 0xc138fd07, $p); print $!+0;",
            "14",
        ),
        ("no such device", "print +(call(7, header(512, 0, 'none')))[0];", "6"),
        ("reads", "print defined(sysread(F, my $x, 10)) ? 0 : $!+0;", "22"),
    ] {
        assert_eq!(node.perl(program), expected, "{what}");
    }
    let log = node.calls.log.lock().unwrap().join("\n");
    assert!(log.contains("unknown command") && log.contains("Invalid data size"), "{log}");
    // All is as it was.
    assert_eq!(node.world.control.shown().len(), 1);
}

#[test]
fn others_than_the_owner_are_refused() {
    let Some(node) = Node::mount() else { return };
    if !rustix::process::geteuid().is_root() {
        skip::<()>("only root has other users to be");
        return;
    }
    let program = perl("print +(call(0, header(512, 0, '')))[0];");
    let run = |wrapper: &[&str]| {
        let mut command = process::Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg("perl").args(program.get_args()).arg(node.path());
        let output = command.output().expect("util-linux");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    fs::set_permissions(node.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    assert_eq!(run(&["setpriv", "--clear-groups"]), "0");
    let denied = "open: Permission denied\n";
    assert_eq!(run(&["setpriv", "--reuid", "65534", "--clear-groups"]), denied);
    assert_eq!(
        run(&["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]),
        denied
    );
    assert_eq!(run(&["unshare", "--user", "--map-root-user"]), denied);
}

#[test]
fn once_it_is_unmounted_calls_are_refused() {
    let Some(node) = Node::mount() else { return };
    assert!(!node.node.is_open());
    let program = "print +(call(0, header(512, 0, '')))[0]; <STDIN>; print +(call(0, header(512, 0, '')))[0];";
    let mut caller = perl(program);
    let caller = caller.arg(node.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut caller = caller.spawn().unwrap();
    let mut said = caller.stdout.take().unwrap();
    let mut first = [0];
    said.read_exact(&mut first).unwrap();
    assert!(&first == b"0" && node.node.is_open());
    node.node.unmount();
    assert!(fs::metadata(node.path()).is_err());
    drop(caller.stdin.take());
    let mut second = String::new();
    said.read_to_string(&mut second).unwrap();
    assert_eq!(second, "19", "ENODEV");
    caller.wait().unwrap();
}
