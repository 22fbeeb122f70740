//! `dmsim new-target NAME`: writes a crate with a working target, its tests and its fuzzer.
//!
//! The crate is built against a checkout of dmsim, which it names by its path.

mod files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sim_core::Registry;

use crate::args::NewTarget;
use crate::output::print;
use daemon::{About, Fault};

pub(crate) use files::Kind;
use files::{File, SHARED};

/// The crates of the checkout that the new crate names.
const CRATES: [&str; 5] = ["cli", "sim-core", "swarm", "targets", "testkit"];

/// The longest name of a target type, in bytes: the kernel's `DM_MAX_TYPE_NAME` without the NUL.
const MAX_NAME: usize = 15;

/// Names that Rust, cargo or this program have another use for.
const TAKEN: [&str; 17] = [
    "alloc",
    "bench",
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
    "program",
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
    let name = Name::new(&ask.name, ask.kind, registry).about(about())?;
    let checkout = find_checkout(ask.checkout.as_deref()).about(about())?;
    let folder = ask.path.clone().unwrap_or_else(|| PathBuf::from(name.word));
    // Fails where there is anything at all: nothing is written over.
    std::fs::create_dir(&folder).about(format!("{}: {}", about(), folder.display()))?;
    if let Err(fault) = write_files(&name, ask.kind, &folder, &checkout) {
        // Ours, as it was made just now.
        let _best_effort = std::fs::remove_dir_all(&folder);
        return Err(fault);
    }
    let (folder, word, words) = (folder.display(), name.word, ask.kind.put_in("shell-words"));
    print(&format!(
        "{folder}: a crate with the target `{word}`, its tests, a benchmark, fuzzers and a swarm\n\
         $ cd {folder}\n\
         $ cargo test\n\
         $ cargo run -p program -- attach disk.img --create 64M --as /dev/sda\n\
         $ cargo run -p program -- create mine --table '0 65536 {word} {words}'\n"
    ))
}

/// Returns all files of a crate of this kind.
fn files(kind: Kind) -> impl Iterator<Item = File> {
    SHARED.into_iter().chain(kind.files().iter().copied())
}

fn write_files(name: &Name<'_>, kind: Kind, folder: &Path, checkout: &str) -> Result<(), Fault> {
    for (path, text) in files(kind) {
        let path = folder.join(name.put_in(path));
        let parent = path.parent().expect("a file of the crate lies in its folder");
        std::fs::create_dir_all(parent).about(parent.display())?;
        let text = put_checkout(name.put_in(&kind.put_in(text)), checkout);
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
    for folder in CRATES.into_iter().chain(["target"]) {
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
    fn new<'a>(word: &'a str, kind: Kind, registry: &Registry) -> Result<Name<'a>, String> {
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
        if uses_type(&type_name, kind) {
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
fn uses_type(name: &str, kind: Kind) -> bool {
    let sources = files(kind).filter(|(path, _)| path.ends_with(".rs"));
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
        let name = Name::new(word, Kind::Remap, &targets::registry())?;
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
    fn a_type_that_the_kind_uses_is_refused() {
        let of = |kind| Name::new("signal", kind, &targets::registry()).map(drop);
        assert_eq!(of(Kind::Remap), Ok(()));
        assert!(of(Kind::Async).unwrap_err().contains("`Signal`"));
    }

    #[test]
    fn no_word_of_a_template_is_left() {
        for kind in Kind::ALL {
            for (path, text) in files(kind) {
                let name = Name::new("last-first", kind, &targets::registry()).unwrap();
                let text = put_checkout(name.put_in(&kind.put_in(text)), "/dmsim");
                let left = ["target-word", "TargetName", "crate_name", "-words", "about-", "@"];
                let found = left.iter().find(|word| text.contains(**word));
                assert_eq!(found, None, "{kind:?} {path}");
            }
        }
    }

    #[test]
    fn a_path_is_quoted_for_toml() {
        let text = put_checkout("a = @CHECKOUT/cli@ # @CHECKOUT".to_owned(), r#"/a "b""#);
        assert_eq!(text, r#"a = "/a \"b\"/cli" # /a "b""#);
    }
}
