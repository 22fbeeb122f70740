//! The shell of an ordinary user: a user namespace besides, in which the user is root, as dmsetup and lvm
//! want it; devices are files.

use std::fs::{self, DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use block_frontend::{Within, held};
use daemon::protocol::{OWN_RUN, Private};
use daemon::{About, Fault};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};
use rustix::process::{getegid, geteuid, getgid, getuid};

/// What an ordinary user is told when a shell begins.
pub(super) const TOLD: &str = "\
dmsim: an ordinary user has no block nodes here: dmsetup works (create, reload, suspend, resume, rename, message,
    remove, and all that asks), and each /dev/mapper/NAME opens as the device's file, for mke2fs, debugfs, fuse2fs,
    mtools, dd and the like. What needs block devices of the kernel does not work: mounting them, losetup, lvm
    (pvcreate, vgcreate), kpartx, cryptsetup open (`dmsim open` does that). Root has all of it.
";

/// The same, before a command.
pub(super) const TOLD_BRIEFLY: &str = "\
dmsim: no block nodes for an ordinary user: dmsetup works, devices are files; mounting them, lvm and cryptsetup need root
";

/// Enters a mount namespace that has the control node and the names of devices in the places of the
/// machine's, and a user namespace before it where this is no root of one.
pub(super) fn enter(private: &Private) -> Result<(), Fault> {
    let dir = &private.dir;
    if geteuid().is_root() {
        super::unshare_mounts()?;
    } else {
        become_root()?;
    }
    let tree = Within::open(dir).about(dir.display())?;
    let part = |name: &str| tree.part(Path::new(name)).about(dir.display());
    // Nobody else sees this one, and it goes with the namespace.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let own = part("shell")?;
    mount("dmsim", held(&own), "tmpfs", flags, c"mode=0755").about(dir.join("shell").display())?;
    let own = part("shell")?;
    let made = |name: &str| {
        let path = held(&own).join(name);
        DirBuilder::new().mode(0o755).create(&path).map(|()| path)
    };
    let node = part("node")?;
    // A bind shows what is bound, and leaves all others where they are: programs ask for a terminal's name.
    if Path::new("/dev/mapper").is_dir() {
        super::put(&node, "/dev/mapper")?;
    } else {
        let dev = made("dev").about("/dev")?;
        own_dev(&dev, &node).about("/dev")?;
        mount_bind_recursive(&dev, "/dev").about("/dev")?;
    }
    for (ours, theirs) in super::PARTS {
        super::put(&part(ours)?, theirs)?;
    }
    let run = made("run").about("/run")?;
    for name in OWN_RUN {
        let at = run.join(name);
        DirBuilder::new().mode(0o700).create(&at).about(at.display())?;
        super::bind(&part(&format!("run/{name}"))?, &super::opened(&at)?).about(at.display())?;
    }
    let run = tree.within(Path::new("shell/run")).about(dir.display())?;
    super::enter_run(&run).about("/run")?;
    super::check_node(&tree, dir)
}

/// Makes this process root of a user namespace of its own, which to the machine is the user as before,
/// and gives it a mount namespace.
fn become_root() -> Result<(), Fault> {
    let fault = |why: String| Fault::new("shell", why);
    let (user, group) = ((getuid(), geteuid()), (getgid(), getegid()));
    if user.0 != user.1 || group.0 != group.1 {
        return Err(fault("is not for a program that runs as two users at once".into()));
    }
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {} 1", user.0.as_raw())),
        ("gid_map", format!("0 {} 1", group.0.as_raw())),
    ];
    let allowed = "an ordinary user's shell needs one. The machine may forbid it \
                   (user.max_user_namespaces, kernel.unprivileged_userns_clone, \
                   kernel.apparmor_restrict_unprivileged_userns), a container by its seccomp profile, or this \
                   is a chroot";
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| fault(format!("no user namespace: {}: {allowed}", error.desc())))?;
    for (name, text) in maps {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).map_err(|error| fault(format!("{path}: {error}: {allowed}")))?;
    }
    super::let_nothing_out()
}

/// Fills a `/dev` with what the machine's has for this user, and the control node's directory.
fn own_dev(dev: &Path, node: &OwnedFd) -> std::io::Result<()> {
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), dev.join(entry.file_name()), entry.file_type()?);
        if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_dir() {
            fs::create_dir(&to)?;
            mount_bind_recursive(&from, &to)?;
        } else if access(&from, Access::READ_OK)
            .or_else(|_| access(&from, Access::WRITE_OK))
            .is_ok()
        {
            // Those that the user may not open are left out: there may be thousands.
            File::create(&to)?;
            mount_bind(&from, &to)?;
        }
    }
    let mapper = dev.join("mapper");
    fs::create_dir(&mapper)?;
    let mapper = openat(CWD, &mapper, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(super::bind(node, &mapper)?)
}
