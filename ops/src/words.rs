//! What devices and files are called in table lines, and by people.

use std::path::{Path, PathBuf};

use daemon::Fault;
use daemon::fault::USAGE;

/// Refuses names that the kernel would know in another form.
pub(crate) fn check_name(verb: &str, name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) && name != "." && name != ".." {
        return Ok(());
    }
    let why = format!("expected a name of letters, digits and #+-.:=@_, found `{name}`");
    Err(Fault::new(verb, why).with_status(USAGE))
}

/// What the name of a mapped device follows in a table line.
pub(crate) const MAPPER: &str = "/dev/mapper/";

/// Returns what a table line calls the mapped device that a path shows, if it shows one.
pub(crate) fn mapped_word(mount: &Path, path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let parent = path.parent()?;
    let name = path.file_name()?.to_str()?;
    let real = |path: &Path| path.canonicalize().ok();
    // Two folders that are not there are not the same.
    let same = |one: &Path| one == mount || real(one).is_some_and(|it| Some(it) == real(mount));
    (parent == Path::new(MAPPER) || same(parent)).then(|| format!("{MAPPER}{name}"))
}

/// Takes a device's name, or the path of the file that shows it; returns the name. Only what has a
/// slash is a path.
pub(crate) fn device_name(mount: &Path, word: &str) -> String {
    let mapped = mapped_word(mount, Path::new(word)).filter(|_| word.contains('/'));
    let name = mapped.as_deref().and_then(|word| word.strip_prefix(MAPPER));
    name.unwrap_or(word).to_owned()
}

/// The path behind a mapped device's word.
pub(crate) fn mapped_path(mount: &Path, word: &str) -> PathBuf {
    mount.join(word.strip_prefix(MAPPER).unwrap_or(word))
}
