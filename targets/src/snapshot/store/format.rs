//! The persistent exception store on disk, as written by the kernel's dm-exception-store,
//! version 1. All numbers are little-endian.
//!
//! Chunk 0 is the header; then come areas: a chunk of metadata, and as many chunks of data as the
//! metadata has entries. An entry is 16 bytes: the chunk of the origin, and the chunk of the store
//! that has its content. A list of entries ends at the first whose second number is zero, or with
//! its area.

use std::fmt;

use sim_core::{Sector, Sectors};

use super::super::ChunkSize;
use super::super::table::{MAX_NEW, MAX_OLD};

/// The first four bytes of a store: `SnAp`.
pub const MAGIC: u32 = 0x7041_6e53;

/// The one version there is.
pub const VERSION: u32 = 1;

/// The length of an entry in bytes.
pub const ENTRY: usize = 16;

/// Chunks of the header.
const HEADER_CHUNKS: u64 = 1;

/// What the first bytes of a store say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The snapshot can be used. It cannot any more where its store was full, or failed.
    pub valid: bool,
    /// The version of the format.
    pub version: u32,
    /// The length of a chunk, as it stands there.
    pub chunk_size: Sectors,
}

/// What the first bytes of a device say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No magic: a store is to be made here.
    New,
    /// A store.
    Store(Header),
    /// Something else.
    Other,
}

impl Header {
    /// The length of a header in bytes; zeros follow up to the end of its chunk.
    pub const LEN: usize = 16;

    /// Reads the first bytes of a device.
    ///
    /// # Panics
    /// When there are fewer than [`Header::LEN`].
    pub fn read(bytes: &[u8]) -> Found {
        let word = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are a word"))
        };
        match word(0) {
            0 => Found::New,
            MAGIC => Found::Store(Header {
                valid: word(4) != 0,
                version: word(8),
                chunk_size: Sectors(word(12).into()),
            }),
            _ => Found::Other,
        }
    }

    /// Returns the bytes.
    pub fn to_bytes(self) -> [u8; Header::LEN] {
        let chunk_size = u32::try_from(self.chunk_size.0).expect("a chunk size fits 32 bits");
        let words = [MAGIC, u32::from(self.valid), self.version, chunk_size];
        let mut bytes = [0; Header::LEN];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// One line of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chunk of the origin.
    pub old: u64,
    /// The chunk of the store.
    pub new: u64,
}

impl Entry {
    /// Reads one; nothing where the list ends.
    ///
    /// # Panics
    /// When there are fewer than [`ENTRY`] bytes.
    pub fn read(bytes: &[u8]) -> Option<Entry> {
        let word = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are a word"))
        };
        let entry = Entry { old: word(0), new: word(8) };
        (entry.new != 0).then_some(entry)
    }

    /// Returns the bytes.
    pub fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.old.to_le_bytes());
        bytes[8..].copy_from_slice(&self.new.to_le_bytes());
        bytes
    }
}

/// Where things lie in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    chunk: ChunkSize,
}

impl Layout {
    /// Makes the layout of a store with chunks of this size.
    pub fn new(chunk: ChunkSize) -> Layout {
        Layout { chunk }
    }

    /// Returns the size of a chunk.
    pub fn chunk(self) -> ChunkSize {
        self.chunk
    }

    /// Returns how many entries an area has.
    pub fn entries(self) -> u64 {
        self.chunk.sectors().bytes() / ENTRY as u64
    }

    /// Returns the chunk of an area's metadata.
    pub fn area(self, area: u64) -> u64 {
        HEADER_CHUNKS + area * (self.entries() + 1)
    }

    /// Tells whether a chunk is the header or an area's metadata.
    pub fn is_metadata(self, chunk: u64) -> bool {
        chunk < HEADER_CHUNKS || (chunk - HEADER_CHUNKS).is_multiple_of(self.entries() + 1)
    }

    /// Returns the first chunk for data that is not before this one.
    pub fn data_at_or_after(self, chunk: u64) -> u64 {
        (chunk..).find(|chunk| !self.is_metadata(*chunk)).expect("one of three chunks has data")
    }

    /// Returns how many chunks from this one on are for data.
    pub fn data_run(self, chunk: u64) -> u64 {
        match chunk.checked_sub(HEADER_CHUNKS) {
            None => 0,
            Some(after) => {
                (self.entries() + 1 - after % (self.entries() + 1))
                    * u64::from(!self.is_metadata(chunk))
            }
        }
    }

    /// Says why an entry cannot be right in a store of this size, if it cannot.
    pub fn check(self, Entry { old, new }: Entry, size: Sectors) -> Result<(), Fault> {
        // One past the end of the origin, which may have been longer once, does no harm.
        if old > MAX_OLD || old >= self.chunk.addresses() {
            return Err(Fault::NoChunk);
        }
        let store = self.chunk.whole_in(size);
        if new >= store || new > MAX_NEW {
            return Err(Fault::PastStore { chunks: store });
        }
        if self.is_metadata(new) {
            return Err(Fault::Metadata);
        }
        Ok(())
    }

    /// Returns where an entry lies, in bytes from the start of its area's metadata.
    pub fn entry(self, index: u64) -> u64 {
        index * ENTRY as u64
    }

    /// Returns the first sector of an area's metadata.
    pub fn area_sector(self, area: u64) -> Sector {
        self.chunk.start(self.area(area))
    }
}

/// Why an entry cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No device has this chunk of the origin.
    NoChunk,
    /// The chunk of the store lies past its end.
    PastStore {
        /// The whole chunks of the store.
        chunks: u64,
    },
    /// The chunk of the store is the header or an area's metadata.
    Metadata,
    /// Another entry is about this chunk of the origin.
    Twice,
}

/// An entry that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The area, from 0.
    pub area: u64,
    /// The entry's place in it, from 0.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// Why.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { area, index, entry: Entry { old, new }, fault } = self;
        write!(f, "area {area}, entry {index}: ")?;
        match fault {
            Fault::NoChunk => write!(f, "chunk {old} of the origin, which no device has"),
            Fault::PastStore { chunks } => {
                write!(f, "chunk {new} of the store, which has {chunks}")
            }
            Fault::Metadata => write!(f, "chunk {new} of the store is metadata"),
            Fault::Twice => write!(f, "a second exception of chunk {old}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(chunk: u64) -> Layout {
        Layout::new(ChunkSize::new(Sectors(chunk), &[]).expect("a chunk size"))
    }

    #[test]
    fn areas_lie_where_the_kernel_puts_them() {
        let layout = layout(8);
        assert_eq!((layout.entries(), layout.area(0), layout.area(2)), (256, 1, 515));
        let metadata: Vec<u64> = (0..600).filter(|chunk| layout.is_metadata(*chunk)).collect();
        assert_eq!(metadata, [0, 1, 258, 515]);
        assert_eq!(layout.data_at_or_after(0), 2);
        assert_eq!(layout.data_at_or_after(258), 259);
        let runs = [0, 1, 2, 257, 258, 259].map(|chunk| layout.data_run(chunk));
        assert_eq!(runs, [0, 0, 256, 1, 0, 256]);
    }

    #[test]
    fn a_header_is_the_kernels() {
        let header = Header { valid: true, version: 1, chunk_size: Sectors(8) };
        let bytes = *b"SnAp\x01\0\0\0\x01\0\0\0\x08\0\0\0";
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(Header::read(&bytes), Found::Store(header));
        assert_eq!(Header::read(&[0; 16]), Found::New);
        assert_eq!(Header::read(&[1; 16]), Found::Other);
    }

    #[test]
    fn an_entry_ends_the_list_where_its_second_number_is_zero() {
        let entry = Entry { old: 7, new: 0x1_0000_0002 };
        assert_eq!(Entry::read(&entry.to_bytes()), Some(entry));
        assert_eq!(Entry::read(&Entry { old: 7, new: 0 }.to_bytes()), None);
    }
}
