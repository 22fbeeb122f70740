//! The mark on each image that a merge changes: the extended attribute [`ATTRIBUTE`], put there before
//! the first copy and taken off after the last. It goes where the image goes: whoever meets the image
//! while its content is half old and half new is told so, and what to do about it. The store has it
//! too: a mark that comes from elsewhere names no file that has none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use backing::Attached;
use daemon::{About, Fault, Instance};
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, getxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Id, Slot};

use super::note::{Note, notes};
use crate::device_mapper::DeviceMapper;
use crate::devices::{by_id, find};
use crate::files::{open_image, place};
use crate::snapshot::store::{Start, StoreFile};
use crate::words::MAPPER;

/// The extended attribute.
pub const ATTRIBUTE: &str = "user.dmsim.merging";

/// The longest mark that is read, in bytes: more than a path and two names take.
const LONGEST: usize = 16 << 10;

/// What the attribute says, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) store: String,
    pub(super) since: String,
    pub(super) origin: String,
    #[serde(default)]
    pub(super) snapshot: String,
    /// The instance's directory, where it is not the default instance.
    #[serde(default)]
    dir: Option<String>,
    /// Where the note is that a merge needs to be finished.
    note: String,
    /// The table below the origin, by which it is finished where the note is gone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) table: String,
}

impl Mark {
    fn new(instance: &Instance, note: &Note) -> Mark {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Mark {
            store: text(&note.store),
            since: note.since.clone(),
            origin: note.origin.clone(),
            snapshot: note.snapshot.clone(),
            table: note.table.clone(),
            dir: is_own(instance).then(|| text(instance.dir())),
            note: text(&instance.merging(&note.snapshot)),
        }
    }
}

/// Tells whether an instance has a directory of its own.
fn is_own(instance: &Instance) -> bool {
    instance.dir() == instance.state()
}

/// A merge that has begun and is not finished, as an image tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    image: PathBuf,
    mark: Mark,
    left: Left,
    /// What finishes it.
    command: String,
}

/// What there is to finish a merge by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The note, and the store with what is not merged yet.
    Chunks,
    /// The note; all is merged.
    Nothing,
    /// The store is gone, or cannot be read as one.
    NoStore,
    /// The mark, and the store.
    Mark,
    /// The note is gone, and the mark is not enough.
    NoNote,
}

impl Unfinished {
    /// Returns the device that the merge is into.
    pub fn origin(&self) -> &str {
        &self.mark.origin
    }

    /// Tells whether this is the store, and no image that is changed.
    fn is_store(&self) -> bool {
        self.image.canonicalize().is_ok_and(|image| image == Path::new(&self.mark.store))
    }

    /// Tells whether the mark is all there is to finish it by: `rebuild` does.
    pub fn needs_rebuild(&self) -> bool {
        self.left == Left::Mark
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { store, since, origin, note, .. } = &self.mark;
        let (image, command) = (self.image.display(), &self.command);
        // What an image says may come from anywhere: no terminal is steered by it.
        let [store, since, origin, note] =
            [store, since, origin, note].map(|text| text.escape_debug().to_string());
        write!(f, "{image}: a merge of the store {store} into `{origin}`, begun {since}, ")?;
        let half = match self.is_store() {
            true => "what is not merged lies here alone",
            false => "part of what the image holds is from before it",
        };
        let off = format!("`setfattr -x {ATTRIBUTE} {image}` takes this mark off");
        match self.left {
            Left::Chunks | Left::Mark => {
                write!(f, "is not finished: {half}. `{command}` finishes it")
            }
            Left::Nothing => {
                write!(f, "has copied all, and is not put away: `{command}` finishes it")
            }
            Left::NoStore => write!(
                f,
                "is not finished: {half}, and the store is not there. Bring it back, and \
                 `{command}` finishes the merge; else {off}"
            ),
            Left::NoNote => write!(
                f,
                "is not finished: {half}, and the record of it, {note}, is not there. Bring that \
                 back with the record beside it, and `{command}` finishes the merge; else {off}"
            ),
        }
    }
}

/// Lists the images that can be changed through a device.
pub(in crate::snapshot) fn images_below(
    dm: &mut dyn DeviceMapper,
    dev: DevNumber,
) -> Result<Vec<Attached>, Fault> {
    let mut found = walk(dm, dev, Through::All)?;
    found.retain(|image| !image.access.is_read_only());
    Ok(found)
}

/// Which devices lead further down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    All,
    /// Not those that a merge runs in: what is seen through them is all new.
    NoMerge,
}

fn walk(
    dm: &mut dyn DeviceMapper,
    dev: DevNumber,
    through: Through,
) -> Result<Vec<Attached>, Fault> {
    let (mut next, mut seen, mut found) = (vec![dev], vec![dev], Vec::new());
    let images = dm.images()?;
    while let Some(dev) = next.pop() {
        if let Some(image) = images.iter().find(|image| image.number == dev) {
            found.push(image.clone());
            continue;
        }
        let device = by_id(dm, Id::Dev(dev))?;
        if through == Through::NoMerge && device.is_some_and(|device| device.merge().is_some()) {
            continue;
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = dm.control(deps)? {
            let new: Vec<_> = deps.into_iter().filter(|dev| !seen.contains(dev)).collect();
            seen.extend(&new);
            next.extend(new);
        }
    }
    Ok(found)
}

/// Marks the images of a merge, and makes that durable. Returns those that cannot have a mark, and
/// why.
pub(in crate::snapshot) fn put(
    instance: &Instance,
    note: &Note,
) -> Result<Vec<(PathBuf, String)>, Fault> {
    let mut unmarked = Vec::new();
    let store = (!note.store.as_os_str().is_empty()).then_some(&note.store);
    for image in note.images.iter().chain(store) {
        let mark = serde_json::to_vec(&Mark::new(instance, note)).about(image.display())?;
        let file = open_image(image).about(image.display())?;
        match fsetxattr(&file, ATTRIBUTE, &mark, XattrFlags::empty()) {
            Ok(()) => file.sync_all().about(image.display())?,
            Err(_) if Some(image) == store => {}
            Err(error) => unmarked.push((image.clone(), error.to_string())),
        }
    }
    Ok(unmarked)
}

/// Takes the marks of a merge off.
pub(in crate::snapshot) fn take_off(note: &Note) -> Result<(), Fault> {
    for image in note.images.iter().chain([&note.store]) {
        // One that is not there has no mark.
        let Ok(file) = open_image(image) else { continue };
        let mut text = vec![0; LONGEST];
        let read = fgetxattr(&file, ATTRIBUTE, &mut *text).ok().and_then(|len| parse(&text[..len]));
        if !read.is_some_and(|mark| mark.origin == note.origin && mark.since == note.since) {
            continue;
        }
        match fremovexattr(&file, ATTRIBUTE) {
            Ok(()) => file.sync_all().about(image.display())?,
            Err(Errno::NODATA) => {}
            Err(error) => {
                let why = format!("the merge is done, and its mark cannot be taken off: {error}");
                return Err(Fault::new(image.display(), why));
            }
        }
    }
    Ok(())
}

fn parse(text: &[u8]) -> Option<Mark> {
    serde_json::from_slice(text).ok()
}

/// Looks whether a merge that changes an image is not finished, by the mark on it, or the notes of the
/// instance where it can have none. A command is told for a user who means this instance.
pub fn unfinished(image: &Path, instance: Option<&Instance>) -> Option<Unfinished> {
    let mark = read(image).or_else(|| noted(image, instance?))?;
    let left = match (Path::new(&mark.note).exists(), is_left(Path::new(&mark.store))) {
        (false, Some(_)) if !mark.table.is_empty() => Left::Mark,
        (false, _) => Left::NoNote,
        (true, Some(true)) => Left::Chunks,
        (true, Some(false)) => Left::Nothing,
        (true, None) => Left::NoStore,
    };
    let command = match left {
        // Whichever instance does it.
        Left::Mark => {
            let image = std::path::absolute(image).unwrap_or_else(|_| image.to_owned());
            format!("dmsim merge {}", quoted(&image.to_string_lossy()))
        }
        Left::Chunks | Left::Nothing | Left::NoStore | Left::NoNote => command(&mark, instance),
    };
    Some(Unfinished { image: image.to_owned(), mark, left, command })
}

impl Mark {
    /// Tells whether a file has a mark of the same merge.
    pub(super) fn is_on(&self, path: &Path) -> bool {
        let same = |other: Mark| {
            (&other.store, &other.since, &other.origin) == (&self.store, &self.since, &self.origin)
        };
        read(path).is_some_and(same)
    }
}

/// Reads the mark on an image.
pub(super) fn read(image: &Path) -> Option<Mark> {
    let mut text = vec![0; LONGEST];
    let len = getxattr(image, ATTRIBUTE, &mut *text).ok()?;
    parse(&text[..len])
}

/// Lists the merges that are not finished among the images that are attached.
pub fn all_unfinished(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
) -> Result<Vec<Unfinished>, Fault> {
    let images = dm.images()?.into_iter();
    let found = images.filter_map(|image| unfinished(&image.path, Some(instance)));
    Ok(found.filter(|found| !found.is_store()).collect())
}

/// Lists the merges that are not finished and change what would be seen through an image, the name
/// of an attached one, or a mapped device. What is seen through the device that a merge runs in is
/// all new.
pub fn unfinished_below(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    word: &Path,
) -> Result<Vec<Unfinished>, Fault> {
    let (path, word) = place(dm, word)?;
    let paths = match word.0.strip_prefix(MAPPER) {
        None => vec![path],
        Some(name) => match find(dm, name)? {
            Some(device) => {
                let images = walk(dm, device.status.dev, Through::NoMerge)?.into_iter();
                images.map(|image| image.path).collect()
            }
            None => Vec::new(),
        },
    };
    Ok(paths.iter().filter_map(|path| unfinished(path, Some(instance))).collect())
}

fn noted(image: &Path, instance: &Instance) -> Option<Mark> {
    let image = image.canonicalize().ok()?;
    let note = notes(instance).into_iter().find(|note| note.images.contains(&image))?;
    Some(Mark::new(instance, &note))
}

/// Tells whether a store has something that is not merged; nothing where it cannot be read.
pub(in crate::snapshot) fn is_left(store: &Path) -> Option<bool> {
    // A pipe would be waited for.
    let meta = store.metadata().ok()?;
    if !meta.is_file() && !std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()) {
        return None;
    }
    let file = StoreFile::open(store).ok()?;
    match file.start() {
        Ok(Start::Store(header, layout)) if header.valid => {
            file.changed(layout).ok().map(|runs| !runs.is_empty())
        }
        Ok(_) | Err(_) => None,
    }
}

fn command(mark: &Mark, instance: Option<&Instance>) -> String {
    let program = match (&mark.dir, instance) {
        (Some(dir), Some(instance)) if Path::new(dir) == instance.dir() => "dmsim".to_owned(),
        (Some(dir), _) => format!("dmsim --dir {}", quoted(dir)),
        (None, Some(instance)) if is_own(instance) => "env -u DMSIM_DIR dmsim".to_owned(),
        (None, _) => "dmsim".to_owned(),
    };
    format!("{program} merge {}", quoted(&mark.origin))
}

/// Writes a word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./:=@_,%".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.escape_debug().to_string().replace('\'', "'\\''")),
    }
}

/// Writes the time of now, in UTC.
pub(in crate::snapshot) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    utc(now.map_or(0, |now| now.as_secs()))
}

fn utc(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    let (day, hour, minute) = (days + 1, time / 3600, time / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_date_writes_it() {
        // `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn what_a_mark_says_steers_no_terminal_and_no_shell() {
        let dir = tempfile::tempdir().expect("a folder");
        let image = dir.path().join("image");
        let file = std::fs::File::create(&image).expect("a new file");
        for bad in ["", "{}", "nonsense", "{\"store\":1}"] {
            match fsetxattr(&file, ATTRIBUTE, bad.as_bytes(), XattrFlags::empty()) {
                Err(Errno::NOTSUP) => return println!("skipped: no extended attributes here"),
                set => set.expect("an attribute"),
            }
            assert_eq!(unfinished(&image, None), None, "{bad}");
        }
        let mark = Mark {
            store: "/s\u{1b}[2J".to_owned(),
            since: "then\n".to_owned(),
            origin: "a'; rm x\u{7}".to_owned(),
            dir: Some("/a b".to_owned()),
            snapshot: String::new(),
            table: String::new(),
            note: "/nowhere".to_owned(),
        };
        let text = serde_json::to_vec(&mark).expect("JSON");
        fsetxattr(&file, ATTRIBUTE, &text, XattrFlags::empty()).expect("an attribute");
        let told = unfinished(&image, None).expect("a mark").to_string();
        assert!(!told.contains(char::is_control), "{told:?}");
        assert!(told.contains("dmsim --dir '/a b' merge 'a\\'\\''; rm x"), "{told}");
    }
}
