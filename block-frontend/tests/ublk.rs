//! Nodes on ublk disks, where the kernel has that driver. No machine of CI has: they are run by hand in a
//! guest that does (docs/src/shell.md), as this one program, static.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[allow(dead_code, reason = "most of it is for loop devices")]
mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use block_frontend::{Content, Error, Io, Node, Nodes, Owner, Reply, Ublk, Whole};
use common::{is_there, shown, sys};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags, fallocate, makedev, mknodat};
use sim_core::Errno;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A device in memory, which notes what is no read and no write, and holds back what it is told to.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    seen: Mutex<Vec<String>>,
    held: Mutex<Vec<Reply>>,
    holds: Mutex<bool>,
}

impl Memory {
    fn new(len: usize) -> Arc<Memory> {
        let (bytes, holds) = (Mutex::new(vec![0; len]), Mutex::new(false));
        Arc::new(Memory { bytes, seen: Mutex::default(), held: Mutex::default(), holds })
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl Content for Memory {
    fn serve(&self, io: Io<'_>, reply: Reply) {
        if *self.holds.lock().unwrap() {
            return self.held.lock().unwrap().push(reply);
        }
        if matches!(io, Io::Read { at: 8192, .. }) {
            panic!("a read that panics");
        }
        let mut bytes = self.bytes.lock().unwrap();
        match io {
            Io::Read { at, len } => match bytes.get(at as usize..at as usize + len) {
                Some(data) => reply.read(data),
                None => reply.error(Errno::IO),
            },
            Io::Write { at, data, fua } => {
                if fua {
                    self.note(format!("FUA {at}+{}", data.len()));
                }
                bytes[at as usize..at as usize + data.len()].copy_from_slice(data);
                reply.done();
            }
            Io::Flush => {
                self.note("flush".to_owned());
                reply.done();
            }
            Io::Discard { at, len } => {
                self.note(format!("discard {at}+{len}"));
                reply.error(Errno::OPNOTSUPP);
            }
            Io::WriteZeroes { at, len } => {
                self.note(format!("zeroes {at}+{len}"));
                bytes[at as usize..(at + len) as usize].fill(0);
                reply.done();
            }
        }
    }
}

struct Rig {
    nodes: Nodes,
    dir: TempDir,
}

impl Rig {
    fn start() -> Option<Rig> {
        if !Path::new("/dev/ublk-control").exists() {
            println!("skipped: no /dev/ublk-control");
            return None;
        }
        Rig::on(tempfile::tempdir_in("/dev").unwrap())
    }

    fn on(dir: TempDir) -> Option<Rig> {
        let nodes = nodes(dir.path())?;
        Some(Rig { nodes, dir })
    }

    fn shown(&self, name: &str, memory: &Arc<Memory>) -> Node {
        let node = self.nodes.reserve(&owner(name)).unwrap();
        assert!(matches!(node.disk, Whole::Ublk(_)), "{node:?}");
        show(&self.nodes, node, memory);
        node
    }

    fn open(&self, node: Node, flags: OFlags) -> File {
        open(self.dir.path(), node, flags)
    }
}

/// Starts a helper on a thread; nothing, with a word, where there is no ublk.
fn nodes(dir: &Path) -> Option<Nodes> {
    let ublk = match Ublk::open(&dir.join("record")) {
        Ok(Some(ublk)) => ublk,
        other => {
            println!("skipped: no ublk: {other:?}");
            return None;
        }
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || block_frontend::serve(theirs));
    Some(Nodes::start(ours).on(Some(ublk)))
}

fn owner(name: &str) -> Owner {
    Owner { minor: 0, uuid: None, name: name.to_owned() }
}

fn show(nodes: &Nodes, node: Node, memory: &Arc<Memory>) {
    nodes.fill(node, || memory.clone());
    let len = memory.bytes.lock().unwrap().len() as u64;
    nodes.show(node, &shown(Path::new("of no matter"), len)).unwrap();
}

fn open(dir: &Path, node: Node, flags: OFlags) -> File {
    let path = dir.join(format!("node-{}", node.dev.minor));
    if !path.exists() {
        let mode = Mode::RUSR | Mode::WUSR;
        let number = makedev(node.dev.major, node.dev.minor);
        mknodat(CWD, &path, FileType::BlockDevice, mode, number).unwrap();
    }
    let flags = flags.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

/// Asks for a discard, by the program for it.
fn ioctl_discard(file: &File, at: u64, len: u64) {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let path = fs::read_link(path).unwrap();
    let (at, len) = (at.to_string(), len.to_string());
    let mut blkdiscard = Command::new("blkdiscard");
    let status = blkdiscard.args(["-f", "-o", &at, "-l", &len]).arg(path).status();
    assert!(status.unwrap().success());
}

fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_kind_of_request_arrives_as_what_it_is() {
    let Some(rig) = Rig::start() else { return };
    let memory = Memory::new(8 * MIB);
    let node = rig.shown("a", &memory);
    assert_eq!(sys(node, "size"), (8 * MIB / 512).to_string());
    let file = rig.open(node, OFlags::empty());
    let data: Vec<u8> = (0..3 * MIB).map(|at| (at % 251) as u8).collect();
    file.write_all_at(&data, 4096 * 3 + 512).unwrap();
    file.sync_all().unwrap();
    assert!(memory.seen().contains(&"flush".to_owned()));
    assert!(memory.bytes.lock().unwrap()[4096 * 3 + 512..][..data.len()] == data[..]);
    memory.bytes.lock().unwrap()[5 * MIB..6 * MIB].fill(0x5a);
    let mut read = vec![0; MIB];
    file.read_exact_at(&mut read, 5 * MIB as u64).unwrap();
    assert!(read.iter().all(|byte| *byte == 0x5a));
    drop(file);
    memory.seen();
    let file = rig.open(node, OFlags::DSYNC | OFlags::DIRECT);
    file.write_all_at(&Page([1; 4096]).0, 0).unwrap();
    let seen = memory.seen();
    assert!(seen.contains(&"FUA 0+4096".to_owned()), "{seen:?}");
    let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, zero, MIB as u64, 65536).unwrap();
    let seen = memory.seen();
    assert!(seen.contains(&"zeroes 1048576+65536".to_owned()), "{seen:?}");
    // The kernel makes a success of a discard that is refused.
    ioctl_discard(&file, 2 * MIB as u64, MIB as u64);
    assert_eq!(memory.seen(), ["discard 2097152+1048576"]);
    drop(file);
    rig.nodes.remove(node).unwrap();
}

#[test]
fn what_is_open_stays_and_gets_another_size() {
    let Some(rig) = Rig::start() else { return };
    let memory = Memory::new(MIB);
    let node = rig.shown("a", &memory);
    let mut file = rig.open(node, OFlags::empty());
    assert!(matches!(rig.nodes.remove(node), Err(Error::Busy(_))));
    memory.bytes.lock().unwrap().resize(2 * MIB, 7);
    show(&rig.nodes, node, &memory);
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!((all.len(), all[2 * MIB - 1]), (2 * MIB, 7));
    let shown = block_frontend::Shown { read_only: true, ..shown(Path::new(""), MIB as u64) };
    rig.nodes.show(node, &shown).unwrap();
    assert_eq!((sys(node, "size"), sys(node, "ro")), ("2048".into(), "1".into()));
    drop(file);
    rig.nodes.remove(node).unwrap();
    eventually("it is gone", || !is_there(node));
}

#[test]
fn a_disk_that_hangs_or_panics_holds_up_no_other_and_can_be_taken_away() {
    let Some(rig) = Rig::start() else { return };
    let (hung, other) = (Memory::new(MIB), Memory::new(MIB));
    let (hangs, goes_on) = (rig.shown("hangs", &hung), rig.shown("other", &other));
    *hung.holds.lock().unwrap() = true;
    let (said, heard) = channel();
    let file = rig.open(hangs, OFlags::DIRECT);
    thread::spawn(move || {
        said.send(file.read_exact_at(&mut Page([0; 4096]).0, 0).is_ok()).unwrap();
    });
    eventually("it is asked", || !hung.held.lock().unwrap().is_empty());
    let file = rig.open(goes_on, OFlags::DIRECT);
    let read = |at| file.read_exact_at(&mut Page([0; 4096]).0, at).is_ok();
    assert_eq!([0, 8192, 65536].map(read), [true, false, true], "the second panics");
    assert!(heard.try_recv().is_err());
    rig.nodes.remove_used(hangs).unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(false));
    // Its end comes too late to mean anything.
    hung.held.lock().unwrap().clear();
    drop(file);
    rig.nodes.remove(goes_on).unwrap();
}

/// Its number is nobody else's as long as it is open.
#[test]
fn whoever_has_the_whole_disk_open_keeps_no_node() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.shown("a", &Memory::new(MIB));
    let whole = format!("/sys/block/{}/dev", node.disk);
    let dev = fs::read_to_string(whole).unwrap().trim().parse().unwrap();
    let held = rig.open(Node { dev, ..node }, OFlags::empty());
    rig.nodes.remove(node).unwrap();
    eventually("it is gone", || !is_there(node));
    let other = rig.shown("b", &Memory::new(MIB));
    assert_ne!(other.disk, node.disk);
    assert!(held.read_exact_at(&mut [0; 512], 0).is_err());
    drop(held);
    rig.nodes.remove(other).unwrap();
}

#[test]
fn a_partition_table_in_the_data_is_not_read() {
    let Some(rig) = Rig::start() else { return };
    let memory = Memory::new(8 * MIB);
    {
        let mut bytes = memory.bytes.lock().unwrap();
        // The second of four partitions: of type 83, from sector 2048 on, 4096 long.
        bytes[466] = 0x83;
        bytes[470..474].copy_from_slice(&2048_u32.to_le_bytes());
        bytes[474..478].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    let node = rig.shown("a", &memory);
    let whole = Path::new("/sys/block").join(node.disk.to_string());
    let dev = fs::read_to_string(whole.join("dev")).unwrap().trim().parse().unwrap();
    let whole_node = Node { dev, ..node };
    drop(rig.open(whole_node, OFlags::empty()));
    let path = rig.dir.path().join(format!("node-{}", whole_node.dev.minor));
    let read = Command::new("blockdev").arg("--rereadpt").arg(path).output().unwrap();
    assert!(!read.status.success(), "{read:?}");
    assert!(is_there(node) && sys(node, "size") == "16384");
    assert!(!whole.join(format!("{}p2", node.disk)).exists());
    rig.nodes.remove(node).unwrap();
}

/// What [`a_server_that_is_killed_costs_nobody_an_error`] kills.
#[test]
#[ignore = "what another test starts as the process that serves"]
fn server_process() {
    let dir = PathBuf::from(std::env::var_os("DMSIM_TEST_DIR").unwrap());
    let nodes = nodes(&dir).unwrap();
    let memory = Memory::new(4 * MIB);
    memory.bytes.lock().unwrap().fill(0x11);
    let node = nodes.reserve(&owner("a")).unwrap();
    show(&nodes, node, &memory);
    fs::write(dir.join("node.new"), serde_json::to_string(&node).unwrap()).unwrap();
    fs::rename(dir.join("node.new"), dir.join("node")).unwrap();
    // From here on it answers nothing: what is asked is under way when it is killed.
    while !dir.join("hold").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    *memory.holds.lock().unwrap() = true;
    let _ = File::create(dir.join("holds"));
    eventually("it is asked", || memory.held.lock().unwrap().len() >= 2);
    println!("asked");
    std::io::stdout().flush().unwrap();
    let _ = File::create(dir.join("asked"));
    thread::sleep(Duration::from_secs(60));
}

fn start_server(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server_process", "--ignored"])
        .env("DMSIM_TEST_DIR", dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_server_that_is_killed_costs_nobody_an_error() {
    let Some(rig) = Rig::start() else { return };
    let Rig { nodes: first, dir } = rig;
    drop(first);
    let mut server = start_server(dir.path());
    eventually("it serves", || dir.path().join("node").exists());
    let node: Node = serde_json::from_slice(&fs::read(dir.path().join("node")).unwrap()).unwrap();
    let file = open(dir.path(), node, OFlags::DIRECT);
    let _ = File::create(dir.path().join("hold"));
    eventually("it holds back", || dir.path().join("holds").exists());
    let (said, heard) = channel();
    let (reads, writes) = (file.try_clone().unwrap(), file.try_clone().unwrap());
    let tell = said.clone();
    thread::spawn(move || {
        let mut page = Page([0; 4096]);
        let read = reads.read_exact_at(&mut page.0, 4096);
        tell.send(("read", read.is_ok() && page.0 == [0x22; 4096])).unwrap();
    });
    thread::spawn(move || {
        said.send(("write", writes.write_all_at(&Page([0x33; 4096]).0, 65536).is_ok())).unwrap();
    });
    eventually("both are under way", || dir.path().join("asked").exists());
    server.kill().unwrap();
    server.wait().unwrap();
    thread::sleep(Duration::from_millis(200));
    assert!(heard.try_recv().is_err(), "nobody has answered");

    let rig = Rig::on(dir).unwrap();
    // Another device is not it.
    let other = rig.shown("other", &Memory::new(MIB));
    assert_ne!(other.dev, node.dev);
    let memory = Memory::new(4 * MIB);
    memory.bytes.lock().unwrap().fill(0x22);
    let same = rig.nodes.reserve(&owner("a")).unwrap();
    assert_eq!(same, node);
    thread::sleep(Duration::from_millis(200));
    assert!(heard.try_recv().is_err(), "nothing is let through before there is a content");
    show(&rig.nodes, node, &memory);
    let mut ended = [(); 2].map(|()| heard.recv_timeout(Duration::from_secs(20)).unwrap());
    ended.sort_unstable();
    assert_eq!(ended, [("read", true), ("write", true)]);
    assert_eq!(memory.bytes.lock().unwrap()[65536..65536 + 4096], [0x33; 4096]);
    drop(file);
    rig.nodes.remove(node).unwrap();
    rig.nodes.remove(other).unwrap();
}

/// Has a server make a node, opens that, and kills the server.
fn left_by_a_killed_server() -> Option<(TempDir, Node, File)> {
    let Rig { nodes: first, dir } = Rig::start()?;
    drop(first);
    let mut server = start_server(dir.path());
    eventually("it serves", || dir.path().join("node").exists());
    let node: Node = serde_json::from_slice(&fs::read(dir.path().join("node")).unwrap()).unwrap();
    let file = open(dir.path(), node, OFlags::DIRECT);
    server.kill().unwrap();
    server.wait().unwrap();
    Some((dir, node, file))
}

#[test]
fn what_nobody_takes_over_can_be_dropped() {
    let Some((dir, node, file)) = left_by_a_killed_server() else { return };
    assert!(block_frontend::has_left(&dir.path().join("record")));
    let rig = Rig::on(dir).unwrap();
    assert_eq!(rig.nodes.drop_orphans(false), ["a"], "it is open");
    let (said, heard) = channel();
    thread::spawn(move || {
        said.send(file.read_exact_at(&mut Page([0; 4096]).0, 0).is_ok()).unwrap()
    });
    thread::sleep(Duration::from_millis(200));
    assert!(heard.try_recv().is_err(), "it waits");
    assert_eq!(rig.nodes.drop_orphans(true), [""; 0]);
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(false));
    eventually("it is gone", || !is_there(node));
    assert!(!block_frontend::has_left(&rig.dir.path().join("record")));
}

#[test]
fn what_waits_too_long_for_its_device_fails() {
    let Some((dir, node, file)) = left_by_a_killed_server() else { return };
    let rig = Rig::on(dir).unwrap();
    // The device is there again, and has no table.
    assert_eq!(rig.nodes.reserve(&owner("a")).unwrap(), node);
    let (said, heard) = channel();
    let reads = file.try_clone().unwrap();
    let read = move || said.send(reads.read_exact_at(&mut Page([0; 4096]).0, 0).is_ok()).unwrap();
    thread::spawn(read);
    rig.nodes.expire_orphans(Duration::from_secs(3600));
    thread::sleep(Duration::from_millis(200));
    assert!(heard.try_recv().is_err(), "it waits");
    rig.nodes.expire_orphans(Duration::ZERO);
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(false));
    // It has one after all.
    let memory = Memory::new(MIB);
    show(&rig.nodes, node, &memory);
    file.read_exact_at(&mut Page([0; 4096]).0, 0).unwrap();
    drop(file);
    rig.nodes.remove(node).unwrap();
}

/// Memory that direct I/O takes.
#[repr(align(4096))]
struct Page([u8; 4096]);
