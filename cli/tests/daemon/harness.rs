//! An instance whose daemon is started by the commands themselves, and goes with the test.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use daemon::protocol::VERSION;
use tempfile::TempDir;

pub(crate) const DMSIM: &str = env!("CARGO_BIN_EXE_dmsim");

/// How long anything may take that should take no time at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Tells whether there is FUSE to test with.
pub(crate) fn can_mount() -> bool {
    let can = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !can {
        assert!(std::env::var_os("CI").is_none(), "no /dev/fuse");
        println!("skipped: no /dev/fuse");
    }
    can
}

/// An instance without a daemon.
pub(crate) struct Instance(TempDir);

impl Instance {
    pub(crate) fn new() -> Instance {
        Instance(tempfile::tempdir().unwrap())
    }

    /// The folder that the instance's lies in.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// A file of the instance.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("run").join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DMSIM);
        command.args(args).env("DMSIM_DIR", self.path("")).current_dir(self.0.path());
        command.stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, and returns what it complained of.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// The daemon's process, if its lock file names one that runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.path("lock")).ok()?;
        // One that has ended, and was not waited for yet, has no command line any more.
        let pid = text.split(' ').next()?.parse().ok()?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        command.contains(self.path("").to_str()?).then_some(pid)
    }

    /// Sends the daemon a signal, by its number.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().expect("a daemon runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn crash(&self) {
        self.signal("-KILL");
        wait_until("it is gone", || self.pid().is_none());
    }

    /// Connects as a client does, and says hello.
    pub(crate) fn connect(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        send(&mut stream, format!("{{\"version\":{VERSION}}}").as_bytes());
        assert!(receive(&mut stream).contains("\"pid\""));
        stream
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.pid().is_some() {
            let _by_force = self.run(&["stop", "--force"]);
        }
        if self.pid().is_some() {
            self.signal("-KILL");
        }
        let mount = self.path("mapper");
        let _unmounted_already =
            Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status();
    }
}

/// Sends one message.
pub(crate) fn send(stream: &mut UnixStream, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap();
    stream.write_all(&len.to_le_bytes()).unwrap();
    stream.write_all(text).unwrap();
}

/// Receives one message.
pub(crate) fn receive(stream: &mut UnixStream) -> String {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut text = vec![0; u32::from_le_bytes(len) as usize];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Waits for something that should be so soon.
pub(crate) fn wait_until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
