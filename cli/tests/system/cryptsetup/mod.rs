//! cryptsetup's rules: the real program beside ours, or what it was recorded to do.

mod files;
mod names;
mod options;
mod plain;
mod rows;

use std::path::PathBuf;

use crate::harness::Instance;

/// Costs next to nothing to derive.
const CHEAP: &[&str] = &["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

fn empty(instance: &Instance, name: &str, len: u64) -> PathBuf {
    let path = instance.path(name);
    std::fs::File::create(&path).and_then(|file| file.set_len(len)).expect("room for it");
    path
}
