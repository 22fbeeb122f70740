//! Notes of what was put into a mount namespace: for whoever comes after a shell that was killed.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, unlinkat};

/// What the names of notes begin with; the number of the namespace follows.
const NOTE: &str = "inside-";

/// A file or directory: its file system, and its number in that.
pub(super) type Identity = (u64, u64);

/// One thing that was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What is mounted, and where.
    Mount(Identity, PathBuf),
    /// A directory that was made.
    Dir(PathBuf),
}

impl Line {
    fn read(line: &str) -> Option<Line> {
        let mut words = line.splitn(4, ' ');
        match (words.next()?, words.next()?, words.next()?, words.next()?) {
            ("mount", dev, ino, path) => {
                Some(Line::Mount((dev.parse().ok()?, ino.parse().ok()?), path.into()))
            }
            ("dir", _, _, path) => Some(Line::Dir(path.into())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Line::Mount((dev, ino), path) => format!("mount {dev} {ino} {}\n", path.display()),
            Line::Dir(path) => format!("dir 0 0 {}\n", path.display()),
        }
    }
}

/// The note about one namespace, locked as long as there is somebody who goes by it.
#[derive(Debug)]
pub(super) struct Note {
    file: File,
    /// The folder that it lies in, which is not to be seen from where it ends.
    folder: OwnedFd,
    name: String,
}

impl Note {
    /// Takes the note about a namespace, with what is in it; nothing where another has it.
    pub(super) fn begin(folder: &Path, namespace: &str) -> io::Result<Option<(Note, Vec<Line>)>> {
        let name = format!("{NOTE}{namespace}");
        let path = folder.join(&name);
        loop {
            let Some(mut file) = locked(&path, true)? else { return Ok(None) };
            let is_there = path.symlink_metadata().is_ok_and(|there| {
                file.metadata()
                    .is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
            });
            if !is_there {
                // Who had it has removed it before it was locked here.
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let lines = text.lines().filter_map(Line::read).collect();
            let folder = File::open(folder)?.into();
            return Ok(Some((Note { file, folder, name }, lines)));
        }
    }

    pub(super) fn add(&mut self, line: &Line) -> io::Result<()> {
        self.file.write_all(line.text().as_bytes())
    }

    /// Forgets what is in it, as that is taken away.
    pub(super) fn clear(&mut self) {
        let _begins_anew = self.file.rewind().and_then(|()| self.file.set_len(0));
    }

    /// Removes it: nothing is left that it would tell of.
    pub(super) fn end(self) {
        let _stays = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

/// Removes notes about namespaces that no process is in any more. One that something else keeps, and in which a
/// shell was killed, keeps what that has put there.
pub(super) fn drop_old(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let notes: Vec<_> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(NOTE)?.to_owned();
            Some((entry.path(), number))
        })
        .collect();
    if notes.is_empty() {
        return;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let there: BTreeSet<String> = processes
        .filter_map(|process| {
            let name = fs::read_link(process.path().join("ns/mnt")).ok()?;
            Some(name.to_str()?.chars().filter(char::is_ascii_digit).collect())
        })
        .collect();
    for (path, _) in notes.iter().filter(|(_, number)| !there.contains(number)) {
        // One that is locked is somebody's who comes from there.
        if let Ok(Some(_file)) = locked(path, false) {
            let _stays = fs::remove_file(path);
        }
    }
}

fn locked(path: &Path, make: bool) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(make).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_shells_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let line = |name: &str| Line::Mount((1, 2), format!("/a b/{name}").into());
        let (mut note, lines) = Note::begin(dir.path(), "17").unwrap().unwrap();
        assert_eq!(lines, []);
        note.add(&line("first")).unwrap();
        note.add(&Line::Dir("/second".into())).unwrap();
        assert!(Note::begin(dir.path(), "17").unwrap().is_none());
        // It was killed.
        drop(note);
        let (mut note, lines) = Note::begin(dir.path(), "17").unwrap().unwrap();
        assert_eq!(lines, [line("first"), Line::Dir("/second".into())]);
        note.clear();
        note.end();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn notes_about_namespaces_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let own: String = own.to_str().unwrap().chars().filter(char::is_ascii_digit).collect();
        for number in ["1", &own, "2"] {
            fs::write(dir.path().join(format!("{NOTE}{number}")), "").unwrap();
        }
        fs::write(dir.path().join("lvm.conf"), "").unwrap();
        let (_held, _) = Note::begin(dir.path(), "2").unwrap().unwrap();
        drop_old(dir.path());
        let entries = fs::read_dir(dir.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut left: Vec<_> = entries.map(|entry| name(entry).unwrap()).collect();
        left.sort();
        let mut expected = [format!("{NOTE}2"), format!("{NOTE}{own}"), "lvm.conf".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
    }
}
