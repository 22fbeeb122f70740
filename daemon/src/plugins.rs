//! The plug-ins that an instance was last started with: a later daemon loads the same, as what is on
//! record may be made of their target types.

use std::fs::{File, OpenOptions, rename};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::fault::{About, Fault};
use crate::folders::open_own;
use crate::instance::Instance;

/// The longest list that is read, in bytes.
const MAX_LIST: u64 = 1 << 20;

/// Returns the plug-ins on record; none where no daemon has had any.
pub fn recorded(instance: &Instance) -> Result<Vec<PathBuf>, Fault> {
    let path = instance.plugins();
    let file = match open_own(&path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::new(path.display(), error)),
    };
    read(file).map_err(|why| Fault::new(path.display(), why))
}

fn read(file: File) -> Result<Vec<PathBuf>, String> {
    let mut text = String::new();
    file.take(MAX_LIST).read_to_string(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("no list of plug-ins: {error}"))
}

/// Puts the plug-ins of a daemon that serves on record, in the place of those before.
pub fn record(instance: &Instance, plugins: &[PathBuf]) -> Result<(), Fault> {
    let path = instance.plugins();
    if plugins.is_empty() && !path.exists() {
        return Ok(());
    }
    let all = plugins.iter().map(std::path::absolute).collect::<Result<Vec<PathBuf>, _>>();
    let text = serde_json::to_string(&all.about(path.display())?).about(path.display())?;
    write(&path, &text).about(path.display())
}

/// Writes a file as a whole: after a power cut it is this one, or that before.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = open_own(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_last_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::find(Some(dir.path())).unwrap();
        assert_eq!(recorded(&instance), Ok(Vec::new()));
        record(&instance, &[]).unwrap();
        assert!(!instance.plugins().exists());
        let plugins = ["/a/lib one.so".into(), "/b.so".into()];
        record(&instance, &plugins).unwrap();
        assert_eq!(recorded(&instance), Ok(plugins.to_vec()));
        record(&instance, &[]).unwrap();
        assert_eq!(recorded(&instance), Ok(Vec::new()));
        std::fs::write(instance.plugins(), "x").unwrap();
        assert!(recorded(&instance).unwrap_err().to_string().contains("no list of plug-ins"));
    }
}
