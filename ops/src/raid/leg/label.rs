//! What tells legs of one set from those of another that was made the same way: dm-raid's superblocks
//! have no name of the set.
//!
//! A label of ours lies in the middle of a leg's metadata, behind the largest bitmap, where neither the
//! kernel nor the target writes. A leg without one (of a set that LVM made, say) may be of any set.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
#[cfg(test)]
use std::path::Path;

use daemon::{About, Fault};
use targets::lines::raid::MAX_LEGS;

use super::ring::Ring;

/// Where it lies on the image, in bytes.
pub(in super::super) const AT: u64 = 512 << 10;

/// How many bytes it has, all in one sector: the magic number, what the set is known by, and of a set that
/// was given more legs by a reshape the words of its ring, the leg's place, and a checksum.
pub(in super::super) const LEN: usize = SUM + 4;

const MAGIC: [u8; 16] = *b"dmsim raid set 1";
const WITH_RING: [u8; 16] = *b"dmsim raid set 2";
const SET: usize = 16;
const WORDS: usize = MAGIC.len() + SET;
const SUM: usize = WORDS + 6 * 8;

/// The label of a leg of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Label {
    /// What the set is known by.
    set: [u8; SET],
    /// Where the data lies, where that is not right behind the metadata, and the place of this leg.
    ring: Option<(Ring, usize)>,
}

impl Label {
    /// Makes one of a set that no other has.
    pub(in super::super) fn new() -> Result<Label, Fault> {
        const RANDOM: &str = "/dev/urandom";
        let mut set = [0; SET];
        File::open(RANDOM).and_then(|mut random| random.read_exact(&mut set)).about(RANDOM)?;
        Ok(Label { set, ring: None })
    }

    /// Returns that of a leg whose data lies in a ring.
    pub(in super::super) fn in_ring(self, ring: Ring, leg: usize) -> Label {
        Label { ring: Some((ring, leg)), ..self }
    }

    /// Returns that of another leg of the set.
    pub(in super::super) fn of_leg(self, leg: usize) -> Label {
        Label { ring: self.ring.map(|(ring, _)| (ring, leg)), ..self }
    }

    /// Returns that of the same leg of a set that is known by another label.
    pub(in super::super) fn of_set(self, set: Label) -> Label {
        Label { ring: self.ring, ..set }
    }

    pub(in super::super) fn ring(&self) -> Option<Ring> {
        self.ring.map(|(ring, _)| ring)
    }

    /// Returns the leg's place, where the label has it.
    pub(in super::super) fn place(&self) -> Option<usize> {
        self.ring.map(|(_, place)| place)
    }

    /// Returns what the set is known by.
    pub(in super::super) fn set(&self) -> [u8; SET] {
        self.set
    }

    /// Tells whether another leg is of the same set.
    pub(in super::super) fn is_of_same(&self, other: &Label) -> bool {
        self.set == other.set
    }

    /// Reads that of an image; none where there is none.
    ///
    /// # Errors
    /// Also for one that says where the data lies and was damaged: [`ErrorKind::InvalidData`].
    pub(in super::super) fn read(file: &File) -> io::Result<Option<Label>> {
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, AT) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let set = bytes[MAGIC.len()..WORDS].try_into().expect("so long it is");
        match () {
            () if bytes.starts_with(&MAGIC) => Ok(Some(Label { set, ring: None })),
            () if bytes.starts_with(&WITH_RING) => match ring_of(&bytes) {
                None => Err(io::Error::new(ErrorKind::InvalidData, DAMAGED)),
                ring => Ok(Some(Label { set, ring })),
            },
            () => Ok(None),
        }
    }

    /// Reads that of an image by its path.
    #[cfg(test)]
    pub(in super::super) fn of(path: &Path) -> Result<Option<Label>, Fault> {
        let file = crate::files::fresh(path, sim_core::Access::ReadOnly)?;
        Label::read(&file).about(path.display())
    }

    /// Returns the bytes to be written at byte [`AT`].
    pub(in super::super) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[MAGIC.len()..WORDS].copy_from_slice(&self.set);
        if let Some((ring, place)) = self.ring {
            bytes[..MAGIC.len()].copy_from_slice(&WITH_RING);
            let words = ring.to_words().into_iter().chain([place as u64]);
            for (room, word) in bytes[WORDS..SUM].chunks_exact_mut(8).zip(words) {
                room.copy_from_slice(&word.to_le_bytes());
            }
            let sum = crc32fast::hash(&bytes[..SUM]);
            bytes[SUM..].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }
}

const DAMAGED: &str = "its label, which says where the data of the leg lies, is damaged: leave the image out, and \
                       put another in its place";

fn ring_of(bytes: &[u8; LEN]) -> Option<(Ring, usize)> {
    if crc32fast::hash(&bytes[..SUM]).to_le_bytes() != bytes[SUM..] {
        return None;
    }
    let mut words = [0; 6];
    for (word, bytes) in words.iter_mut().zip(bytes[WORDS..SUM].chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    let [ring @ .., place] = words;
    let place = usize::try_from(place).ok().filter(|place| *place < MAX_LEGS)?;
    Some((Ring::from_words(ring)?, place))
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

    #[test]
    fn a_damaged_label_is_never_taken_for_one_that_says_nothing_of_the_place() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(1 << 20).expect("it is sparse");
        let label = Label::new().expect("it is random");
        let ring = Ring::new(sim_core::Sectors(1000), sim_core::Sectors(64), 3);
        let label = label.in_ring(ring.grown(3, 4).expect("three"), 3);
        file.write_all_at(&label.to_bytes(), AT).expect("a file");
        assert_eq!(Label::read(&file).expect("a file"), Some(label));
        for byte in MAGIC.len()..LEN {
            let mut bytes = label.to_bytes();
            bytes[byte] ^= 1;
            file.write_all_at(&bytes, AT).expect("a file");
            let error = Label::read(&file).expect_err("it is damaged");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "byte {byte}");
        }
    }
}
