//! `dmsim demo`: builds a stack from nothing, uses it, checks it, and shows it.

mod content;
mod load;
mod show;
mod stage;
mod tools;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::Demo;
use crate::fault::{About, Fault};
use crate::output::print;
use crate::tree;
use content::Content;
use show::Show;
use stage::Stage;
use tools::{Tool, find};

/// The size of each of the two images.
const IMAGE_SIZE: u64 = 64 << 20;

/// The stack: name and table of each device, from the bottom up. The images are `/dev/sda` and
/// `/dev/sdb`, of 131072 sectors each.
const DEVICES: [(&str, &str); 4] = [
    ("stripes", "0 131072 striped 2 128 /dev/sda 0 /dev/sdb 0"),
    ("joined", "0 32768 linear /dev/sda 65536\n32768 32768 linear /dev/sdb 65536"),
    ("volume", "0 131072 linear stripes 0\n131072 49152 linear joined 0"),
    (load::DEVICE, load::TABLES[0]),
];

/// The device that gets a file system.
const VOLUME: &str = "volume";

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
    for (file, name) in [("a.img", "/dev/sda"), ("b.img", "/dev/sdb")] {
        let what = format!("make {file}, attach it as {name}");
        show.step(&what, || stage.attach(file, name, IMAGE_SIZE))?;
    }
    for (name, table) in DEVICES {
        show.step(&format!("create {name}"), || stage.create(name, table).map(|()| None))?;
        show.note(table)?;
    }
    let volume = stage.device(VOLUME);
    match find("mkfs.ext4") {
        Some(mkfs) => file_system(show, stage, &mkfs, &volume)?,
        None => {
            show.note("mkfs.ext4 is not installed (package e2fsprogs): a pattern has to do")?;
            show.step("write a pattern over the whole volume, read it back", || {
                content::pattern_comes_back(&volume)
            })?;
        }
    }
    show.step("replace a table again and again under load", || load::run(stage))?;
    let stack = tree::stack(&mut stage.client()?)?;
    show.line("\nThe stack:")?;
    show.line(tree::draw(&stack, tree::Branches::of_locale()).trim_end())?;
    show.line(&format!(
        "Devices: {}\nState:   {}\nKernel's log lines: {}\n",
        stage.instance().mapper().display(),
        stage.instance().state().display(),
        stage.instance().kmsg().display()
    ))
    .map(drop)
}

/// Makes a file system on the volume, puts a tree in, checks it, and reads the tree back.
fn file_system(show: &Show, stage: &Stage, mkfs: &Tool, volume: &Path) -> Result<(), Fault> {
    let source = stage.dir().join("tree");
    let content = show.value("make a tree of files", || {
        let content = Content::make(&source)?;
        let what = content.to_string();
        Ok((content, Some(what)))
    })?;
    let fsck = |show: &Show| match find("e2fsck") {
        Some(fsck) => show.step("e2fsck -fn", || fsck.run(["-fn".as_ref(), volume.as_os_str()])),
        None => show.note("e2fsck is not installed: no check"),
    };
    if stage.can_mount() {
        show.step("mkfs.ext4 on the exposed file", || {
            mkfs.run(["-F".as_ref(), "-q".as_ref(), volume.as_os_str()])
        })?;
        let mounted = show.value("mount it (loop), copy the tree in", || {
            let Ok(mounted) = stage.mount(volume) else {
                return Ok((
                    false,
                    Some("no loop device here: done by mkfs and debugfs instead".to_owned()),
                ));
            };
            content::copy(&source, &mounted)?;
            stage.unmount()?;
            Ok((true, None))
        })?;
        if mounted {
            fsck(show)?;
            return show.step("mount it again, read the tree back by digest", || {
                let mounted = stage.mount(volume)?;
                let found = Content::read(&mounted);
                stage.unmount()?;
                content.check(&found?)
            });
        }
    }
    show.step("mkfs.ext4 on the exposed file, with the tree in it", || {
        mkfs.run([
            "-F".as_ref(),
            "-q".as_ref(),
            "-d".as_ref(),
            source.as_os_str(),
            volume.as_os_str(),
        ])
    })?;
    fsck(show)?;
    let Some(debugfs) = find("debugfs") else {
        return show.note("debugfs is not installed: the tree is not read back");
    };
    show.step("read the tree back by debugfs, by digest", || {
        let copy = stage.make_dir("read-back")?;
        let dump = format!("rdump / {}", quote(&copy)?);
        debugfs.run(["-R".as_ref(), dump.as_ref(), volume.as_os_str()])?;
        content.check(&Content::read(&copy)?)
    })
}

/// Quotes a path for debugfs, which has no way to write a quote.
fn quote(path: &Path) -> Result<String, Fault> {
    let text = path.to_str().filter(|text| !text.contains('"'));
    let text = text.ok_or("expected a path without quotes").about(path.display())?;
    Ok(format!("\"{text}\""))
}
