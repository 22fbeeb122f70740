//! The invariants of ARCHITECTURE.md that a test can keep.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates from the bottom up: each may depend on those before it, and on no other of ours.
const ORDER: [&str; 19] = [
    "sim-core",
    "dmsim-xts",
    "dmsim-crypto",
    "dmsim-parity",
    "dmsim-targets",
    "dmsim-recognise",
    "dmsim-sdk",
    "dmsim-backing",
    "fuse-frontend",
    "block-frontend",
    "dmsim-testkit",
    "dmsim-swarm",
    "dmsim-crash",
    "dmsim-daemon",
    "dmsim-ops",
    "dmsim",
    "dmsim-benches",
    "dmsim-fuzz",
    "dmsim-tidy",
];

/// Crates that stand on `sim-core` alone.
const ON_CORE_ALONE: [&str; 3] = ["dmsim-sdk", "dmsim-backing", "block-frontend"];

/// Crates that know nothing of devices and bios, nor of one another but in the order of the list.
const OFF_CORE: [&str; 3] = ["dmsim-xts", "dmsim-crypto", "dmsim-parity"];

/// The files that hold unsafe code.
const UNSAFE_HOMES: [&str; 20] = [
    "backing/src/fuse_device.rs",
    "backing/src/image/guard.rs",
    "backing/src/image/mapping.rs",
    "backing/src/semaphores.rs",
    "backing/tests/sigbus.rs",
    "benches/src/isal.rs",
    "block-frontend/src/ioctls.rs",
    "block-frontend/src/ublk/ring.rs",
    "crypto/xts/src/x86/mod.rs",
    "crypto/xts/src/x86/single.rs",
    "crypto/xts/src/x86/span.rs",
    "parity/src/x86/memory.rs",
    "parity/src/x86/mod.rs",
    "sdk/src/abi.rs",
    "sdk/src/ctr.rs",
    "sdk/src/instance.rs",
    "sdk/src/io.rs",
    "sdk/src/last_words.rs",
    "sdk/src/load.rs",
    "sdk/src/rust.rs",
];

/// No source is longer, in lines.
const LONGEST_SOURCE: usize = 500;

/// No folder has more files directly in it, but such as hold data alone.
const FULLEST_FOLDER: usize = 15;

/// Names of the prelude, which a type of ours would hide.
const PRELUDE: [&str; 8] = ["Clone", "Copy", "Drop", "From", "Into", "Iterator", "Send", "Sync"];

fn root() -> PathBuf {
    let tidy = Path::new(env!("CARGO_MANIFEST_DIR"));
    tidy.parent().expect("tidy lies in the workspace").to_owned()
}

/// What each crate of the workspace depends on, of the workspace, tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        let linked = all.filter(|dependency| dependency["kind"] != "dev");
        linked.map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn dependencies_point_up_the_list_only() {
    let place = |name: &str| {
        let at = ORDER.iter().position(|known| *known == name);
        at.unwrap_or_else(|| panic!("{name} is not in the list of crates"))
    };
    for (name, on) in dependencies() {
        for below in on {
            assert!(place(&below) < place(&name), "{name} depends on {below}");
            if ON_CORE_ALONE.contains(&name.as_str()) {
                assert_eq!(below, "sim-core", "{name} stands on sim-core alone");
            }
            if name == "dmsim-testkit" {
                let known = ["sim-core", "dmsim-backing"].contains(&below.as_str());
                assert!(known, "{name} stands on sim-core and dmsim-backing, not on {below}");
            }
            if name == "dmsim-targets" {
                let known = ["sim-core", "dmsim-crypto", "dmsim-parity"].contains(&below.as_str());
                assert!(known, "{name} stands on sim-core, dmsim-crypto and dmsim-parity");
            }
            if OFF_CORE.contains(&name.as_str()) {
                assert!(OFF_CORE.contains(&below.as_str()), "{name} knows nothing of {below}");
            }
        }
    }
}

#[test]
fn the_daemon_and_the_workflows_are_libraries() {
    // What prints, asks or ends a process is the command line.
    let forbidden = ["println!", "eprintln!", "print!", "ExitCode", "process::exit", "clap::"];
    for path in sources() {
        if path.starts_with("daemon/src") || path.starts_with("ops/src") {
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
            let found = forbidden.iter().find(|word| !is_test && code.contains(**word));
            assert_eq!(found, None, "{path}");
        }
    }
}

#[test]
fn unsafe_code_has_few_homes() {
    for home in UNSAFE_HOMES {
        assert!(root().join(home).is_file(), "{home}: a home of unsafe code that is not there");
    }
    for path in sources() {
        let text = read(&path);
        let line = text.lines().position(says_unsafe).map(|line| line + 1);
        match UNSAFE_HOMES.contains(&path.as_str()) {
            true => assert_ne!(line, None, "{path}: a home of unsafe code that has none"),
            false => assert_eq!(line, None, "{path}: unsafe code outside its homes"),
        }
        let is_crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if is_crate_root && text.lines().any(|line| line.starts_with("mod ")) {
            let kept = ["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"];
            assert!(kept.iter().any(|kept| text.contains(kept)), "{path} allows unsafe code");
        }
    }
}

fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words =
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "[unsafe("];
    words.iter().any(|word| {
        // The words of this very test do not count.
        code.contains(word) && !code.contains(&format!("\"{word}"))
    })
}

#[test]
fn the_core_and_the_targets_touch_nothing_outside() {
    let forbidden = ["std::fs", "std::net", "std::process", "std::thread", "std::time::Instant"];
    for path in sources() {
        if path.starts_with("sim-core/src") || path.starts_with("targets/src") {
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            // Whether a panic unwinds, which a lock asks.
            let code = code.replace("std::thread::panicking()", "");
            for word in forbidden {
                assert!(!code.contains(word), "{path} uses {word}");
            }
        }
    }
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // Spelled in two halves, so that this file passes its own test.
    let places =
        [["/wo", "rk/"], ["/fa", "rm/"], ["../sha", "red"], ["/home", "/"], ["/root", "/."]];
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for place in places {
            let place = place.concat();
            assert!(!text.contains(&place), "{path} names {place}");
        }
    }
}

#[test]
fn no_source_is_long() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(lines <= LONGEST_SOURCE, "{path}: {lines} lines, at most {LONGEST_SOURCE}");
    }
}

#[test]
fn no_folder_is_full() {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in tracked() {
        let (folder, file) = path.rsplit_once('/').unwrap_or((".", &path));
        folders.entry(folder.to_owned()).or_default().push(file.to_owned());
    }
    let source =
        |file: &String| [".rs", ".c", ".h", ".toml", ".sh"].iter().any(|end| file.ends_with(end));
    folders.retain(|_, files| files.len() > FULLEST_FOLDER && files.iter().any(source));
    let full: Vec<_> = folders.iter().map(|(folder, files)| (folder, files.len())).collect();
    assert!(full.is_empty(), "at most {FULLEST_FOLDER} files in a folder: {full:?}");
}

#[test]
fn no_type_takes_a_name_of_the_prelude() {
    let mut taken = Vec::new();
    for path in sources() {
        for (at, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let named = words.windows(2).any(|pair| {
                let makes = ["struct", "enum", "union", "trait", "type"].contains(&pair[0]);
                let renames = pair[0] == "as" && words[0] == "use";
                (makes || renames) && PRELUDE.contains(&pair[1])
            });
            if named {
                taken.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    let words = [["todo", "!("], ["unimplemented", "!("], ["FIX", "ME"], ["XX", "X:"]];
    for path in sources() {
        let text = read(&path);
        for word in words {
            let word = word.concat();
            assert!(!text.contains(&word), "{path}: {word}");
        }
    }
}

/// Every Rust source, by its path from the root.
fn sources() -> impl Iterator<Item = String> {
    tracked().into_iter().filter(|path| path.ends_with(".rs"))
}

/// Every file of the project, with git or without it.
fn tracked() -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let skipped = matches!(name, "target" | ".git" | "corpus" | "artifacts" | "book");
            match path.is_dir() {
                true if !skipped => folders.push(path),
                true => {}
                false => files.push(path),
            }
        }
    }
    let from_root = |path: PathBuf| {
        let path = path.strip_prefix(root()).expect("below the root").to_owned();
        path.to_string_lossy().into_owned()
    };
    let mut files: Vec<String> = files.into_iter().map(from_root).collect();
    files.sort();
    assert!(files.len() > 20, "the walk found the project");
    files
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("a source is text")
}

#[test]
fn the_architecture_names_files_that_are_there() {
    let files = tracked();
    let text = read("ARCHITECTURE.md");
    // Every second piece stands between backquotes.
    let named = text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs"));
    let is_there =
        |word: &str| files.iter().any(|file| file == word || file.ends_with(&format!("/{word}")));
    let missing: Vec<&str> = named.filter(|word| !is_there(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
