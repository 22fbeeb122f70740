//! The disk log as it lies on its device, as written by the kernel's dm-log, version 2: a header
//! in sector 0, and from sector 2 on a bit for each region, the lowest bit of a byte first, set
//! where the region is clean. Little-endian.

use std::ops::Range;

use sim_core::{SECTOR_SIZE, Sectors};

use super::bits::Bits;

/// `mirr` read as a little-endian number.
const MAGIC: u32 = 0x4D69_5272;

/// Version 1 is the same on little-endian machines, and becomes version 2.
const VERSION: u32 = 2;

/// Where the bits begin.
const BITS: usize = 1024;

/// The log is written in blocks of this many bytes, or of the device's logical block if that is
/// more: those in which something changed.
const BLOCK: u64 = 4096;

/// Returns how many bytes a log of so many regions takes on its device: as the kernel counts, with
/// the bits rounded up to a word, and all of it to the device's logical block.
pub(super) fn bytes(regions: u64, logical_block: Sectors) -> u64 {
    (BITS as u64 + regions.div_ceil(64) * 8).next_multiple_of(logical_block.bytes())
}

/// What a log device held when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    magic: u32,
    version: u32,
    regions: u64,
}

impl Header {
    /// The header of a log without regions.
    pub(super) const NEW: Header = Header { magic: MAGIC, version: VERSION, regions: 0 };

    fn read(bytes: &[u8]) -> Header {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let regions = u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
        Header { magic: word(0), version: word(4), regions }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.magic.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.regions.to_le_bytes());
    }
}

/// A log of another version than ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OtherVersion;

/// The bytes of a log, and which of them the device does not have yet.
pub(super) struct Image {
    bytes: Vec<u8>,
    regions: u64,
    /// How long a block is, in bytes.
    block: usize,
}

impl Image {
    /// Makes the image of a log in which every region is clean.
    pub(super) fn new(regions: u64, logical_block: Sectors) -> Image {
        let mut bytes = vec![0; bytes(regions, logical_block) as usize];
        let bits = regions.div_ceil(64) as usize * 8;
        bytes[BITS..BITS + bits].fill(0xff);
        let block = BLOCK.max(logical_block.bytes()) as usize;
        Image { bytes, regions, block }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over what the device holds, as far as it is a log that goes on; `fresh` asks for a
    /// new one. Returns its header, and whether its version is one that can be read.
    pub(super) fn take(&mut self, read: &[u8], fresh: bool) -> (Header, Result<(), OtherVersion>) {
        self.bytes.copy_from_slice(read);
        let mut header = Header::read(read);
        if fresh || header.magic != MAGIC {
            header = Header::NEW;
        }
        if header.version == 1 {
            header.version = VERSION;
        }
        let known = if header.version == VERSION { Ok(()) } else { Err(OtherVersion) };
        (header, known)
    }

    /// Makes the image that of this target: regions that the log did not have are clean or not,
    /// those that the target does not have are not, and the header says how many there are.
    pub(super) fn fit(&mut self, mut header: Header, new_are_clean: bool) {
        for region in header.regions..self.regions {
            self.put(region, new_are_clean);
        }
        for past in self.regions..self.regions.next_multiple_of(64) {
            self.put(past, false);
        }
        header.regions = self.regions;
        header.write(&mut self.bytes);
    }

    /// Says that no region is the log's own: what it holds is not to be trusted.
    pub(super) fn distrust(header: Header) -> Header {
        Header { regions: 0, ..header }
    }

    /// Returns the clean regions.
    pub(super) fn clean(&self) -> Bits {
        Bits::from_bytes(&self.bytes[BITS..], self.regions)
    }

    pub(super) fn get(&self, region: u64) -> bool {
        let (byte, bit) = place(region);
        self.bytes[byte] >> bit & 1 == 1
    }

    /// Sets the bit of a region, and returns the block that it lies in.
    pub(super) fn put(&mut self, region: u64, clean: bool) -> u64 {
        let (byte, bit) = place(region);
        self.bytes[byte] = self.bytes[byte] & !(1 << bit) | u8::from(clean) << bit;
        (byte / self.block) as u64
    }

    /// Makes no region clean, and returns the blocks in which that may have changed something.
    pub(super) fn clear(&mut self) -> Range<u64> {
        let end = BITS + self.regions.div_ceil(64) as usize * 8;
        self.bytes[BITS..end].fill(0);
        (BITS / self.block) as u64..end.div_ceil(self.block) as u64
    }

    /// Returns all blocks.
    pub(super) fn blocks(&self) -> Range<u64> {
        0..self.bytes.len().div_ceil(self.block) as u64
    }

    /// Returns where a run of blocks begins on the device, and what it holds.
    pub(super) fn run(&self, blocks: Range<u64>) -> (Sectors, &[u8]) {
        let from = blocks.start as usize * self.block;
        let to = (blocks.end as usize * self.block).min(self.bytes.len());
        (Sectors(from as u64 / SECTOR_SIZE), &self.bytes[from..to])
    }
}

/// Returns the byte and the bit of a region.
fn place(region: u64) -> (usize, u32) {
    (BITS + (region / 8) as usize, (region % 8) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_as_long_as_the_kernels() {
        // `log device 7:3 too small: need 1536 bytes`: up to 4096 regions in one sector of bits.
        assert_eq!(bytes(4, Sectors(1)), 1536);
        assert_eq!(bytes(4096, Sectors(1)), 1536);
        assert_eq!(bytes(4097, Sectors(1)), 2048);
        assert_eq!(bytes(4, Sectors(8)), 4096);
    }

    #[test]
    fn a_log_of_another_size_is_made_to_fit() {
        let mut small = Image::new(10, Sectors(1));
        small.fit(Header::NEW, true);
        assert_eq!((small.clean().ones(), small.get(10)), (10, false));
        let mut large = Image::new(100, Sectors(1));
        let (header, known) = large.take(&small.bytes, false);
        assert_eq!((header.regions, known), (10, Ok(())));
        large.fit(header, false);
        assert_eq!(large.clean().ones(), 10);
        let (header, _) = small.take(&large.bytes, true);
        assert_eq!(header, Header::NEW);
    }

    #[test]
    fn version_1_is_taken_and_others_are_not() {
        let mut image = Image::new(10, Sectors(1));
        image.fit(Header::NEW, true);
        for (version, taken) in [(1, true), (2, true), (3, false), (0, false)] {
            let mut bytes = image.bytes.clone();
            bytes[4] = version;
            assert_eq!(image.take(&bytes, false).1.is_ok(), taken, "version {version}");
        }
        assert_eq!(image.bytes[..4], *b"rRiM");
    }

    #[test]
    fn a_bit_lies_in_a_block() {
        let mut image = Image::new(100_000, Sectors(1));
        assert_eq!(
            (image.put(0, false), image.put(24_575, true), image.put(24_576, true)),
            (0, 0, 1)
        );
        assert_eq!(image.clear(), 0..4);
        let (sector, bytes) = image.run(3..4);
        assert_eq!((sector, bytes.len()), (Sectors(24), image.bytes.len() - 3 * 4096));
    }
}
