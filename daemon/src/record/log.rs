//! The record's file: append, flush, and write anew what counts where the rest outweighs it.
//!
//! The file is made, and made anew, under another name, flushed, and renamed: under its own name
//! it always begins with a whole header. From then on lines are appended and flushed. What could
//! not be written is cut off again, and tried with the next commit. After a flush that failed
//! nobody knows what of the file is on the disk: nothing is appended to it any more, and the next
//! commit writes a new one.

use std::io;

use super::contents::{Contents, Effect, Place};
use super::entry::{Entry, EntryId, Started};
use super::folder::{Folder, LogFile};
use super::line::{self, Header, Line};
use super::scan::{End, Refused, Scanned, scan};
use crate::fault::{About, Fault};
use crate::instance::RECORD;

/// The record's name in the instance's folder.
pub(super) const NAME: &str = RECORD;

/// The name of one that is being written.
const NEW: &str = "record.log.new";

/// How many bytes more than those that count may be in the file before it is written anew.
pub(super) const MARGIN: u64 = 1 << 20;

/// How much is collected before it is written.
const CHUNK: usize = 1 << 20;

/// An entry that is to be written.
pub(super) struct Note {
    body: String,
    effect: Effect,
    /// The next note belongs to the same command: neither is on record without the other.
    more: bool,
}

impl Note {
    pub(super) fn new(entry: &Entry) -> serde_json::Result<Note> {
        Ok(Note { body: entry.body()?, effect: entry.into(), more: false })
    }

    /// Lets the next note belong to the same command.
    pub(super) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Lets the command end with this note.
    pub(super) fn end(&mut self) {
        self.more = false;
    }
}

/// The record.
pub(super) struct Log {
    folder: Box<dyn Folder>,
    file: Option<Open>,
    contents: Contents,
    margin: u64,
    /// The file is not written anew below this length: the last try failed.
    tidy_from: u64,
}

/// A file that is appended to.
struct Open {
    file: Box<dyn LogFile>,
    seed: String,
    len: u64,
    lines: u64,
    /// A flush of it failed: nothing is appended to it any more.
    spoilt: bool,
}

impl Log {
    /// Opens the record of a folder; where there is none, it is made with the first commit. A
    /// torn tail is cut off. A damaged record is kept under another name: then says so.
    pub(super) fn open(
        folder: Box<dyn Folder>,
        margin: u64,
    ) -> Result<(Log, Option<Fault>), Fault> {
        let shown = folder.shown(NAME);
        let file = folder.open(NAME).about(&shown)?;
        let mut log =
            Log { folder, file: None, contents: Contents::default(), margin, tidy_from: 0 };
        let Some(file) = file else { return Ok((log, None)) };
        let scanned = file.reader().map_err(Refused::Io).and_then(scan);
        let remedy = "move it away to start without it";
        let scanned = scanned.map_err(|refused| match refused {
            Refused::Io(error) => Fault::new(&shown, error),
            Refused::Content(why) => Fault::new(&shown, format!("{why}; {remedy}")),
        })?;
        let Scanned { header, contents, len, lines, end } = scanned;
        log.contents = contents;
        let file = log.file.insert(Open { file, seed: header.seed, len, lines, spoilt: false });
        let damage = match end {
            End::Whole => None,
            End::Torn => {
                tracing::warn!(
                    file = shown,
                    lines,
                    "the last change was cut off before it was on the disk"
                );
                file.file.cut(len).and_then(|()| file.file.sync()).about(&shown)?;
                None
            }
            End::Damaged => Some(log.keep_damaged()?),
        };
        Ok((log, damage))
    }

    /// Keeps a damaged file, and goes on with a new one of its good lines.
    fn keep_damaged(&mut self) -> Result<Fault, Fault> {
        let names = (1..).map(|n| format!("{NAME}.damaged-{n}"));
        let aside = names.into_iter().find(|name| !self.folder.has(name));
        let aside = aside.expect("there are more numbers than files");
        let (shown, aside_shown) = (self.folder.shown(NAME), self.folder.shown(&aside));
        let bad = self.file.as_ref().map_or(0, |file| file.lines) + 1;
        self.folder.keep_as(NAME, &aside).about(&aside_shown)?;
        self.folder.sync().about(&aside_shown)?;
        self.rewrite(&[]).about(&shown)?;
        let why = format!(
            "damaged from line {bad} on: what it says before that is kept, the rest is in {aside_shown}"
        );
        Ok(Fault::new(shown, why))
    }

    /// Writes entries down, and makes them durable: all of them, or, at a power cut, those up to
    /// one of them. After an error the record is as it was, as far as this process goes.
    pub(super) fn commit(&mut self, notes: &[Note]) -> io::Result<()> {
        let current = self.file.as_mut();
        match current.filter(|open| !open.spoilt && open.file.is_called(NAME)) {
            Some(open) => {
                let places = open.append(notes)?;
                for (note, place) in notes.iter().zip(places) {
                    apply(&mut self.contents, note.effect, place)?;
                }
                Ok(())
            }
            None => self.rewrite(notes),
        }
    }

    /// Writes the file anew where what does not count any more outweighs what does.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        let Some(open) = &self.file else { return Ok(()) };
        let live = self.contents.live_bytes();
        let garbage = open.len.saturating_sub(live);
        if garbage <= live + self.margin || open.len < self.tidy_from {
            return Ok(());
        }
        // Where it fails, it is not tried again at each change: it costs as much as there is.
        self.tidy_from = 2 * open.len;
        self.rewrite(&[])?;
        self.tidy_from = 0;
        Ok(())
    }

    /// Returns what is on record.
    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Returns the folder.
    pub(super) fn folder(&self) -> &dyn Folder {
        &*self.folder
    }

    /// Reads an entry.
    pub(super) fn read(&self, place: Place) -> io::Result<Entry> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Entry::read(&file.body(place)?).map_err(io::Error::other)
    }

    /// Reads the table that has this id.
    pub(super) fn read_table(&self, id: EntryId) -> io::Result<Entry> {
        let place = self.contents.table(id).ok_or(io::ErrorKind::NotFound)?;
        self.read(place)
    }

    /// Writes what counts, and `notes`, to a new file, which takes the place of the old one.
    fn rewrite(&mut self, notes: &[Note]) -> io::Result<()> {
        let lines = self.contents.lines();
        let count = (1 + lines.len() + notes.len()) as u64;
        let mut new = New::begin(self.folder.create(NEW)?, count)?;
        for (effect, place) in lines {
            let body = match (place, &self.file) {
                (Some(place), Some(old)) => old.body(place)?,
                (Some(_), None) => unreachable!("what has a place is in a file"),
                (None, _) => started().map_err(io::Error::other)?,
            };
            new.add(&body, effect)?;
        }
        for note in notes {
            new.add(&note.body, note.effect)?;
        }
        let (mut open, contents) = new.finish()?;
        self.folder.rename(NEW, NAME)?;
        // From here on the old file has no name, whether that is durable or not.
        open.spoilt = true;
        self.contents = contents;
        let open = self.file.insert(open);
        self.folder.sync()?;
        open.spoilt = false;
        Ok(())
    }
}

fn started() -> serde_json::Result<String> {
    Entry::Started(Started { pid: std::process::id() }).body()
}

fn apply(contents: &mut Contents, effect: Effect, place: Place) -> io::Result<()> {
    contents.apply(effect, place).map_err(io::Error::other)
}

impl Open {
    fn append(&mut self, notes: &[Note]) -> io::Result<Vec<Place>> {
        let (mut text, mut places) = (Vec::new(), Vec::with_capacity(notes.len()));
        for (line, note) in (self.lines + 1..).zip(notes) {
            let Note { body, more, .. } = note;
            let line = Line { line, flushed: self.lines, more: *more, body };
            let printed = line.print(&self.seed);
            let at = self.len + text.len() as u64;
            places.push(Place { at, len: printed.len() as u64 });
            text.extend_from_slice(printed.as_bytes());
        }
        if let Err(error) = self.file.append(&text) {
            // Half a line would hide those that follow it.
            self.spoilt = self.file.cut(self.len).is_err();
            return Err(error);
        }
        if let Err(error) = self.file.sync() {
            self.spoilt = true;
            return Err(error);
        }
        self.len += text.len() as u64;
        self.lines += notes.len() as u64;
        Ok(places)
    }

    /// Reads an entry back, as it is written.
    fn body(&self, place: Place) -> io::Result<String> {
        let raw = self.file.read_at(place.at, place.len)?;
        let line = line::parse(&self.seed, &raw);
        let bad = || io::Error::other(format!("a bad line at byte {}", place.at));
        line.map(|line| line.body.to_owned()).ok_or_else(bad)
    }
}

/// A file that is being written.
struct New {
    open: Open,
    /// How many lines it will have, all of them flushed before it gets its name.
    count: u64,
    /// Not written yet.
    text: Vec<u8>,
    contents: Contents,
}

impl New {
    fn begin(file: Box<dyn LogFile>, count: u64) -> io::Result<New> {
        let header = Header::new();
        let text = header.print(count).into_bytes();
        let len = text.len() as u64;
        let open = Open { file, seed: header.seed, len, lines: 1, spoilt: false };
        Ok(New { open, count, text, contents: Contents::default() })
    }

    fn add(&mut self, body: &str, effect: Effect) -> io::Result<()> {
        let open = &mut self.open;
        let line = Line { line: open.lines + 1, flushed: self.count, more: false, body };
        let printed = line.print(&open.seed);
        let place = Place { at: open.len, len: printed.len() as u64 };
        open.len += place.len;
        open.lines += 1;
        self.text.extend_from_slice(printed.as_bytes());
        if self.text.len() > CHUNK {
            open.file.append(&std::mem::take(&mut self.text))?;
        }
        apply(&mut self.contents, effect, place)
    }

    fn finish(mut self) -> io::Result<(Open, Contents)> {
        self.open.file.append(&self.text)?;
        self.open.file.sync()?;
        assert_eq!(self.open.lines, self.count, "the lines were counted");
        Ok((self.open, self.contents))
    }
}
