//! `state.json`: what is attached and loaded, so that `restore` can build it again.
//!
//! The file is replaced as a whole after each change, before the client is answered: a temporary
//! file, fsync, rename, fsync of the directory. Whoever reads it sees the state before a change
//! or after it.
//!
//! A daemon that starts over such a file does not build anything, and does not drop anything
//! either: what it finds is its *past*, which stays in the file beside what is new until a
//! `restore` has brought it back, piece by piece, or `restore --forget` drops it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backing::{Attach, Attached};
use serde::{Deserialize, Serialize};
use sim_core::control::Record;
use sim_core::{Access, DevNumber};

use crate::fault::{About, Fault};

/// The version of the file.
const VERSION: u32 = 1;

/// An attached image, as it can be attached again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// The file, from the root on.
    pub(crate) path: PathBuf,
    /// The number.
    pub(crate) dev: DevNumber,
    /// The name that table lines use, if it was given one.
    pub(crate) name: Option<String>,
    /// Whether it may be written to.
    pub(crate) access: Access,
    /// The size of a logical block, in bytes.
    pub(crate) sector_size: u32,
}

impl ImageRecord {
    /// Returns what to ask for to have it again.
    pub(crate) fn attach(&self) -> Attach {
        Attach {
            path: self.path.clone(),
            name: self.name.clone(),
            number: Some(self.dev),
            access: self.access,
            sector_size: self.sector_size,
            create: None,
            preallocate: false,
        }
    }
}

impl From<Attached> for ImageRecord {
    fn from(image: Attached) -> ImageRecord {
        ImageRecord {
            path: image.path,
            dev: image.number,
            name: image.name,
            access: image.access,
            sector_size: image.sector_size,
        }
    }
}

/// Images and devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stack {
    /// The images.
    pub(crate) images: Vec<ImageRecord>,
    /// The devices, each after those that it maps onto.
    pub(crate) devices: Vec<Record>,
}

impl Stack {
    /// Counts the images and devices.
    pub(crate) fn len(&self) -> usize {
        self.images.len() + self.devices.len()
    }

    /// Adds what another stack has besides.
    fn append(&mut self, other: Stack) {
        let news = other.images.into_iter().filter(|image| !self.images.contains(image));
        let images: Vec<ImageRecord> = news.collect();
        let news = other.devices.into_iter().filter(|device| !self.devices.contains(device));
        let devices: Vec<Record> = news.collect();
        self.images.extend(images);
        self.devices.extend(devices);
    }
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    /// What is there.
    #[serde(flatten)]
    now: Stack,
    /// What was there before, and is not restored yet.
    #[serde(default)]
    past: Stack,
}

/// Reads what a daemon before this one left on record; nothing where there is no file.
pub(crate) fn read(path: &Path) -> Result<Stack, Fault> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stack::default()),
        Err(error) => return Err(Fault::new(path.display(), error)),
    };
    let remedy = "move it away to start without it";
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let version = serde_json::from_slice::<Version>(&text).map(|head| head.version);
    match version.map(|version| (version, serde_json::from_slice::<State>(&text))) {
        Ok((VERSION, Ok(state))) => {
            let mut past = state.now;
            past.append(state.past);
            Ok(past)
        }
        Ok((VERSION, Err(error))) | Err(error) => {
            Err(Fault::new(path.display(), format!("no record of dmsim's: {error}; {remedy}")))
        }
        Ok((found, _)) => Err(Fault::new(
            path.display(),
            format!("expected version {VERSION}, found {found}; {remedy}"),
        )),
    }
}

/// Keeps the file in line with an instance.
pub(crate) struct Keeper {
    path: PathBuf,
    /// Says what is there now.
    now: Box<dyn Fn() -> Stack + Send + Sync>,
    past: Mutex<Stack>,
    /// Counts the wishes to save; `saved` is the last one that is fulfilled.
    wanted: AtomicU64,
    saved: Mutex<u64>,
    /// Changes under way, each of which saves when it is done.
    changing: AtomicUsize,
    closed: AtomicBool,
}

impl Keeper {
    /// Makes a keeper for `path`, over what is there (`now`) and what was (`past`).
    pub(crate) fn new(
        path: PathBuf,
        past: Stack,
        now: impl Fn() -> Stack + Send + Sync + 'static,
    ) -> Keeper {
        Keeper {
            path,
            now: Box::new(now),
            past: Mutex::new(past),
            wanted: AtomicU64::new(0),
            saved: Mutex::new(0),
            changing: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns what was there before and is not restored yet.
    pub(crate) fn past(&self) -> Stack {
        lock(&self.past).clone()
    }

    /// Changes what is on record from before.
    pub(crate) fn with_past(&self, change: impl FnOnce(&mut Stack)) {
        change(&mut lock(&self.past));
    }

    /// Begins a change, at the end of which [`Change::save`] is called.
    pub(crate) fn change(&self) -> Change<'_> {
        self.changing.fetch_add(1, SeqCst);
        Change(self)
    }

    /// Tells whether a change is under way, so that there will be a save after this moment.
    pub(crate) fn is_changing(&self) -> bool {
        self.changing.load(SeqCst) > 0
    }

    /// Writes the file anew. Returns when what is there at the time of the call is on the disk;
    /// of several callers at once, one writes for all.
    pub(crate) fn save(&self) -> Result<(), Fault> {
        let wish = self.wanted.fetch_add(1, SeqCst) + 1;
        let mut saved = lock(&self.saved);
        if *saved >= wish || self.closed.load(SeqCst) {
            return Ok(());
        }
        let wishes = self.wanted.load(SeqCst);
        let state = State { version: VERSION, now: (self.now)(), past: self.past() };
        replace(&self.path, &state).about(self.path.display())?;
        *saved = wishes;
        Ok(())
    }

    /// Leaves the file as it is from now on: what a stop takes apart stays on record.
    pub(crate) fn close(&self) {
        let _no_save_under_way = lock(&self.saved);
        self.closed.store(true, SeqCst);
    }

    /// Takes [`close`](Self::close) back.
    pub(crate) fn reopen(&self) {
        self.closed.store(false, SeqCst);
    }
}

/// A change under way.
pub(crate) struct Change<'a>(&'a Keeper);

impl Change<'_> {
    /// Writes down what it changed.
    pub(crate) fn save(self) -> Result<(), Fault> {
        self.0.save()
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changing.fetch_sub(1, SeqCst);
    }
}

/// Replaces a file as a whole.
fn replace(path: &Path, state: &State) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut to = BufWriter::new(file);
    serde_json::to_writer(&mut to, state)?;
    to.write_all(b"\n")?;
    let file = to.into_inner()?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn image(name: &str) -> ImageRecord {
        ImageRecord {
            path: format!("/images/{name}").into(),
            dev: DevNumber { major: 7, minor: 0 },
            name: Some(name.to_owned()),
            access: Access::ReadWrite,
            sector_size: 512,
        }
    }

    fn stack(names: &[&str]) -> Stack {
        Stack { images: names.iter().map(|name| image(name)).collect(), devices: Vec::new() }
    }

    #[test]
    fn what_was_there_stays_on_record_beside_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        Keeper::new(path.clone(), Stack::default(), || stack(&["old"])).save().unwrap();
        let past = read(&path).unwrap();
        assert_eq!(past, stack(&["old"]));
        Keeper::new(path.clone(), past, || stack(&["new"])).save().unwrap();
        assert_eq!(read(&path).unwrap(), stack(&["new", "old"]));
    }

    #[test]
    fn what_is_there_and_was_is_on_record_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        Keeper::new(path.clone(), stack(&["same"]), || stack(&["same"])).save().unwrap();
        assert_eq!(read(&path).unwrap(), stack(&["same"]));
    }

    #[test]
    fn a_closed_keeper_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let names = Arc::new(Mutex::new(vec!["a"]));
        let now = names.clone();
        let keeper = Keeper::new(path.clone(), Stack::default(), move || stack(&lock(&now)));
        keeper.save().unwrap();
        keeper.close();
        lock(&names).clear();
        keeper.save().unwrap();
        assert_eq!(read(&path).unwrap(), stack(&["a"]));
        keeper.reopen();
        keeper.save().unwrap();
        assert_eq!(read(&path).unwrap(), Stack::default());
    }

    #[test]
    fn a_file_of_another_version_or_none_of_ours_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for text in ["", "{", "[]", r#"{"version":2}"#, r#"{"version":1,"images":3}"#] {
            std::fs::write(&path, text).unwrap();
            let fault = read(&path).unwrap_err();
            assert!(fault.why.contains("move it away"), "{fault}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_reader_never_sees_half_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let names: Vec<String> = (0..500).map(|n| format!("image-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = stack(&names);
        let kept = whole.clone();
        let keeper = Keeper::new(path.clone(), Stack::default(), move || kept.clone());
        keeper.save().unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..100).for_each(|_| keeper.save().unwrap()));
            while !writer.is_finished() {
                assert_eq!(read(&path).unwrap(), whole);
            }
        });
    }
}
