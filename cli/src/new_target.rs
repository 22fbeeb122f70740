//! `dmsim new-target NAME`: writes a crate with a working target, its tests and its fuzzer.
//!
//! The crate is built against a checkout of dmsim, which it names by its path.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sim_core::Registry;

use crate::args::NewTarget;
use crate::output::print;
use daemon::{About, Fault};

/// The files: where each goes, and its text. Three words stand for what the name makes of them:
/// `target-word` for the name itself, `crate_name` and `TargetName` for what it is in Rust.
const FILES: [(&str, &str); 13] = [
    ("Cargo.toml", include_str!("../templates/new-target/Cargo.toml.in")),
    ("README.md", include_str!("../templates/new-target/README.md")),
    (".gitignore", include_str!("../templates/new-target/gitignore")),
    ("rustfmt.toml", include_str!("../../rustfmt.toml")),
    ("src/lib.rs", include_str!("../templates/new-target/src/lib.rs")),
    ("src/main.rs", include_str!("../templates/new-target/src/main.rs")),
    ("tests/conformance.rs", include_str!("../templates/new-target/tests/conformance.rs")),
    ("benches/target-word.rs", include_str!("../templates/new-target/benches/target.rs")),
    ("fuzz/Cargo.toml", include_str!("../templates/new-target/fuzz/Cargo.toml.in")),
    ("fuzz/src/lib.rs", include_str!("../templates/new-target/fuzz/src/lib.rs")),
    (
        "fuzz/fuzz_targets/table.rs",
        include_str!("../templates/new-target/fuzz/fuzz_targets/table.rs"),
    ),
    ("fuzz/tests/seeds.rs", include_str!("../templates/new-target/fuzz/tests/seeds.rs")),
    ("fuzz/seeds/table/good", "7:0 16"),
];

/// The crates of the checkout that the new crate names.
const CRATES: [&str; 4] = ["cli", "sim-core", "targets", "testkit"];

/// The longest name of a target type, in bytes: the kernel's `DM_MAX_TYPE_NAME` without the NUL.
const MAX_NAME: usize = 15;

/// Names that Rust, cargo or this program have another use for.
const TAKEN: [&str; 15] = [
    "alloc",
    "build",
    "core",
    "criterion",
    "deps",
    "dmsetup",
    "dmsim",
    "dmsim_cli",
    "dmstats",
    "examples",
    "incremental",
    "sim_core",
    "std",
    "test",
    "testkit",
];

/// What Rust keeps for itself, of the words that a name can be.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else \
    enum extern false final fn for gen if impl in let loop macro match mod move mut override priv \
    pub ref return self static struct super targets trait true try type typeof union unsafe \
    unsized use virtual where while yield";

/// Writes the crate, and says what to do with it.
pub(crate) fn run(ask: &NewTarget, registry: &Registry) -> Result<ExitCode, Fault> {
    let about = || format!("new-target {}", ask.name);
    let name = Name::new(&ask.name, registry).about(about())?;
    let checkout = find_checkout(ask.checkout.as_deref()).about(about())?;
    let folder = ask.path.clone().unwrap_or_else(|| PathBuf::from(name.word));
    // Fails where there is anything at all: nothing is written over.
    std::fs::create_dir(&folder).about(format!("{}: {}", about(), folder.display()))?;
    if let Err(fault) = write_files(&name, &folder, &checkout) {
        // Ours, as it was made just now.
        let _best_effort = std::fs::remove_dir_all(&folder);
        return Err(fault);
    }
    let (folder, word) = (folder.display(), name.word);
    print(&format!(
        "{folder}: a crate with the target `{word}`, its tests, a benchmark and a fuzzer\n\
         $ cd {folder}\n\
         $ cargo test --workspace\n\
         $ cargo run -- attach disk.img --create 64M --as /dev/sda\n\
         $ cargo run -- create mine --table '0 131072 {word} /dev/sda 0'\n"
    ))
}

fn write_files(name: &Name<'_>, folder: &Path, checkout: &str) -> Result<(), Fault> {
    for (path, text) in FILES {
        let path = folder.join(name.put_in(path));
        let parent = path.parent().expect("a file of the crate lies in its folder");
        std::fs::create_dir_all(parent).about(parent.display())?;
        let text = put_checkout(name.put_in(text), checkout);
        std::fs::write(&path, text).about(path.display())?;
    }
    // The versions that dmsim was tested with, which are on this machine already.
    let lock = Path::new(checkout).join("Cargo.lock");
    if lock.exists() {
        std::fs::copy(&lock, folder.join("Cargo.lock")).about(lock.display())?;
    }
    Ok(())
}

/// Puts the checkout's path in: in quotes where TOML wants them, bare elsewhere.
fn put_checkout(mut text: String, checkout: &str) -> String {
    for folder in CRATES {
        let path = serde_json::Value::from(format!("{checkout}/{folder}"));
        // What JSON makes of a string, TOML reads.
        text = text.replace(&format!("@CHECKOUT/{folder}@"), &path.to_string());
    }
    text.replace("@CHECKOUT", checkout)
}

/// Returns the path of the checkout: the one that was named, else the one that this program was
/// built from.
fn find_checkout(named: Option<&Path>) -> Result<String, String> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let folder = named.or(built_from).expect("the crate of this program lies in a checkout");
    let missing = CRATES.iter().find(|name| !folder.join(name).join("Cargo.toml").is_file());
    if let Some(missing) = missing {
        let path = folder.display();
        let why = format!("{path}: no checkout of dmsim: it has no {missing}/Cargo.toml");
        return Err(match named {
            Some(_) => why,
            None => format!("{why}; name one with --checkout"),
        });
    }
    let folder = std::fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let text = folder.to_str().ok_or_else(|| format!("{}: expected UTF-8", folder.display()))?;
    Ok(text.to_owned())
}

/// A name, as the table, cargo and Rust have it.
#[derive(Debug)]
struct Name<'a> {
    /// The word in table lines, and the package.
    word: &'a str,
    /// The crate.
    ident: String,
    /// The type.
    type_name: String,
}

impl Name<'_> {
    fn new<'a>(word: &'a str, registry: &Registry) -> Result<Name<'a>, String> {
        let parts = || word.split(['-', '_']);
        let is_part = |part: &str| {
            let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            !part.is_empty() && part.bytes().all(ok)
        };
        if !word.starts_with(|c: char| c.is_ascii_lowercase()) || !parts().all(is_part) {
            let expected = "a lower-case letter, then lower-case letters and digits, with single \
                            - or _ between them";
            return Err(format!("expected {expected}, found `{word}`"));
        }
        if word.len() > MAX_NAME {
            let len = word.len();
            return Err(format!("expected a name of at most {MAX_NAME} bytes, found {len}"));
        }
        if registry.find(word).is_some() {
            return Err("there is a target of this name already".to_owned());
        }
        let ident = word.replace('-', "_");
        if TAKEN.contains(&ident.as_str()) || KEYWORDS.split(' ').any(|taken| taken == ident) {
            return Err("Rust, cargo or dmsim use this name for something else".to_owned());
        }
        let type_name: String = parts().map(capitalize).collect();
        if uses_type(&type_name) {
            return Err(format!("the type would be `{type_name}`, which the code uses already"));
        }
        Ok(Name { word, ident, type_name })
    }

    fn put_in(&self, text: &str) -> String {
        let text = text.replace("crate_name", &self.ident);
        text.replace("TargetName", &self.type_name).replace("target-word", self.word)
    }
}

fn capitalize(part: &str) -> String {
    let (first, rest) = part.split_at(1);
    first.to_ascii_uppercase() + rest
}

/// Tells whether the code of the files has this word.
fn uses_type(name: &str) -> bool {
    let sources = FILES.iter().filter(|(path, _)| path.ends_with(".rs"));
    let mut lines = sources.flat_map(|(_, text)| text.lines());
    lines.any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        code.split(|c: char| !c.is_alphanumeric()).any(|word| word == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str) -> Result<(String, String), String> {
        let name = Name::new(word, &targets::registry())?;
        Ok((name.ident, name.type_name))
    }

    #[test]
    fn a_name_is_a_word_of_a_table_a_crate_and_a_type() {
        assert_eq!(check("era"), Ok(("era".into(), "Era".into())));
        assert_eq!(check("thin-pool2_x"), Ok(("thin_pool2_x".into(), "ThinPool2X".into())));
    }

    #[test]
    fn a_name_that_would_not_compile_is_refused() {
        for bad in ["", "Era", "2a", "-a", "a-", "a--b", "a.b", "a b", "../a", "é", "a/b"] {
            assert!(check(bad).unwrap_err().starts_with("expected a lower-case"), "{bad}");
        }
        assert!(check("abcdefghijklmno").is_ok());
        assert!(check("abcdefghijklmnop").unwrap_err().contains("at most 15 bytes"));
        for taken in ["linear", "match", "dmsetup", "sim-core", "std", "bio", "world", "ctr-error"]
        {
            assert!(check(taken).is_err(), "{taken}");
        }
    }

    #[test]
    fn a_path_is_quoted_for_toml() {
        let text = put_checkout("a = @CHECKOUT/cli@ # @CHECKOUT".to_owned(), r#"/a "b""#);
        assert_eq!(text, r#"a = "/a \"b\"/cli" # /a "b""#);
    }
}
