//! Whether the file of an image is still what its path leads to.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Why the path of an image leads to it no more, while the open file goes on as it was.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The file has no name any more: it is there as long as somebody has it open.
    Deleted,
    /// Nothing is at the path, but the file may have another name.
    Moved,
    /// Another file is at the path, which a restore would take.
    Replaced,
}

impl Lost {
    /// Says it of an image, for people.
    pub fn text(self) -> &'static str {
        match self {
            Lost::Deleted => "its file was deleted, and is there only as long as it is attached",
            Lost::Moved => "no file is at its path any more: it was moved",
            Lost::Replaced => "another file is at its path by now, which is not the one in use",
        }
    }

    /// Looks where a path leads to by now; nothing where that is the file, or is not to be known.
    pub(super) fn look(file: &File, path: &Path) -> Option<Lost> {
        let own = file.metadata().ok()?;
        match path.metadata() {
            Ok(found) if (found.dev(), found.ino()) == (own.dev(), own.ino()) => None,
            Ok(_) => Some(Lost::Replaced),
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                None
            }
            Err(_) if own.nlink() == 0 => Some(Lost::Deleted),
            Err(_) => Some(Lost::Moved),
        }
    }
}
