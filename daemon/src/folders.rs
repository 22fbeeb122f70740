//! Where an instance without a directory of its own lies, and whether what is there can be used.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use rustix::process::geteuid;

use crate::fault::{About, Fault};

/// The name of an instance's directory below those of the system.
const NAME: &str = "dmsim";

/// Returns where the default instance's socket and mount lie; nothing where no directory is for
/// such things.
pub(crate) fn run(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let base = absolute(variable("XDG_RUNTIME_DIR"));
    base.or_else(|| is_root.then(|| "/run".into())).map(|base| base.join(NAME))
}

/// Returns where what the default instance must not lose in a reboot lies.
pub(crate) fn state(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let base = absolute(variable("XDG_STATE_HOME"));
    let base = base.or_else(|| is_root.then(|| "/var/lib".into()));
    let home = || Some(absolute(variable("HOME"))?.join(".local/state"));
    base.or_else(home).map(|base| base.join(NAME))
}

/// A relative path counts as none, as the XDG base directory specification says.
fn absolute(dir: Option<OsString>) -> Option<PathBuf> {
    dir.map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Makes a directory for its owner alone, with those above it, where there is none.
pub fn make_private_dir(dir: &Path) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).about(dir.display())
}

/// Lets others pass through a directory, on their way to what they may have in it; it stays one that
/// they cannot list.
pub(crate) fn let_others_pass(dir: &Path) -> Result<(), Fault> {
    let mode = dir.metadata().about(dir.display())?.permissions().mode();
    if mode & 0o011 == 0o011 {
        return Ok(());
    }
    set_permissions(dir, Permissions::from_mode(mode | 0o011)).about(dir.display())
}

/// Returns the first directory on the way to a path, itself included, that others cannot pass.
pub fn barred_to_others(path: &Path) -> Option<&Path> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|dir| dir.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0))
}

/// Makes a directory as [`make_private_dir`] does, and looks whether this user can write to it.
/// `otherwise` is what to do where it cannot be used.
pub(crate) fn make_usable(dir: &Path, otherwise: &str) -> Result<(), Fault> {
    usable(dir).map_err(|why| Fault::new(dir.display(), format!("{why}; {otherwise}")))
}

fn usable(dir: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "expected a directory, found another file in its place".to_owned()
        }
        _ => format!("cannot be made: {error}"),
    })?;
    let (owner, own) = (dir.metadata().map_err(|error| error.to_string())?.uid(), geteuid());
    if owner != own.as_raw() {
        return Err(format!("belongs to another user (uid {owner}, not {})", own.as_raw()));
    }
    let error = access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err();
    error.map_or(Ok(()), |error| Err(format!("cannot be written to: {error}")))
}

/// Opens a file of an instance, which is the owner's alone: a link in its place is somebody else's, and not followed.
pub(crate) fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            io::Error::new(error.kind(), "is a symbolic link, and none is followed there")
        }
        _ => error,
    })
}

/// Tells whether this process is root of the machine: that of a user namespace is an ordinary user.
pub(crate) fn is_root_of_machine() -> bool {
    /// The number of the first user namespace, by linux/nsfs.h.
    const FIRST_NAMESPACE: &str = "user:[4026531837]";
    let namespace = std::fs::read_link("/proc/self/ns/user");
    // A kernel without user namespaces has but one.
    let is_first = namespace.map_or(true, |name| name == Path::new(FIRST_NAMESPACE));
    is_first && geteuid().is_root()
}

/// Refuses a directory of root's in which another user could put other files in the place of the daemon's: one that
/// is another's, or to which others can write, or on whose way such a one lies. On the way, the sticky bit is enough,
/// as /tmp has it.
pub(crate) fn refuse_others_dir(dir: &Path) -> Result<(), Fault> {
    if !is_root_of_machine() {
        return Ok(());
    }
    let real = dir.canonicalize().about(dir.display())?;
    for (nr, at) in real.ancestors().enumerate() {
        let there = at.metadata().about(at.display())?;
        if let Some(who) = others(&there, nr > 0) {
            let why = format!(
                "{} {who}, and could put other files in the place of the daemon's, which is root's: give a directory \
                 that is root's alone",
                at.display()
            );
            return Err(Fault::new(dir.display(), why));
        }
    }
    Ok(())
}

/// Names who besides root can exchange what lies in a directory.
fn others(dir: &Metadata, is_on_way: bool) -> Option<String> {
    let is_sticky = is_on_way && dir.mode() & 0o1000 != 0;
    match dir.mode() {
        _ if dir.uid() != 0 => Some(format!("belongs to the user {}", dir.uid())),
        mode if mode & 0o002 != 0 && !is_sticky => Some("can be written to by everybody".into()),
        mode if mode & 0o020 != 0 && dir.gid() != 0 && !is_sticky => {
            Some(format!("can be written to by the group {}", dir.gid()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], is_root: bool, expected: [Option<&str>; 2]) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let found = [run(variable, is_root), state(variable, is_root)];
        assert_eq!(found, expected.map(|path| path.map(PathBuf::from)), "{variables:?}");
    }

    #[test]
    fn the_default_instance_lies_where_the_system_has_such_things() {
        check(&[], true, [Some("/run/dmsim"), Some("/var/lib/dmsim")]);
        check(&[("HOME", "/h")], true, [Some("/run/dmsim"), Some("/var/lib/dmsim")]);
        check(&[("HOME", "/h")], false, [None, Some("/h/.local/state/dmsim")]);
        check(&[], false, [None, None]);
        let all = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("XDG_STATE_HOME", "/s")];
        for is_root in [true, false] {
            check(&all, is_root, [Some("/r/dmsim"), Some("/s/dmsim")]);
        }
        let relative = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "r"), ("XDG_STATE_HOME", "s")];
        check(&relative, false, [None, Some("/h/.local/state/dmsim")]);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_told_of_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        make_usable(&at("a/b"), "remedy").expect("it is made");
        assert_eq!(at("a/b").metadata().expect("it is there").mode() & 0o777, 0o700);
        std::fs::write(at("file"), "").expect("room for it");
        for name in ["file", "file/below"] {
            let fault = make_usable(&at(name), "do this").expect_err("no directory");
            assert!(fault.why.contains("expected a directory"), "{fault}");
            assert!(fault.why.ends_with("; do this"), "{fault}");
        }
        if geteuid().is_root() {
            std::os::unix::fs::chown(at("a/b"), Some(65534), None).expect("root may");
            let fault = make_usable(&at("a/b"), "do this").expect_err("another's");
            assert!(fault.why.contains("uid 65534, not 0"), "{fault}");
        }
    }

    #[test]
    fn root_keeps_nothing_where_others_can_write() {
        if !is_root_of_machine() {
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        make_private_dir(&at("way/own")).expect("it is made");
        let own = |path: &Path, (uid, gid, mode)| {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root may");
            set_permissions(path, Permissions::from_mode(mode)).expect("root may");
        };
        // Who, of the way and of the directory, and what is said of it.
        let fine = (0, 0, 0o755);
        for (way, own_dir, expected) in [
            (fine, fine, None),
            ((0, 12, 0o1777), fine, None),
            ((0, 0, 0o775), (0, 0, 0o770), None),
            ((1000, 0, 0o755), fine, Some("way belongs to the user 1000")),
            ((0, 0, 0o777), fine, Some("way can be written to by everybody")),
            ((0, 12, 0o775), fine, Some("way can be written to by the group 12")),
            (fine, (1000, 0, 0o700), Some("own belongs to the user 1000")),
            // The sticky bit keeps nobody from making new files.
            (fine, (0, 0, 0o1777), Some("own can be written to by everybody")),
            (fine, (0, 12, 0o1770), Some("own can be written to by the group 12")),
        ] {
            own(&at("way"), way);
            own(&at("way/own"), own_dir);
            let refused = refuse_others_dir(&at("way/own")).err().map(|fault| fault.why);
            let is_so = |why: &String| expected.is_some_and(|expected| why.contains(expected));
            assert!(
                refused.as_ref().map_or(expected.is_none(), is_so),
                "{refused:?}: {expected:?}"
            );
        }
    }

    #[test]
    fn no_link_is_followed_to_a_file_of_an_instance() {
        let dir = tempfile::tempdir().expect("a folder");
        let (victim, link) = (dir.path().join("victim"), dir.path().join("lock"));
        std::fs::write(&victim, "precious").expect("room for it");
        std::os::unix::fs::symlink(&victim, &link).expect("room for it");
        let error = open_own(&link, OpenOptions::new().append(true).create(true)).unwrap_err();
        assert!(error.to_string().contains("is a symbolic link"), "{error}");
        std::fs::remove_file(&link).expect("it is there");
        let made = open_own(&link, OpenOptions::new().append(true).create(true)).expect("room");
        assert_eq!(made.metadata().expect("it is open").mode() & 0o777, 0o600);
    }
}
