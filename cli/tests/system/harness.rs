//! A private instance, its images, and the programs that tests run on them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The binary under test.
pub(crate) const DMSIM: &str = env!("CARGO_BIN_EXE_dmsim");

/// How long anything may take that should take no time at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// An instance with a daemon of its own; both go when it is dropped.
pub(crate) struct Instance {
    dir: TempDir,
    daemon: Child,
}

impl Instance {
    /// Starts one.
    pub(crate) fn start() -> Instance {
        Instance::start_in(tempfile::tempdir().expect("a temporary folder"), &[])
    }

    /// Starts one in a folder, with more words after `start`.
    pub(crate) fn start_in(dir: TempDir, more: &[&str]) -> Instance {
        let daemon = spawn_daemon(dir.path(), more);
        let instance = Instance { dir, daemon };
        let serves = || instance.run(&["version"]).status.success();
        wait_until("the daemon serves", serves);
        instance
    }

    /// Kills the daemon as a crash would, and returns the folder that it leaves.
    pub(crate) fn crash(mut self) -> TempDir {
        self.daemon.kill().expect("the daemon runs");
        self.daemon.wait().expect("it was ours to wait for");
        let empty = tempfile::tempdir().expect("a temporary folder");
        std::mem::replace(&mut self.dir, empty)
    }

    /// Returns the number of the daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Returns a path in the instance's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the file that shows a device.
    pub(crate) fn device(&self, name: &str) -> PathBuf {
        self.dir.path().join("run/mapper").join(name)
    }

    /// Makes a sparse image and attaches it.
    pub(crate) fn image(&self, file: &str, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(file);
        File::create(&path).expect("a new file").set_len(bytes).expect("room for it");
        self.dmsim(&["attach", text(&path), "--as", name]);
        path
    }

    /// Makes a device.
    pub(crate) fn create(&self, name: &str, table: &str) -> PathBuf {
        self.dmsim(&["create", name, "--table", table]);
        self.device(name)
    }

    /// Runs `dmsim`, which must succeed, and returns what it printed.
    pub(crate) fn dmsim(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dmsim {args:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `dmsim`, which must fail with exit code 1, and returns what it complained of.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "dmsim {args:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Runs `dmsim`.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("dmsim runs")
    }

    /// Prepares a run of `dmsim` in this instance.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(self.dir.path(), args)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _best_effort = self.run(&["stop", "--force"]);
        let deadline = Instant::now() + SOON;
        while !matches!(self.daemon.try_wait(), Ok(Some(_))) {
            if Instant::now() > deadline {
                let _ended = self.daemon.kill();
                let _status = self.daemon.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mount = self.dir.path().join("run/mapper");
        let _unmounted_already = Command::new("umount").arg("-l").arg(mount).output();
    }
}

/// Prepares a run of `dmsim` in the instance below a folder.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(DMSIM);
    command.args(args).env("DMSIM_DIR", dir.join("run")).env("NO_COLOR", "1").current_dir(dir);
    command.stdin(Stdio::null());
    command
}

fn spawn_daemon(dir: &Path, more: &[&str]) -> Child {
    let mut args = vec!["start", "--foreground"];
    args.extend(more);
    let log = File::create(dir.join("daemon.log")).expect("a new file");
    let mut command = command(dir, &args);
    command.stdout(log.try_clone().expect("a copy")).stderr(log);
    command.spawn().expect("the daemon starts")
}

/// Waits for something that should be so soon.
pub(crate) fn wait_until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn sh(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(tool(program).unwrap_or_else(|| program.into()));
    let output = command.args(args).stdin(Stdio::null()).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Finds a program, also where only root's path has it.
pub(crate) fn tool(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// Tells whether a test has what it needs; says what is missing if not.
pub(crate) fn has(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| tool(program).is_none()).collect();
    missing.is_empty() || skip(&format!("no {missing:?}"))
}

/// Tells whether a test that mounts through the kernel can run.
pub(crate) fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    let loops = Path::new("/dev/loop-control").exists();
    (root && loops) || skip("no root, or no loop devices")
}

fn skip(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip: {why}");
    println!("skipped: {why}");
    false
}

/// A loop device over a file; detached when dropped.
pub(crate) struct Loop(pub(crate) String);

impl Loop {
    pub(crate) fn over(file: &Path, direct: bool) -> Loop {
        let direct = if direct { "--direct-io=on" } else { "--direct-io=off" };
        let name = sh("losetup", &["--find", "--show", direct, text(file)]);
        Loop(name.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _best_effort = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mounted {
    pub(crate) dir: TempDir,
    _device: Loop,
}

impl Mounted {
    pub(crate) fn over(file: &Path, direct: bool) -> Mounted {
        let device = Loop::over(file, direct);
        let dir = tempfile::tempdir().expect("a temporary folder");
        sh("mount", &[&device.0, text(dir.path())]);
        Mounted { dir, _device: device }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount(self.dir.path());
    }
}

/// Unmounts a file system. A process that another test is about to start may still have its files
/// open: between its fork and its exec it has all that we have.
pub(crate) fn umount(dir: &Path) {
    let busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("busy");
    wait_until(&format!("{} is not busy", dir.display()), || {
        let output = Command::new("umount").arg(dir).output().expect("umount runs");
        assert!(output.status.success() || busy(&output), "{output:?}");
        output.status.success()
    });
}

/// Returns `len` bytes that depend on `seed` alone: no sector is like another.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let word = |i: u64| {
        let mut z = (seed << 32 ^ i).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(word).collect();
    bytes.truncate(len);
    bytes
}

/// Reads `len` bytes of a file.
pub(crate) fn read_at(path: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    File::open(path)?.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

/// Writes into a file that is there already.
pub(crate) fn write_at(path: &Path, offset: u64, data: &[u8]) -> std::io::Result<()> {
    File::options().write(true).open(path)?.write_all_at(data, offset)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test is text")
}
