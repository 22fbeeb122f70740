//! Finishes a merge of which the image's own mark and the store are all that is left: the record and
//! the note went with a directory in memory, or with another machine. The devices are made anew as
//! they were when it was cut off, where the mark has room for the table.

use std::path::{Path, PathBuf};

use backing::Attached;
use daemon::{About, Fault, Instance};
use sim_core::control::{Id, Report, Slot};
use sim_core::{Access, DevNumber, KeyText, Sectors, TargetSpec, parse_table};
use targets::lines::snapshot::{Features, StoreKind};
use targets::lines::{self, DeviceWord};

use super::mark::{self, Mark, images_below};
use super::note::{Note, notes, write_note};
use crate::commands::{create, load, one, remove, resume, unlike_any_other};
use crate::device_mapper::DeviceMapper;
use crate::devices::{above, find, report};
use crate::snapshot::state::{MADE_BY_US, MERGE};
use crate::snapshot::store::{Start, StoreFile};
use crate::words::new_name;

/// Targets that keep nothing in mind and no key.
const PLAIN: [&str; 2] = ["linear", "striped"];

const UNCHANGED: &str = "all is as it was";

/// The longest table that a mark has, in bytes: some file systems have room for 4 KiB a file.
const LONGEST: usize = 2 << 10;

/// Returns the table of a device in words that make it anew: of images by their paths. Nothing where
/// it takes more than that, or more room than a mark has.
pub(super) fn plain_table(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<String, Fault> {
    let images = dm.images()?;
    let path = |image: &Attached| Some(DeviceWord::from(image.path.to_str()?).to_string());
    if let Some(image) = images.iter().find(|image| image.number == dev) {
        let path = path(image);
        return Ok(path.map_or(String::new(), |path| format!("0 {} linear {path} 0", image.size)));
    }
    let (id, keys) = (Id::Dev(dev), KeyText::LeftOut);
    let table = report(dm, id, Report::Table, Slot::Live, keys)?.unzip().1.unwrap_or_default();
    let word = |word: &str| match word.parse::<DevNumber>() {
        Ok(dev) => images.iter().find(|image| image.number == dev).and_then(path),
        Err(_) => Some(word.to_owned()),
    };
    let line = |line: &TargetSpec| {
        let words: Option<Vec<String>> = line.params.split(' ').map(word).collect();
        let words = words.filter(|_| PLAIN.contains(&line.target_type.as_str()))?;
        Some(format!("{} {} {} {}", line.start, line.len, line.target_type, words.join(" ")))
    };
    let lines: Option<Vec<String>> = table.iter().map(line).collect();
    let text = lines.map_or(String::new(), |lines| lines.join("\n"));
    Ok(if text.len() <= LONGEST { text } else { String::new() })
}

/// Makes the devices of a merge anew by the mark on an image, and brings it on its way; returns the
/// name of the origin.
///
/// # Errors
/// Where the image has no mark that is enough for that, or a name is taken.
pub fn rebuild(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    image: &Path,
) -> Result<String, Fault> {
    let mark = mark::read(image).filter(|mark| !mark.table.is_empty());
    let mark = mark.ok_or_else(|| Fault::new(image.display(), "has no mark of a merge"))?;
    let origin = &mark.origin;
    for name in [origin, &mark.snapshot] {
        // As the kernel has it: a mark may be anybody's.
        if new_name("merge", name)? != *name {
            let why = format!("its mark names no device: `{name}`");
            return Err(Fault::new(image.display(), why));
        }
    }
    if find(dm, origin)?.is_some() {
        let why = format!(
            "a merge into `{origin}` is to be finished, and a device of that name is there: `dmsim \
             rename` it first"
        );
        return Err(Fault::new(image.display(), why));
    }
    let store = Path::new(&mark.store);
    refuse_foreign(&mark, store)?;
    let file = StoreFile::open(store).about(store.display())?;
    let Ok(Start::Store(header, _)) = file.start() else {
        return Err(Fault::new(store.display(), "expected a snapshot's store"));
    };
    let below = format!("{origin}-real");
    let dev = make_below(dm, &below, &mark.table)?;
    let images: Vec<PathBuf> = images_below(dm, dev)?.into_iter().map(|image| image.path).collect();
    let foreign = images.iter().try_for_each(|image| refuse_foreign(&mark, image));
    if let Err(fault) = foreign {
        let undone = remove(dm, &below);
        return Err(fault.undone(undone, UNCHANGED));
    }
    let line = lines::snapshot::Line {
        origin: dev.into(),
        cow: DeviceWord::from(mark.store.as_str()),
        store: StoreKind::Persistent(lines::snapshot::WhenFull::Invalidate),
        chunk: targets::snapshot::ChunkSize::new(header.chunk_size, &[]).ok(),
        features: Features::default(),
    };
    let note = Note {
        snapshot: mark.snapshot.clone(),
        origin: origin.clone(),
        params: line.to_string(),
        store: store.to_owned(),
        since: mark.since.clone(),
        images,
        table: mark.table.clone(),
    };
    // From here on it is finished as any other that was cut off.
    write_note(instance, &note)?;
    mark::put(instance, &note)?;
    make_origin(dm, &note)?;
    Ok(note.origin)
}

/// As [`rebuild`], for a merge that is noted, by the images that it changes: where there is no record to
/// bring its devices back from.
///
/// # Errors
/// As there; also where no merge into `origin` is noted.
pub fn rebuild_noted(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    origin: &str,
) -> Result<String, Fault> {
    let note = notes(instance).into_iter().find(|note| note.origin == origin);
    let image = note.and_then(|note| note.images.into_iter().next());
    let image = image.ok_or_else(|| Fault::new(origin, "no image of its merge is noted"))?;
    rebuild(dm, instance, &image)
}

/// Refuses a file that has no mark of the same merge: an image that came from elsewhere could name any
/// other file of its reader's.
fn refuse_foreign(mark: &Mark, path: &Path) -> Result<(), Fault> {
    match mark.is_on(path) {
        true => Ok(()),
        false => Err(Fault::new(path.display(), "has no mark of the merge that names it")),
    }
}

/// Makes the device below; one that a try before has left is made anew.
fn make_below(dm: &mut dyn DeviceMapper, name: &str, table: &str) -> Result<DevNumber, Fault> {
    if let Some(there) = find(dm, name)? {
        let made = there.status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_BY_US));
        if !made || there.status.open_count > 0 || !above(dm, there.status.dev)?.is_empty() {
            let why = "the device below the merge is to have this name: `dmsim rename` what has it";
            return Err(Fault::new(name, why));
        }
        remove(dm, name)?;
    }
    let lines = parse_table(table).about(name)?;
    let lines: Vec<TargetSpec> = lines.into_iter().map(|(_, line)| line).collect();
    if let Some(line) = lines.iter().find(|line| !PLAIN.contains(&line.target_type.as_str())) {
        let why = format!("expected linear or striped in the mark, found `{}`", line.target_type);
        return Err(Fault::new(name, why));
    }
    create(dm, name, Some(format!("{MADE_BY_US}{}", unlike_any_other(DevNumber::mapped(0)))))?;
    let made = load(dm, name, Access::ReadWrite, lines).and_then(|()| resume(dm, name));
    if let Err(fault) = made {
        let undone = remove(dm, name);
        return Err(fault.undone(undone, UNCHANGED));
    }
    find(dm, name)?
        .map(|device| device.status.dev)
        .ok_or_else(|| Fault::new(name, "no such device"))
}

/// Makes the device that a merge runs in, over the one below, which is there.
pub(super) fn make_origin(dm: &mut dyn DeviceMapper, note: &Note) -> Result<(), Fault> {
    let name = &note.origin;
    let size: Option<Sectors> = super::cut_off::below(dm, note)?.map(|below| below.size());
    let size = size.ok_or_else(|| Fault::new(name, "the device below it is not there"))?;
    if find(dm, name)?.is_none() {
        create(dm, name, None)?;
    }
    load(dm, name, Access::ReadWrite, one(size, MERGE, &note.params))?;
    resume(dm, name)
}
