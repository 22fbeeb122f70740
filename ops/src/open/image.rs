//! The image that is opened: where its header is read, and what a table line calls it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use daemon::fault::causes;
use daemon::{About, Fault};
use recognise::containers::{Container, probe};
use recognise::{Error, Source};
use targets::lines::DeviceWord;

use crate::device_mapper::DeviceMapper;
use crate::files::{open_image, place};

/// An image that is to be opened.
pub(super) struct Image {
    /// Where its bytes can be read.
    pub(super) path: PathBuf,
    /// What a table line calls it.
    pub(super) word: DeviceWord,
}

impl Image {
    /// Finds an image by the word that a user has for it: the name of an attached image, a mapped
    /// device, or a file.
    pub(super) fn find(dm: &mut dyn DeviceMapper, word: &Path) -> Result<Image, Fault> {
        let (path, word) = place(dm, word)?;
        Ok(Image { path, word })
    }
}

/// A file that a header is read from.
#[derive(Clone)]
pub(crate) struct ImageFile {
    /// None where it was closed.
    file: Arc<RwLock<Option<File>>>,
    len: u64,
}

impl ImageFile {
    pub(crate) fn open(path: &Path) -> Result<ImageFile, Fault> {
        let mut file = open_image(path).about(path.display())?;
        // A block device has no length but this one.
        let len = file.seek(SeekFrom::End(0)).about(path.display())?;
        let file = Arc::new(RwLock::new(Some(file)));
        Ok(ImageFile { file, len })
    }

    /// Closes the file for all who have it: what goes on behind the back of a command that was ended, and will read of
    /// it yet, must not keep a device from being removed.
    pub(super) fn close(&self) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Source for ImageFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match &*self.file.read().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.read_exact_at(into, offset),
            None => Err(io::Error::other("was closed")),
        }
    }
}

/// What the uuids of opened devices begin with, there as in cryptsetup.
pub(super) const UUID: &str = "CRYPT-";

pub(super) fn read_header(header: &ImageFile, path: &Path) -> Result<Container, Fault> {
    probe(header).map_err(|error| told(path, &error))
}

/// Tells of an error with the exit status of its kind.
pub(crate) fn told(path: &Path, error: &Error) -> Fault {
    let status = match error {
        Error::WrongPassphrase { .. } | Error::NoSuchKeySlot { .. } | Error::UnboundSlot(_) => 3,
        Error::NotAContainer(_) => 4,
        Error::DamagedHeader { .. } | Error::TooSmall { .. } => 5,
        Error::UnknownCipher { .. } | Error::UnknownHash { .. } => 6,
        Error::ReencryptionInProgress(_) => 7,
        Error::IntegritySegment { .. } => 8,
        Error::TooCostly { .. } | Error::NoMemory { .. } => 9,
        Error::UnknownRequirement(_) | Error::Unsupported(_) => 10,
        _ => 1,
    };
    let hint = match error {
        Error::TooCostly { .. } => "; --kdf-memory and --kdf-iterations raise the limits",
        Error::DetachedHeader => "; name the header with --header and the data as the image",
        _ => "",
    };
    Fault::new(path.display(), format!("{}{hint}", causes(error))).with_status(status)
}
