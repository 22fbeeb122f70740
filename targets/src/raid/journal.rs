//! The journal of a set with parity: what is on its device.
//!
//! Blocks of 4 KiB from the first sector on, little-endian. A *meta block* says which pages follow it,
//! page by page: data, with the sector of the set, or parity, with that of the legs. The next meta
//! block comes behind these pages, with the next number. A block that is not right, or has not that
//! number, ends the log. The format is md's (`raid5-cache`), with a UUID of zeros as dm-raid has it.

use sim_core::{Sector, Sectors};

/// The length of a block, and of a page, in bytes.
pub const BLOCK: usize = 4096;

/// The same in sectors.
pub const PAGE: Sectors = Sectors(8);

const MAGIC: u32 = 0x6433_c509;
const VERSION: u8 = 1;
const HEAD: usize = 32;

/// The most bytes of payloads in a meta block.
pub const ROOM: usize = BLOCK - HEAD;

const DATA: u16 = 0;
const PARITY: u16 = 1;
const FLUSH: u16 = 2;

/// A meta block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its number: one more than that of the meta block before it.
    pub seq: u64,
    /// The block of the device that it is in.
    pub block: u64,
    /// What follows.
    pub payloads: Vec<Payload>,
}

/// What a meta block says of some pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A page of data follows.
    Data {
        /// The first sector of the set that it is of.
        at: Sector,
        /// Its checksum.
        checksum: u32,
    },
    /// P, and Q where the set has it, of rows follow.
    Parity {
        /// The first of the rows: a sector of the legs.
        row: Sector,
        /// A checksum for each page.
        checksums: Vec<u32>,
    },
    /// No page follows: these rows are on the legs as they were logged before.
    Flush {
        /// The first row of each page.
        rows: Vec<Sector>,
    },
}

impl Payload {
    /// Returns how many pages follow the meta block for it.
    pub fn pages(&self) -> u64 {
        match self {
            Payload::Data { .. } => 1,
            Payload::Parity { checksums, .. } => checksums.len() as u64,
            Payload::Flush { .. } => 0,
        }
    }

    /// Returns how much of a meta block it takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Payload::Data { .. } => 20,
            Payload::Parity { checksums, .. } => 16 + 4 * checksums.len(),
            Payload::Flush { rows } => 8 + 8 * rows.len(),
        }
    }
}

/// Returns the checksum of a page, or of a meta block whose own is zero: CRC-32C that begins with
/// that of the UUID, without the last inversion.
pub fn checksum(bytes: &[u8]) -> u32 {
    let raw = |seed: u32, bytes: &[u8]| !crc32c::crc32c_append(!seed, bytes);
    raw(raw(!0, &[0; 16]), bytes)
}

impl Meta {
    /// Returns how many pages follow.
    pub fn pages(&self) -> u64 {
        self.payloads.iter().map(Payload::pages).sum()
    }

    /// Gives out the block.
    ///
    /// # Panics
    /// When the payloads are longer than [`ROOM`].
    pub fn write(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK);
        let put = |block: &mut Vec<u8>, kind: u16, size: u32| {
            block.extend(kind.to_le_bytes());
            block.extend([0; 2]);
            block.extend(size.to_le_bytes());
        };
        let size = HEAD + self.payloads.iter().map(Payload::size).sum::<usize>();
        block.extend(MAGIC.to_le_bytes());
        block.extend([0; 4]);
        block.extend([VERSION, 0, 0, 0]);
        block.extend((size as u32).to_le_bytes());
        block.extend(self.seq.to_le_bytes());
        block.extend((self.block * PAGE.0).to_le_bytes());
        for payload in &self.payloads {
            match payload {
                Payload::Data { at, checksum } => {
                    put(&mut block, DATA, PAGE.0 as u32);
                    block.extend(at.0.to_le_bytes());
                    block.extend(checksum.to_le_bytes());
                }
                Payload::Parity { row, checksums } => {
                    put(&mut block, PARITY, PAGE.0 as u32 * checksums.len() as u32);
                    block.extend(row.0.to_le_bytes());
                    checksums.iter().for_each(|checksum| block.extend(checksum.to_le_bytes()));
                }
                Payload::Flush { rows } => {
                    put(&mut block, FLUSH, 8 * rows.len() as u32);
                    rows.iter().for_each(|row| block.extend(row.0.to_le_bytes()));
                }
            }
        }
        assert!(block.len() <= BLOCK, "{} bytes in a meta block", block.len());
        block.resize(BLOCK, 0);
        let sum = checksum(&block);
        block[4..8].copy_from_slice(&sum.to_le_bytes());
        block
    }

    /// Reads the meta block that is to be in a block of the device; none where it is not right.
    pub fn read(bytes: &[u8], block: u64) -> Option<Meta> {
        let mut copy = bytes.get(..BLOCK)?.to_vec();
        let sum = u32::from_le_bytes(copy[4..8].try_into().ok()?);
        copy[4..8].fill(0);
        let mut words = Reader(&copy);
        if words.u32()? != MAGIC || sum != checksum(&copy) {
            return None;
        }
        words.u32()?;
        let version = words.u32()? as u8;
        let size = words.u32()? as usize;
        let (seq, position) = (words.u64()?, words.u64()?);
        if version != VERSION || position != block.checked_mul(PAGE.0)? {
            return None;
        }
        let mut rest = Reader(copy.get(HEAD..size)?);
        let mut payloads = Vec::new();
        while !rest.0.is_empty() {
            let kind = rest.u32()? as u16;
            let size = rest.u32()?;
            let pages = |size: u32| {
                let fits = size > 0 && u64::from(size).is_multiple_of(PAGE.0);
                fits.then_some(u64::from(size) / PAGE.0)
            };
            match kind {
                DATA => {
                    let at = Sector(rest.u64()?);
                    for nr in 0..pages(size)? {
                        let at = at.checked_add(Sectors(PAGE.0 * nr))?;
                        payloads.push(Payload::Data { at, checksum: rest.u32()? });
                    }
                }
                PARITY => {
                    let row = Sector(rest.u64()?);
                    let sums = (0..pages(size)?).map(|_| rest.u32()).collect::<Option<_>>()?;
                    payloads.push(Payload::Parity { row, checksums: sums });
                }
                FLUSH => {
                    let rows = (0..size / 8).map(|_| rest.u64().map(Sector));
                    payloads.push(Payload::Flush { rows: rows.collect::<Option<_>>()? });
                }
                _ => return None,
            }
        }
        Some(Meta { seq, block, payloads })
    }
}

/// Takes numbers off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_block_is_read_as_it_was_written() {
        let payloads = vec![
            Payload::Data { at: Sector(96), checksum: 7 },
            Payload::Parity { row: Sector(32), checksums: vec![8, 9] },
            Payload::Flush { rows: vec![Sector(8), Sector(1 << 40)] },
        ];
        let meta = Meta { seq: 1 << 33, block: 5, payloads };
        let mut block = meta.write();
        assert_eq!(meta.pages(), 3);
        assert_eq!(Meta::read(&block, 5), Some(meta));
        assert_eq!(Meta::read(&block, 6), None, "it is not there");
        for at in [0, 5, 8, 14, 20, 33, 60, BLOCK - 1] {
            block[at] ^= 1;
            assert_eq!(Meta::read(&block, 5), None, "byte {at}");
            block[at] ^= 1;
        }
    }
}
