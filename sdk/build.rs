//! Writes down what a Rust plug-in and the program that loads it must have in common: the
//! compiler, and the very sources of `sim-core`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output().expect("the compiler runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let field = |name: &str| {
        let line = version.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("unknown").trim().to_owned()
    };
    let commit = field("commit-hash:");
    let target = std::env::var("TARGET").expect("cargo sets it");
    let (release, commit) = (field("release:"), &commit[..commit.len().min(9)]);
    println!("cargo:rustc-env=DMSIM_RUSTC={release} ({commit}) for {target}");

    // Relative, so that the same sources have the same digest wherever they lie.
    let sources = Path::new("../sim-core/src");
    println!("cargo:rerun-if-changed={}", sources.display());
    let mut files = Vec::new();
    list(sources, &mut files);
    files.sort();
    let digest = files.iter().fold(FNV_OFFSET, |digest, file| {
        let bytes = std::fs::read(file).expect("a source can be read");
        let name = file.to_string_lossy();
        fnv(fnv(digest, name.as_bytes()), &bytes)
    });
    println!("cargo:rustc-env=DMSIM_CORE={digest:016x}");
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("sim-core lies beside this crate") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(digest: u64, bytes: &[u8]) -> u64 {
    let step = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(digest, step)
}
