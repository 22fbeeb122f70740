//! The disk log as it lies on its device, as written by the kernel's dm-log, version 2: a header
//! in sector 0, and from sector 2 on a bit for each region, the lowest bit of a byte first, set
//! where the region is clean. Little-endian.

use std::ops::Range;

use sim_core::Sectors;

use crate::parts::bits::{Bits, NoMemory};
use crate::parts::bytes::{le32, le64};

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
pub(crate) fn bytes(regions: u64, logical_block: Sectors) -> u64 {
    (BITS as u64 + bits(regions)).next_multiple_of(logical_block.bytes())
}

/// What a log device held when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    magic: u32,
    version: u32,
    regions: u64,
}

impl Header {
    /// The header of a log without regions.
    pub(crate) const NEW: Header = Header { magic: MAGIC, version: VERSION, regions: 0 };

    fn read(bytes: &[u8]) -> Header {
        let word = |at: usize| le32(bytes, at);
        let regions = le64(bytes, 8);
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
pub(crate) struct OtherVersion;

/// A log as its device has it, or is to have it: the clean regions, and the bytes around their bits.
pub(crate) struct Image {
    head: [u8; BITS],
    clean: Bits,
    /// What follows the bits, up to the end of a logical block.
    tail: Vec<u8>,
    /// How long a block is, in bytes.
    block: u64,
}

impl Image {
    /// Makes the image of a log in which every region is clean.
    pub(crate) fn new(regions: u64, logical_block: Sectors) -> Image {
        let tail = bytes(regions, logical_block) - (BITS as u64 + bits(regions));
        Image {
            head: [0; BITS],
            clean: Bits::new(regions, true),
            tail: vec![0; tail as usize],
            block: BLOCK.max(logical_block.bytes()),
        }
    }

    /// Returns how many bytes the log has.
    pub(crate) fn len(&self) -> u64 {
        self.bits_end() + self.tail.len() as u64
    }

    /// Takes in what the device holds, a multiple of eight bytes from byte `at` on.
    pub(crate) fn put_bytes(&mut self, at: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let [head, bits, tail] = self.parts(at, bytes.len());
        self.head[head.clone()].copy_from_slice(&bytes[..head.len()]);
        let (own, rest) = bytes[head.len()..].split_at(bits.len());
        self.tail[tail].copy_from_slice(rest);
        match own {
            [] => Ok(()),
            own => self.clean.put_bytes(bits.start as u64 * 8, own),
        }
    }

    /// Gives out what the device is to hold, a multiple of eight bytes from byte `at` on.
    pub(crate) fn get_bytes(&self, at: u64, bytes: &mut [u8]) {
        let [head, bits, tail] = self.parts(at, bytes.len());
        let (to_head, rest) = bytes.split_at_mut(head.len());
        let (to_bits, to_tail) = rest.split_at_mut(bits.len());
        to_head.copy_from_slice(&self.head[head]);
        self.clean.get_bytes(bits.start as u64 * 8, to_bits);
        to_tail.copy_from_slice(&self.tail[tail]);
    }

    /// Returns what a range of bytes has of head, bits and tail, counted from the start of each.
    fn parts(&self, at: u64, len: usize) -> [Range<usize>; 3] {
        let (head, bits) = (BITS as u64, self.bits_end());
        let part = |from: u64, to: u64| {
            let (begin, end) = (at.clamp(from, to), (at + len as u64).clamp(from, to));
            (begin - from) as usize..(end - from) as usize
        };
        [part(0, head), part(head, bits), part(bits, self.len())]
    }

    fn bits_end(&self) -> u64 {
        BITS as u64 + bits(self.clean.len())
    }

    /// Returns the header of what was read, as far as it is a log that goes on, and whether its
    /// version is one that can be read; `fresh` asks for a new one.
    pub(crate) fn header(&self, fresh: bool) -> (Header, Result<(), OtherVersion>) {
        let mut header = Header::read(&self.head);
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
    pub(crate) fn fit(&mut self, mut header: Header, new_are_clean: bool) {
        let regions = self.clean.len();
        self.clean.set_range(header.regions..regions, new_are_clean);
        header.regions = regions;
        header.write(&mut self.head);
    }

    /// Says that no region is the log's own: what it holds is not to be trusted.
    pub(crate) fn distrust(header: Header) -> Header {
        Header { regions: 0, ..header }
    }

    /// Returns the clean regions.
    pub(crate) fn clean(&self) -> &Bits {
        &self.clean
    }

    pub(crate) fn get(&self, region: u64) -> bool {
        self.clean.get(region)
    }

    /// Sets the bit of a region, and returns the block that it lies in.
    pub(crate) fn put(&mut self, region: u64, clean: bool) -> u64 {
        self.clean.set(region, clean);
        (BITS as u64 + region / 8) / self.block
    }

    /// Makes no region clean, and returns the blocks in which that may have changed something.
    pub(crate) fn clear(&mut self) -> Range<u64> {
        self.clean.set_range(0..self.clean.len(), false);
        BITS as u64 / self.block..self.bits_end().div_ceil(self.block)
    }

    /// Returns all blocks.
    pub(crate) fn blocks(&self) -> Range<u64> {
        0..self.len().div_ceil(self.block)
    }

    /// Returns the bytes of a run of blocks.
    pub(crate) fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start * self.block..(blocks.end * self.block).min(self.len())
    }
}

/// Returns how many bytes the bits of so many regions take: whole words.
fn bits(regions: u64) -> u64 {
    regions.div_ceil(64) * 8
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

    /// Returns the bytes of a log.
    fn written(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; image.len() as usize];
        image.get_bytes(0, &mut bytes);
        bytes
    }

    /// Takes over what another log has on its device.
    fn read(image: &mut Image, bytes: &[u8], fresh: bool) -> (Header, Result<(), OtherVersion>) {
        let len = bytes.len().min(image.len() as usize);
        // In pieces, as from a device.
        for (nr, piece) in (0..).zip(bytes[..len].chunks(512)) {
            assert_eq!(image.put_bytes(nr * 512, piece), Ok(()));
        }
        image.header(fresh)
    }

    #[test]
    fn a_log_of_another_size_is_made_to_fit() {
        let mut small = Image::new(10, Sectors(1));
        small.fit(Header::NEW, true);
        assert_eq!(
            (small.clean().ones(), written(&small)[BITS..][..3].to_vec()),
            (10, vec![255, 3, 0])
        );
        let mut large = Image::new(100, Sectors(1));
        let (header, known) = read(&mut large, &written(&small), false);
        assert_eq!((header.regions, known), (10, Ok(())));
        large.fit(header, false);
        assert_eq!(large.clean().ones(), 10);
        let (header, _) = read(&mut small, &written(&large), true);
        assert_eq!(header, Header::NEW);
    }

    #[test]
    fn what_lies_around_the_bits_is_kept() {
        let mut image = Image::new(100, Sectors(1));
        let bytes: Vec<u8> = (0..image.len()).map(|at| (at % 251) as u8).collect();
        assert_eq!(image.put_bytes(0, &bytes), Ok(()));
        let after = BITS + 16;
        let kept = written(&image);
        assert_eq!((&kept[..BITS], &kept[after..]), (&bytes[..BITS], &bytes[after..]));
        assert_eq!(kept[BITS..BITS + 12], bytes[BITS..BITS + 12], "and the bits, up to the last");
    }

    #[test]
    fn version_1_is_taken_and_others_are_not() {
        let mut image = Image::new(10, Sectors(1));
        image.fit(Header::NEW, true);
        for (version, taken) in [(1, true), (2, true), (3, false), (0, false)] {
            let mut bytes = written(&image);
            bytes[4] = version;
            assert_eq!(read(&mut image, &bytes, false).1.is_ok(), taken, "version {version}");
        }
        assert_eq!(written(&image)[..4], *b"rRiM");
    }

    #[test]
    fn a_bit_lies_in_a_block() {
        let mut image = Image::new(100_000, Sectors(1));
        assert_eq!(
            (image.put(0, false), image.put(24_575, true), image.put(24_576, true)),
            (0, 0, 1)
        );
        assert_eq!(image.clear(), 0..4);
        assert_eq!(image.bytes_of(&(3..4)), 3 * 4096..image.len());
    }
}
