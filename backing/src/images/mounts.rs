//! Where a path leads, by the mount table: what lies in a mount of dmsim's own is never touched, as
//! the daemon would wait for itself.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The type of a mount of dmsim, this one's or another's.
const DMSIM: &str = "fuse.dmsim";

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// File systems that answer when somebody else does.
const REMOTE: [&str; 8] = ["fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs", "lustre"];

/// The mounts that there are.
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    id: u64,
    parent: u64,
    /// The file system.
    device: String,
    /// What of the file system is mounted.
    root: PathBuf,
    at: PathBuf,
    kind: String,
    /// What is mounted: for most, the path of a block device.
    source: PathBuf,
    /// The folders that an overlay is made of.
    layers: Vec<PathBuf>,
}

/// Returns the number of the file system that a mount of dmsim at a path shows, by the table of mounts
/// alone; none where there is no such mount.
pub fn mount_number(path: &Path) -> Option<String> {
    match Mounts::read().ok()?.follow(path, &HashSet::new()).0 {
        Leads::Dmsim { device, inside } if inside == Path::new("/") => Some(device),
        Leads::Dmsim { .. } | Leads::Remote(_) | Leads::Elsewhere => None,
    }
}

/// What a path lies on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    /// The block device of its file system.
    Device(u32, u32),
    /// A file or folder elsewhere.
    Path(PathBuf),
    /// Whatever the program has open that serves a FUSE file system.
    Served(Connection),
}

/// A FUSE file system, and how its program is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    /// The kernel's number of the connection.
    pub(super) number: u32,
    /// Where it is mounted.
    pub(super) at: PathBuf,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To a file in a mount of dmsim, by its path there; the file system tells which.
    Dmsim { device: String, inside: PathBuf },
    /// Into a file system that may not answer: its number.
    Remote(String),
    /// Elsewhere, or nowhere.
    Elsewhere,
}

impl Mounts {
    pub(super) fn read() -> io::Result<Mounts> {
        Ok(Mounts::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// Reads what proc_pid_mountinfo(5) describes.
    fn parse(text: &[u8]) -> Mounts {
        Mounts(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Follows a path from the root on, as far as no dmsim has to be asked, nor a remote file system
    /// that has not `answered`. Returns where that leads, and the path that it came to, without
    /// symbolic links.
    pub(super) fn follow(&self, path: &Path, answered: &HashSet<String>) -> (Leads, PathBuf) {
        self.follow_with(path, answered, |link| std::fs::read_link(link).ok())
    }

    /// Says what the file system of a path lies on, as [`follow`](Self::follow) has the path.
    pub(super) fn bases(&self, path: &Path) -> Vec<Base> {
        let Some(mount) = self.on(path) else { return Vec::new() };
        let mut bases: Vec<Base> = mount.layers.iter().cloned().map(Base::Path).collect();
        let number = mount.device.split_once(':');
        match number.map(|(major, minor)| (major.parse(), minor.parse())) {
            Some((Ok(0), Ok(number))) if mount.kind.starts_with("fuse") => {
                bases.push(Base::Served(Connection { number, at: mount.at.clone() }));
            }
            Some((Ok(major), Ok(minor))) if major != 0 => bases.push(Base::Device(major, minor)),
            _ => {}
        }
        // Btrfs and others have numbers of their own; programs name the file that they show.
        if mount.source.is_absolute() {
            bases.push(Base::Path(mount.source.clone()));
        }
        bases
    }

    fn follow_with(
        &self,
        path: &Path,
        answered: &HashSet<String>,
        link: impl Fn(&Path) -> Option<PathBuf>,
    ) -> (Leads, PathBuf) {
        let (mut left, mut links) = (names(path), 0);
        let mut at = PathBuf::from("/");
        while let Some(name) = left.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let on = self.on(&next);
            if let Some(mount) = on.filter(|mount| mount.kind == DMSIM) {
                let mut inside = mount.root.join(next.strip_prefix(&mount.at).unwrap_or(&next));
                inside.extend(left);
                return (Leads::Dmsim { device: mount.device.clone(), inside }, next);
            }
            let silent = on.filter(|on| on.is_remote() && !answered.contains(&on.device));
            if let Some(mount) = silent {
                return (Leads::Remote(mount.device.clone()), next);
            }
            match link(&next) {
                Some(to) if links < MAX_LINKS => {
                    links += 1;
                    if to.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    let mut rest = names(&to);
                    rest.append(&mut left);
                    left = rest;
                }
                Some(_) => return (Leads::Elsewhere, at),
                None => at = next,
            }
        }
        (Leads::Elsewhere, at)
    }

    /// Finds the mount that a path without symbolic links lies on.
    fn on(&self, path: &Path) -> Option<&Mount> {
        let known = |id| self.0.iter().any(|mount| mount.id == id);
        let mut on = self.0.iter().find(|mount| {
            mount.at == Path::new("/") && (!known(mount.parent) || mount.parent == mount.id)
        })?;
        let prefixes: Vec<&Path> = path.ancestors().collect();
        for prefix in prefixes.into_iter().rev() {
            // Several may lie on top of one another.
            while let Some(above) = self
                .0
                .iter()
                .find(|mount| mount.parent == on.id && mount.at == prefix && mount.id != on.id)
            {
                on = above;
            }
        }
        Some(on)
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut words = line.split(|byte| *byte == b' ');
        let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
        let text = |word: &[u8]| Some(std::str::from_utf8(word).ok()?.to_owned());
        let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
        let device = text(words.next()?)?;
        let (root, at) = (unescaped(words.next()?), unescaped(words.next()?));
        let kind = text(words.by_ref().skip_while(|word| *word != b"-").nth(1)?)?;
        let source = words.next().map(unescaped).unwrap_or_default();
        let options = words.next().unwrap_or_default();
        let layers = if kind == "overlay" { layers(options) } else { Vec::new() };
        Some(Mount { id, parent, device, root, at, kind, source, layers })
    }

    fn is_remote(&self) -> bool {
        // Block devices are mounted through fuseblk, whose program may end too.
        REMOTE.iter().any(|kind| self.kind.starts_with(kind))
    }
}

/// Lists the folders that an overlay's options name.
fn layers(options: &[u8]) -> Vec<PathBuf> {
    let options = options.split(|byte| *byte == b',');
    let folders = options.flat_map(|option| {
        let name = [&b"lowerdir="[..], b"upperdir=", b"workdir="];
        let folders = name.into_iter().find_map(|name| option.strip_prefix(name));
        folders.unwrap_or_default().split(|byte| *byte == b':')
    });
    folders.filter(|folder| !folder.is_empty()).map(unescaped).collect()
}

/// Returns the names of a path, `..` among them, in their order.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Reads a word in which blanks, tabs, newlines and backslashes are `\` and three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(word.len()), word);
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw - devtmpfs udev rw
30 21 0:50 / /run/user/1/dmsim/mapper rw - fuse.dmsim dmsim rw
31 21 0:50 / /srv/bound\\040here rw - fuse.dmsim dmsim rw
32 21 0:50 /data /srv/file rw - fuse.dmsim dmsim rw
33 21 0:51 / /other rw - fuse.dmsim dmsim rw
34 21 0:60 / /net rw - nfs4 server:/ rw
35 21 0:61 / /covered rw - tmpfs tmpfs rw
36 35 0:50 / /covered/mapper rw - fuse.dmsim dmsim rw
37 35 0:62 / /covered rw - tmpfs tmpfs rw
";

    fn leads_with(path: &str, answered: &[&str]) -> Leads {
        let links = [
            ("/usr/people", "/srv"),
            ("/srv/link", "../run/user/1/dmsim"),
            ("/srv/name", "/run/user/1/dmsim/mapper/data"),
            ("/srv/round", "round"),
            ("/net/link", "/srv/name"),
        ];
        let answered = answered.iter().map(|device| (*device).to_owned()).collect();
        Mounts::parse(TABLE.as_bytes())
            .follow_with(Path::new(path), &answered, |at| {
                let link = links.iter().find(|(from, _)| Path::new(from) == at);
                link.map(|(_, to)| PathBuf::from(to))
            })
            .0
    }

    fn leads(path: &str) -> Leads {
        leads_with(path, &[])
    }

    #[test]
    fn a_file_system_lies_on_its_device_or_on_the_folders_that_it_shows() {
        const MORE: &str = "\
40 21 7:3 / /ext rw - ext4 /dev/loop3 rw
41 21 0:70 / /btrfs rw shared:1 - btrfs /dev/loop4 rw,subvol=/
42 21 0:71 / /over rw - overlay overlay rw,lowerdir=/a\\040b:/c,upperdir=/ext/up,workdir=/ext/work
43 21 0:72 / /tmp rw - tmpfs tmpfs rw
44 21 0:73 / /fuse rw - fuse.ext4 disk.img rw
45 21 0:74 / /shown rw - fuse.bindfs /srv/shown rw
46 21 8:17 / /ntfs rw - fuseblk /dev/sdb1 rw
";
        let mounts = Mounts::parse([TABLE, MORE].concat().as_bytes());
        let bases = |path: &str| -> Vec<String> {
            let bases = mounts.bases(Path::new(path)).into_iter();
            let text = bases.map(|base| match base {
                Base::Device(major, minor) => format!("{major}:{minor}"),
                Base::Path(path) => path.display().to_string(),
                Base::Served(by) => format!("{} at {}", by.number, by.at.display()),
            });
            text.collect()
        };
        assert_eq!(bases("/ext/file"), ["7:3", "/dev/loop3"]);
        assert_eq!(bases("/btrfs/file"), ["/dev/loop4"]);
        assert_eq!(bases("/over/file"), ["/a b", "/c", "/ext/up", "/ext/work"]);
        assert_eq!(bases("/tmp/file"), [""; 0]);
        assert_eq!(bases("/fuse/file"), ["73 at /fuse"]);
        assert_eq!(bases("/shown/file"), ["74 at /shown", "/srv/shown"]);
        assert_eq!(bases("/ntfs/file"), ["8:17", "/dev/sdb1"]);
    }

    #[test]
    fn a_path_is_followed_to_the_mount_that_it_lies_in() {
        let inside = |device: &str, inside: &str| Leads::Dmsim {
            device: device.to_owned(),
            inside: inside.into(),
        };
        for path in [
            "/run/user/1/dmsim/mapper/data",
            "/run/user/1/./dmsim/../dmsim/mapper/data",
            "/srv/bound here/data",
            "/srv/file",
            "/srv/link/mapper/data",
            "/usr/people/link/mapper/data",
            "/usr/people/name",
            "/srv/name",
        ] {
            assert_eq!(leads(path), inside("0:50", "/data"), "{path}");
        }
        assert_eq!(leads("/other/x/y"), inside("0:51", "/x/y"));
        assert_eq!(leads("/run/user/1/dmsim/mapper"), inside("0:50", "/"));
        // A link there is followed as soon as the server answers.
        for path in ["/net/disk.img", "/net/link"] {
            assert_eq!(leads(path), Leads::Remote("0:60".to_owned()), "{path}");
        }
        assert_eq!(leads_with("/net/disk.img", &["0:60"]), Leads::Elsewhere);
        assert_eq!(leads_with("/net/link", &["0:60"]), inside("0:50", "/data"));
        for path in [
            "/",
            "/srv/disk.img",
            "/srv/round",
            "/run/user/1/dmsim/record.log",
            "/dev/loop0",
            // Another mount lies over it.
            "/covered/mapper/data",
        ] {
            assert_eq!(leads(path), Leads::Elsewhere, "{path}");
        }
    }
}
