//! What programs leave on a device's file that take it for a regular file: the rows of the table in
//! `docs/src/tools.md`, each run on a real mount.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use common::mounted::{Mounted, mount};
use common::pattern;
use fuse_frontend::Options;

/// How large the device is.
const DEVICE: usize = 4 << 20;

/// How long the source is: neither whole pages nor whole sectors, with a hole in front, holes of
/// several sizes, and a hole at the end.
const SOURCE: usize = (1 << 20) + 5000;
const DATA: [(usize, usize); 5] =
    [(128 << 10, 64 << 10), (200_000, 1), (300_001, 70_000), (512 << 10, 4096), (900_000, 90_000)];

/// What a program leaves on the file, whose bytes before the source's end are `[0, N)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// `[0, N)` is the source, the rest as it was.
    Source,
    /// As `Source`, with zeros up to the end of its last sector: the program knows no smaller unit.
    SourceInSectors,
    /// As on a block device's node: the hole at the end of the source keeps what was there.
    AllButLastHole,
    /// As on a block device's node: every hole of the source keeps what was there.
    DataAlone,
    /// `[0, N)` reads as zeros, the rest is as it was.
    Zeros,
    /// The program fails with this word, and everything is as it was.
    Refused(&'static str),
}

/// A row: the program that has to be installed, what it is called with in a shell, and what that
/// leaves. `$SRC` is the source, `$DST` the device's file, `$DIR` the directory of the source.
type Row = (&'static str, &'static str, Leaves);

use Leaves::{AllButLastHole, DataAlone, Refused, Source, SourceInSectors, Zeros};

const ROWS: &[Row] = &[
    ("cp", "cp $SRC $DST", Source),
    ("cp", "cp --sparse=always $SRC $DST", Source),
    ("cp", "cp --sparse=never $SRC $DST", Source),
    ("cp", "cp --sparse=auto --reflink=never $SRC $DST", Source),
    ("cp", "cp --remove-destination $SRC $DST", Refused("Operation not permitted")),
    ("cp", "cp $DIR/larger $DST", Refused("")),
    ("dd", "dd if=$SRC of=$DST bs=64k", Source),
    ("dd", "dd if=$SRC of=$DST bs=64k conv=notrunc", Source),
    ("dd", "dd if=$SRC of=$DST bs=4k conv=sparse", AllButLastHole),
    ("dd", "dd if=$SRC of=$DST bs=4k conv=sparse,notrunc", DataAlone),
    ("dd", "dd if=$SRC of=$DST bs=64k oflag=direct", Source),
    ("dd", "dd if=$SRC of=$DST bs=64k oflag=append conv=notrunc", Refused("No space left")),
    ("cat", "cat $SRC > $DST", Source),
    ("cat", "cat $SRC 1<> $DST", Source),
    ("cat", "cat $SRC >> $DST", Refused("No space left")),
    ("tee", "tee $DST < $SRC > /dev/null", Source),
    ("install", "install $SRC $DST", Refused("Operation not permitted")),
    ("tar", "tar -C $DIR -cSf - d | tar -C $(dirname $DST) --overwrite -xSf -", Source),
    ("tar", "tar -C $DIR -cf - d | tar -C $(dirname $DST) --overwrite -xf -", Source),
    ("tar", "tar -C $DIR -cSf - d | tar -C $(dirname $DST) -xSf -", Refused("File exists")),
    ("rsync", "rsync --inplace $SRC $DST", Source),
    ("rsync", "rsync --inplace --sparse $SRC $DST", Source),
    ("rsync", "rsync --inplace --no-whole-file $SRC $DST", Source),
    ("rsync", "rsync $SRC $DST", Refused("Operation not permitted")),
    ("qemu-img", "qemu-img convert -f raw -O raw $SRC $DST", SourceInSectors),
    ("qemu-img", "qemu-img convert -f raw -O raw -S 0 $SRC $DST", SourceInSectors),
    ("qemu-img", "qemu-img convert -f raw -O raw -n $SRC $DST", SourceInSectors),
    ("qemu-img", "qemu-img convert -f raw -O raw -t none -W $SRC $DST", SourceInSectors),
    (
        "qemu-img",
        "qemu-img convert -f raw -O raw -o preallocation=full $SRC $DST",
        Refused("shrinking files"),
    ),
    (
        "qemu-img",
        "qemu-img convert -f raw -O raw -o preallocation=falloc $SRC $DST",
        Refused("shrinking files"),
    ),
    ("qemu-img", "qemu-img create -f raw $DST $(stat -c %s $SRC)", Zeros),
    ("qemu-img", "qemu-img resize -f raw $DST 8M", Refused("File too large")),
    ("nbdcopy", "nbdcopy -- [ nbdkit --exit-with-parent file $SRC ] $DST", Source),
    ("ddrescue", "ddrescue --force $SRC $DST", Source),
    ("truncate", "truncate -s 8M $DST", Refused("File too large")),
    ("truncate", "truncate -s 1M $DST; cp --sparse=always $SRC $DST", Source),
    ("python3", "python3 -c \"import os; os.truncate('$DST', 1000)\"", Refused("Invalid argument")),
];

const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

/// What the rows are run on.
fn tables() -> [(&'static str, String); 5] {
    let sectors = DEVICE / 512;
    [
        ("linear", format!("0 {sectors} linear disk 0")),
        ("linear, blocks of 4096 bytes", format!("0 {sectors} linear disk4k 0")),
        ("crypt", format!("0 {sectors} crypt aes-xts-plain64 {KEY} 0 disk 0")),
        ("snapshot", format!("0 {sectors} snapshot disk disk4k N 8")),
        ("mirror", format!("0 {sectors} mirror core 1 1024 2 disk 0 disk4k 0")),
    ]
}

#[test]
fn programs_leave_what_they_copy_and_nothing_else() {
    for cache in [false, true] {
        for (kind, table) in tables() {
            let Some(mounted) = mount(&Options { cache, ..Options::default() }) else { return };
            mounted.world.create("d", &table);
            let on = format!("{kind}, with a cache: {cache}");
            let wrong: Vec<_> = ROWS.iter().filter_map(|row| check(&mounted, row).err()).collect();
            assert!(wrong.is_empty(), "{on}:\n{}", wrong.join("\n"));
        }
    }
}

/// Runs a row, and tells what it leaves that it must not.
fn check(mounted: &Mounted, (program, script, leaves): &Row) -> Result<(), String> {
    if !is_installed(program) {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed: {script}");
        println!("skipped: {program} is not installed: {script}");
        return Ok(());
    }
    let dir = tempfile::tempdir().unwrap();
    let (source, copied) = make_source(dir.path());
    let file = mounted.open("d");
    let before = pattern(DEVICE);
    file.write_all_at(&before, 0).unwrap();
    let output = Command::new("sh")
        .args(["-c", script])
        .env("SRC", &source)
        .env("DST", mounted.path("d"))
        .env("DIR", dir.path())
        .env("LC_ALL", "C")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = said(&output);
    let refused = match leaves {
        Refused(word) => Some(*word),
        Source | SourceInSectors | AllButLastHole | DataAlone | Zeros => None,
    };
    match (refused, output.status.success()) {
        (Some(_), true) => return Err(format!("{script}: it is taken: {said}")),
        (None, false) => return Err(format!("{script}: it fails: {said}")),
        (Some(word), false) if !said.contains(word) => return Err(format!("{script}: {said}")),
        (Some(_) | None, _) => {}
    }
    // One that copies more than there is room for has written what there is.
    if script.contains("larger") {
        return Ok(());
    }
    // With a cache too: a close has waited for pages of gaps to go.
    let mut after = vec![0; DEVICE];
    file.read_exact_at(&mut after, 0).unwrap();
    let expected = expected(before, &copied, *leaves);
    if let Some(wrong) = (0..DEVICE).find(|at| after[*at] != expected[*at]) {
        let (is, due) = (after[wrong], expected[wrong]);
        return Err(format!("{script}: byte {wrong} is {is:#x}, and was to be {due:#x}: {said}"));
    }
    match file.metadata().unwrap().len() {
        len if len == DEVICE as u64 => Ok(()),
        len => Err(format!("{script}: {len} bytes")),
    }
}

/// Returns what the device is to hold where it held `before`, and the source is `copied`.
fn expected(mut before: Vec<u8>, copied: &[u8], leaves: Leaves) -> Vec<u8> {
    let last = copied.iter().rposition(|byte| *byte != 0).unwrap();
    // dd looks at blocks of this size.
    for (number, block) in copied.chunks(4096).enumerate() {
        let at = number * 4096;
        let into = &mut before[at..at + block.len()];
        match leaves {
            Source | SourceInSectors => into.copy_from_slice(block),
            Zeros => into.fill(0),
            AllButLastHole if at <= last => into.copy_from_slice(block),
            DataAlone if block.iter().any(|byte| *byte != 0) => into.copy_from_slice(block),
            AllButLastHole | DataAlone | Refused(_) => {}
        }
    }
    match leaves {
        SourceInSectors | Zeros => {
            before[copied.len()..copied.len().next_multiple_of(512)].fill(0);
        }
        Source | AllButLastHole | DataAlone | Refused(_) => {}
    }
    before
}

fn make_source(dir: &Path) -> (std::path::PathBuf, Vec<u8>) {
    // The archive's member has the device's name.
    let path = dir.join("d");
    let file = File::create(&path).unwrap();
    file.set_len(SOURCE as u64).unwrap();
    let mut bytes = vec![0; SOURCE];
    for (from, len) in DATA {
        bytes[from..from + len].fill(0xee);
        file.write_all_at(&bytes[from..from + len], from as u64).unwrap();
    }
    File::create(dir.join("larger")).unwrap().set_len(2 * DEVICE as u64).unwrap();
    (path, bytes)
}

fn is_installed(program: &str) -> bool {
    let which = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    which.is_ok_and(|output| output.status.success())
}

fn said(Output { stdout, stderr, .. }: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}

/// Set to write the table, where the rows are others.
const WRITE: &str = "DMSIM_WRITE_DOCS";

#[test]
fn the_table_of_tools_says_what_the_rows_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/tools.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- rows -->\n", "<!-- end -->\n");
    let (head, rest) = text.split_once(begin).unwrap();
    let (table, tail) = rest.split_once(end).unwrap();
    let mut rows = String::from("| command | leaves |\n|---|---|\n");
    for (_, script, leaves) in ROWS {
        let script = script.replace('|', "\\|");
        let leaves = match leaves {
            Source => "the source",
            SourceInSectors => "the source, with zeros up to the end of its last sector",
            AllButLastHole => "the source, with old bytes in its last hole, as on a block device",
            DataAlone => "the source's data, with old bytes in its holes, as on a block device",
            Zeros => "zeros",
            Refused("") => "refused",
            Refused(word) => &format!("refused: *{word}*"),
        };
        rows += &format!("| `{script}` | {leaves} |\n");
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, [head, begin, &rows, end, tail].concat()).unwrap();
        return;
    }
    assert!(table == rows, "with {WRITE}=1 this test writes the table of the rows:\n{rows}");
}
