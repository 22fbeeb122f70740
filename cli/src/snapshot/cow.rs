//! The image that keeps what changes: found, checked, made; and put back as it was.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sim_core::control::{Answer, Command, Id, Slot};
use sim_core::{DevNumber, SECTOR_SIZE, Sectors};
use targets::snapshot::ChunkSize;
use targets::snapshot::store::format::Header;

use super::machine::Machine;
use super::store::{Start, StoreFile, least};
use super::{above, find};
use crate::fault::{About, Fault};
use crate::instance::make_private_dir;
use crate::open::image::escaped;
use crate::open::{MAPPER, mapped_path, mapped_word};
use crate::size::print_size;

/// How much of a file's start and end has to be zeros for the file to count as empty: file systems
/// and partition tables have something there, though some leave the first bytes alone.
const EMPTY_START: u64 = 1 << 20;
const EMPTY_END: u64 = 64 << 10;

/// The image of a snapshot's store.
#[derive(Debug)]
pub(super) struct Cow {
    /// What a table line calls it.
    pub(super) word: String,
    pub(super) chunk: ChunkSize,
    path: PathBuf,
    was: Was,
}

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Missing,
    Zeros,
    /// A store without exceptions, which stays as it is until a snapshot writes to it.
    Store,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// The origin's device, which cannot keep its own snapshots.
    pub(super) origin: &'a str,
    /// As it was typed; nothing for the instance's own.
    pub(super) cow: Option<&'a Path>,
    /// Where the instance's own lies.
    pub(super) own: PathBuf,
    /// Nothing for what a store has, or the kernel's default.
    pub(super) chunk: Option<ChunkSize>,
    pub(super) size: Option<Sectors>,
    pub(super) origin_size: Sectors,
    pub(super) transient: bool,
}

/// Finds the image, and makes it where it is not there; nothing is changed otherwise.
pub(super) fn prepare(machine: &mut dyn Machine, wish: &Wish<'_>) -> Result<Cow, Fault> {
    let typed = wish.cow.unwrap_or(&wish.own);
    let about = typed.display();
    let (path, word) = place(machine, typed)?;
    refuse_used(machine, wish.origin, &path, &word).map_err(|why| Fault::new(&about, why))?;
    let there = match StoreFile::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Fault::new(about, error)),
    };
    let Some(file) = there else {
        if wish.cow.is_some() && wish.size.is_none() {
            let why = "is not there: --size SIZE makes it";
            return Err(Fault::new(about, why));
        }
        let chunk = wish.chunk.unwrap_or(ChunkSize::DEFAULT);
        let size = wish
            .size
            .unwrap_or_else(|| super::store::needed(wish.origin_size, chunk, wish.transient));
        check_size(size, chunk, wish.transient).map_err(|why| Fault::new(&about, why))?;
        make(&path, size, wish.cow.is_none())?;
        return Ok(Cow { word, chunk, path, was: Was::Missing });
    };
    let (chunk, was) = inspect(&file, wish).map_err(|why| Fault::new(&about, why))?;
    Ok(Cow { word, chunk, path, was })
}

impl Cow {
    /// Leaves the image as it was before.
    pub(super) fn undo(&self) -> Result<(), Fault> {
        match self.was {
            Was::Missing => std::fs::remove_file(&self.path).about(self.path.display()),
            Was::Zeros => without_header(&self.path).about(self.path.display()),
            Was::Store => Ok(()),
        }
    }
}

/// Takes the header away that a load has made on an empty image; the rest of what it wrote is
/// zeros.
fn without_header(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&[0; Header::LEN], 0)?;
    file.sync_data()
}

/// Returns where the bytes of an image can be read, and what a table line calls it.
fn place(machine: &mut dyn Machine, typed: &Path) -> Result<(PathBuf, String), Fault> {
    let text = typed.to_str();
    let images = machine.images()?;
    if let Some(image) =
        images.iter().find(|image| image.name.is_some() && image.name.as_deref() == text)
    {
        return Ok((image.path.clone(), image.name.clone().unwrap_or_default()));
    }
    if let Some(word) = mapped_word(machine.mount(), typed) {
        return Ok((mapped_path(machine.mount(), &word), word));
    }
    let path = std::path::absolute(typed).about(typed.display())?;
    match path.to_str() {
        Some(text) => Ok((path.clone(), escaped(text))),
        None => Err(Fault::new(path.display(), "expected a path in UTF-8")),
    }
}

/// Refuses an image that a table uses already, or that could not be written while the origin is
/// suspended.
fn refuse_used(
    machine: &mut dyn Machine,
    origin: &str,
    path: &Path,
    word: &str,
) -> Result<(), String> {
    let text = |fault: Fault| fault.to_string();
    let number = match word.strip_prefix(MAPPER) {
        Some(name) => {
            let device = find(machine, name).map_err(text)?;
            device.ok_or("no such device")?.status.dev
        }
        None => {
            refuse_on(machine, origin, path)?;
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let images = machine.images().map_err(text)?;
            match images.iter().find(|image| image.path == real) {
                Some(image) if image.access.is_read_only() => {
                    return Err("is attached read-only".to_owned());
                }
                Some(image) => image.number,
                None => return Ok(()),
            }
        }
    };
    if maps_onto(machine, number, origin).map_err(text)? {
        return Err(format!("lies on `{origin}` itself, which it could not keep"));
    }
    match &above(machine, number).map_err(text)?[..] {
        [] => Ok(()),
        users => Err(format!("is in use by the table of `{}`", users.join("`, `"))),
    }
}

/// Tells whether a device is this one, or maps onto it.
fn maps_onto(machine: &mut dyn Machine, top: DevNumber, below: &str) -> Result<bool, Fault> {
    let Some(below) = find(machine, below)? else { return Ok(false) };
    let mut next = vec![top];
    while let Some(dev) = next.pop() {
        if dev == below.status.dev {
            return Ok(true);
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = machine.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(false)
}

/// Refuses a file in a file system that is mounted, by a loop device, from the origin: it would be
/// written to while the origin is suspended, and both would wait for ever.
fn refuse_on(machine: &mut dyn Machine, origin: &str, path: &Path) -> Result<(), String> {
    let there = [Some(path), path.parent()].into_iter().flatten();
    let Some(meta) = there.filter_map(|path| path.metadata().ok()).next() else { return Ok(()) };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has its disk above it.
    let file = ["loop/backing_file", "../loop/backing_file"]
        .iter()
        .find_map(|name| std::fs::read_to_string(sysfs.join(name)).ok());
    let Some(file) = file else { return Ok(()) };
    let Some(word) = mapped_word(machine.mount(), Path::new(file.trim_end())) else {
        return Ok(());
    };
    let name = word.strip_prefix(MAPPER).unwrap_or(&word);
    let device = find(machine, name).map_err(|fault| fault.to_string())?;
    let Some(device) = device else { return Ok(()) };
    match maps_onto(machine, device.status.dev, origin) {
        Ok(true) => Err(format!(
            "lies in a file system on `{origin}` itself: what changes has to be kept elsewhere"
        )),
        Ok(false) => Ok(()),
        Err(fault) => Err(fault.to_string()),
    }
}

fn check_size(size: Sectors, chunk: ChunkSize, transient: bool) -> Result<(), String> {
    let least = least(chunk, transient);
    if size >= least {
        return Ok(());
    }
    Err(format!(
        "{} is too small: chunks of {} take {} at least",
        print_size(size.bytes()),
        print_size(chunk.sectors().bytes()),
        print_size(least.bytes())
    ))
}

fn make(path: &Path, size: Sectors, own: bool) -> Result<(), Fault> {
    if let Some(parent) = path.parent().filter(|_| own) {
        make_private_dir(parent)?;
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let made = file.about(path.display())?.set_len(size.bytes());
    made.inspect_err(|_| drop(std::fs::remove_file(path))).about(path.display())
}

/// Looks at an image that is there; says why it cannot be used otherwise.
fn inspect(file: &StoreFile, wish: &Wish<'_>) -> Result<(ChunkSize, Was), String> {
    if let Some(size) = wish.size.filter(|size| *size != file.len) {
        let (has, asked) = (print_size(file.len.bytes()), print_size(size.bytes()));
        return Err(format!("is there already, and has {has} instead of {asked}"));
    }
    let start = file
        .start()
        .map_err(|why| format!("is neither empty nor a store, and is left alone: {why}"))?;
    let (header, layout) = match start {
        Start::Zeros => {
            let chunk = wish.chunk.unwrap_or(ChunkSize::DEFAULT);
            check_size(file.len, chunk, wish.transient)?;
            refuse_content(file)?;
            return Ok((chunk, Was::Zeros));
        }
        Start::Store(header, layout) => (header, layout),
    };
    if !header.valid {
        return Err(
            "is the store of a snapshot that became invalid: name another image, or remove \
                    this one"
                .to_owned(),
        );
    }
    let scanned = file.exceptions(layout);
    let scanned = scanned.map_err(|why| format!("is a damaged store: {why}"))?;
    let count: u64 = scanned.runs().map(|(_, _, len)| len).sum();
    if count > 0 {
        return Err(format!(
            "holds the {count} chunks of another snapshot: name another image, remove this one, \
             or bring that snapshot back by a table line of `snapshot`"
        ));
    }
    let own = layout.chunk();
    if let Some(asked) = wish.chunk.filter(|asked| *asked != own) {
        let (own, asked) = (own.sectors().bytes(), asked.sectors().bytes());
        let (own, asked) = (print_size(own), print_size(asked));
        return Err(format!("is a store with chunks of {own}, not {asked}: leave --chunk out"));
    }
    check_size(file.len, own, wish.transient)?;
    Ok((own, Was::Store))
}

/// Refuses what is no empty image, though its first bytes are zeros.
fn refuse_content(file: &StoreFile) -> Result<(), String> {
    let len = file.len.0 * SECTOR_SIZE;
    let tail = len.saturating_sub(EMPTY_END);
    for (from, to) in [(0, len.min(EMPTY_START)), (tail, len)] {
        let mut bytes = vec![0; (to - from) as usize];
        file.file.read_exact_at(&mut bytes, from).map_err(|error| error.to_string())?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            let at = from + at as u64;
            return Err(format!(
                "is neither empty nor a store, and is left alone: expected zeros, found something \
                 at byte {at}"
            ));
        }
    }
    Ok(())
}
