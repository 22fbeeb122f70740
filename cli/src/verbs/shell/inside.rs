//! `dmsim shell --enter PID`: the private device-mapper in the mount namespace of a process that runs, for all
//! programs in it, until the command ends.
//!
//! Its own `/dev` stays, with what is in it: `/dev/mapper` is put there, what `/sys` and `/proc` have, and the
//! tree that all of this leads to, at the path that it has outside. What was put there is written down on the
//! way, in a file that is locked: where this process is killed, the next one takes it away.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use block_frontend::Within;
use daemon::protocol::{OWN_RUN, Private, Shows};
use daemon::{About, Fault};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, readlinkat, unlinkat};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{Pid, Signal, chroot, fchdir, kill_process};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::PARTS;
use super::notes::{self, Identity, Line, Note};

use crate::output::complain;

/// The process that is entered.
pub(super) struct Target {
    pid: u32,
    /// Its directory in `/proc`, which is no other process's when it has ended.
    proc: OwnedFd,
    root: OwnedFd,
    mounts: OwnedFd,
    pids: Option<OwnedFd>,
    /// Its user namespace, where it has another one than this process.
    user: Option<OwnedFd>,
    /// Its mount namespace, as it is called.
    name: String,
}

impl Target {
    /// Finds a process that can be entered.
    pub(super) fn find(pid: u32, shows: Shows) -> Result<Target, Fault> {
        let fault = |why: String| Fault::new(format!("process {pid}"), why);
        let open = |dir: &OwnedFd, name: &str, flags: OFlags| {
            openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())
        };
        let proc = File::open(format!("/proc/{pid}"));
        let proc: OwnedFd = proc.map_err(|_| fault("no such process".into()))?.into();
        let denied = |error: rustix::io::Errno| match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => fault(
                "it may not be entered: it is another user's, or out of reach of this one".into(),
            ),
            error => fault(format!("it has ended: {error}")),
        };
        let link = |name: &str| -> Result<String, rustix::io::Errno> {
            Ok(readlinkat(&proc, name, Vec::new())?.to_string_lossy().into_owned())
        };
        let own = |name: &str| fs::read_link(format!("/proc/self/{name}")).unwrap_or_default();
        match link("exe") {
            Err(rustix::io::Errno::NOENT) => {
                return Err(fault("it is a thread of the kernel, or has ended".into()));
            }
            done => done.map_err(denied)?,
        };
        let name = link("ns/mnt").map_err(denied)?;
        if Path::new(&name) == own("ns/mnt") {
            let why = "it is in the mount namespace of this command, in which nothing is changed: `dmsim shell` \
                       without --enter makes one";
            return Err(fault(why.into()));
        }
        let has_own_user = Path::new(&link("ns/user").map_err(denied)?) != own("ns/user");
        if has_own_user && shows == Shows::Nodes {
            let why = "it is in a user namespace of its own, whose root may use no block nodes of the machine's: \
                       nor may its programs use this instance. An instance of its user has files for it";
            return Err(fault(why.into()));
        }
        let pids = Path::new(&link("ns/pid").map_err(denied)?) != own("ns/pid_for_children");
        let namespace = |name: &str| open(&proc, name, OFlags::RDONLY).map_err(denied);
        Ok(Target {
            pid,
            root: open(&proc, "root", OFlags::PATH | OFlags::DIRECTORY).map_err(denied)?,
            mounts: namespace("ns/mnt")?,
            pids: pids.then(|| namespace("ns/pid")).transpose()?,
            user: has_own_user.then(|| namespace("ns/user")).transpose()?,
            name: name.chars().filter(char::is_ascii_digit).collect(),
            proc,
        })
    }

    fn fault(&self, why: impl Display) -> Fault {
        Fault::new(format!("process {}", self.pid), why)
    }

    /// Reads a file of its directory in `/proc`.
    fn text(&self, name: &str) -> Result<String, Fault> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.proc, name, flags, Mode::empty()).map(File::from);
        let read = file.map_err(io::Error::from).and_then(io::read_to_string);
        read.map_err(|error| self.fault(format!("{name}: {error}")))
    }

    /// Gives whatever is begun from here on no capability that its programs cannot have: what it calls a
    /// program is its own.
    fn bound_capabilities(&self) -> Result<(), Fault> {
        let status = self.text("status")?;
        let theirs = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let theirs = theirs.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        let theirs = theirs.ok_or_else(|| self.fault("its capabilities cannot be read"))?;
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            let is_ours = || capability_is_in_bounding_set(capability).unwrap_or(false);
            if theirs & 1 << number == 0 && is_ours() {
                remove_capability_from_bounding_set(capability).about("capabilities")?;
            }
        }
        let own = capabilities(None).about("capabilities")?;
        let none = CapabilitySets { inheritable: CapabilitySet::empty(), ..own };
        set_capabilities(None, none).about("capabilities")?;
        if theirs & CapabilitySet::SYS_ADMIN.bits() == 0 {
            complain!(
                "dmsim: its programs cannot have CAP_SYS_ADMIN, without which the control node is not for them"
            );
        }
        Ok(())
    }

    /// Refuses one whose mounts are also those of this mount namespace.
    fn refuse_shared(&self) -> Result<(), Fault> {
        let own = fs::read_to_string("/proc/self/mountinfo").about("/proc/self/mountinfo")?;
        let theirs = self.text("mountinfo")?;
        match shared_with(&own, &theirs) {
            None => Ok(()),
            Some(at) => Err(self.fault(format!(
                "what is mounted below {at} in its mount namespace is mounted outside too (a shared mount), and \
                 nothing is to be seen there: `mount --make-rslave /` in it first"
            ))),
        }
    }

    fn enter_one(&self, namespace: &OwnedFd, what: &str, kind: CloneFlags) -> Result<(), Fault> {
        let entered = setns(namespace, kind);
        entered.map_err(|error| self.fault(format!("its {what} namespace: {}", error.desc())))
    }

    /// Moves this process there, but for the namespace of processes.
    fn enter(&self) -> Result<(), Fault> {
        if let Some(user) = &self.user {
            self.enter_one(user, "user", CloneFlags::CLONE_NEWUSER)?;
        }
        self.enter_one(&self.mounts, "mount", CloneFlags::CLONE_NEWNS)?;
        fchdir(&self.root).about("its root directory")?;
        chroot(".").about("its root directory")
    }
}

/// What was put into a mount namespace, in the order in which it was.
struct Placed {
    lines: Vec<Line>,
    note: Note,
}

fn identity(of: &OwnedFd) -> rustix::io::Result<Identity> {
    fstat(of).map(|there| (there.st_dev, there.st_ino))
}

/// Tells whether it is still there, which nobody serves any more once the daemon has ended.
fn is_still(path: &Path, of: Identity) -> bool {
    match path.metadata() {
        Ok(there) => (there.dev(), there.ino()) == of,
        Err(error) => error.kind() == io::ErrorKind::NotConnected,
    }
}

/// Takes hold of a path in the process's root, but of none that leads elsewhere, out of that root perhaps.
fn hold(path: &Path) -> Result<OwnedFd, Fault> {
    let root = Within::open(Path::new("/")).about("/")?;
    let below = path.strip_prefix("/").unwrap_or(path);
    root.part(if below == Path::new("") { Path::new(".") } else { below }).map_err(|error| {
        match path.canonicalize() {
            Ok(there) if there != path => {
                let why = format!("it leads to {}, and nothing is put there", there.display());
                Fault::new(format!("{} in it", path.display()), why)
            }
            Ok(_) | Err(_) => Fault::new("it", error),
        }
    })
}

/// Does something with a path's last name, in the directory that the rest of it leads to.
fn at(
    path: &Path,
    work: impl FnOnce(&OwnedFd, &OsStr) -> rustix::io::Result<()>,
) -> Result<(), Fault> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = hold(parent)?;
    work(&parent, name)
        .map_err(|error| Fault::new(format!("{} in it", path.display()), error.to_string()))
}

impl Placed {
    /// Begins a list, with what one before has left.
    fn begin(private: &Private, target: &Target) -> Result<Placed, Fault> {
        // Not in the tree that is put there: what a container can write, it may have made a link of.
        notes::drop_old(&private.lvm);
        let begun = Note::begin(&private.lvm, &target.name).about(private.lvm.display())?;
        let (note, lines) = begun.ok_or_else(|| {
            target.fault(
                "the device-mapper of this instance is there already, by another `dmsim shell --enter`",
            )
        })?;
        Ok(Placed { lines, note })
    }

    /// Writes down what is about to be.
    fn note(&mut self, line: Line) -> io::Result<()> {
        self.note.add(&line)?;
        self.lines.push(line);
        Ok(())
    }

    /// Makes a directory, and those that lead to it.
    fn make_dir(&mut self, path: &Path) -> Result<(), Fault> {
        if path.symlink_metadata().is_ok() {
            return hold(path).map(drop);
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent)?;
        }
        self.note(Line::Dir(path.to_owned())).about(path.display())?;
        at(path, |parent, name| mkdirat(parent, name, Mode::from_raw_mode(0o755)))
    }

    /// Puts what is in one place in another.
    fn bind(&mut self, from: &OwnedFd, to: &Path) -> Result<(), Fault> {
        let held = hold(to)?;
        let of = identity(from).about(to.display())?;
        self.note(Line::Mount(of, to.to_owned())).about(to.display())?;
        super::bind(from, &held).about(to.display())
    }

    /// Takes all away again.
    fn take_away(&mut self) {
        while let Some(line) = self.lines.pop() {
            // What somebody else has put there, or what could not be, stays as it is.
            let _as_far_as_it_goes = match line {
                Line::Mount(of, path) if is_still(&path, of) => {
                    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                    unmount(&path, flags).map_err(io::Error::from)
                }
                Line::Mount(..) => Ok(()),
                Line::Dir(path) => {
                    let _stays = at(&path, |at, name| unlinkat(at, name, AtFlags::REMOVEDIR));
                    Ok(())
                }
            };
        }
        self.note.clear();
    }

    /// Puts copies of mounts where they are outside.
    fn attach(&mut self, tree: &Tree) -> Result<(), Fault> {
        let Tree { copy, at, witness } = tree;
        // It may be seen there already, at the same path.
        let there = at.join(&witness.0).metadata();
        if there.is_ok_and(|there| (there.dev(), there.ino()) == witness.1) {
            return Ok(());
        }
        self.make_dir(at)?;
        let (held, of) = (hold(at)?, identity(copy).about(at.display())?);
        self.note(Line::Mount(of, at.clone())).about(at.display())?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(copy, "", held, "", flags).about(at.display())?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(at, flags).about(at.display())
    }

    /// Puts all there.
    fn put(&mut self, private: &Private, trees: &[Tree], target: &Target) -> Result<(), Fault> {
        self.take_away();
        let (mapper, node) = match private.shows {
            Shows::Nodes => ("dev/mapper", super::NODE),
            Shows::Files => ("node", "/dev/mapper"),
        };
        let there = Path::new(node).metadata().map(|there| there.dev());
        if trees.iter().any(|tree| there.as_ref().is_ok_and(|there| *there == tree.witness.1.0)) {
            let why = "the device-mapper of this instance is there already: it is in a `dmsim shell` of it";
            return Err(target.fault(why));
        }
        for tree in trees {
            self.attach(tree)?;
        }
        // Where it is now, as what is mounted elsewhere has to be of this namespace.
        let dir = &private.dir;
        let tree = Within::open(dir).about(dir.display())?;
        let part = |name: &str| tree.part(Path::new(name)).about(dir.display());
        self.make_dir(Path::new("/dev/mapper"))?;
        self.bind(&part(mapper)?, Path::new("/dev/mapper"))?;
        for (ours, theirs) in PARTS {
            let theirs = Path::new(theirs);
            if theirs.exists() {
                self.bind(&part(ours)?, theirs)?;
            } else if theirs == Path::new("/proc/devices") {
                return Err(target.fault("it has no /proc/devices, which programs ask"));
            }
        }
        let own = OWN_RUN.map(|name| (format!("run/{name}"), Path::new("/run").join(name)));
        let lock = ("lvm-lock".to_owned(), PathBuf::from("/run/lock/lvm"));
        for (ours, theirs) in own.into_iter().chain([lock]) {
            if theirs.is_dir() && hold(&theirs).is_ok() {
                self.bind(&part(&ours)?, &theirs)?;
            }
        }
        super::check_node(&tree, dir)
    }
}

/// A copy of what is mounted in a place.
struct Tree {
    copy: OwnedFd,
    /// Where it is outside.
    at: PathBuf,
    /// Something in it that nothing else has, by its path in it: the root of a mount of ours.
    witness: (PathBuf, Identity),
}

impl Tree {
    fn of(at: &Path, witness: &str, target: &Target) -> Result<Tree, Fault> {
        let copy = match target.user {
            Some(_) => super::tree::from_own_namespace(at)?,
            None => detached(at)
                .map_err(|error| target.fault(format!("a copy of {}: {error}", at.display())))?,
        };
        let there = at.join(witness).metadata().about(at.display())?;
        let witness = (witness.into(), (there.dev(), there.ino()));
        Ok(Tree { copy, at: at.to_owned(), witness })
    }
}

/// Runs a command in a process's namespaces, in which the private device-mapper is as long as it runs.
pub(super) fn run(
    private: &Private,
    target: &Target,
    prepare: impl FnOnce() -> Command,
) -> Result<ExitCode, Fault> {
    target.refuse_shared()?;
    if target.user.is_none() {
        // What is copied from here passes on nothing that programs in there mount in it.
        super::unshare_mounts()?;
    }
    let mut trees = vec![Tree::of(&private.dir, "node", target)?];
    if private.shows == Shows::Files {
        trees.push(Tree::of(&private.mount, "", target)?);
    }
    let mut placed = Placed::begin(private, target)?;
    target.enter()?;
    let ended = placed.put(private, &trees, target).and_then(|()| wait_for(target, prepare()));
    drop(trees);
    placed.take_away();
    placed.note.end();
    ended
}

/// Makes a copy of what is mounted in a place, and below, which is mounted nowhere yet.
pub(super) fn detached(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, dir, flags)?)
}

/// Runs a command to its end. Signals that ask to end are for it.
fn wait_for(target: &Target, mut command: Command) -> Result<ExitCode, Fault> {
    // Those of a terminal reach it by themselves. Not ignored, as it would ignore them too.
    let unheard = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, unheard.clone()).about("signals")?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGTERM]).about("signals")?;
    let running = Arc::new(AtomicI32::new(0));
    let child = running.clone();
    // Before it is another namespace in which processes begin, as a thread cannot.
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let named = if signal == SIGHUP { Signal::HUP } else { Signal::TERM };
            if let Some(pid) = Pid::from_raw(child.load(SeqCst)) {
                let _ended_meanwhile = kill_process(pid, named);
            }
        }
    });
    target.bound_capabilities()?;
    if let Some(pids) = &target.pids {
        target.enter_one(pids, "process", CloneFlags::CLONE_NEWPID)?;
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let started = command.spawn();
    let mut child =
        started.map_err(|error| Fault::new(program, error).with_status(super::NO_COMMAND))?;
    running.store(i32::try_from(child.id()).unwrap_or(0), SeqCst);
    let status = child.wait().about("the command")?;
    running.store(0, SeqCst);
    let by_signal = || 128 + status.signal().unwrap_or(0);
    let code = status.code().unwrap_or_else(by_signal);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Returns a mount of `theirs` below which we mount and which is one of `own` too, by the texts of
/// `/proc/PID/mountinfo`: what is mounted in the one comes into the other.
fn shared_with<'a>(own: &str, theirs: &'a str) -> Option<&'a str> {
    let is_shared = |line: &&str| {
        let words = line.split(' ').skip(6).take_while(|word| *word != "-");
        let mut groups = words.filter(|word| word.starts_with("shared:"));
        groups.any(|group| own.split_whitespace().any(|word| word == group))
    };
    let at = |line: &'a str| line.split(' ').nth(4);
    let below = |place: &str, path: &str| Path::new(path).starts_with(place);
    let paths = PARTS.iter().map(|(_, path)| *path).chain(["/dev/mapper", "/run/udev"]);
    paths.into_iter().find_map(|path| {
        // The last of the longest: what is mounted on it later hides it.
        let on = theirs.lines().filter(|line| at(line).is_some_and(|place| below(place, path)));
        on.max_by_key(|line| at(line).map_or(0, str::len)).filter(is_shared).and_then(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_two_namespaces_are_told_from_those_of_one() {
        let own = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n22 21 0:5 / /proc rw shared:12 - proc proc rw\n";
        let theirs = |tags: &str| {
            format!(
                "31 1 8:1 / / rw {tags}- ext4 /dev/sda1 rw\n32 31 0:5 / /proc rw master:12 - proc proc rw\n"
            )
        };
        assert_eq!(shared_with(own, &theirs("shared:1 ")), Some("/"));
        for apart in ["master:1 ", "shared:11 ", "shared:7 master:1 ", ""] {
            assert_eq!(shared_with(own, &theirs(apart)), None, "{apart}");
        }
        // The one on top counts.
        let hidden = format!("{}33 31 0:9 / / rw - tmpfs tmpfs rw\n", theirs("shared:1 "));
        assert_eq!(shared_with(own, &hidden), None);
    }
}
