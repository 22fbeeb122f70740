//! A program that can write to the tree, as one in a container can, makes links and other things of its parts, for
//! whoever keeps the tree to follow. Whatever it makes, nothing outside changes, and the tree is mended.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "common/facts.rs"]
mod facts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use block_frontend::{Facts, Tree};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sim_core::DevNumber;
use tempfile::TempDir;

/// A disk of the machine that is below a device.
const HOSTS: DevNumber = DevNumber { major: 7, minor: 0 };

/// Every part of the tree of a device, `sys-devices` and its shadows too.
const PARTS: [&str; 37] = [
    ".new",
    "dev",
    "dev/mapper",
    "dev/mapper/control",
    "dev/mapper/a",
    "dev/dm-0",
    "dev/loop0",
    "dev/loop15",
    "dev/null",
    "dev/fd",
    "dev/pts",
    "dev/shm",
    "sys-dev-block",
    "sys-dev-block/259:1000",
    "sys-dev-block/7:0",
    "sys-dev-block/7:15",
    "sys-block",
    "sys-block/dm-0",
    "sys-block/loop0",
    "proc-devices",
    "sys-devices",
    "sys-devices/dm-0",
    "sys-devices/dm-0/bdi",
    "sys-devices/dm-0/dm",
    "sys-devices/dm-0/dm/name",
    "sys-devices/dm-0/holders",
    "sys-devices/dm-0/holders/dm-1",
    "sys-devices/dm-0/queue",
    "sys-devices/dm-0/queue/logical_block_size",
    "sys-devices/dm-0/size",
    "sys-devices/dm-0/slaves",
    "sys-devices/dm-0/slaves/loop0",
    "sys-devices/dm-0/subsystem",
    "sys-devices/dm-0/uevent",
    "sys-devices/loop0",
    "sys-devices/loop0/holders",
    "sys-devices/loop0/holders/dm-0",
];

/// What a part is made.
#[derive(Clone, Copy, Debug)]
enum Made {
    LinkToFolder,
    LinkToFile,
    Folder,
    /// A folder with folders in it, one in the other.
    Deep,
    File,
    Pipe,
}

const OTHERS: [Made; 5] = [Made::LinkToFile, Made::Folder, Made::Deep, Made::File, Made::Pipe];

impl Made {
    fn make(self, path: &Path, victim: &Path) {
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
        match self {
            Made::LinkToFolder => symlink(victim, path).unwrap(),
            Made::LinkToFile => symlink(victim.join("name"), path).unwrap(),
            Made::Folder => fs::create_dir(path).unwrap(),
            Made::Deep => {
                // Deeper than a descriptor for each, or a call in a call, would go.
                fs::create_dir(path).unwrap();
                let mut at = fs::File::open(path).unwrap();
                for _ in 0..3000 {
                    rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
                    let flags = rustix::fs::OFlags::DIRECTORY;
                    at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap().into();
                }
            }
            Made::File => fs::write(path, "theirs").unwrap(),
            Made::Pipe => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        }
    }
}

/// A folder outside, with things in it that have the names of all that is in a tree.
fn victim(dir: &Path) -> PathBuf {
    let victim = dir.join("victim");
    let names = PARTS.iter().flat_map(|part| Path::new(part).iter());
    let own = |path: &Path, mode| {
        chown(path, Some(12345), Some(54321)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(&victim).unwrap();
    for name in names.chain([std::ffi::OsStr::new("precious")]) {
        let is_folder =
            ["bdi", "dm", "holders", "mapper", "queue", "slaves"].contains(&name.to_str().unwrap());
        let path = victim.join(name);
        if path.exists() {
            continue;
        }
        if is_folder {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("dm-0"), "precious").unwrap();
            fs::write(path.join("precious"), "precious").unwrap();
            own(&path, 0o700);
        } else {
            fs::write(&path, "precious").unwrap();
            own(&path, 0o600);
        }
    }
    own(&victim, 0o700);
    victim
}

/// All that there is to say of what is in a folder.
fn state(folder: &Path, into: &mut BTreeMap<PathBuf, (u32, u32, u32, u64, Vec<u8>)>) {
    let mut note = |path: &Path| {
        let there = fs::symlink_metadata(path).unwrap();
        let text = if there.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let said = (there.mode(), there.uid(), there.gid(), there.ino(), text);
        into.insert(path.to_owned(), said);
        there.is_dir()
    };
    note(folder);
    let entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let folders: Vec<_> = entries.into_iter().filter(|path| note(path)).collect();
    folders.iter().for_each(|folder| state(folder, into));
}

fn all_of(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, u64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    state(folder, &mut all);
    all
}

/// A tree with a device above a disk of the machine and one above that, and a folder beside it.
struct Attacked {
    tree: Option<Tree>,
    dir: TempDir,
    victim: PathBuf,
    before: BTreeMap<PathBuf, (u32, u32, u32, u64, Vec<u8>)>,
}

impl Attacked {
    fn new() -> Option<Attacked> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: no root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
        let at = dir.path().join("tree");
        fs::create_dir(&at).unwrap();
        let tree = made(&at);
        // On the same file system: what is moved there by a name is lost too.
        let victim = victim(dir.path());
        let before = all_of(&victim);
        Some(Attacked { tree: Some(tree), dir, victim, before })
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join("tree").join(part)
    }

    fn leave(&self) {
        Tree::leave(fs::File::open(self.path("")).unwrap().into());
    }

    fn tree(&self) -> &Tree {
        self.tree.as_ref().unwrap()
    }

    #[track_caller]
    fn is_untouched(&self, after: &str) {
        assert!(all_of(&self.victim) == self.before, "{after}: what is outside has changed");
    }

    #[track_caller]
    fn is_mended(&self, what: &str) {
        self.is_untouched(what);
        let there = |name: &str| fs::symlink_metadata(self.path(name)).unwrap();
        for (name, dev, mode) in [
            ("dev/mapper/a", (259, 1000), 0o660),
            ("dev/dm-0", (259, 1000), 0o660),
            ("dev/mapper/b", (259, 1001), 0o660),
            ("dev/loop0", (7, 0), there("dev/loop0").mode() & 0o777),
            ("dev/loop15", (7, 15), there("dev/loop15").mode() & 0o777),
            ("dev/null", (1, 3), 0o666),
        ] {
            let node = there(name);
            let kind = node.file_type();
            assert!(kind.is_block_device() || kind.is_char_device(), "{what}: {name}");
            let number = rustix::fs::makedev(dev.0, dev.1);
            assert_eq!((node.rdev(), node.mode() & 0o777), (number, mode), "{what}: {name}");
        }
        assert!(there("dev/pts").is_dir() && there("dev/shm").is_dir(), "{what}");
        let control = fs::read_link(self.path("dev/mapper/control")).unwrap();
        assert_eq!(control, Path::new("/run/dmsim/control"), "{what}");
        for (name, expected) in [
            ("sys-block/dm-0/dm/name", "a\n"),
            ("sys-dev-block/259:1000/size", "2048\n"),
            ("sys-block/dm-0/slaves/loop0/dev", "7:0\n"),
            ("sys-block/loop0/holders/dm-0/dev", "259:1000\n"),
            ("sys-block/dm-0/holders/dm-1/dev", "259:1001\n"),
        ] {
            let says = fs::read_to_string(self.path(name)).unwrap_or_default();
            assert_eq!(says, expected, "{what}: {name}");
        }
        let devices = fs::read_to_string(self.path("proc-devices")).unwrap();
        assert!(devices.contains("device-mapper"), "{what}");
    }
}

fn made(at: &Path) -> Tree {
    let tree = Tree::make(at, Path::new("/run/dmsim/control")).unwrap();
    tree.put(&lower()).unwrap();
    tree.put(&upper()).unwrap();
    tree
}

impl Drop for Attacked {
    fn drop(&mut self) {
        let unmounted = unmount(self.dir.path(), UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

fn lower() -> Facts {
    facts(0, "a", &[HOSTS])
}

fn facts(minor: u32, name: &str, below: &[DevNumber]) -> Facts {
    Facts { bytes: 1 << 20, uuid: None, ..facts::facts(minor, name, below) }
}

fn upper() -> Facts {
    facts(1, "b", &[lower().dev])
}

/// Does with the tree what there is to be done, but to leave it.
fn work(tree: &Tree) {
    let changed = Facts { suspended: true, bytes: 1 << 21, ..lower() };
    let renamed = Facts { name: "null".into(), ..changed.clone() };
    // Each may say that it cannot be: that is no harm.
    for facts in [changed, renamed, facts(0, "a", &[]), facts(1, "b", &[HOSTS]), lower(), upper()] {
        let _done = tree.put(&facts);
    }
    let _done = tree.refresh();
    let _done = tree.take(0);
    let _done = tree.put(&lower());
    let _done = tree.put(&upper());
}

#[test]
fn whatever_a_part_is_made_nothing_outside_changes() {
    let Some(attacked) = Attacked::new() else { return };
    for (nr, part) in PARTS.iter().enumerate() {
        // A link, and one of the others in turn: where the machine has thousands of disks, all of them take minutes.
        for made in [Made::LinkToFolder, OTHERS[nr % OTHERS.len()]] {
            made.make(&attacked.path(part), &attacked.victim);
            work(attacked.tree());
            attacked.is_untouched(&format!("{part}, {made:?}"));
            // A shell begins with this: it is to find all of it as it should be.
            attacked.tree().mend().unwrap_or_else(|error| panic!("{part}, {made:?}: {error}"));
            attacked.is_mended(&format!("{part}, {made:?}"));
        }
        Made::LinkToFolder.make(&attacked.path(part), &attacked.victim);
        attacked.tree().mend().unwrap_or_else(|error| panic!("{part}: {error}"));
        attacked.is_mended(&format!("{part}, at once"));
    }
}

#[test]
fn leaving_and_removing_a_tree_follows_nothing() {
    let Some(mut attacked) = Attacked::new() else { return };
    for part in PARTS {
        let is_listed = ["dev", "dev/mapper", "dev/dm-0", "sys-block"].contains(&part);
        for made in [Made::LinkToFolder].into_iter().chain(is_listed.then_some(Made::Deep)) {
            made.make(&attacked.path(part), &attacked.victim);
            attacked.leave();
            attacked.is_untouched(&format!("{part}, {made:?}, left"));
            attacked.tree().mend().unwrap();
        }
    }
    for part in ["dev", "dev/pts", "sys-dev-block", "sys-devices", "sys-devices/dm-0"] {
        Made::LinkToFolder.make(&attacked.path(part), &attacked.victim);
        attacked.tree.take().unwrap().remove().unwrap();
        attacked.is_untouched(&format!("{part}, removed"));
        attacked.tree = Some(made(&attacked.path("")));
    }
}

/// What is exchanged again and again, while the tree is worked on: what is looked at first and used later is found so.
#[test]
fn what_is_exchanged_meanwhile_is_not_followed_either() {
    let Some(attacked) = Attacked::new() else { return };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [mapper, slaves] =
                ["dev/mapper", "sys-devices/dm-0/slaves"].map(|part| attacked.path(part));
            let bad = attacked.path("bad");
            symlink(&attacked.victim, &bad).unwrap();
            while !ended.load(Relaxed) {
                for part in [&mapper, &slaves] {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    let _gone = rustix::fs::renameat_with(CWD, &bad, CWD, part, exchange);
                    let _gone = rustix::fs::renameat_with(CWD, &bad, CWD, part, exchange);
                }
                if !bad.is_symlink() {
                    let _there = fs::remove_dir_all(&bad);
                    let _there = symlink(&attacked.victim, &bad);
                }
            }
        });
        for _ in 0..20 {
            work(attacked.tree());
            attacked.leave();
        }
        ended.store(true, Relaxed);
    });
    attacked.is_untouched("a race");
}
