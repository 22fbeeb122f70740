//! File systems on devices, mounted by what the machine has: the kernel, where root asks, over a loop device;
//! else a program that serves one by FUSE. Nothing is mounted from here.

mod kinds;
mod machine;
mod run;
mod table;
mod unmount;

use std::fs;
use std::path::{Path, PathBuf};

use daemon::fault::USAGE;
use daemon::protocol::User;
use daemon::{About, Fault};
use sim_core::Access;

use recognise::signatures::{Signature, Usage};

use crate::device_mapper::DeviceMapper;
use crate::devices::{NO_SUCH, above, find};
use crate::open::ImageFile;
use crate::turn::once_free;
use crate::watch::Watch;
use crate::words::device_name;
use daemon::mangle;
use kinds::{Kind, Program};
use run::{Ran, run};
pub(crate) use table::places;
use table::{is_mounted, loop_over};
pub use unmount::unmount;

/// What to mount, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The device: its name, or the path of its file.
    pub name: String,
    /// An empty directory.
    pub dir: PathBuf,
    /// Refuses writes; as where the device does.
    pub read_only: bool,
    /// The type of file system, as `blkid` calls it; else it is recognised.
    pub kind: Option<String>,
    /// Options of the file system, as `mount -o` has them.
    pub options: Option<String>,
}

/// A file system that is about to be mounted.
struct Mount<'a> {
    /// The device, as people call it.
    device: String,
    file: String,
    dir: PathBuf,
    name: &'a str,
    kind: &'static Kind,
    access: Access,
    options: Option<&'a str>,
}

/// Mounts the file system on a device, and returns the directory's path when it is there.
///
/// # Errors
/// Where there is no such device, directory or file system, or nothing here mounts it, in which case the fault says
/// what does; else with the words of what was run.
pub fn mount(dm: &mut dyn DeviceMapper, ask: &Ask, watch: &dyn Watch) -> Result<PathBuf, Fault> {
    let name = device_name(dm.mount(), &ask.name);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(&ask.name, NO_SUCH))?;
    let shown = mangle::decode(&name);
    device.refuse_suspended()?;
    if !device.status.live_present {
        let why = format!("has no table: `dmsim load` and `dmsim resume {shown}` first");
        return Err(Fault::new(shown, why));
    }
    let path = dm.mount().join(&name);
    refuse_barred(&path, &shown)?;
    // Two that look while nothing is mounted would both go on.
    let _alone = alone(&path, &shown, watch)?;
    let dir = empty_folder(&ask.dir)?;
    if let Some(place) = places(dm.mount()).into_iter().find(|place| place.device == name) {
        let why = format!(
            "is mounted at {} already: two mounts of one file system spoil it",
            place.at.display()
        );
        return Err(Fault::new(shown, why));
    }
    let users = above(dm, device.status.dev)?;
    if !users.is_empty() {
        let users: Vec<String> = users.iter().map(|name| mangle::decode(name)).collect();
        let why = format!("is in use by the table of `{}`", users.join("`, `"));
        return Err(Fault::new(shown, why));
    }
    // Of a block node it is not known what it is used for.
    let is_node = |user: &User| user.device == name && user.pid == 0 && !user.loops.is_empty();
    if let Some(user) = dm.users()?.into_iter().find(is_node) {
        return Err(Fault::new(shown, format!("is in use by {user}")));
    }
    if let Some(node) = loop_over(dm.mount(), &name) {
        let why = format!(
            "is what the loop device {} shows, which may be mounted where it is not seen from here: `losetup -d {0}` \
             takes it away",
            node.display()
        );
        return Err(Fault::new(shown, why));
    }
    let file =
        path.to_str().ok_or_else(|| Fault::new(path.display(), "expected a path in UTF-8"))?;
    let named = match &ask.kind {
        Some(kind) => kind.clone(),
        None => kind_of(&path, &shown)?,
    };
    if kinds::is_no_file_system(&named) {
        let why = format!(
            "holds {named}, which is no file system: `dmsim open {shown}` opens what is within it, \
                           where it is known"
        );
        return Err(Fault::new(shown, why));
    }
    let kind = Kind::of(&named);
    let is_asked = ask.read_only || options(ask.options.as_deref()).any(|word| word == "ro");
    let access = match device.access() {
        Access::ReadWrite if !is_asked && !kind.is_read_only => Access::ReadWrite,
        Access::ReadWrite | Access::ReadOnly => Access::ReadOnly,
    };
    if device.access().is_read_only() && !is_asked && !kind.is_read_only {
        watch.warn(&format!("{shown}: is mounted read-only, as the device refuses writes"));
    }
    let options = ask.options.as_deref();
    let mount =
        Mount { device: shown, file: file.to_owned(), dir, name: &named, kind, access, options };
    mount.carry_out(watch)?;
    Ok(mount.dir)
}

/// Returns the words of options, without those that say what may be done.
fn options(typed: Option<&str>) -> impl Iterator<Item = &str> {
    typed.into_iter().flat_map(|typed| typed.split(',')).filter(|word| !word.is_empty())
}

/// Returns the path of a directory, without links; refuses what cannot be mounted on.
fn empty_folder(typed: &Path) -> Result<PathBuf, Fault> {
    let refused = |why: &str| Err(Fault::new(typed.display(), why).with_status(USAGE));
    let dir = match typed.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused("no such directory: `mkdir` it first");
        }
        Err(error) if run::is_dead(&error) => {
            let why = format!(
                "a program is mounted there that has ended: `fusermount3 -u {0}`, or `umount {0}`, takes the mount away",
                typed.display()
            );
            return refused(&why);
        }
        other => other.about(typed.display())?,
    };
    if !dir.is_dir() {
        return refused("expected a directory, found a file");
    }
    if is_mounted(&dir) {
        return refused("something is mounted there already");
    }
    match fs::read_dir(&dir).about(typed.display())?.next() {
        None => Ok(dir),
        Some(_) => refused("expected an empty directory: what is in it would be hidden"),
    }
}

/// Refuses a device whose file cannot be read: FUSE shows it to whom the daemon belongs, and not to root either.
fn refuse_barred(file: &Path, shown: &str) -> Result<(), Fault> {
    match fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let why = format!(
                "cannot be read: {error}: where the daemon is another user's, `dmsim start --allow-other` shows its \
                 devices to others, as far as file modes do"
            );
            Err(Fault::new(shown, why))
        }
        other => other.about(shown).map(drop),
    }
}

/// Waits until no other command is about to mount a device, and keeps others from it until the file is dropped.
fn alone(file: &Path, shown: &str, watch: &dyn Watch) -> Result<fs::File, Fault> {
    let file = fs::File::open(file).about(shown)?;
    once_free(shown, watch, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(Fault::new(shown, error)),
    })?;
    Ok(file)
}

/// Recognises the file system on a device.
fn kind_of(file: &Path, shown: &str) -> Result<String, Fault> {
    let found = recognise::signatures::read(&ImageFile::open(file)?).about(shown)?;
    match found {
        Some(Signature { kind, usage: Usage::FileSystem, .. }) => Ok(kind.to_owned()),
        Some(Signature { kind, .. }) => {
            Err(Fault::new(shown, format!("holds {kind}, which is no file system")))
        }
        None => {
            let why = format!(
                "no file system is recognised in it: `dmsim open {shown}` opens partitions and \
                 containers, --type says which file system it is"
            );
            Err(Fault::new(shown, why))
        }
    }
}

impl Mount<'_> {
    fn carry_out(&self, watch: &dyn Watch) -> Result<(), Fault> {
        if let Some(kernel) = self.kernel_name() {
            return self.by_loop(kernel, watch);
        }
        let there = self
            .kind
            .programs
            .iter()
            .find_map(|known| Some((known, machine::program(known.name)?)));
        let Some((known, program)) = there else { return Err(self.nothing_mounts_it()) };
        machine::refuse_without_fuse().map_err(|why| self.refused(why))?;
        self.by_program(known, &program, watch)
    }

    /// Returns what `mount -t` calls the type, where root may mount and the machine knows it.
    fn kernel_name(&self) -> Option<&str> {
        if !machine::may_loop() {
            return None;
        }
        let names: &[&str] = match self.kind.kernel {
            [] => &[self.name],
            names => names,
        };
        names.iter().copied().find(|name| machine::mounts(name))
    }

    fn by_loop(&self, kernel: &str, watch: &dyn Watch) -> Result<(), Fault> {
        let mut words = vec!["loop"];
        words.extend(self.access.is_read_only().then_some("ro"));
        words.extend(self.others());
        let (options, dir) = (words.join(","), self.dir.as_os_str());
        let args = ["-t", kernel, "-o", &options, "--", &self.file].map(std::ffi::OsStr::new);
        let program = machine::program("mount").unwrap_or_else(|| "mount".into());
        let ran = run(&program, args.into_iter().chain([dir]), || is_mounted(&self.dir), watch);
        self.ended(ran.about("mount")?, false, "mount", watch)
    }

    fn by_program(&self, known: &Program, program: &Path, watch: &dyn Watch) -> Result<(), Fault> {
        let fsname = format!("fsname={}", escaped(&self.file));
        let mut words = Vec::new();
        if known.takes_fsname {
            words.push(fsname.as_str());
        }
        words.push(if self.access.is_read_only() { "ro" } else { known.to_write });
        let of_user = machine::with_numbers(known.of_user);
        if !machine::is_root() {
            words.push(&of_user);
        }
        words.extend(self.others());
        words.retain(|word| !word.is_empty());
        if !self.access.is_read_only() && !known.caution.is_empty() {
            watch.warn(&known.caution.replace("FILE", &self.file));
        }
        let (options, dir) = (words.join(","), self.dir.as_os_str());
        let mut args: Vec<&std::ffi::OsStr> =
            known.words.iter().map(std::ffi::OsStr::new).collect();
        args.extend([self.file.as_ref(), dir]);
        if !options.is_empty() {
            args.extend(["-o", &options].map(std::ffi::OsStr::new));
        }
        let ran =
            run(program, args.into_iter(), || is_mounted(&self.dir), watch).about(known.name)?;
        let ended = self.ended(ran, known.talks, known.name, watch).and_then(|()| {
            if run::answers(&self.dir) {
                return Ok(());
            }
            // Nothing is lost by it, and it would be in the way.
            let _stays = unmount::take_away(&self.dir);
            Err(self.refused(format!("{}: ended as soon as it had mounted it", known.name)))
        });
        // Root of the machine has the kernel, or installs what is missing.
        let advice = if machine::may_loop() { "" } else { known.if_refused };
        ended.map_err(|fault| match advice {
            "" => fault,
            advice => {
                let advice = advice.replace("FILE", &self.file);
                Fault { why: format!("{}\n  {advice}", fault.why), ..fault }
            }
        })
    }

    /// The options that were asked for, but for what the access says.
    fn others(&self) -> impl Iterator<Item = &str> {
        options(self.options).filter(|word| !["ro", "rw"].contains(word))
    }

    /// Passes on what a program said.
    fn ended(&self, ran: Ran, talks: bool, what: &str, watch: &dyn Watch) -> Result<(), Fault> {
        match ran {
            Ran::Mounted { said } => {
                if !said.is_empty() && !talks {
                    watch.warn(&format!("{what}: {said}"));
                }
                Ok(())
            }
            Ran::Failed { said } => Err(self.refused(format!("{what}: {said}"))),
        }
    }

    /// Says why it is not mounted, and what can be done without.
    fn refused(&self, why: String) -> Fault {
        let without = self.kind.without(&self.file);
        let without = without.map(|how| format!("\n  without a mount: {how}")).unwrap_or_default();
        Fault::new(&self.device, format!("not mounted: {why}{without}"))
    }

    /// Says what would mount it.
    fn nothing_mounts_it(&self) -> Fault {
        let Mount { name, file, .. } = self;
        let names: Vec<&str> = self.kind.programs.iter().map(|program| program.name).collect();
        let mut why = match (&names[..], self.kind.packages) {
            ([], _) => format!("no FUSE program for {name} is known"),
            (names, packages) => {
                format!(
                    "holds {name}, and {} is not installed: package {packages}",
                    names.join(" or ")
                )
            }
        };
        why += match (machine::is_root(), names.is_empty()) {
            (true, _) if machine::may_loop() => ", nor has the kernel that file system",
            (true, _) => ", nor are there loop devices here for the kernel's",
            (false, true) => {
                ": root can mount it (a loop mount), in a daemon of root's or one that was started with --allow-other"
            }
            (false, false) => "",
        };
        if names.is_empty() {
            why += &format!(
                "\n  a virtual machine can: `guestmount --format=raw -a {file} -m /dev/sda --ro DIR` (Debian: \
                 guestmount; Fedora: guestfs-tools)"
            );
        }
        if let Some(how) = self.kind.without(file) {
            why += &format!("\n  without a mount: {how}");
        }
        Fault::new(&self.device, why)
    }
}

/// Writes a path as the value of an option of FUSE, in which a comma ends it.
fn escaped(path: &str) -> String {
    path.replace('\\', r"\\").replace(',', r"\,")
}
