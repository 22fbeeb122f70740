//! `dmsim shell`: programs in a mount namespace in which the instance is the machine's device-mapper.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use daemon::client::unexpected;
use daemon::protocol::{OWN_RUN, Outcome, Private, Request};
use daemon::{About, Fault, Instance};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};

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
    if !rustix::process::geteuid().is_root() {
        let why = "needs root, for block nodes. An ordinary user has the devices as files in the mount, and \
                   `dmsim` has dmsetup's verbs";
        return Err(Fault::new("shell", why));
    }
    let mut client = client::connect_or_start(instance)?;
    for disk in &options.disks {
        ops::disk::show(&mut client, disk)?;
    }
    let private = match client.ask(&Request::Private)? {
        Outcome::Private(private) => private,
        other => return Err(unexpected(other)),
    };
    drop(client);
    if !private.dir.join("dev").is_dir() {
        let why = "was started in another mount namespace, a shell's perhaps, and what it mounts is not seen \
                   here: `dmsim stop` ends it, `dmsim start` starts it here";
        return Err(Fault::new(format!("the daemon of {}", instance.dir().display()), why));
    }
    let (program, args) = match options.command.split_first() {
        Some((program, args)) => (program.clone(), args),
        None => {
            let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
            print(&format!(
                "device-mapper of {}: dmsetup, lvm and cryptsetup of this machine work here; `exit` leaves\n",
                instance.dir().display()
            ))?;
            (shell.unwrap_or_else(|| OsString::from("/bin/sh")), &[][..])
        }
    };
    enter(&private)?;
    let mut command = Command::new(&program);
    command.args(args).env("DM_DISABLE_UDEV", "1").env(SHELL, instance.dir());
    if std::env::var_os("LVM_SYSTEM_DIR").is_none() {
        command.env("LVM_SYSTEM_DIR", &private.lvm);
    }
    // It takes this process's place: signals, terminal and exit status are its own.
    let error = command.exec();
    Err(Fault::new(program.display(), error).with_status(NO_COMMAND))
}

/// Enters a mount namespace that has the private device-mapper in the places of the machine's.
fn enter(private: &Private) -> Result<(), Fault> {
    let dir = &private.dir;
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| Fault::new("shell", format!("no mount namespace: {}", error.desc())))?;
    // What the machine mounts and unmounts still comes in, and nothing goes out.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).about("/")?;
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
