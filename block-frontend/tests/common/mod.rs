//! A helper on a thread of the test, and what tests look at.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

use block_frontend::{Error, Node, Nodes, Orphans, Owner, Shown, Whole};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

/// How a helper ends.
enum Ends {
    /// As this thread.
    Thread(JoinHandle<io::Result<Orphans>>),
    /// As this process, which runs the test `helper_process` with its standard input.
    Process(Child),
}

/// Held by each rig: a number that one has given back is at once another's.
static NUMBERS: RwLock<()> = RwLock::new(());

/// What a rig has of the numbers.
#[allow(dead_code, reason = "it is held")]
enum Numbers {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A helper, its client, and a folder for images and nodes.
pub(crate) struct Rig {
    pub(crate) nodes: Nodes,
    pub(crate) dir: TempDir,
    helper: Ends,
    numbers: Numbers,
}

impl Rig {
    /// Starts a helper, or says why a test cannot run.
    pub(crate) fn start() -> Option<Rig> {
        Rig::start_with(Numbers::Shared(NUMBERS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Starts a helper while no other test has one: for a test that looks whether numbers are free.
    pub(crate) fn start_alone() -> Option<Rig> {
        Rig::start_with(Numbers::Alone(NUMBERS.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn start_with(numbers: Numbers) -> Option<Rig> {
        let root = rustix::process::geteuid().is_root();
        if !root || !Path::new("/dev/loop-control").exists() {
            return skip("no root, or no loop devices");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let helper = Ends::Thread(thread::spawn(move || block_frontend::serve(theirs)));
        let dir = tempfile::tempdir_in("/dev").unwrap();
        Some(Rig { nodes: Nodes::start(ours), dir, helper, numbers })
    }

    /// Starts a helper that is a process, as in real use.
    pub(crate) fn start_process() -> Option<Rig> {
        let Rig { nodes, dir, helper: Ends::Thread(helper), numbers } = Rig::start()? else {
            return None;
        };
        drop(nodes);
        helper.join().unwrap().unwrap().wait();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_process", "--ignored"])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Rig { nodes: Nodes::start(ours), dir, helper: Ends::Process(child), numbers })
    }

    /// Kills a helper that is a process, by SIGKILL.
    pub(crate) fn kill(&mut self) {
        let Ends::Process(child) = &mut self.helper else { panic!("the helper is a thread") };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Makes an image of so many bytes, all of them zeros.
    pub(crate) fn image(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// Reserves a node, for whomever.
    pub(crate) fn reserve(&self) -> Result<Node, Error> {
        self.nodes.reserve(&Owner { minor: 0, uuid: None, name: "d".to_owned() })
    }

    /// Has a new node show a new image of so many bytes.
    pub(crate) fn shown(&self, bytes: u64) -> (Node, PathBuf) {
        let node = self.reserve().unwrap();
        let file = self.image("data", bytes);
        self.nodes.show(node, &shown(&file, bytes)).unwrap();
        (node, file)
    }

    /// Makes a device node of a reserved node, as programs would open it.
    pub(crate) fn path(&self, node: Node) -> PathBuf {
        let path = self.dir.path().join(format!("node-{}", node.dev.minor));
        if !path.exists() {
            let number = makedev(node.dev.major, node.dev.minor);
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, &path, FileType::BlockDevice, mode, number).unwrap();
        }
        path
    }

    /// Ends the client, and waits until the helper has ended.
    pub(crate) fn end(self) -> (TempDir, impl Sized) {
        let Rig { nodes, dir, helper, numbers } = self;
        drop(nodes);
        match helper {
            Ends::Thread(thread) => thread.join().unwrap().unwrap().wait(),
            Ends::Process(mut child) => drop(child.wait().unwrap()),
        }
        (dir, numbers)
    }
}

pub(crate) fn shown(file: &Path, bytes: u64) -> Shown {
    Shown { file: file.to_owned(), bytes, read_only: false, block: 512, read_ahead: 256 }
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// The number of the loop device below a node.
pub(crate) fn loop_of(node: Node) -> u32 {
    match node.disk {
        Whole::Loop(number) => number,
        Whole::Ublk(_) => panic!("{} is no loop device", node.disk),
    }
}

/// What a loop device is over, if anything.
pub(crate) fn file_of(node: Node) -> Option<PathBuf> {
    let path = fs::read_to_string(format!("/sys/block/{}/loop/backing_file", node.disk)).ok()?;
    Some(path.trim_end().into())
}

/// Tells whether a loop device or its partition is there.
pub(crate) fn is_there(node: Node) -> bool {
    Path::new(&format!("/sys/block/{}", node.disk)).exists()
        || Path::new(&format!("/sys/dev/block/{}", node.dev)).exists()
}

/// Reads a file of sysfs of the partition.
pub(crate) fn sys(node: Node, name: &str) -> String {
    let text = fs::read_to_string(format!("/sys/dev/block/{}/{name}", node.dev)).unwrap();
    text.trim().to_owned()
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Tells whether a program is there; says what is missing if not.
pub(crate) fn has(program: &str) -> bool {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = folders.iter().any(|folder| Path::new(folder).join(program).is_file());
    found || skip::<()>(&format!("no {program}")).is_some()
}

pub(crate) fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip: {why}");
    println!("skipped: {why}");
    None
}
