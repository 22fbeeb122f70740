//! What lies on the device: blocks of 4 KiB, which begin with a checksum and four numbers.

use sim_core::Sector;

/// A block, in bytes and in sectors: whole blocks of disks with blocks of 512 bytes, and of 4096.
pub(crate) const BLOCK: usize = 4096;
pub(crate) const SECTORS: u64 = 8;
/// The most blocks of data in a record.
pub(crate) const MOST: u64 = 8;
/// What a superblock begins with.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"blocklog");

/// Which records count, and where the next one goes.
#[derive(Default)]
pub(crate) struct Log {
    /// A random number: what looks like a record, and is another store's or its content, is none.
    pub(crate) id: u64,
    /// How often the log was begun anew: what a power cut left behind its end is none either.
    pub(crate) generation: u64,
    pub(crate) head: u64,
}

pub(crate) fn sector(block: u64) -> Sector {
    Sector(block * SECTORS)
}

/// A block of four numbers, and data after it; in front of all the checksum of what follows.
pub(crate) fn sealed(numbers: [u64; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = numbers.map(u64::to_le_bytes).concat();
    bytes.resize(BLOCK - 8, 0);
    bytes.extend(data);
    let sum = u64::from(crc32fast::hash(&bytes)).to_le_bytes();
    [&sum, &bytes[..]].concat()
}

pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes[..8] == u64::from(crc32fast::hash(&bytes[8..])).to_le_bytes()
}

/// Makes the checksums of a store right, whatever its blocks say: for tests that change them, which would
/// get no further than the checksum.
pub fn seal(store: &mut [u8]) {
    let blocks = store.len() / BLOCK;
    let superblock = store.chunks_exact(BLOCK).map(numbers).find(|block| block[0] == MAGIC);
    for at in 0..blocks {
        let [first, _, _, count] = numbers(&store[at * BLOCK..]);
        let is_record = superblock.is_some_and(|[_, id, ..]| first == id);
        let data = if is_record { count.min(MOST) as usize } else { 0 };
        if is_record || first == MAGIC {
            let block = &mut store[at * BLOCK..BLOCK * blocks.min(at + 1 + data)];
            let sum = u64::from(crc32fast::hash(&block[8..])).to_le_bytes();
            block[..8].copy_from_slice(&sum);
        }
    }
}

/// Reads the numbers of a block. They count once its checksum was right.
pub(crate) fn numbers(bytes: &[u8]) -> [u64; 4] {
    [8, 16, 24, 32].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")))
}
