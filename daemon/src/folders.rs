//! Where an instance without a directory of its own lies, and whether what is there can be used.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
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
}
