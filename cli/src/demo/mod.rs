//! `dmsim demo`: builds a stack from nothing, uses it while things happen to it, checks it, and
//! shows it.

mod content;
mod load;
mod raid;
mod show;
mod stage;
mod tools;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::args::Demo;
use crate::output::print;
use crate::show::{Branches, tree};
use content::Content;
use daemon::{About, Fault};
use load::Load;
use show::Show;
use stage::Stage;
use tools::find;

/// The size of each of the two images, and of what is made of them: 128 MiB.
const SECTORS: u64 = 262_144;

/// The first part of the volume has a file system; the rest is written by itself.
const FILE_SYSTEM_BLOCKS: u64 = 24_576;
const BLOCKS: u64 = SECTORS / 8;

/// The devices above one another: a mirror, encryption, and what snapshots are taken of.
const MIRROR: &str = "legs";
const CRYPT: &str = "secret";
const VOLUME: &str = "volume";
const SNAPSHOT: &str = "before";

/// Makes file systems, where it is installed.
const MKFS: &str = "mkfs.ext4";

/// The folder with the tree that goes into them.
const TREE: &str = "tree";

/// The leg that fails.
const LEG: &str = "/dev/sdb";

/// Runs the demonstration in `dir`, or in a temporary directory where none is given.
pub(crate) fn run(options: &Demo, dir: Option<&Path>) -> Result<ExitCode, Fault> {
    let show = Show::new();
    let stage = Arc::new(Stage::make(dir)?);
    stage::clean_on_signals(&stage)?;
    let result = play(&show, &stage);
    match (&result, options.keep) {
        (Ok(()), true) => print(&stage.keep())?,
        (Ok(()), false) | (Err(_), _) => {
            show.step("stop the daemon and leave nothing behind", || stage.clean().map(|()| None))?;
            ExitCode::SUCCESS
        }
    };
    result?;
    show.line("Everything came back as it went in.")
}

fn play(show: &Show, stage: &Stage) -> Result<(), Fault> {
    show.line(&format!(
        "A stack of mapped devices in {}, without the kernel's device-mapper:",
        stage.dir().display()
    ))?;
    show.step("start a daemon", || stage.start())?;
    for (file, name) in [("a.img", "/dev/sda"), ("b.img", LEG)] {
        let what = format!("make {file}, attach it as {name}");
        show.step(&what, || stage.attach(file, name, SECTORS * 512))?;
    }
    build(show, stage)?;
    let volume = stage.device(VOLUME);
    let filled = fill(show, stage, &volume)?;

    let mut load = Load::new();
    let busy = start_load(show, &volume, filled.as_ref(), &mut load)?;
    trouble(show, stage)?;
    show.step("end the load", || {
        let done = load.end()?;
        stage.unmount()?;
        Ok(Some(format!("{done} {busy}: no error, all as written")))
    })?;
    if filled.is_some() {
        check_file_system(show, &volume, Repair::No)?;
    }
    look_back(show, stage, &volume, filled.as_ref())?;
    raid::play(show, stage, filled.as_ref().map(|filled| &filled.content))?;
    show.line(&format!(
        "\nDevices: {}\nState:   {}\nKernel's log lines: {}\n",
        stage.instance().mapper().display(),
        stage.instance().record().display(),
        stage.instance().kmsg().display()
    ))
    .map(drop)
}

/// Puts the devices on top of one another.
fn build(show: &Show, stage: &Stage) -> Result<(), Fault> {
    let key = new_key()?;
    let tables = [
        (MIRROR, format!("0 {SECTORS} mirror core 2 1024 nosync 2 /dev/sda 0 {LEG} 0")),
        (CRYPT, format!("0 {SECTORS} crypt aes-xts-plain64 {key} 0 {MIRROR} 0")),
        (VOLUME, format!("0 {SECTORS} snapshot-origin {CRYPT}")),
    ];
    for (name, table) in tables {
        show.step(&format!("create {name}"), || stage.create(name, &table).map(|()| None))?;
        show.note(&table.replace(&key, "(a key made just now)"))?;
    }
    Ok(())
}

/// Makes a key of 256 bits for this run, as digits.
fn new_key() -> Result<String, Fault> {
    const RANDOM: &str = "/dev/urandom";
    let mut key = [0; 32];
    File::open(RANDOM).and_then(|mut random| random.read_exact(&mut key)).about(RANDOM)?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A tree of files that went into the volume's file system, and where it is mounted.
struct Filled {
    content: Content,
    mounted: Option<PathBuf>,
}

/// Makes a file system with a tree in it; nothing where there is no mkfs.
fn fill(show: &Show, stage: &Stage, volume: &Path) -> Result<Option<Filled>, Fault> {
    if find(MKFS).is_none() {
        show.note("mkfs.ext4 is not installed (package e2fsprogs): blocks have to do")?;
        return Ok(None);
    }
    let content = show.value("make a tree of files", || {
        let content = Content::make(&stage.dir().join(TREE))?;
        let what = content.to_string();
        Ok((content, Some(what)))
    })?;
    make_file_system(show, stage, volume, FILE_SYSTEM_BLOCKS, content).map(Some)
}

/// Makes a file system of so many blocks with the tree in it that has this content.
fn make_file_system(
    show: &Show,
    stage: &Stage,
    volume: &Path,
    blocks: u64,
    content: Content,
) -> Result<Filled, Fault> {
    let mkfs = find(MKFS).ok_or("not installed").about(MKFS)?;
    let source = stage.dir().join(TREE);
    let blocks = blocks.to_string();
    let make = |with: &[&OsStr]| {
        let options = ["-F", "-q", "-b", "4096"].map(OsStr::new);
        let rest = [volume.as_os_str(), blocks.as_ref()];
        mkfs.run([&options[..], with, &rest].concat())
    };
    if stage.can_mount() {
        show.step("mkfs.ext4 on the exposed file", || make(&[]))?;
        let mounted = show.value("mount it (loop), copy the tree in", || {
            let Ok(mounted) = stage.mount(volume) else {
                let why = "no loop device here: mkfs and debugfs have to do";
                return Ok((None, Some(why.to_owned())));
            };
            content::copy(&source, &mounted)?;
            rustix::fs::sync();
            Ok((Some(mounted), None))
        })?;
        if mounted.is_some() {
            return Ok(Filled { content, mounted });
        }
    }
    show.step("mkfs.ext4 on the exposed file, with the tree in it", || {
        make(&["-d".as_ref(), source.as_os_str()])
    })?;
    Ok(Filled { content, mounted: None })
}

/// Starts to use all of the volume; returns what of.
fn start_load(
    show: &Show,
    volume: &Path,
    filled: Option<&Filled>,
    load: &mut Load,
) -> Result<&'static str, Fault> {
    let (first, mounted) = match filled {
        Some(filled) => (FILE_SYSTEM_BLOCKS, filled.mounted.as_deref()),
        None => (0, None),
    };
    show.step("keep it busy from here on", || {
        let middle = (first + BLOCKS) / 2;
        load.use_blocks(volume, first..middle)?;
        load.use_blocks(volume, middle..BLOCKS)?;
        if let Some(mounted) = mounted {
            load.use_files(&mounted.join("busy"))?;
        }
        Ok(None)
    })?;
    Ok(if mounted.is_some() { "files and blocks" } else { "blocks" })
}

/// Lets the load go on for a while.
fn pause() {
    thread::sleep(Duration::from_millis(300));
}

/// What happens to the stack while it is busy.
fn trouble(show: &Show, stage: &Stage) -> Result<(), Fault> {
    pause();
    show.command(stage, &["snapshot", VOLUME, SNAPSHOT])?;
    pause();
    show.command(stage, &["fail", MIRROR, LEG])?;
    pause();
    // The letter D is the leg's.
    show.command(stage, &["status", MIRROR])?;
    show.command(stage, &["heal", MIRROR, LEG])?;
    show.command(stage, &["wait", "--sync", MIRROR])?;
    show.command(stage, &["status", MIRROR])
}

/// Looks at the snapshot, and brings it back.
fn look_back(
    show: &Show,
    stage: &Stage,
    volume: &Path,
    filled: Option<&Filled>,
) -> Result<(), Fault> {
    show.command(stage, &["check", MIRROR])?;
    let snapshot = stage.device(SNAPSHOT);
    if let Some(filled) = filled {
        check_file_system(show, &snapshot, Repair::Journal)?;
        read_back(show, stage, &snapshot, &filled.content)?;
    }
    show.command(stage, &["diff", SNAPSHOT, "--picture", "--width", "64"])?;
    let stack = ops::stack(&mut stage.client()?)?;
    show.line("\nThe stack:")?;
    show.line(&tree(&stack, Branches::of_locale()))?;

    let digest = show.value("read the snapshot", || {
        let digest = content::digest(&snapshot)?;
        let said = digest.clone();
        Ok((digest, Some(said)))
    })?;
    show.command(stage, &["merge", SNAPSHOT])?;
    show.step("read the volume: it is what the snapshot was", || {
        let merged = content::digest(volume)?;
        match merged == digest {
            true => Ok(Some(merged)),
            false => Err(Fault::new(VOLUME, format!("{merged}, the snapshot was {digest}"))),
        }
    })?;
    show.command(stage, &["check", MIRROR])?;
    if filled.is_some() {
        check_file_system(show, volume, Repair::No)?;
    }
    Ok(())
}

/// What a check of a file system may change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    No,
    /// A journal is replayed, as when it is mounted.
    Journal,
}

fn check_file_system(show: &Show, device: &Path, repair: Repair) -> Result<(), Fault> {
    let Some(fsck) = find("e2fsck") else {
        return show.note("e2fsck is not installed: no check");
    };
    let name = device.file_name().unwrap_or_default().display();
    if repair == Repair::Journal {
        show.step(&format!("replay the journal of {name}"), || {
            let replay = ["-y", "-E", "journal_only"].map(OsStr::new);
            fsck.run([&replay[..], &[device.as_os_str()]].concat())
        })?;
    }
    show.step(&format!("e2fsck -fn {name}"), || fsck.run(["-fn".as_ref(), device.as_os_str()]))
}

/// Reads the tree of a file system that nobody has mounted.
fn read_back(show: &Show, stage: &Stage, device: &Path, content: &Content) -> Result<(), Fault> {
    let Some(debugfs) = find("debugfs") else {
        return show.note("debugfs is not installed: the tree is not read back");
    };
    let name = device.file_name().unwrap_or_default().display();
    show.step(&format!("read the tree out of {name}, by digest"), || {
        let copy = stage.make_dir(&format!("read-back-{name}"))?;
        let dump = format!("rdump / {}", quote(&copy)?);
        debugfs.run(["-R".as_ref(), dump.as_ref(), device.as_os_str()])?;
        content.check(&Content::read(&copy)?)
    })
}

/// Quotes a path for debugfs, which has no way to write a quote.
fn quote(path: &Path) -> Result<String, Fault> {
    let text = path.to_str().filter(|text| !text.contains('"'));
    let text = text.ok_or("expected a path without quotes").about(path.display())?;
    Ok(format!("\"{text}\""))
}
