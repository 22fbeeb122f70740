//! `dmsim shell`: programs in a mount namespace in which the instance is the machine's device-mapper.

mod files;
mod inside;
mod settings;
mod tree;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use daemon::client::unexpected;
use daemon::instance::DIR_VARIABLE;
use daemon::protocol::{OWN_RUN, Outcome, Private, Request, Shows};
use daemon::{About, Fault, Instance};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};

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
    eprint!("{told}");
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

/// Enters a mount namespace that has the private device-mapper in the places of the machine's.
fn enter(private: &Private) -> Result<(), Fault> {
    let dir = &private.dir;
    unshare_mounts()?;
    let dev = dir.join("dev");
    for name in BELOW_DEV {
        let (from, to) = (Path::new("/dev").join(name), dev.join(name));
        if from.is_dir() && to.is_dir() {
            mount_bind_recursive(&from, &to).about(from.display())?;
        }
    }
    mount_bind_recursive(&dev, "/dev").about("/dev")?;
    for (ours, theirs) in PARTS {
        mount_bind(dir.join(ours), theirs).about(theirs)?;
    }
    let lock = "/run/lock/lvm";
    std::fs::create_dir_all(lock).about(lock)?;
    mount_bind(dir.join("lvm-lock"), lock).about(lock)?;
    enter_run(&dir.join("run")).about("/run")
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
fn enter_run(own: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir("/run")? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let is_own =
            name.to_str().is_some_and(|name| OWN_RUN.contains(&name) || name.starts_with(DMEVENTD));
        if is_own {
            continue;
        }
        let (from, to) = (entry.path(), own.join(&name));
        // Another shell has made it, perhaps.
        if kind.is_symlink() {
            let _there = std::os::unix::fs::symlink(std::fs::read_link(&from)?, &to);
            continue;
        }
        let _there = match kind.is_dir() {
            true => std::fs::create_dir(&to),
            false => File::create_new(&to).map(drop),
        };
        // It may have gone meanwhile.
        if let Err(error) = mount_bind_recursive(&from, &to)
            && from.exists()
        {
            return Err(error.into());
        }
    }
    Ok(mount_bind_recursive(own, "/run")?)
}
