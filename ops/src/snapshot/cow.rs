//! The image that keeps what changes: found, checked, made; and put back as it was.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use daemon::folders::make_private_dir;
use daemon::{About, Fault};
use sim_core::Sectors;
use targets::lines::DeviceWord;
use targets::snapshot::ChunkSize;
use targets::snapshot::store::format::Header;

use super::store::{Start, StoreFile, least};
use crate::device_mapper::DeviceMapper;
use crate::files::{first_byte, place, refuse_used};
use crate::parts::Usage;
use crate::size::print_size;

/// The image of a snapshot's store.
#[derive(Debug)]
pub(super) struct Cow {
    /// What a table line calls it.
    pub(super) word: DeviceWord,
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
pub(super) fn prepare(dm: &mut dyn DeviceMapper, wish: &Wish<'_>) -> Result<Cow, Fault> {
    let typed = wish.cow.unwrap_or(&wish.own);
    let about = typed.display();
    let (path, word) = place(dm, typed)?;
    refuse_used(dm, wish.origin, &path, &word, Usage::ALONE)
        .map_err(|why| Fault::new(&about, why))?;
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
    made.inspect_err(|_| drop(std::fs::remove_file(path))).about(path.display())?;
    // The record names it: a power cut must not leave one without the other.
    let folder =
        path.parent().filter(|_| own).map_or(Ok(()), |parent| File::open(parent)?.sync_all());
    folder.about(path.display())
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
    match first_byte(&file.file).map_err(|error| error.to_string())? {
        None => Ok(()),
        Some(at) => Err(format!(
            "is neither empty nor a store, and is left alone: expected zeros, found something at \
             byte {at}"
        )),
    }
}
