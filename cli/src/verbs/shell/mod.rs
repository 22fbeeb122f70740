//! `dmsim shell`: programs in a mount namespace in which the instance is the machine's device-mapper.

mod files;
mod inside;
mod notes;
mod settings;
mod tree;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use block_frontend::Within;
use daemon::client::unexpected;
use daemon::instance::DIR_VARIABLE;
use daemon::protocol::{OWN_RUN, Outcome, Private, Request, Shows};
use daemon::{About, Fault, Instance};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};

pub(super) use tree::hand_over;

use crate::args::shell::Shell;
use crate::client::{self, SHELL};
use crate::output::print;

/// What is mounted in /dev of the machine, and comes along.
const BELOW_DEV: [&str; 4] = ["pts", "shm", "mqueue", "hugepages"];

/// What the files are called, at the beginning, that dmeventd has in /run: they too are the instance's own.
const DMEVENTD: &str = "dmeventd";

/// What lies in other places.
const PARTS: [(&str, &str); 3] = [
    ("sys-dev-block", "/sys/dev/block"),
    ("sys-block", "/sys/block"),
    ("proc-devices", "/proc/devices"),
];

/// The control node, as programs know it.
const NODE: &str = "/dev/mapper/control";

/// The exit status where the command is not there.
const NO_COMMAND: u8 = 127;

/// Runs a command, and returns its exit status.
pub(super) fn run(instance: &Instance, options: &Shell) -> Result<ExitCode, Fault> {
    let mut client = client::connect_or_start(instance)?;
    for disk in &options.disks {
        ops::disk::show(&mut client, disk)?;
    }
    let private = match client.ask(&Request::Private)? {
        Outcome::Private(private) => private,
        other => return Err(unexpected(other)),
    };
    drop(client);
    let owner = private.dir.metadata().about(private.dir.display())?.uid();
    if private.shows == Shows::Files && owner != rustix::process::geteuid().as_raw() {
        let why = format!("its daemon is that of the user {owner}, who alone may use it");
        return Err(Fault::new(instance.dir().display(), why));
    }
    let seen = match private.shows {
        Shows::Nodes => "dev",
        Shows::Files => "node/control",
    };
    if !private.dir.join(seen).exists() {
        let why = "was started in another mount namespace, a shell's perhaps, and what it mounts is not seen \
                   here: `dmsim stop` ends it, `dmsim start` starts it here";
        return Err(Fault::new(format!("the daemon of {}", instance.dir().display()), why));
    }
    let target = options.enter.map(|pid| inside::Target::find(pid, private.shows)).transpose()?;
    let told = match (private.shows, options.command.is_empty()) {
        (Shows::Nodes, _) => "",
        (Shows::Files, true) => files::TOLD,
        (Shows::Files, false) => files::TOLD_BRIEFLY,
    };
    if !told.is_empty() {
        crate::output::say(told.trim_end_matches('\n'));
    }
    let (program, args) = match options.command.split_first() {
        Some((program, args)) => (program.clone(), args),
        None => {
            let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
            let works = match private.shows {
                Shows::Nodes => "dmsetup, lvm and cryptsetup of this machine work",
                Shows::Files => "dmsetup of this machine works",
            };
            let dir = instance.dir().display();
            print(&match options.enter {
                None => format!("device-mapper of {dir}: {works} here; `exit` leaves\n"),
                Some(pid) => format!(
                    "all programs beside process {pid} see the device-mapper of {dir}; `exit` takes it away\n"
                ),
            })?;
            let kmsg = instance.kmsg();
            print(&format!("why a table is refused stands in {}\n", kmsg.display()))?;
            if let Some(rule) = &private.rule {
                let rule = rule.display();
                print(&format!("the machine's udev leaves its block nodes alone, by {rule}\n"))?;
            }
            (shell.unwrap_or_else(|| OsString::from("/bin/sh")), &[][..])
        }
    };
    let prepare = |program: &OsStr, lvm: &Path| {
        let mut command = Command::new(program);
        command.args(args).env("DM_DISABLE_UDEV", "1").env(SHELL, instance.dir());
        if private.shows == Shows::Files {
            // As root of a namespace it would look elsewhere.
            command.env(DIR_VARIABLE, instance.dir());
        }
        if std::env::var_os("LVM_SYSTEM_DIR").is_none() {
            command.env("LVM_SYSTEM_DIR", lvm);
        }
        command
    };
    if let Some(target) = target {
        // What is put there leads to these paths, which are to have no links in them.
        let path = |path: &Path| path.canonicalize().about(path.display());
        let (dir, mount) = (path(&private.dir)?, path(&private.mount)?);
        let private = Private { dir, mount, ..private };
        let lvm = settings::settings_for_lvm(&private)?;
        return inside::run(&private, &target, || {
            let is_there = options.command.is_empty() && !Path::new(&program).exists();
            prepare(if is_there { OsStr::new("/bin/sh") } else { &program }, &lvm)
        });
    }
    match private.shows {
        Shows::Nodes => enter(&private)?,
        Shows::Files => files::enter(&private)?,
    }
    let mut command = prepare(&program, &private.lvm);
    // It takes this process's place: signals, terminal and exit status are its own.
    let error = command.exec();
    Err(Fault::new(program.display(), error).with_status(NO_COMMAND))
}

/// Where lvm has its settings, and copies of its metadata, unless it is told otherwise.
const LVM_SYSTEM_DIR: &str = "/etc/lvm";

/// Enters a mount namespace that has the private device-mapper in the places of the machine's.
fn enter(private: &Private) -> Result<(), Fault> {
    let dir = &private.dir;
    unshare_mounts()?;
    // In this namespace, so that it can be mounted elsewhere in it.
    let tree = Within::open(dir).about(dir.display())?;
    let lvm = opened(&private.lvm)?;
    let part = |name: &str| tree.part(Path::new(name)).about(dir.display());
    for name in BELOW_DEV {
        let from = Path::new("/dev").join(name);
        if from.is_dir() {
            let to = part(&format!("dev/{name}"))?;
            bind(&opened(&from)?, &to).about(from.display())?;
        }
    }
    put(&part("dev")?, "/dev")?;
    for (ours, theirs) in PARTS {
        put(&part(ours)?, theirs)?;
    }
    let lock = "/run/lock/lvm";
    std::fs::create_dir_all(lock).about(lock)?;
    put(&part("lvm-lock")?, lock)?;
    // A program that clears its environment, as `su -` does, finds lvm's settings here.
    if Path::new(LVM_SYSTEM_DIR).is_dir() {
        put(&lvm, LVM_SYSTEM_DIR)?;
    }
    enter_run(&tree.within(Path::new("run")).about(dir.display())?).about("/run")?;
    check_node(&tree, dir)
}

/// Refuses a namespace whose control node is not this instance's: what libdevmapper finds nothing at it makes itself,
/// and that is the machine's.
fn check_node(tree: &Within, dir: &Path) -> Result<(), Fault> {
    let device = |of: &OwnedFd| fstat(of).map(|there| there.st_dev);
    let ours = tree.part(Path::new("node")).ok().and_then(|node| device(&node).ok());
    let seen = Path::new(NODE).metadata().ok();
    let is_ours = seen.is_some_and(|seen| {
        seen.file_type().is_char_device()
            && Some(seen.dev()) == ours
            && device(tree.root()).ok() != ours
    });
    match is_ours {
        true => Ok(()),
        false => Err(Fault::new(
            NODE,
            format!(
                "is not the control node of this instance: a program has taken that away from {}, or put something \
                 else in its place. `dmsim stop --force` and `dmsim start` make it anew",
                dir.display()
            ),
        )),
    }
}

/// Mounts in another place what is in one, with all below it. By descriptors: whatever leads to them may change.
fn bind(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(from, "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&copy, "", to, "", flags)
}

/// Takes hold of something of the machine's.
fn opened(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).about(path.display())
}

/// Mounts a part of the tree over what the machine has.
fn put(part: &OwnedFd, theirs: &str) -> Result<(), Fault> {
    bind(part, &opened(Path::new(theirs))?).about(theirs)
}

/// Gives this process a mount namespace.
fn unshare_mounts() -> Result<(), Fault> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| Fault::new("shell", format!("no mount namespace: {}", error.desc())))?;
    let_nothing_out()
}

/// What the machine mounts and unmounts still comes into this mount namespace, and nothing goes out.
fn let_nothing_out() -> Result<(), Fault> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).about("/")
}

/// Puts a directory in the place of /run that has all of it but what is about devices.
fn enter_run(own: &Within) -> std::io::Result<()> {
    for entry in std::fs::read_dir("/run")? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let is_own =
            name.to_str().is_some_and(|name| OWN_RUN.contains(&name) || name.starts_with(DMEVENTD));
        if is_own {
            continue;
        }
        let (from, to) = (entry.path(), Path::new(&name));
        // Another shell has made it, perhaps.
        if kind.is_symlink() {
            let target = std::fs::read_link(&from)?;
            if own.target(to).ok() != Some(target.clone()) {
                own.put_link(to, &target)?;
            }
            continue;
        }
        // It may have gone meanwhile.
        let Ok(from) = openat(CWD, &from, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
            continue;
        };
        let is_file = |there: Stat| FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
        if kind.is_dir() {
            own.make_folder(to, 0o755)?;
        } else if !own.stat(to).is_ok_and(is_file) {
            own.put_file(to, &[], 0o600)?;
        }
        if let Err(error) = bind(&from, &own.part(to)?)
            && entry.path().exists()
        {
            return Err(error.into());
        }
    }
    let run = openat(CWD, "/run", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(bind(own.root(), &run)?)
}
