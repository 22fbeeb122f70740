//! Where the record's file lies: the few operations that it needs, and what they promise after a
//! power cut.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// The folder of an instance, as far as the record goes.
pub(super) trait Folder: Send {
    /// Opens a file; nothing where there is none.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn LogFile>>>;

    /// Makes an empty file, in the place of one that has the name.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Gives a file another name, in the place of the file that has that: one or the other has
    /// it at each moment, also after a power cut.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Keeps what a file has in it under one more name, which no file has yet.
    fn keep_as(&self, name: &str, other: &str) -> io::Result<()>;

    /// Tells whether a file has this name.
    fn has(&self, name: &str) -> bool;

    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;

    /// Names a file to a person.
    fn shown(&self, name: &str) -> String;
}

/// A file that is only appended to.
pub(super) trait LogFile: Send {
    /// Writes at the end. What fails may have written some of it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the end off.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written durable (`fdatasync`). After an error of it nobody knows what is.
    fn sync(&mut self) -> io::Result<()>;

    /// Reads a piece in full.
    fn read_at(&self, at: u64, len: u64) -> io::Result<Vec<u8>>;

    /// Reads all of it.
    fn reader(&self) -> io::Result<Box<dyn BufRead + '_>>;

    /// Tells whether the file still has the name under which it was opened or renamed to: one
    /// that was moved away keeps what is written to it from whoever starts next.
    fn is_called(&self, name: &str) -> bool;
}

/// A folder on a disk.
pub(super) struct DiskFolder(pub(super) PathBuf);

struct DiskFile {
    file: File,
    dir: PathBuf,
    len: u64,
}

impl DiskFolder {
    fn file(&self, file: File) -> io::Result<Box<dyn LogFile>> {
        let len = file.metadata()?.len();
        Ok(Box::new(DiskFile { file, dir: self.0.clone(), len }))
    }
}

impl Folder for DiskFolder {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn LogFile>>> {
        match OpenOptions::new().read(true).write(true).open(self.0.join(name)) {
            Ok(file) => self.file(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        self.file(options.open(self.0.join(name))?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn keep_as(&self, name: &str, other: &str) -> io::Result<()> {
        let (name, other) = (self.0.join(name), self.0.join(other));
        std::fs::hard_link(&name, &other).or_else(|_no_links_here| {
            std::fs::copy(&name, &other)?;
            File::open(&other)?.sync_all()
        })
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).symlink_metadata().is_ok()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn shown(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl LogFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read_at(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn reader(&self) -> io::Result<Box<dyn BufRead + '_>> {
        use std::io::Seek;
        (&self.file).rewind()?;
        Ok(Box::new(BufReader::with_capacity(1 << 18, &self.file)))
    }

    fn is_called(&self, name: &str) -> bool {
        let own = self.file.metadata();
        let named = std::fs::metadata(self.dir.join(name));
        let which = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        matches!((own.map(which), named.map(which)), (Ok(own), Ok(named)) if own == named)
    }
}
