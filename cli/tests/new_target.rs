//! `dmsim new-target`, the example out of the tree, and the book: each as a stranger would use it.
//!
//! The crates are built by a cargo of their own, with the versions and into the target folder of
//! the workspace, so that little is left to build.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DMSIM: &str = env!("CARGO_BIN_EXE_dmsim");

/// How long a daemon may take to start or to end.
const SOON: Duration = Duration::from_secs(20);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn target_dir() -> &'static Path {
    let profile = Path::new(DMSIM).parent().expect("a program lies in a folder");
    profile.parent().expect("the folder of a profile lies in the target folder")
}

fn new_target(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(DMSIM);
    command.arg("new-target").args(args).current_dir(folder);
    command.output().expect("dmsim runs")
}

/// Runs cargo in a crate, offline and with the workspace's versions and target folder.
fn cargo(folder: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).arg("--offline").current_dir(folder);
    command.env("CARGO_TARGET_DIR", target_dir()).env_remove("RUSTC_WORKSPACE_WRAPPER");
    // A long search, and one case alone, are of the test that was asked for.
    for name in ["DMSIM_SEED", "DMSIM_SEARCH_SECONDS", "DMSIM_SEARCH_FROM"] {
        command.env_remove(name);
    }
    let output = command.output().expect("cargo runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "cargo {args:?} in {}:\n{err}\n{out}", folder.display());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn has(what: &str, there: bool) -> bool {
    assert!(there || std::env::var_os("CI").is_none(), "CI must not skip: no {what}");
    if !there {
        println!("skipped: no {what}");
    }
    there
}

/// A daemon of a program that cargo has built, with one image; both go when it is dropped.
struct Instance {
    program: PathBuf,
    dir: TempDir,
    daemon: Child,
}

impl Instance {
    fn start(program: &str) -> Instance {
        let program = target_dir().join("debug").join(program);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(&program);
        command.arg("--dir").arg(dir.path().join("run")).args(["start", "--foreground"]);
        let log = File::create(dir.path().join("log")).expect("a new file");
        let daemon = command.stdin(Stdio::null()).stderr(log).spawn().expect("the program runs");
        let instance = Instance { program, dir, daemon };
        let deadline = Instant::now() + SOON;
        while !instance.run(&["version"]).status.success() {
            assert!(Instant::now() < deadline, "no daemon after {SOON:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        instance
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--dir").arg(self.dir.path().join("run")).args(args);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).output().expect("it runs")
    }

    /// Makes a device over an image of 64 MiB, and returns its file and the image.
    fn create(&self, table: &str) -> (PathBuf, PathBuf) {
        self.well(&["attach", "disk.img", "--create", "64M", "--as", "/dev/sda"]);
        self.well(&["create", "mine", "--table", table]);
        (self.dir.path().join("run/mapper/mine"), self.dir.path().join("disk.img"))
    }

    fn well(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _best_effort = self.run(&["stop", "--force"]);
        let deadline = Instant::now() + SOON;
        while matches!(self.daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ended_already = self.daemon.kill();
        let _status = self.daemon.wait();
    }
}

fn sectors(file: &Path, sector: u64, count: usize) -> Vec<u8> {
    let mut buffer = vec![0; count * 512];
    let file = File::open(file).expect("a file");
    file.read_exact_at(&mut buffer, sector * 512).expect("sectors of it");
    buffer
}

fn write(file: &Path, sector: u64, data: &[u8]) {
    let file = File::options().write(true).open(file).expect("a file");
    file.write_all_at(data, sector * 512).expect("room for it");
    file.sync_all().expect("a flush");
}

#[test]
fn a_new_crate_passes_its_tests_and_its_program_shows_the_target() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = new_target(dir.path(), &["last-first"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("cargo test"), "{output:?}");
    let folder = dir.path().join("last-first");
    cargo(&folder, &["test", "--workspace", "--all-targets", "-q"]);
    if !has("/dev/fuse", Path::new("/dev/fuse").exists()) {
        return;
    }
    // The tests have built their harnesses alone.
    cargo(&folder, &["build", "--package", "program", "-q"]);
    let instance = Instance::start("last-first");
    let (device, image) = instance.create("0 1024 last-first /dev/sda 16");
    write(&device, 0, &[7; 512]);
    assert_eq!(sectors(&image, 16 + 1024 - 128, 1), [7; 512]);
    assert_eq!(instance.well(&["table", "mine"]), "0 1024 last-first 8:0 16\n");
}

/// The other kinds: all but the program, which is the same for each.
fn check_kind(kind: &str, about: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let name = format!("new-{kind}");
    let output = new_target(dir.path(), &[&name, "--kind", kind]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = dir.path().join(name);
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("a file");
    assert!(readme.contains(about), "{readme}");
    cargo(&folder, &["test", "--workspace", "--exclude", "program", "--all-targets", "-q"]);
}

#[test]
fn a_new_crate_that_changes_data_passes_its_tests() {
    check_kind("transform", "new-transform <dev> <start> <key>\n");
}

#[test]
fn a_new_crate_that_waits_passes_its_tests() {
    check_kind("async", "new-async <dev> <start> <ms>\n");
}

#[test]
fn a_new_crate_with_a_log_passes_its_tests() {
    check_kind("log", "new-log <dev> <start>\n");
}

/// The folder is the checkout's, by the crate's own configuration; the program is built when it is
/// asked for, and not for the tests.
#[test]
fn the_tests_of_a_new_crate_do_not_need_the_command_line() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert!(new_target(dir.path(), &["mine"]).status.success());
    let folder = dir.path().join("mine");
    let tree = ["tree", "--offline", "--edges", "normal,dev,build", "--prefix", "none"];
    let output = Command::new(env!("CARGO")).args(tree).current_dir(&folder).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let crates = text(&output.stdout);
    let ours: BTreeSet<&str> = crates
        .lines()
        .filter(|line| line.contains("(/"))
        .filter_map(|l| l.split(' ').next())
        .collect();
    assert_eq!(ours, BTreeSet::from(["dmsim-backing", "dmsim-testkit", "mine", "sim-core"]));
    let config = std::fs::read_to_string(folder.join(".cargo/config.toml")).expect("a file");
    let shared = root().canonicalize().expect("the checkout").join("target");
    assert!(config.contains(&format!("target-dir = \"{}\"", shared.display())), "{config}");
}

#[test]
fn the_example_passes_its_tests_and_holds_a_file_system() {
    let folder = root().join("examples/inverted");
    let lines = std::fs::read_to_string(folder.join("src/lib.rs")).expect("a file").lines().count();
    assert!(lines <= 80, "the example has {lines} lines");
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("a copy");
    cargo(&folder, &["test", "-q"]);
    if !has("/dev/fuse", Path::new("/dev/fuse").exists()) {
        return;
    }
    let instance = Instance::start("inverted");
    let (device, image) = instance.create("0 131064 inverted /dev/sda 0");
    write(&device, 8, &[0x5a; 512]);
    assert_eq!(sectors(&image, 8, 1), [0xa5; 512]);
    assert_eq!(instance.well(&["status", "mine"]), "0 131064 inverted 1\n");
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let tool = |name: &str| path.split(':').map(|at| Path::new(at).join(name)).find(|p| p.exists());
    let (mkfs, fsck) = (tool("mkfs.ext4"), tool("e2fsck"));
    let (Some(mkfs), Some(fsck)) = (&mkfs, &fsck) else {
        has("mkfs.ext4", false);
        return;
    };
    for (program, args) in [(mkfs, &["-q", "-F"][..]), (fsck, &["-f", "-n"])] {
        let output = Command::new(program).args(args).arg(&device).output().expect("it runs");
        assert!(output.status.success(), "{}: {output:?}", program.display());
    }
    // The counter is the sector after the data.
    assert!(sectors(&image, 131_064, 1).starts_with(b"INVERTED"));
}

#[test]
fn nothing_is_written_over_and_bad_names_make_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join("mine")).expect("a new folder");
    let refused = |args: &[&str]| {
        let output = new_target(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        text(&output.stderr)
    };
    assert!(refused(&["mine"]).starts_with("dmsim: new-target mine: mine: File exists"));
    assert!(refused(&["other", "--path", "mine"]).contains("File exists"));
    assert!(refused(&["other", "--path", "no/where"]).contains("No such file or directory"));
    assert!(refused(&["other", "--checkout", "."]).contains("no checkout of dmsim"));
    assert!(refused(&["Bad"]).contains("expected a lower-case letter"));
    assert!(refused(&["striped"]).contains("there is a target of this name already"));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("mine")).expect("a folder").count(), 0);
}

/// Lists the chapters of the book: what else lies beside them is pictures.
fn chapters() -> impl Iterator<Item = PathBuf> {
    let folder = std::fs::read_dir(root().join("docs/src")).expect("the book");
    let paths = folder.map(|entry| entry.expect("a file of the book").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// The crates that the book writes, each with its kind.
const BOOKS_CRATES: [(&str, &str); 4] =
    [("last-first", "remap"), ("scrambled", "transform"), ("slow", "async"), ("journaled", "log")];

/// A listing is marked with the file that it is from: `<!-- from PATH -->`, where PATH may lie in
/// a crate that `dmsim new-target` writes.
#[test]
fn every_listing_of_the_book_is_code_that_is_compiled() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, kind) in BOOKS_CRATES {
        assert!(new_target(dir.path(), &[name, "--kind", kind]).status.success());
    }
    let mut listings = 0;
    for path in chapters() {
        let book = std::fs::read_to_string(&path).expect("a chapter is text");
        for (before, listing) in rust_blocks(&book) {
            let marked = before.trim_end().lines().next_back().unwrap_or_default();
            let from = marked.strip_prefix("<!-- from ").and_then(|m| m.strip_suffix(" -->"));
            let from = from.unwrap_or_else(|| panic!("{}: whose code?\n{listing}", path.display()));
            let of_a_crate =
                BOOKS_CRATES.iter().any(|(name, _)| from.starts_with(&format!("{name}/")));
            let file = if of_a_crate { dir.path().join(from) } else { root().join(from) };
            let source = std::fs::read_to_string(&file).expect(from);
            assert!(source.contains(listing), "{}: not in {from}:\n{listing}", path.display());
            listings += 1;
        }
    }
    assert!(listings > 5, "the walk found the listings");
}

/// Returns each block of Rust in a chapter, with the text before it.
fn rust_blocks(book: &str) -> impl Iterator<Item = (&str, &str)> {
    const OPEN: &str = "```rust\n";
    book.match_indices(OPEN).map(|(at, _)| {
        let rest = &book[at + OPEN.len()..];
        let end = rest.find("```").expect("a block has an end");
        (&book[..at], &rest[..end])
    })
}

#[test]
fn every_link_of_the_book_leads_somewhere() {
    for path in chapters() {
        let book = std::fs::read_to_string(&path).expect("a chapter is text");
        for link in book.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let there = link.starts_with("https://") || root().join("docs/src").join(file).exists();
            assert!(there, "{}: {link}", path.display());
        }
    }
}
