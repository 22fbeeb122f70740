//! Reserved, shown and removed nodes, over ordinary files.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use block_frontend::{Error, FIRST_DISK, Shown};
use common::{Rig, file_of, has, is_there, loop_of, open, run, shown, sys};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sim_core::Errno;

const MIB: u64 = 1 << 20;

fn size(file: &mut File) -> u64 {
    file.seek(SeekFrom::End(0)).unwrap()
}

#[test]
fn a_number_is_known_before_there_is_a_file() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let other = rig.reserve().unwrap();
    assert_ne!(node.dev, other.dev);
    assert!(loop_of(node) >= FIRST_DISK);
    assert_eq!(sys(node, "size"), "1");
    let file = rig.image("late", 8 * MIB);
    rig.nodes.show(node, &shown(&file, 8 * MIB)).unwrap();
    assert_eq!(sys(node, "dev"), node.dev.to_string());
    assert_eq!(size(&mut open(&rig.path(node)).unwrap()), 8 * MIB);
    rig.end();
}

#[test]
fn a_node_without_a_file_has_zeros_and_takes_no_write() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let device = File::open(rig.path(node)).unwrap();
    let mut sector = [1; 512];
    device.read_exact_at(&mut sector, 0).unwrap();
    assert_eq!(sector, [0; 512]);
    let written = open(&rig.path(node)).and_then(|device| device.write_all_at(&[1; 512], 0));
    assert!(written.is_err());
    rig.end();
}

#[test]
fn what_is_written_to_a_node_is_in_the_file_and_back() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let file = rig.image("data", 4 * MIB);
    open(&file).unwrap().write_all_at(b"before", 3 * MIB).unwrap();
    rig.nodes.show(node, &shown(&file, 4 * MIB)).unwrap();
    let device = open(&rig.path(node)).unwrap();
    let mut read = [0; 6];
    device.read_exact_at(&mut read, 3 * MIB).unwrap();
    assert_eq!(&read, b"before");
    device.write_all_at(&[7; 4096], MIB).unwrap();
    device.sync_all().unwrap();
    let bytes = fs::read(&file).unwrap();
    let at = usize::try_from(MIB).unwrap();
    assert_eq!(bytes[at..at + 4096], [7; 4096]);
    rig.end();
}

#[test]
fn a_node_in_use_gets_another_size() {
    let Some(rig) = Rig::start() else { return };
    let (node, file) = rig.shown(4 * MIB);
    let mut device = open(&rig.path(node)).unwrap();
    for bytes in [16 * MIB, 2 * MIB, 2 * MIB + 512, 15 << 40] {
        open(&file).unwrap().set_len(bytes).unwrap();
        rig.nodes.show(node, &shown(&file, bytes)).unwrap();
        assert_eq!(size(&mut device), bytes);
    }
    // A file that is longer than the device is no matter; a shorter one is.
    rig.nodes.show(node, &shown(&file, MIB)).unwrap();
    assert_eq!(size(&mut device), MIB);
    open(&file).unwrap().set_len(MIB).unwrap();
    let error = rig.nodes.show(node, &shown(&file, 2 * MIB)).unwrap_err();
    assert!(error.to_string().contains("expected 2097152 bytes, found 1048576"), "{error}");
    // Nothing is taken for done that was not.
    open(&file).unwrap().set_len(4 * MIB).unwrap();
    rig.nodes.show(node, &shown(&file, 2 * MIB)).unwrap();
    assert_eq!(size(&mut device), 2 * MIB);
    rig.nodes.show(node, &shown(&file, MIB)).unwrap();
    assert_eq!(size(&mut device), MIB);
    rig.end();
}

#[test]
fn a_node_is_read_only_and_writable_again() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let file = rig.image("data", MIB);
    let writable = shown(&file, MIB);
    let read_only = Shown { read_only: true, ..writable.clone() };
    let writes = || open(&rig.path(node)).and_then(|device| device.write_all_at(&[1; 512], 0));
    rig.nodes.show(node, &read_only).unwrap();
    assert_eq!(sys(node, "ro"), "1");
    assert!(writes().is_err());
    let reader = File::open(rig.path(node)).unwrap();
    rig.nodes.show(node, &writable).unwrap();
    assert_eq!(sys(node, "ro"), "0");
    writes().unwrap();
    rig.nodes.show(node, &read_only).unwrap();
    assert!(writes().is_err());
    drop(reader);
    rig.end();
}

#[test]
fn block_size_and_read_ahead_are_those_asked_for() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let file = rig.image("data", MIB);
    let queue = |name: &str| {
        let path = format!("/sys/block/{}/queue/{name}", node.disk);
        fs::read_to_string(path).unwrap().trim().to_owned()
    };
    for (block, read_ahead) in [(4096, 1024), (512, 256), (512, 64), (1024, 0)] {
        rig.nodes.show(node, &Shown { block, read_ahead, ..shown(&file, MIB) }).unwrap();
        assert_eq!(queue("logical_block_size"), block.to_string());
        assert_eq!(queue("read_ahead_kb"), (read_ahead / 2).to_string());
    }
    let odd = Shown { block: 4096, ..shown(&file, 4096 + 512) };
    assert!(matches!(rig.nodes.show(node, &odd), Err(Error::Refused(_))));
    rig.end();
}

#[test]
fn a_node_that_is_open_stays_and_goes_on() {
    let Some(rig) = Rig::start() else { return };
    let (node, file) = rig.shown(MIB);
    let device = open(&rig.path(node)).unwrap();
    let error = rig.nodes.remove(node).unwrap_err();
    assert!(error.is_busy() && error.errno() == Errno::BUSY, "{error}");
    device.write_all_at(&[5; 512], 0).unwrap();
    device.sync_all().unwrap();
    assert_eq!(fs::read(&file).unwrap()[..512], [5; 512]);
    drop(device);
    rig.nodes.remove(node).unwrap();
    assert_eq!(file_of(node), None);
    assert!(matches!(rig.nodes.remove(node), Err(Error::Refused(_))));
    rig.end();
}

#[test]
fn a_mounted_node_stays() {
    if !has("mkfs.ext4") {
        return;
    }
    let Some(rig) = Rig::start() else { return };
    let (node, _) = rig.shown(16 * MIB);
    let mounted = Mounted::new(&rig, &rig.path(node));
    let refused = rig.nodes.remove(node);
    fs::write(mounted.0.join("file"), "text").unwrap();
    drop(mounted);
    assert!(refused.unwrap_err().is_busy());
    rig.nodes.remove(node).unwrap();
    rig.end();
}

#[test]
fn a_file_under_another_name_is_the_same_and_another_file_is_not() {
    let Some(rig) = Rig::start() else { return };
    let (node, file) = rig.shown(MIB);
    let device = open(&rig.path(node)).unwrap();
    let renamed = rig.dir.path().join("renamed");
    fs::rename(&file, &renamed).unwrap();
    rig.nodes.show(node, &shown(&renamed, MIB)).unwrap();
    let other = rig.image("other", 2 * MIB);
    assert!(rig.nodes.show(node, &shown(&other, 2 * MIB)).unwrap_err().is_busy());
    device.write_all_at(&[5; 512], 0).unwrap();
    device.sync_all().unwrap();
    assert_eq!(fs::read(&renamed).unwrap()[..512], [5; 512]);
    drop(device);
    rig.nodes.show(node, &shown(&other, 2 * MIB)).unwrap();
    assert_eq!(file_of(node), Some(other));
    rig.end();
}

#[test]
fn a_file_that_is_not_there_changes_nothing() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let error = rig.nodes.show(node, &shown(&rig.dir.path().join("none"), MIB)).unwrap_err();
    assert_eq!(error.errno(), Errno::NOENT);
    let file = rig.image("data", MIB);
    rig.nodes.show(node, &shown(&file, MIB)).unwrap();
    rig.end();
}

#[test]
fn a_partition_table_in_the_data_is_not_read() {
    let Some(rig) = Rig::start() else { return };
    let node = rig.reserve().unwrap();
    let file = rig.image("data", 4 * MIB);
    // One entry of an MBR: from sector 2048, 1024 sectors, Linux.
    let mut mbr = [0; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    mbr[446 + 12..446 + 16].copy_from_slice(&1024u32.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    open(&file).unwrap().write_all_at(&mbr, 0).unwrap();
    rig.nodes.show(node, &shown(&file, 4 * MIB)).unwrap();
    drop(File::open(rig.path(node)).unwrap());
    assert_eq!((sys(node, "start"), sys(node, "size")), ("0".into(), "8192".into()));
    rig.end();
}

#[test]
fn the_end_of_the_client_leaves_nothing() {
    let Some(rig) = Rig::start_alone() else { return };
    let nodes: Vec<_> = (0..4).map(|_| rig.reserve().unwrap()).collect();
    for (at, node) in nodes.iter().enumerate().skip(1) {
        let file = rig.image(&format!("data{at}"), MIB);
        rig.nodes.show(*node, &shown(&file, MIB)).unwrap();
    }
    let exclusive = rustix::fs::OFlags::EXCL.bits().cast_signed();
    let held = File::options().read(true).custom_flags(exclusive).open(rig.path(nodes[3])).unwrap();
    let alone = rig.end();
    assert!(nodes[..3].iter().all(|node| !is_there(*node)));
    // What is in use stays until it is closed.
    assert!(is_there(nodes[3]) && file_of(nodes[3]).is_some());
    drop(held);
    assert_eq!(file_of(nodes[3]), None);
    assert!(!Path::new(&format!("/sys/dev/block/{}", nodes[3].dev)).exists());
    // The loop device itself is for the next who reserves.
    drop(alone);
}

#[test]
#[ignore = "what other tests start as the helper process, on their socket"]
fn helper_process() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    block_frontend::serve(socket.into()).unwrap().wait();
}

#[test]
fn a_helper_that_is_killed_leaves_no_file_open() {
    if !has("delpart") {
        return;
    }
    let Some(mut rig) = Rig::start_process() else { return };
    let (node, file) = rig.shown(MIB);
    assert_eq!(file_of(node), Some(file));
    rig.kill();
    assert_eq!(file_of(node), None);
    assert_eq!(rig.reserve(), Err(Error::Ended));
    // The partition is left, over nothing.
    let whole = rig.dir.path().join("whole");
    let number = rustix::fs::makedev(7, loop_of(node));
    let kind = rustix::fs::FileType::BlockDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &whole, kind, rustix::fs::Mode::RUSR, number).unwrap();
    run("delpart", &[whole.to_str().unwrap(), "1"]);
    rig.end();
}

/// A FUSE mount that answers nothing, until it is dropped: then all that waits for it fails.
struct Silent {
    place: PathBuf,
    _device: File,
}

impl Silent {
    fn mount(place: &Path) -> Silent {
        let device = open(Path::new("/dev/fuse")).unwrap();
        let number = device.as_raw_fd();
        let data = format!("fd={number},rootmode=40000,user_id=0,group_id=0");
        let data = CString::new(data).unwrap();
        mount("silent", place, "fuse", MountFlags::empty(), Some(data.as_c_str())).unwrap();
        Silent { place: place.to_owned(), _device: device }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        unmount(&self.place, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_file_that_hangs_hangs_nobody_else() {
    let Some(rig) = Rig::start() else { return };
    let place = rig.dir.path().join("silent");
    fs::create_dir(&place).unwrap();
    let silent = Silent::mount(&place);
    let [hung, other] = [(); 2].map(|()| rig.reserve().unwrap());
    let file = rig.image("data", MIB);
    thread::scope(|scope| {
        let showing = scope.spawn(|| rig.nodes.show(hung, &shown(&place.join("file"), MIB)));
        thread::sleep(Duration::from_millis(50));
        let started = Instant::now();
        rig.nodes.show(other, &shown(&file, MIB)).unwrap();
        rig.nodes.remove(other).unwrap();
        rig.nodes.remove(rig.reserve().unwrap()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(2) && !showing.is_finished());
        drop(silent);
        let error = showing.join().unwrap().unwrap_err();
        // ENOTCONN, or ECONNABORTED.
        assert!([107, 103].contains(&error.errno().0), "{error:?}");
    });
    rig.nodes.show(hung, &shown(&file, MIB)).unwrap();
    rig.end();
}

#[test]
fn who_has_a_node_open_is_counted() {
    // Those of the helper itself are not counted, so it has to be another process.
    let Some(rig) = Rig::start_process() else { return };
    let (node, _) = rig.shown(16 * MIB);
    let count = || rig.nodes.open_count(node, 0).unwrap();
    assert_eq!(count(), 0);
    let path = rig.path(node);
    let files = [File::open(&path).unwrap(), File::open(&path).unwrap()];
    assert_eq!(count(), 2);
    drop(files);
    assert_eq!(count(), 0);
    // In time this one sees it too.
    let file = File::open(&path).unwrap();
    let since = Instant::now();
    while rig.nodes.recent_open_count(node, 0).unwrap() == 0 {
        assert!(since.elapsed() < Duration::from_secs(10));
    }
    drop(file);
    if has("mkfs.ext4") {
        let mounted = Mounted::new(&rig, &path);
        assert_eq!(count(), 1);
        drop(mounted);
        assert_eq!(count(), 0);
    }
    rig.end();
}

#[test]
fn a_sync_writes_out_buffers_and_the_file_system() {
    if !has("mkfs.ext4") {
        return;
    }
    let Some(rig) = Rig::start() else { return };
    let (node, file) = rig.shown(16 * MIB);
    let has_word =
        |word: &[u8]| fs::read(&file).unwrap().windows(word.len()).any(|window| window == word);
    let path = rig.path(node);
    let device = open(&path).unwrap();
    device.write_all_at(b"written to the buffers", 8 * MIB).unwrap();
    rig.nodes.sync(node, &|| true).unwrap();
    assert!(has_word(b"written to the buffers"));
    drop(device);
    let mounted = Mounted::new(&rig, &path);
    fs::write(mounted.0.join("file"), "written to the file system").unwrap();
    rig.nodes.sync(node, &|| true).unwrap();
    assert!(has_word(b"written to the file system"));
    drop(mounted);
    rig.end();
}

/// An ext4 that is mounted here; unmounted when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(rig: &Rig, path: &Path) -> Mounted {
        let place = rig.dir.path().join("mnt");
        fs::create_dir(&place).unwrap();
        run("mkfs.ext4", &["-q", "-F", path.to_str().unwrap()]);
        mount(path, &place, "ext4", MountFlags::empty(), None).unwrap();
        Mounted(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::empty()).unwrap();
    }
}

#[test]
fn sixty_nodes_take_no_time() {
    let Some(rig) = Rig::start_alone() else { return };
    let started = Instant::now();
    let nodes: Vec<_> = (0..60).map(|_| rig.reserve().unwrap()).collect();
    let reserved = started.elapsed();
    let file = |at: usize| rig.image(&format!("data{at}"), MIB);
    let files: Vec<_> = (0..60).map(file).collect();
    let started = Instant::now();
    for (node, file) in nodes.iter().zip(&files) {
        rig.nodes.show(*node, &shown(file, MIB)).unwrap();
    }
    let first = started.elapsed();
    let started = Instant::now();
    for (node, file) in nodes.iter().zip(&files) {
        rig.nodes.show(*node, &shown(file, MIB)).unwrap();
    }
    let again = started.elapsed();
    let started = Instant::now();
    for node in &nodes[..30] {
        rig.nodes.remove(*node).unwrap();
    }
    let removed = started.elapsed();
    let started = Instant::now();
    let _alone = rig.end();
    let ended = started.elapsed();
    println!("reserve {reserved:?}/60, show {first:?}/60, again {again:?}/60");
    println!("remove {removed:?}/30, end {ended:?}");
    assert!(nodes.iter().all(|node| !is_there(*node)));
    assert!(again < Duration::from_secs(1) && reserved < Duration::from_secs(6));
}
