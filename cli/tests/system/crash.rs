//! The daemon killed in the middle of things.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::harness::{
    Instance, Loop, Mounted, bytes, can_mount, command, has, read_at, sh, text, umount, wait_until,
    write_at,
};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;

/// What is known of each block: the last round that was flushed, and the last that was begun.
type Rounds = Mutex<Vec<(u64, u64)>>;

/// Writes rounds of random blocks with a flush after each few, until the device is gone.
fn write_until_the_end(device: &Path, rounds: &Rounds) {
    let file = File::options().write(true).open(device).expect("the device");
    let mut pending = Vec::new();
    for round in 1.. {
        let block = (round * 2_654_435_761u64) % BLOCKS;
        rounds.lock().expect("one thread")[block as usize].1 = round;
        let written = file.write_all_at(&content(block, round), block * BLOCK as u64);
        if written.is_err() {
            return;
        }
        pending.push((block, round));
        if round % 7 == 0 {
            if file.sync_data().is_err() {
                return;
            }
            let mut rounds = rounds.lock().expect("one thread");
            for (block, round) in pending.drain(..) {
                rounds[block as usize].0 = round;
            }
        }
    }
}

fn content(block: u64, round: u64) -> Vec<u8> {
    let mut data = bytes(block << 24 | round, BLOCK);
    data[..8].copy_from_slice(&round.to_le_bytes());
    data
}

#[test]
fn a_daemon_killed_under_load_leaves_the_last_flush_or_later() {
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", BLOCKS * BLOCK as u64);
    let sectors = BLOCKS * BLOCK as u64 / 512;
    let device = instance.create("d", &format!("0 {sectors} linear /dev/sda 0"));
    instance.create("other", "0 8 zero");
    let rounds: Rounds = Mutex::new(vec![(0, 0); BLOCKS as usize]);
    let dir = std::thread::scope(|scope| {
        scope.spawn(|| write_until_the_end(&device, &rounds));
        let flushed =
            || rounds.lock().expect("one thread").iter().any(|(flushed, _)| *flushed > 500);
        wait_until("some rounds are flushed", flushed);
        instance.crash()
    });

    let image = dir.path().join(image.file_name().expect("a file"));
    for (block, (flushed, begun)) in rounds.into_inner().expect("one thread").iter().enumerate() {
        let data = read_at(&image, block as u64 * BLOCK as u64, BLOCK).expect("the image");
        let round = u64::from_le_bytes(data[..8].try_into().expect("eight bytes"));
        assert!(round >= *flushed, "block {block}: round {round}, flushed was {flushed}");
        assert!(round <= *begun, "block {block}: round {round}, of {begun}");
        assert!(round == 0 || data == content(block as u64, round), "block {block} is torn");
    }

    // The mount is dead now; the next start clears it away, and restore builds all of it again.
    let mapper = dir.path().join("run/mapper");
    assert!(std::fs::read_dir(&mapper).is_err(), "a mount without its daemon");
    let instance = Instance::start_in(dir, &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(
        instance.dmsim(&["table"]),
        format!("d: 0 {sectors} linear 8:0 0\nother: 0 8 zero \n")
    );
    let first = read_at(&instance.device("d"), 0, BLOCK).expect("the device");
    assert!(first == read_at(&instance.path("a.img"), 0, BLOCK).expect("the image"));
}

#[test]
fn whoever_waits_on_a_killed_daemon_gets_an_error() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    let device = instance.create("d", "0 2048 linear /dev/sda 0");
    instance.dmsim(&["suspend", "d"]);
    let waiter = std::thread::spawn(move || read_at(&device, 0, BLOCK));
    std::thread::sleep(Duration::from_millis(200));
    let dir = instance.crash();
    assert!(waiter.join().expect("no panic").is_err());
    let status = command(dir.path(), &["start"]).status().expect("dmsim runs");
    assert!(status.success(), "the dead mount is cleared away");
    let status = command(dir.path(), &["stop"]).status().expect("dmsim runs");
    assert!(status.success());
}

/// A folder that is mounted in another place; unmounted when dropped.
struct Bound(tempfile::TempDir);

impl Bound {
    fn of(dir: &Path) -> Bound {
        let place = tempfile::tempdir().expect("a temporary folder");
        sh("mount", &["--bind", text(dir), text(place.path())]);
        Bound(place)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_path_in_the_mount_is_the_device_that_it_shows_and_a_killed_daemon_waits_for_nothing() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    let device = instance.create("d", "0 2048 linear /dev/sda 0");
    std::os::unix::fs::symlink(&device, instance.path("file")).expect("a link");
    std::os::unix::fs::symlink("run/mapper", instance.path("folder")).expect("a link");
    let bound = can_mount().then(|| Bound::of(&instance.path("run/mapper")));
    let mut paths = vec![device.clone(), instance.path("file"), instance.path("folder/d")];
    paths.extend(bound.as_ref().map(|bound| bound.0.path().join("d")));
    for (nr, path) in paths.iter().enumerate() {
        let name = format!("above{nr}");
        let above = instance.create(&name, &format!("0 2048 linear {} 0", text(path)));
        assert_eq!(instance.dmsim(&["table", &name]), "0 2048 linear 253:0 0\n", "{path:?}");
        write_at(&above, nr as u64 * 4096, &bytes(nr as u64, BLOCK)).expect("room for it");
        assert!(
            read_at(&device, nr as u64 * 4096, BLOCK).expect("a read") == bytes(nr as u64, BLOCK)
        );
        let told = instance.refused(&["attach", text(path)]);
        assert!(told.contains("shows the mapped device `d`"), "{told}");
    }
    // Relative to where it is typed, as any path.
    instance.create("relative", "0 2048 linear run/mapper/d 0");
    let told = instance.refused(&["create", "x", "--table", "0 8 linear run/mapper/nothing 0"]);
    assert!(told.contains("no such file"), "{told}");
    let itself = instance.refused(&["load", "d", "--table", "0 8 linear run/mapper/d 0"]);
    assert!(itself.contains("no device can map onto itself"), "{itself}");
    assert_eq!(instance.dmsim(&["images"]).lines().count(), 2, "the one image");
    // The long ways round: another instance, a loop device, a file system on one.
    let other = Instance::start();
    other.image("b.img", "/dev/sda", 1 << 20);
    let foreign = other.create("e", "0 2048 linear /dev/sda 0");
    let told = instance.refused(&["attach", text(&foreign)]);
    assert!(told.contains("another instance of dmsim"), "{told}");
    let table = format!("0 8 linear {} 0", text(&foreign));
    let told = instance.refused(&["create", "x", "--table", &table]);
    assert!(told.contains("another instance of dmsim"), "{told}");
    if can_mount() {
        let over = Loop::over(&device, false);
        let told = instance.refused(&["attach", "--host-device", &over.0]);
        assert!(told.contains("is something that has the mapped device `d` open"), "{told}");
        if has(&["mkfs.ext4"]) {
            sh("mkfs.ext4", &["-q", &over.0]);
            drop(over);
            let mounted = Mounted::over(&device, false);
            let image = mounted.dir.path().join("image");
            let told = instance.refused(&["attach", text(&image), "--create", "64K"]);
            assert!(told.contains("lies in a file system on something that has"), "{told}");
            longer_ways(&instance, mounted.dir.path());
        }
    }
    // The next start clears the dead mount away.
    drop(Instance::start_in(instance.crash(), &[]));
}

/// A loop device over a file in a file system on the device, and an overlay that shows the latter.
fn longer_ways(instance: &Instance, mounted: &Path) {
    let inner = mounted.join("inner");
    File::create(&inner).expect("a file").set_len(64 << 10).expect("it is sparse");
    let second = Loop::over(&inner, false);
    let told = instance.refused(&["attach", "--host-device", &second.0]);
    assert!(told.contains("is something that has the mapped device `d` open"), "{told}");
    let (lower, over) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let layers = format!("lowerdir={}:{}", text(lower.path()), text(mounted));
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &layers, text(over.path())]);
    if mount.output().is_ok_and(|output| output.status.success()) {
        let image = over.path().join("inner");
        let told = instance.refused(&["attach", text(&image), "--read-only"]);
        umount(over.path());
        assert!(told.contains("lies in a file system on something that has"), "{told}");
    } else {
        println!("skipped: no overlay can be mounted here");
    }
}

/// A file system that a program shows; unmounted, and the program killed, when dropped.
struct Served {
    dir: tempfile::TempDir,
    program: std::process::Child,
}

impl Served {
    /// Mounts the ext4 of a file, which is made first, by fuse2fs.
    fn over(file: &Path) -> Served {
        sh("mkfs.ext4", &["-q", "-F", text(file)]);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut fuse2fs = Command::new("fuse2fs");
        let program = fuse2fs.args(["-f", text(file), text(dir.path())]);
        let program = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fuse2fs");
        wait_until("fuse2fs has mounted", || dir.path().join("lost+found").exists());
        Served { dir, program }
    }

    fn image(&self, bytes: u64) -> PathBuf {
        let path = self.dir.path().join("image");
        File::create(&path).expect("a new file").set_len(bytes).expect("it is sparse");
        path
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _killed_already = self.program.kill();
        let _status = self.program.wait();
        let _best_effort = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// Kills the daemon, which must end at once.
fn dies(instance: Instance) {
    let killed = Instant::now();
    drop(instance.crash());
    assert!(killed.elapsed() < Duration::from_secs(5), "it took {:?}", killed.elapsed());
}

#[test]
fn what_a_program_shows_of_a_device_is_no_image() {
    if !has(&["fuse2fs", "mkfs.ext4"]) {
        return;
    }
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 8 << 20);
    let served = Served::over(&instance.create("d", "0 16384 linear /dev/sda 0"));
    let image = served.image(64 << 10);
    let told = instance.refused(&["attach", text(&image)]);
    assert!(
        told.contains("in a file system on something that has the mapped device `d`"),
        "{told}"
    );
    let link = instance.path("link");
    std::os::unix::fs::symlink(&image, &link).expect("a link");
    let table = format!("0 8 linear {} 0", text(&link));
    let told = instance.refused(&["create", "x", "--table", &table]);
    assert!(told.contains("something that has the mapped device `d` open"), "{told}");
    dies(instance);
}

/// A file system whose server takes what it is asked, and never answers: whoever asks cannot be
/// killed. It ends when dropped.
struct Silent(tempfile::TempDir);

impl Silent {
    fn mount() -> Silent {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let how = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let how = std::ffi::CString::new(how).expect("no NUL");
        mount("silent", dir.path(), "fuse", MountFlags::empty(), &*how).expect("root may mount");
        std::thread::spawn(move || {
            let mut request = vec![0; 1 << 20];
            // FUSE_INIT, whose 24 bytes of answer say version 7.31; its identity is at byte 8.
            let asked = (&server).read(&mut request).expect("the first request");
            assert!(asked >= 40, "no header of a request: {asked} bytes");
            let mut answer = Vec::from(80_u32.to_ne_bytes());
            answer.extend(0_u32.to_ne_bytes());
            answer.extend(&request[8..16]);
            answer.extend([7_u32, 31].map(u32::to_ne_bytes).concat());
            answer.resize(80, 0);
            (&server).write_all(&answer).expect("it is taken");
            while (&server).read(&mut request).is_ok() {}
        });
        Silent(dir)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Without its server the connection ends, and whoever waits gets an error.
        let _best_effort = Command::new("umount").args(["-l", "-f"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_file_whose_server_hangs_is_refused_in_time_and_holds_nothing_up() {
    if !can_mount() {
        return;
    }
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    let silent = Silent::mount();
    let image = silent.0.path().join("image");
    let spawn = |args: &[&str]| {
        let mut command = instance.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("dmsim runs")
    };
    let asked = Instant::now();
    let table = format!("0 8 linear {} 0", text(&image));
    let asking = [spawn(&["attach", text(&image)]), spawn(&["create", "x", "--table", &table])];
    // Others are not held up meanwhile.
    instance.create("d", "0 2048 linear /dev/sda 0");
    assert!(asked.elapsed() < Duration::from_secs(8), "it took {:?}", asked.elapsed());
    for refused in asking {
        let output = refused.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("does not answer"), "{told}");
    }
    assert!(asked.elapsed() < Duration::from_secs(60), "it took {:?}", asked.elapsed());
    // Nobody waits a second time.
    let again = Instant::now();
    let told = instance.refused(&["attach", text(&image)]);
    assert!(told.contains("has not answered since it was last asked"), "{told}");
    assert!(again.elapsed() < Duration::from_secs(8), "it took {:?}", again.elapsed());
    // What looks at it still, and cannot be killed, holds up no daemon that is.
    dies(instance);
    // Another daemon looks when it is killed.
    let instance = Instance::start();
    let mut command = instance.command(&["attach", text(&image)]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut looking = command.spawn().expect("dmsim runs");
    std::thread::sleep(Duration::from_millis(500));
    dies(instance);
    assert!(!looking.wait().expect("it ends").success());
}

#[test]
fn a_page_that_a_request_holds_keeps_no_daemon_that_is_killed() {
    if can_mount() {
        hold_a_page_and_die(|_| {});
    }
}

#[test]
fn a_mount_that_was_taken_out_of_sight_keeps_no_daemon_that_is_killed() {
    if can_mount() {
        hold_a_page_and_die(|mount| drop(sh("umount", &["-l", text(mount)])));
    }
}

/// Kills a daemon of which a thread waits in the kernel for its own mount; `first` is done before.
fn hold_a_page_and_die(first: impl FnOnce(&Path)) {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    instance.create("below", "0 2048 linear /dev/sda 0");
    let table = format!("0 2048 crypt aes-xts-plain64 {} 0 /dev/mapper/below 0", "5a".repeat(32));
    let above = instance.create("above", &table);
    instance.dmsim(&["suspend", "below"]);
    let reader = std::thread::spawn(move || {
        let from = File::open(above).expect("the device");
        let to = tempfile::tempfile().expect("a temporary file");
        // By way of a page of the kernel's, which it keeps locked as long as the read lasts.
        rustix::fs::sendfile(to, from, None, BLOCK)
    });
    std::thread::sleep(Duration::from_millis(300));
    // Has the kernel drop that page, which a thread of the daemon waits for.
    instance.dmsim(&["resume", "above"]);
    std::thread::sleep(Duration::from_millis(300));
    first(&instance.path("run/mapper"));
    dies(instance);
    reader.join().expect("it ends").expect_err("the mount is dead");
}
