//! Real mounts: what a program sees that uses a device's file.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::mounted::{apart, direct, errno, eventually, mount, skip, soon};
use common::{M, MIB, World, pattern};
use fuse_frontend::{Busy, Frontend, MountError, Options, clean_dead_mount};
use rustix::fs::{FallocateFlags, fallocate};
use sim_core::control::WhenOpen;
use sim_core::{Access, Errno};

const O_DIRECT: i32 = 0o40000;
const O_DSYNC: i32 = 0o10000;

/// The environment variable that makes this program a daemon for [`serves_until_it_is_killed`].
const SERVE: &str = "FUSE_FRONTEND_TEST_SERVE";

#[test]
fn the_directory_lists_the_devices_with_their_sizes_and_modes() {
    let Some(mounted) = direct() else { return };
    assert_eq!(fs::read_dir(mounted.dir.path()).unwrap().count(), 0);
    mounted.world.create("b", "0 8 linear disk 0");
    mounted.world.create("a", "0 2048 zero");
    let mut names: Vec<_> = fs::read_dir(mounted.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    let stat = fs::metadata(mounted.path("b")).unwrap();
    assert_eq!((stat.len(), stat.blocks(), stat.mode()), (4096, 8, 0o100_600));
    assert!(stat.is_file());
    fs::set_permissions(mounted.path("b"), fs::Permissions::from_mode(0o640)).unwrap();
    // An ordinary user may not give a file away.
    let given = std::os::unix::fs::chown(mounted.path("b"), Some(7), Some(8));
    let owner = if given.is_ok() { (7, 8) } else { (stat.uid(), stat.gid()) };
    let stat = fs::metadata(mounted.path("b")).unwrap();
    assert_eq!((stat.mode() & 0o7777, (stat.uid(), stat.gid())), (0o640, owner));
    assert_eq!(mounted.world.control.find_shown("b").unwrap().node.mode, 0o640);
}

#[test]
fn ten_thousand_devices_are_listed_once_each() {
    let Some(mounted) = direct() else { return };
    for number in 0..10_000 {
        mounted.world.create(&format!("d{number}"), "0 8 zero");
    }
    let names: HashSet<_> = fs::read_dir(mounted.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 10_000);
    assert!((0..10_000).all(|number| names.contains(&format!("d{number}"))));
    assert!(names.iter().all(|name| fs::metadata(mounted.path(name)).unwrap().len() == 4096));
}

#[test]
fn nothing_can_be_made_or_removed_in_the_directory() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 8 zero");
    let (file, other) = (mounted.path("d"), mounted.path("other"));
    assert_eq!(errno(fs::write(&other, "x")), Err(Errno::PERM));
    assert_eq!(errno(fs::create_dir(&other)), Err(Errno::PERM));
    assert_eq!(errno(fs::remove_file(&file)), Err(Errno::PERM));
    assert_eq!(errno(fs::rename(&file, &other)), Err(Errno::PERM));
    assert_eq!(errno(fs::hard_link(&file, &other)), Err(Errno::PERM));
    assert_eq!(errno(std::os::unix::fs::symlink("d", &other)), Err(Errno::PERM));
    assert_eq!(errno(fs::metadata(&other)).map(drop), Err(Errno::NOENT));
}

#[test]
fn what_is_written_is_read_back_at_any_offset() {
    for cache in [false, true] {
        let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
        mounted.world.create("d", &format!("0 {} linear disk4k 0", 4 * M));
        let file = mounted.open("d");
        let data = pattern(3 * MIB as usize + 777);
        file.write_all_at(&data, 123).unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        let mut back = vec![0; data.len() + 123];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back[..123] == [0; 123] && back[123..] == data);
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_DIRECT | O_DSYNC)
            .open(mounted.path("d"));
        let direct = direct.unwrap();
        direct.write_all_at(&data[..512], 1024).unwrap();
        file.read_exact_at(&mut back[..512], 1024).unwrap();
        assert!(back[..512] == data[..512], "with a cache: {cache}");
    }
}

#[test]
fn the_end_of_a_device_is_the_end_of_its_file() {
    for cache in [false, true] {
        let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
        mounted.world.create("d", "0 9 linear disk 0");
        let mut file = mounted.open("d");
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 4608);
        assert_eq!(file.read(&mut [0; 10]).unwrap(), 0);
        assert_eq!(errno(file.write(b"x")), Err(Errno::NOSPC));
        assert_eq!(file.write_at(&[1; 1024], 4096).unwrap(), 512);
        assert_eq!(errno(file.write_all_at(&[1; 1024], 4096)), Err(Errno::NOSPC));
        assert_eq!(file.read_at(&mut [0; 1024], 4096).unwrap(), 512);
        assert_eq!(errno(file.set_len(9999)), Err(Errno::FBIG));
        assert_eq!(errno(file.set_len(4608)), Ok(()));
        assert_eq!(file.metadata().unwrap().len(), 4608);
    }
}

#[test]
fn opening_to_truncate_leaves_the_device_as_it_is() {
    for cache in [false, true] {
        let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
        mounted.world.create("d", "0 2048 linear disk 0");
        let other = mounted.open("d");
        other.write_all_at(&pattern(MIB as usize), 0).unwrap();
        fs::write(mounted.path("d"), b"new").unwrap();
        let mut back = vec![0; MIB as usize];
        other.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back[..3], b"new");
        assert!(back[3..] == pattern(MIB as usize)[3..]);
        assert_eq!(other.metadata().unwrap().len(), MIB);
    }
}

#[test]
fn a_truncating_open_cuts_no_asynchronous_read_of_others() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 2048 linear disk 0");
    mounted.open("d").write_all_at(&pattern(MIB as usize), 0).unwrap();
    // A loop device reads by the size that the kernel has in memory, and never asks for it.
    let Some(loop_device) = LoopDevice::over(&mounted.path("d")) else { return };
    drop(File::create(mounted.path("d")).unwrap());
    let mut back = vec![0; MIB as usize];
    File::open(&loop_device.0).unwrap().read_exact(&mut back).unwrap();
    assert!(back == pattern(MIB as usize));
}

/// A loop device with direct I/O, detached when dropped.
struct LoopDevice(String);

impl LoopDevice {
    fn over(file: &Path) -> Option<LoopDevice> {
        let mut losetup = Command::new("losetup");
        match losetup.args(["--find", "--show", "--direct-io=on"]).arg(file).output() {
            Ok(output) if output.status.success() => {
                let name = String::from_utf8(output.stdout).unwrap();
                Some(LoopDevice(name.trim().to_owned()))
            }
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skip(&format!("losetup: {error}")),
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

fn fio(file: &Path, engine: &str, job: &str) -> Option<std::process::ExitStatus> {
    let run = Command::new("fio")
        .args([
            "--name=job",
            "--size=1m",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
        ])
        .args(["--fallocate=none", "--create_on_open=0", "--allow_file_create=0"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--ioengine={engine}"))
        .args(job.split_whitespace())
        .stdout(Stdio::null())
        .status();
    match run {
        Ok(status) => Some(status),
        Err(error) => skip(&format!("fio: {error}")),
    }
}

#[test]
fn fio_finds_what_it_wrote_by_every_way() {
    for cache in [false, true] {
        let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
        mounted.world.create("d", &format!("0 {M} striped 2 8 disk 0 disk4k 0"));
        for (engine, job) in [
            ("libaio", "--rw=randrw --bs=4k --iodepth=32 --direct=1"),
            ("libaio", "--rw=randrw --bsrange=512-64k --bs_unaligned=1 --iodepth=16 --loops=2"),
            ("psync", "--rw=randrw --bs=512 --direct=1"),
            ("mmap", "--rw=randrw --bs=4k"),
        ] {
            let Some(fio) = fio(&mounted.path("d"), engine, job) else { return };
            assert!(fio.success(), "with a cache: {cache}: {engine} {job}");
        }
    }
}

#[test]
fn ranges_are_punched_zeroed_and_found() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 4096 linear disk 0");
    let mut file = mounted.open("d");
    file.write_all_at(&pattern(2 * MIB as usize), 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 0, MIB).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, MIB + 5, 1000).unwrap();
    let mut back = vec![1; 2 * MIB as usize];
    file.read_exact_at(&mut back, 0).unwrap();
    let mut model = pattern(2 * MIB as usize);
    model[..MIB as usize].fill(0);
    model[MIB as usize + 5..][..1000].fill(0);
    assert!(back == model);
    let found = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0));
    assert_eq!(found, Ok(MIB));
    let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(MIB));
    assert_eq!(end, Ok(2 * MIB));
    file.rewind().unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 2 * MIB).unwrap();
    let past = fallocate(&file, FallocateFlags::empty(), 0, 2 * MIB + 1);
    assert_eq!(past, Err(rustix::io::Errno::NOSPC));
    let collapse = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(collapse, Err(rustix::io::Errno::OPNOTSUPP));
}

#[test]
fn the_size_is_answered_as_a_block_device_does() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 4096 zero");
    let size = |option| Command::new("blockdev").arg(option).arg(mounted.path("d")).output();
    let Ok(output) = size("--getsize64") else {
        return skip("blockdev is not installed").unwrap_or_default();
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2097152");
    let other = size("--getss").unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("Inappropriate ioctl"));
}

#[test]
fn a_read_only_device_opens_for_writing_and_refuses_the_write() {
    let Some(mounted) = direct() else { return };
    mounted.world.create_as("d", "0 8 linear disk 0", Access::ReadOnly);
    let file = mounted.open("d");
    assert_eq!(errno(file.write_at(&[1; 512], 0)), Err(Errno::PERM));
    assert_eq!(file.read_at(&mut [0; 512], 0).unwrap(), 512);
}

#[test]
fn a_read_only_mount_opens_nothing_for_writing() {
    let Some(mounted) = mount(&Options { read_only: true, ..Options::default() }) else { return };
    mounted.world.create("d", "0 8 linear disk 0");
    let opened = OpenOptions::new().write(true).open(mounted.path("d"));
    assert_eq!(errno(opened).map(drop), Err(Errno::ROFS));
    assert_eq!(fs::read(mounted.path("d")).unwrap(), vec![0; 4096]);
}

#[test]
fn a_suspended_device_holds_up_nobody_but_its_own_users() {
    let Some(mounted) = mount(&Options { threads: 1, ..Options::default() }) else { return };
    mounted.world.create("held", "0 2048 linear disk 0");
    mounted.world.create("free", "0 2048 linear disk 4096");
    let held = Arc::new(mounted.open("held"));
    mounted.world.suspend("held");
    let mut waiting = Vec::new();
    for at in 0..16u64 {
        let file = held.clone();
        waiting.push(apart(move || match at % 3 {
            0 => file.write_all_at(&[at as u8; 4096], at * 4096),
            1 => file.read_exact_at(&mut [0; 4096], at * 4096),
            _ => file.sync_all(),
        }));
    }
    let free = mounted.open("free");
    let others = apart(move || {
        for at in 0..200 {
            free.write_all_at(&[3; 4096], at * 4096).unwrap();
            free.read_exact_at(&mut [0; 4096], at * 4096).unwrap();
        }
        free.sync_all().unwrap();
    });
    soon(&others);
    assert_eq!(fs::metadata(mounted.path("held")).unwrap().len(), MIB);
    assert!(waiting.iter().all(|waiting| waiting.try_recv().is_err()), "they wait");
    mounted.world.resume("held");
    assert!(waiting.iter().all(|waiting| soon(waiting).is_ok()));
    let mut back = [0; 4096];
    held.read_exact_at(&mut back, 15 * 4096).unwrap();
    assert_eq!(back, [15; 4096]);
}

#[test]
fn eight_threads_find_what_they_wrote_while_the_table_is_reloaded() {
    let Some(mounted) = direct() else { return };
    let table = |len: u64| format!("0 {len} linear disk 0");
    mounted.world.create("d", &table(4 * M));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in 0..8u64 {
            let (stop, file) = (&stop, mounted.open("d"));
            scope.spawn(move || {
                let mut round = 0u64;
                let mut back = vec![0; 9000];
                // Some rounds at least, however late the thread is started.
                while !stop.load(SeqCst) || round < 20 {
                    let len = 1 + (round * 733 % 9000) as usize;
                    let at = id * 64 * 1024 + round * 97 % 5000;
                    let data = vec![(id * 31 + round) as u8; len];
                    file.write_all_at(&data, at).unwrap();
                    file.read_exact_at(&mut back[..len], at).unwrap();
                    assert!(back[..len] == data, "thread {id}, round {round}");
                    round += 1;
                }
            });
        }
        // The part in use stays; the size of the file goes up and down.
        for round in 0..40 {
            let len = (2 + round % 3) * M;
            mounted.world.reload("d", &table(len));
            assert_eq!(fs::metadata(mounted.path("d")).unwrap().len(), len * 512);
        }
        stop.store(true, SeqCst);
    });
}

#[test]
fn an_open_file_counts_until_it_is_closed_and_names_its_user() {
    let Some(mounted) = direct() else { return };
    let device = mounted.world.create("d", "0 8 zero");
    let (first, second) = (mounted.open("d"), mounted.open("d"));
    assert_eq!(device.open_count(), 2);
    let users = mounted.frontend.users();
    assert_eq!(users.len(), 1);
    assert_eq!((users[0].device.as_str(), users[0].count), ("d", 2));
    assert_eq!(users[0].uid, rustix::process::getuid().as_raw());
    assert_eq!(mounted.world.remove("d", WhenOpen::Refuse), Err(Errno::BUSY));
    drop(first);
    eventually("one is closed", || device.open_count() == 1);
    mounted.world.remove("d", WhenOpen::Defer).unwrap();
    // As a node in /dev/mapper, it is there as long as the device is.
    assert!(mounted.path("d").exists());
    assert_eq!(second.read_at(&mut [1; 512], 0).unwrap(), 512);
    drop(second);
    eventually("it is removed", || mounted.world.control.find_minor(device.minor()).is_none());
    assert!(!mounted.path("d").exists());
    assert_eq!(mounted.frontend.users(), []);
}

#[test]
fn a_new_device_with_an_old_number_is_another_file() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 8 zero");
    let old = fs::metadata(mounted.path("d")).unwrap().ino();
    mounted.world.remove("d", WhenOpen::Refuse).unwrap();
    let device = mounted.world.create("d", "0 8 zero");
    assert_eq!(device.minor(), 0);
    let new = fs::metadata(mounted.path("d")).unwrap().ino();
    assert_ne!(old, new);
    assert_eq!(mounted.world.create("e", "0 8 zero").minor(), 1);
    assert_eq!(fs::metadata(mounted.path("d")).unwrap().ino(), new);
}

#[test]
fn no_program_that_is_started_has_the_connection() {
    let Some(mounted) = mount(&Options { threads: 4, ..Options::default() }) else { return };
    assert!(mounted.frontend.is_mounted());
    let fuse = |pid: &str| {
        let listed = Command::new("ls").args(["-l", &format!("/proc/{pid}/fd")]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().matches("/dev/fuse").count()
    };
    assert!(fuse(&std::process::id().to_string()) >= 1, "this process has it");
    assert_eq!(fuse("self"), 0, "a child has it");
}

#[test]
fn a_busy_mount_is_unmounted_by_force_alone() {
    let Some(mounted) = direct() else { return };
    mounted.world.create("d", "0 8 zero");
    let file = mounted.open("d");
    let refused = mounted.frontend.unmount(Busy::Refuse);
    assert!(matches!(refused, Err(MountError::Busy { .. })), "{refused:?}");
    assert!(mounted.frontend.is_mounted());
    assert_eq!(file.read_at(&mut [1; 512], 0).unwrap(), 512);
    mounted.frontend.unmount(Busy::Detach).unwrap();
    assert!(!mounted.frontend.is_mounted());
    assert!(!mounted.path("d").exists());
    assert_eq!(file.read_at(&mut [1; 512], 0).unwrap(), 512, "served until it is closed");
    drop(file);
    eventually("all are closed", || mounted.frontend.users().is_empty());
    mounted.frontend.unmount(Busy::Refuse).unwrap();
}

#[test]
fn an_unmount_waits_for_what_is_held_to_be_failed() {
    let Some(mounted) = direct() else { return };
    let device = mounted.world.create("d", "0 8 linear disk 0");
    mounted.world.suspend("d");
    let file = mounted.open("d");
    let write = apart(move || errno(file.write_at(&[1; 512], 0)));
    thread::sleep(Duration::from_millis(20));
    let frontend = mounted.frontend.clone();
    let unmounted = apart(move || frontend.unmount(Busy::Detach).is_ok());
    thread::sleep(Duration::from_millis(20));
    device.fail_held();
    assert_eq!(soon(&write), Err(Errno::NODEV));
    assert!(soon(&unmounted));
}

#[test]
fn somebody_else_may_unmount() {
    let Some(mounted) = direct() else { return };
    assert!(mounted.frontend.is_mounted());
    let by_call = rustix::mount::unmount(mounted.dir.path(), rustix::mount::UnmountFlags::empty());
    if by_call.is_err() {
        let helper = Command::new("fusermount3").arg("-u").arg(mounted.dir.path()).status();
        assert!(helper.unwrap().success());
    }
    assert!(!mounted.frontend.is_mounted());
    mounted.frontend.unmount(Busy::Refuse).unwrap();
}

/// Not a test of its own: what the next one starts, and kills.
#[test]
fn serves_until_it_is_killed() {
    let Some(dir) = std::env::var_os(SERVE) else { return };
    let world = World::new();
    world.create("d", "0 8 zero");
    let dir = Path::new(&dir);
    let options = Options::default();
    let frontend = Frontend::mount(world.control.clone(), world.pool.clone(), dir, &options);
    match &frontend {
        Ok(_) => println!("\nmounted"),
        Err(error) => println!("\nnot mounted: {error}"),
    }
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_dead_mount_is_cleaned_and_a_live_one_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!clean_dead_mount(dir.path()).unwrap(), "no mount at all");
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serves_until_it_is_killed", "--nocapture"])
        .env(SERVE, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.into_iter().find(|line| line.contains("mounted")).unwrap();
    let file = dir.path().join("d");
    let served = said == "mounted";
    if served {
        assert!(!clean_dead_mount(dir.path()).unwrap(), "a live mount");
        assert!(file.exists());
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    if !served {
        return skip(&said).unwrap_or_default();
    }
    assert!(fs::read_dir(dir.path()).is_err());
    assert!(clean_dead_mount(dir.path()).unwrap());
    assert!(!clean_dead_mount(dir.path()).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
