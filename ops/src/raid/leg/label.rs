//! What tells legs of one set from those of another that was made the same way: dm-raid's superblocks
//! have no name of the set.
//!
//! A label of ours lies in the middle of a leg's metadata, behind the largest bitmap, where neither the
//! kernel nor the target writes. A leg without one (of a set that LVM made, say) may be of any set.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::{About, Fault};

/// Where it lies on the image, in bytes.
pub(in super::super) const AT: u64 = 512 << 10;

/// How many bytes it has: the magic number, and what the set is known by.
pub(in super::super) const LEN: usize = MAGIC.len() + SET;

const MAGIC: [u8; 16] = *b"dmsim raid set 1";
const SET: usize = 16;

/// The label of the legs of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Label([u8; SET]);

impl Label {
    /// Makes one that no other set has.
    pub(in super::super) fn new() -> Result<Label, Fault> {
        const RANDOM: &str = "/dev/urandom";
        let mut set = [0; SET];
        File::open(RANDOM).and_then(|mut random| random.read_exact(&mut set)).about(RANDOM)?;
        Ok(Label(set))
    }

    /// Reads that of an image; none where there is none.
    pub(in super::super) fn read(file: &File) -> io::Result<Option<Label>> {
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, AT) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let set = bytes.strip_prefix(&MAGIC).and_then(|set| set.try_into().ok());
        Ok(set.map(Label))
    }

    /// Reads that of an image by its path.
    pub(in super::super) fn of(path: &Path) -> Result<Option<Label>, Fault> {
        let file = crate::files::fresh(path, sim_core::Access::ReadOnly)?;
        Label::read(&file).about(path.display())
    }

    /// Returns the bytes to be written at byte [`AT`].
    pub(in super::super) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[MAGIC.len()..].copy_from_slice(&self.0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written_and_no_two_sets_have_the_same() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(Label::read(&file).expect("a file"), None, "it is too short");
        file.set_len(1 << 20).expect("it is sparse");
        assert_eq!(Label::read(&file).expect("a file"), None);
        let [one, other] = [(), ()].map(|()| Label::new().expect("it is random"));
        assert_ne!(one, other);
        file.write_all_at(&one.to_bytes(), AT).expect("a file");
        assert_eq!(Label::read(&file).expect("a file"), Some(one));
    }
}
