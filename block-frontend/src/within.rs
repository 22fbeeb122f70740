//! A folder in which others write too, containers among them, and work in it that follows nothing of theirs.
//!
//! A path is looked up from a descriptor of the folder, and leads neither through a link nor out of it nor into
//! what is mounted in it ([`openat2`]): whatever others make of its parts, what is done is done in the folder. New
//! things get a name that nobody can know before, and rights by a descriptor that has been looked at; then they are
//! moved into their place. Where a folder is wanted and something else lies, that goes.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions, set_permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod,
    fchown, fstat, makedev, mkdirat, mknodat, openat, openat2, readlinkat, renameat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use sim_core::DevNumber;

/// How often it is tried again what others have made fail meanwhile.
const TRIES: usize = 16;

/// How many folders are removed at once: others may make them as fast.
const MAX_FOLDERS: usize = 1 << 16;

/// User and group.
pub type Ids = (u32, u32);

/// A folder in which others write.
#[derive(Debug)]
pub struct Within {
    root: OwnedFd,
}

impl Within {
    /// Opens the folder itself, whose path nobody else can change.
    ///
    /// # Errors
    /// What the system says, and that it takes Linux 5.6.
    pub fn open(dir: &Path) -> io::Result<Within> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, dir, flags, Mode::empty()).map_err(|errno| named(dir, errno))?;
        Within::of(root).map_err(|errno| match errno {
            Errno::NOSYS => io::Error::new(
                io::ErrorKind::Unsupported,
                "the system has no openat2, by which no link is followed: it takes Linux 5.6",
            ),
            errno => named(dir, errno),
        })
    }

    /// Takes a folder that is open.
    ///
    /// # Errors
    /// ENOSYS before Linux 5.6.
    pub fn of(root: OwnedFd) -> rustix::io::Result<Within> {
        let _there = look_up(&root, Path::new("."), OFlags::PATH, ResolveFlags::empty())?;
        Ok(Within { root })
    }

    /// Opens a folder to read it.
    ///
    /// # Errors
    /// What the system says; for a link too, whatever it leads to.
    pub fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = look_up(&self.root, path, flags, ResolveFlags::NO_XDEV);
        opened.map_err(|errno| named(path, errno))
    }

    /// Returns the folder's own descriptor.
    #[must_use]
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Takes hold of something that is to be mounted elsewhere, and may be what is mounted here.
    ///
    /// # Errors
    /// What the system says; for a link too.
    pub fn part(&self, path: &Path) -> io::Result<OwnedFd> {
        let opened = look_up(&self.root, path, OFlags::PATH, ResolveFlags::empty());
        opened.map_err(|errno| named(path, errno))
    }

    /// Takes a folder in it for one in which others write, also where it is what is mounted here.
    ///
    /// # Errors
    /// What the system says; for a link too.
    pub fn within(&self, folder: &Path) -> io::Result<Within> {
        let opened =
            look_up(&self.root, folder, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty());
        opened.map(|root| Within { root }).map_err(|errno| named(folder, errno))
    }

    /// Opens a folder, and makes it and those that lead to it where they are missing, with this mode
    /// whatever the process's umask is.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_folder(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(no_path(path)) };
            at = self.make_one(&at, name, mode).map_err(|errno| named(path, errno))?;
        }
        Ok(at)
    }

    fn make_one(&self, at: &OwnedFd, name: &OsStr, mode: u32) -> rustix::io::Result<OwnedFd> {
        let mut is_new = false;
        for _ in 0..TRIES {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            match look_up(at, Path::new(name), flags, ResolveFlags::NO_XDEV) {
                Err(Errno::NOENT) => match mkdirat(at, name, Mode::RWXU) {
                    Ok(()) => is_new = true,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                },
                Err(Errno::NOTDIR | Errno::LOOP) => self.remove_at(at.as_fd(), name)?,
                Ok(folder) if is_new => {
                    fchmod(&folder, Mode::from_raw_mode(mode))?;
                    return Ok(folder);
                }
                done => return done,
            }
        }
        Err(Errno::BUSY)
    }

    /// Lists the names in a folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        names(&self.folder(folder)?).map_err(|errno| named(folder, errno))
    }

    /// Looks at a name itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (parent, name) = self.parent(path)?;
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| named(path, errno))
    }

    /// Reads where a link leads.
    ///
    /// # Errors
    /// What the system says.
    pub fn target(&self, path: &Path) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        let target = readlinkat(parent, name, Vec::new()).map_err(|errno| named(path, errno))?;
        Ok(OsStr::from_bytes(target.as_bytes()).into())
    }

    /// Tells whether something is a plain file with this text.
    #[must_use]
    pub fn has_text(&self, path: &Path, text: &[u8]) -> bool {
        // One that others have made a pipe of would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Ok(file) = look_up(&self.root, path, flags, ResolveFlags::NO_XDEV) else {
            return false;
        };
        let is_as_long = fstat(&file).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && usize::try_from(stat.st_size) == Ok(text.len())
        });
        let mut there = vec![0; text.len()];
        is_as_long && File::from(file).read_exact(&mut there).is_ok() && there == text
    }

    /// Makes a file as a whole, in the place of what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn put_file(&self, path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        self.put(path, |name| {
            let file = openat(&self.root, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(file);
            file.write_all(text)?;
            Ok(fchmod(&file, Mode::from_raw_mode(mode))?)
        })
    }

    /// Makes a symbolic link, in the place of what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn put_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        self.put(path, |name| Ok(symlinkat(target, &self.root, name)?))
    }

    /// Makes the node of a device, in the place of what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn put_node(
        &self,
        path: &Path,
        (kind, dev): (FileType, DevNumber),
        mode: u32,
        owner: Ids,
    ) -> io::Result<()> {
        let number = makedev(dev.major, dev.minor);
        self.put(path, |name| {
            mknodat(&self.root, name, kind, Mode::empty(), number)?;
            let node = look_up(&self.root, name, OFlags::PATH, ResolveFlags::NO_XDEV)?;
            let there = fstat(&node)?;
            let is_it = FileType::from_raw_mode(there.st_mode) == kind
                && there.st_rdev == number
                && there.st_nlink == 1;
            if !is_it {
                // Somebody has put something else in its place, which gets no rights.
                return Err(Errno::EXIST.into());
            }
            let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            chownat(&node, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
            set_permissions(held(&node), Permissions::from_mode(mode))
        })
    }

    /// Gives a folder an owner and a mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn give(&self, folder: &Path, owner: Ids, mode: u32) -> io::Result<()> {
        let folder = self.make_folder(folder, 0o755)?;
        fchown(&folder, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
        Ok(fchmod(&folder, Mode::from_raw_mode(mode))?)
    }

    /// Removes what a path leads to, whatever it is, with all that is in it. What is not there is no error.
    ///
    /// # Errors
    /// What the system says, of others who make more meanwhile too.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.parent(path).and_then(|(parent, name)| {
            self.remove_at(parent.as_fd(), name).map_err(|errno| named(path, errno))
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes a thing. A folder is moved out of the way first, and so are those in it: however deep others
    /// have made it, it goes, and takes no more room here than a flat one.
    fn remove_at(&self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // A folder gives the one or the other.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        let mut aside = vec![self.move_aside(parent, name)?];
        let mut count = 0;
        while let Some(last) = aside.last() {
            count += 1;
            if count > MAX_FOLDERS {
                return Err(Errno::BUSY);
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let folder = match look_up(&self.root, last, flags, ResolveFlags::NO_XDEV) {
                Ok(folder) => folder,
                // Somebody has it taken away, or replaced.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    let _gone = unlinkat(&self.root, last, AtFlags::empty());
                    aside.pop();
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let mut inner = Vec::new();
            for name in names(&folder)? {
                match unlinkat(&folder, &name, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => {
                        inner.push(self.move_aside(folder.as_fd(), &name)?);
                    }
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            match unlinkat(&self.root, last, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => drop(aside.pop()),
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            aside.append(&mut inner);
        }
        Ok(())
    }

    fn move_aside(&self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<PathBuf> {
        let aside = unknown("gone");
        renameat(parent, name, &self.root, &aside)?;
        Ok(aside)
    }

    /// Makes something beside all that programs look at, and moves it into its place.
    fn put(&self, path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let name = path.file_name().ok_or_else(|| no_path(path))?;
        let parent = self.make_folder(path.parent().unwrap_or(Path::new("")), 0o755)?;
        for _ in 0..TRIES {
            let new = unknown("new");
            match make(&new) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            match renameat(&self.root, &new, &parent, name) {
                Ok(()) => return Ok(()),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    let gone = self.remove_at(parent.as_fd(), name);
                    unlinkat(&self.root, &new, AtFlags::empty())?;
                    gone.map_err(|errno| named(path, errno))?;
                }
                Err(errno) => {
                    let _gone = unlinkat(&self.root, &new, AtFlags::empty());
                    return Err(named(path, errno));
                }
            }
        }
        Err(named(path, Errno::BUSY))
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| no_path(path))?;
        let parent = match path.parent().filter(|parent| *parent != Path::new("")) {
            Some(parent) => self.folder(parent)?,
            None => self.root.try_clone()?,
        };
        Ok((parent, name))
    }
}

/// The path by which a descriptor's own file is reached, wherever it lies by now.
#[must_use]
pub fn held(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

fn look_up(
    at: &OwnedFd,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    // Without NOFOLLOW: with it, a link would be held as one, and not be an error.
    let flags = flags | OFlags::CLOEXEC;
    let how = how | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    for _ in 0..TRIES {
        match openat2(at, path, flags, Mode::empty(), how) {
            // Something was moved meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::BUSY)
}

fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Returns a name that nobody knows before.
fn unknown(what: &str) -> PathBuf {
    format!(".{what}-{:016x}", RandomState::new().build_hasher().finish()).into()
}

fn named(path: &Path, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    let what = match errno {
        Errno::LOOP => "a link lies there, and none is followed".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("{}: {what}", path.display()))
}

fn no_path(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: no path in a folder", path.display()))
}
