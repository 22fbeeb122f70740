//! What devices and files are called in table lines, and by people.

use std::path::{Path, PathBuf};

use daemon::Fault;
use daemon::fault::USAGE;
use sim_core::control::MAX_NAME;

use daemon::mangle::{self, Mode, What};

/// Writes the name of a new device for the kernel, as libdevmapper does: whatever udev could not take
/// becomes `\xNN`. What is written so already is kept.
///
/// # Errors
/// With the words of libdevmapper, or the kernel.
pub(crate) fn new_name(verb: &str, typed: &str) -> Result<String, Fault> {
    let name = match typed {
        "" => Err("expected a name, found nothing".to_owned()),
        "." | ".." | "control" => Err(format!("the kernel takes no device of the name `{typed}`")),
        _ if typed.contains('/') => Err(format!("name \"{typed}\" invalid: it contains \"/\"")),
        _ if typed.len() > MAX_NAME => {
            Err(format!("name \"{typed}\" too long: expected {MAX_NAME} bytes at most"))
        }
        _ => kernel_form(typed, What::Name),
    };
    name.map_err(|why| Fault::new(verb, why).with_status(USAGE))
}

/// Writes a new name or uuid for the kernel.
///
/// # Errors
/// Where it would be too long, or could not be read back.
pub(crate) fn kernel_form(typed: &str, what: What) -> Result<String, String> {
    // Once for what was typed, once for what the kernel would have: both are looked up.
    let told = |line: String| line.trim_end_matches('.').replacen("The ", "the ", 1);
    mangle::refuse_twice(typed, what, Mode::Auto).map_err(told)?;
    let name = mangle::mangle(typed, what, Mode::Auto).map_err(told)?;
    mangle::refuse_twice(&name, what, Mode::Auto).map_err(told)?;
    Ok(name)
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

/// Takes a device's name, or the path of the file that shows it; returns the name as the kernel has
/// it. Only what has a slash is a path.
pub(crate) fn device_name(mount: &Path, word: &str) -> String {
    let mapped = mapped_word(mount, Path::new(word)).filter(|_| word.contains('/'));
    let name = mapped.as_deref().and_then(|word| word.strip_prefix(MAPPER));
    match name {
        Some(name) => name.to_owned(),
        // What no name can be is looked for as it is, and not found.
        None => kernel_form(word, What::Name).unwrap_or_else(|_| word.to_owned()),
    }
}

/// The path behind a mapped device's word.
pub(crate) fn mapped_path(mount: &Path, word: &str) -> PathBuf {
    mount.join(word.strip_prefix(MAPPER).unwrap_or(word))
}
