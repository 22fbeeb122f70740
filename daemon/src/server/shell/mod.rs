//! The private device-mapper of an instance: what `dmsim shell` shows to unmodified programs.
//!
//! A control node takes their ioctls ([`calls`]), each mapped device has a block node ([`nodes`]), and
//! a tree of files has what they look for in `/dev`, `/sys/dev/block` and `/proc/devices`. It is made
//! when somebody asks for it first, and stands until the daemon ends; a shell binds its parts over those
//! of the machine in a mount namespace of its own. The block nodes are numbered by the machine, so that
//! devices have two numbers: that of the control plane, and that of the node ([`numbers`]). Where the
//! daemon is an ordinary user's there are no block nodes, and less of all ([`nodeless`]).

mod calls;
mod links;
mod nodeless;
mod nodes;
mod numbers;
mod place;
mod sys;
mod udev;
mod view;
mod volume;
mod words;

use std::fs::DirBuilder;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backing::Pool;
use block_frontend::{Node, Nodes, Owner, Tree, Ublk, Within};
use fuse_frontend::node::ControlNode;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags};

use super::state::Daemon;
use crate::fault::{About, Fault, causes};
use crate::folders::is_root_of_machine;
use crate::protocol::{OWN_RUN, Private, Shows};
use calls::Carrier;
use nodeless::Nodeless;
use place::Placed;

/// The folder of the state directory that has which ublk disk is whose.
const UBLK: &str = "ublk";

/// Settings by which LVM waits for no udev, and has no helpers of its own.
const LVM_CONF: &str = "\
# Made by dmsim for `dmsim shell`, and kept if you change it.
devices {
    obtain_device_list_from_udev = 0
    external_device_info_source = \"none\"
    use_devicesfile = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
    verify_udev_operations = 0
    monitoring = 0
}
global {
    use_lvmpolld = 0
}
";

/// The private device-mapper, once somebody has asked for it: at most one of the two.
#[derive(Default)]
pub(super) struct Shell {
    open: Mutex<Option<Arc<Open>>>,
    nodeless: Mutex<Option<Nodeless>>,
}

/// One that is there.
pub(super) struct Open {
    /// Where its parts are mounted.
    dir: PathBuf,
    /// The rule by which the machine's udev leaves nodes alone, where one runs.
    rule: Option<PathBuf>,
    nodes: Nodes,
    tree: Tree,
    placed: Placed,
    node: ControlNode,
    /// It ends when its socket does, which is with `nodes`.
    helper: Mutex<Child>,
}

impl Shell {
    /// Returns it, if it is there.
    pub(super) fn get(&self) -> Option<Arc<Open>> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodeless(&self) -> MutexGuard<'_, Option<Nodeless>> {
        self.nodeless.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Makes the private device-mapper, if it is not there yet, and says where it is.
    pub(super) fn private(&self) -> Result<Private, Fault> {
        // Root of a user namespace can have no block nodes, nor anybody but root.
        if !is_root_of_machine() {
            return self.private_without_nodes();
        }
        let mut shell = self.shell.locked();
        if let Some(open) = &*shell {
            if !open.has_lost_helper() {
                open.mend();
                return Ok(self.private_of(open));
            }
            // With its nodes: who had them open has errors.
            open.end();
            *shell = None;
        }
        let open = self.open_private()?;
        if let Err(fault) = open.try_nodes() {
            open.end();
            return Err(fault);
        }
        *shell = Some(open.clone());
        drop(shell);
        self.place_all(&open);
        // Those that a restore has brought back before.
        links::make(&self.control, &open.dir.join("dev"));
        self.watch_private(&open)?;
        Ok(self.private_of(&open))
    }

    fn private_of(&self, open: &Open) -> Private {
        Private { rule: open.rule.clone(), ..self.private_at(Shows::Nodes, open.dir.clone()) }
    }

    fn private_at(&self, shows: Shows, dir: PathBuf) -> Private {
        let (mount, lvm) = (self.mount.clone(), self.state.join("lvm"));
        Private { shows, dir, mount, lvm, rule: None }
    }

    fn open_private(&self) -> Result<Arc<Open>, Fault> {
        let dir = self.private_dir.clone();
        let (at, under) = (dir.display().to_string(), dir.join("node"));
        clean(&dir);
        DirBuilder::new().recursive(true).mode(0o755).create(&dir).about(&at)?;
        // Not MS_NODEV: there are to be nodes.
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount("dmsim", &dir, "tmpfs", flags, c"mode=0755")
            .map_err(|error| Fault::new(&at, format!("no tmpfs can be mounted: {error}")))?;
        let undo = |fault| {
            clean(&dir);
            fault
        };
        DirBuilder::new().mode(0o700).create(&under).about(&at).map_err(undo)?;
        let made = self.make_private(&dir, &under);
        made.map_err(undo)
    }

    fn make_private(&self, dir: &Path, under: &Path) -> Result<Arc<Open>, Fault> {
        let tree = Tree::make(dir, &under.join(fuse_frontend::node::NAME));
        let tree = tree.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => no_nodes(format!("no device node: {error}")),
            _ => Fault::new(dir.display(), error),
        })?;
        let folders = Within::open(dir).and_then(|within| folders_for_lvm(&within));
        folders.about(dir.display())?;
        self.settings_for_lvm(LVM_CONF).about("settings for lvm")?;
        let rule = udev::hide(dir);
        let (helper, nodes) = self.start_helper()?;
        let (pool, placed) = (Pool::new(1), Placed::default());
        let (carrier, control) = (Arc::new(Carrier::new(self.me.clone())), self.control.clone());
        let mounted = ControlNode::mount(carrier, control, pool, under);
        let node = mounted.map_err(|error| Fault::new("control node", causes(&error)))?;
        let (dir, helper) = (dir.to_owned(), Mutex::new(helper));
        Ok(Arc::new(Open { dir, rule, nodes, tree, placed, node, helper }))
    }

    /// Makes a directory for LVM, with settings by which it waits for no udev and asks no other program. Those that
    /// are there stay.
    fn settings_for_lvm(&self, settings: &str) -> std::io::Result<()> {
        let system = self.state.join("lvm");
        DirBuilder::new().recursive(true).mode(0o700).create(&system)?;
        match std::fs::File::create_new(system.join("lvm.conf")) {
            Ok(mut file) => file.write_all(settings.as_bytes()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts the process that opens disks and files of the mount: the daemon must not, as it serves them.
    fn start_helper(&self) -> Result<(Child, Nodes), Fault> {
        let program = self.program.as_ref().ok_or_else(|| {
            Fault::new("shell", "this daemon was started without a program for its block nodes")
        })?;
        let (ours, theirs) = UnixStream::pair().about("shell")?;
        let mut command = Command::new(program);
        command.arg0("dmsim").arg("nodes").arg(&self.private_dir).current_dir("/");
        // A terminal's signals are for the daemon.
        command.process_group(0);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let helper = command.spawn().about("nodes")?;
        Ok((helper, Nodes::start(ours).on(self.ublk())))
    }

    /// Opens the ublk driver, where there is one that will do.
    fn ublk(&self) -> Option<Ublk> {
        match Ublk::open(&self.state.join(UBLK)) {
            Ok(ublk) => ublk,
            Err(error) => {
                tracing::warn!(%error, "ublk is there, and cannot be used: loop devices are");
                None
            }
        }
    }

    /// Takes up the block nodes that a daemon has left that was killed: they wait for a restore.
    pub(super) fn take_up_nodes(&self) {
        if rustix::process::geteuid().is_root()
            && block_frontend::has_left(&self.state.join(UBLK))
            && let Err(fault) = self.private()
        {
            tracing::error!(%fault, "block nodes that an earlier daemon has left");
        }
    }

    /// Takes the block nodes away, before the mount goes. What is returned is to be
    /// [put back](Self::place_all), or to [end](Open::end).
    ///
    /// # Errors
    /// Without `force`, where programs use it: then all of it is as it was.
    pub(super) fn take_private(&self, force: bool) -> Result<Option<Arc<Open>>, Fault> {
        if !force && self.shell.nodeless().as_ref().is_some_and(Nodeless::is_open) {
            return Err(node_is_open());
        }
        let Some(open) = self.shell.get() else { return Ok(None) };
        if force {
            self.displace_all(&open, true);
            open.nodes.drop_orphans(true);
            return Ok(Some(open));
        }
        if open.node.is_open() {
            return Err(node_is_open());
        }
        let mut busy = self.displace_all(&open, false);
        if busy.is_empty() {
            // Those of devices that nobody has restored.
            busy = open.nodes.drop_orphans(false);
        }
        if busy.is_empty() {
            return Ok(Some(open));
        }
        self.place_all(&open);
        let named: Vec<String> = busy.iter().map(|name| format!("`{name}`")).collect();
        let why = format!(
            "programs of `dmsim shell` use the block nodes of {}: they are open, or mounted",
            named.join(", ")
        );
        Err(Fault::new("stop", why))
    }

    /// Gives all devices block nodes, or makes those true that they have.
    pub(super) fn place_all(&self, open: &Open) {
        self.minors().into_iter().for_each(|minor| self.place(open, minor));
    }

    /// Shows what a restore has brought back.
    pub(super) fn show_restored(&self) {
        if let Some(open) = self.shell.get() {
            self.place_all(&open);
            links::make(&self.control, &open.dir.join("dev"));
        }
    }

    /// Takes away what is left of the private device-mapper, when the mount is gone.
    pub(super) fn end_private(&self) {
        if let Some(open) = self.shell.locked().take() {
            open.end();
        }
        drop(self.shell.nodeless().take());
    }
}

/// Makes the folders of what programs keep in /run, as far as it is about devices: the instance's own.
fn folders_for_lvm(within: &Within) -> std::io::Result<()> {
    let run = OWN_RUN.map(|name| Path::new("run").join(name));
    for folder in run.iter().map(PathBuf::as_path).chain([Path::new("lvm-lock")]) {
        within.make_folder(folder, 0o700)?;
    }
    Ok(())
}

/// Says why there can be no block nodes.
fn no_nodes(why: impl std::fmt::Display) -> Fault {
    let needs = "Block nodes take loop devices of the machine's: a container needs CAP_SYS_ADMIN, CAP_MKNOD, \
                 /dev/loop-control and rules for the devices b 7:* and b 259:*, as docs/src/shell.md has them";
    Fault::new("shell", format!("{why}. {needs}"))
}

fn node_is_open() -> Fault {
    Fault::new("stop", "a program of `dmsim shell` has the control node open: end it first")
}

impl Open {
    /// Makes a block node, and takes it away: rather than that devices have none later.
    fn try_nodes(&self) -> Result<(), Fault> {
        // No device's.
        let owner = Owner { minor: u32::MAX, uuid: None, name: String::new() };
        let node = self.nodes.reserve(&owner).map_err(|error| no_nodes(causes(&error)))?;
        let opened = self.try_open(&node);
        self.nodes.remove(node).map_err(|error| no_nodes(causes(&error)))?;
        opened.map_err(|error| no_nodes(format!("opening a block node ({}): {error}", node.dev)))
    }

    /// Opens a node, which a container's rules may forbid.
    fn try_open(&self, node: &Node) -> std::io::Result<()> {
        let path = self.dir.join("tried");
        let number = makedev(node.dev.major, node.dev.minor);
        mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR, number)?;
        let opened = std::fs::File::open(&path);
        std::fs::remove_file(&path)?;
        match opened {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(error),
            // There is nothing in it yet.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes the tree again what it is to be, for a shell that begins: programs of earlier ones write in it.
    fn mend(&self) {
        let mended = self.tree.mend();
        let folders = Within::open(&self.dir).and_then(|within| folders_for_lvm(&within));
        if let Err(error) = mended.and(folders) {
            // The shell looks itself for what it cannot be without.
            tracing::warn!(%error, "what programs have changed in the tree stays so");
        }
    }

    fn has_lost_helper(&self) -> bool {
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(helper.try_wait(), Ok(None))
    }

    fn end(&self) {
        self.node.unmount();
        clean(&self.dir);
    }
}

/// Unmounts what is mounted there, by this daemon or one before.
pub(super) fn clean(dir: &Path) {
    // Shells that have it bound keep it, and numbers that are others' by then.
    if let Ok(dir) = std::fs::File::open(dir) {
        Tree::leave(dir.into());
    }
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    for mounted in [dir.join("node"), dir.to_owned()] {
        // Until there is nothing more.
        while rustix::mount::unmount(&mounted, flags).is_ok() {}
    }
    udev::clean(dir);
    // An ordinary user's is taken away by fusermount3.
    if let Err(error) = fuse_frontend::clean_dead_mount(&dir.join("node")) {
        tracing::warn!(dir = %dir.display(), error = causes(&error), "a dead control node stays");
    }
}
