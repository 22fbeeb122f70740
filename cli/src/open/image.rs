//! The image that is opened: where its header is read, and what a table line calls it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use containers::Source;

use super::{mapped_path, mapped_word};
use crate::client::{Client, unexpected};
use crate::fault::{About, Fault};
use crate::protocol::{Outcome, Request};

/// An image that is to be opened.
pub(super) struct Image {
    /// Where its bytes can be read.
    pub(super) path: PathBuf,
    /// What a table line calls it.
    pub(super) word: String,
}

impl Image {
    /// Finds an image by the word that a user has for it: the name of an attached image, a mapped
    /// device, or a file.
    pub(super) fn find(client: &mut Client, word: &Path) -> Result<Image, Fault> {
        let attached = match client.ask(&Request::Images)? {
            Outcome::Images(images) => images,
            other => return Err(unexpected(other)),
        };
        let text = word.to_str().unwrap_or_default();
        if let Some(image) = attached.iter().find(|image| image.name.as_deref() == Some(text)) {
            return Ok(Image { path: image.path.clone(), word: text.to_owned() });
        }
        if let Some(word) = mapped_word(&client.welcome.mount, word) {
            return Ok(Image { path: mapped_path(&client.welcome.mount, &word), word });
        }
        let path = std::path::absolute(word).about(word.display())?;
        let Some(text) = path.to_str() else {
            return Err(Fault::new(path.display(), "expected a path in UTF-8"));
        };
        Ok(Image { word: escaped(text), path })
    }
}

/// Writes a path so that a table line takes it for one word.
pub(crate) fn escaped(path: &str) -> String {
    let mut word = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_whitespace() || c == '\\' {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// A file that a header is read from.
pub(super) struct ImageFile {
    file: File,
    len: u64,
}

impl ImageFile {
    pub(super) fn open(path: &Path) -> Result<ImageFile, Fault> {
        let mut file = File::open(path).about(path.display())?;
        if file.metadata().about(path.display())?.is_dir() {
            return Err(Fault::new(path.display(), "is a directory"));
        }
        // A block device has no length but this one.
        let len = file.seek(SeekFrom::End(0)).about(path.display())?;
        Ok(ImageFile { file, len })
    }
}

impl Source for ImageFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_table_line_whatever_is_in_it() {
        for path in ["/a/b", "/a b/c\td", "/a\\b", "/é #"] {
            assert_eq!(sim_core::split_words(&escaped(path)), [path]);
        }
    }
}
