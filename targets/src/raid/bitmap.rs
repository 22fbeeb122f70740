//! The write-intent bitmap of a metadata device, md's version 4: a header of 256 bytes at byte 4096,
//! and right after it a bit for each chunk, lowest bit of a byte first. A bit that is set says that
//! the copies of its chunk may differ.
//!
//! The header and the bits that follow it share their first page. What lies past the last bit means
//! nothing; the kernel leaves ones there.

use std::ops::Range;

use sim_core::{Sector, Sectors};

use crate::parts::bits::Bits;
use crate::parts::bytes::{le32, le64};

/// Where the header begins on a metadata device, in bytes.
pub const OFFSET: u64 = 4096;

/// How many bytes the header has; the first bit is the next one.
pub const HEADER: usize = 256;

const MAGIC: u32 = 0x6d74_6962;
const VERSION: u32 = 4;

/// The header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// All zeros where dm-raid made it.
    pub uuid: [u8; 16],
    /// The events of the superblock beside which it was written last.
    pub events: u64,
    /// The events of the last state in which no leg was missing and bits were cleared: a leg that
    /// is at least so fresh lacks nothing but what has a bit.
    pub events_cleared: u64,
    /// What the bits cover.
    pub sync_size: Sectors,
    /// See [`STALE`] and [`WRITE_ERROR`].
    pub state: u32,
    /// How many bytes a bit stands for, a power of two.
    pub chunk_bytes: u32,
    /// How many seconds a clean chunk keeps its bit, at least.
    pub daemon_sleep: u32,
    /// The most writes that a leg which is mostly written may be behind; 0 for none.
    pub write_behind: u32,
    /// Sectors of the device for the bitmap; 0 where nobody said.
    pub sectors_reserved: u32,
    /// Of a cluster; 0 here.
    pub nodes: u32,
    /// Of a cluster; zeros here.
    pub cluster_name: [u8; 64],
}

/// In `state`: the bits say nothing, as if all were set.
pub const STALE: u32 = 1 << 1;

/// In `state`: writing the bitmap failed.
pub const WRITE_ERROR: u32 = 1 << 2;

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Magic,
    /// It is of another version.
    Version(u32),
    /// A bit stands for this many bytes, no power of two from 512 up.
    ChunkBytes(u32),
    /// It asks for this many seconds.
    DaemonSleep(u32),
    /// It asks for this many writes behind.
    WriteBehind(u32),
}

impl Fault {
    /// Returns what the kernel says of it.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Magic => "bad magic",
            Fault::Version(_) => "unrecognized superblock version",
            Fault::ChunkBytes(_) => "bitmap chunksize not a power of 2",
            Fault::DaemonSleep(_) => "daemon sleep period out of range",
            Fault::WriteBehind(_) => "write-behind limit out of range (0 - 16383)",
        }
    }
}

impl Header {
    /// Makes the header of a new bitmap, all bits of which are to be written, and set; none where a
    /// bit would stand for 4 GiB or more. What `ticks` (of 4 ms) are in seconds is at least one:
    /// the kernel writes zero for less than 250, and then refuses what it wrote.
    pub fn new(
        sync_size: Sectors,
        chunk: Sectors,
        ticks: u32,
        write_behind: u32,
    ) -> Option<Header> {
        Some(Header {
            uuid: [0; 16],
            events: 0,
            events_cleared: 0,
            sync_size,
            state: 0,
            chunk_bytes: u32::try_from(chunk.bytes()).ok()?,
            daemon_sleep: (ticks / TICKS_A_SECOND).max(1),
            write_behind,
            sectors_reserved: 0,
            nodes: 0,
            cluster_name: [0; 64],
        })
    }

    /// Reads what lies at byte [`OFFSET`].
    pub fn read(bytes: &[u8; HEADER]) -> Result<Header, Fault> {
        let word = |at: usize| le32(bytes, at);
        let long = |at: usize| le64(bytes, at);
        if word(0) != MAGIC {
            return Err(Fault::Magic);
        }
        // Version 3 counted the bits in another order.
        if word(4) != VERSION {
            return Err(Fault::Version(word(4)));
        }
        let (chunk_bytes, daemon_sleep, write_behind) = (word(52), word(56), word(60));
        match () {
            () if chunk_bytes < 512 || !chunk_bytes.is_power_of_two() => {
                Err(Fault::ChunkBytes(chunk_bytes))
            }
            () if !(1..=MAX_DAEMON_SLEEP).contains(&daemon_sleep) => {
                Err(Fault::DaemonSleep(daemon_sleep))
            }
            () if write_behind > MAX_WRITE_BEHIND => Err(Fault::WriteBehind(write_behind)),
            () => Ok(Header {
                uuid: bytes[8..24].try_into().expect("16 bytes"),
                events: long(24),
                events_cleared: long(32),
                sync_size: Sectors(long(40)),
                state: word(48),
                chunk_bytes,
                daemon_sleep,
                write_behind,
                sectors_reserved: word(64),
                nodes: word(68),
                cluster_name: bytes[72..136].try_into().expect("64 bytes"),
            }),
        }
    }

    /// Returns the bytes to be written at byte [`OFFSET`].
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(4, &VERSION.to_le_bytes());
        put(8, &self.uuid);
        put(24, &self.events.to_le_bytes());
        put(32, &self.events_cleared.to_le_bytes());
        put(40, &self.sync_size.0.to_le_bytes());
        put(48, &self.state.to_le_bytes());
        put(52, &self.chunk_bytes.to_le_bytes());
        put(56, &self.daemon_sleep.to_le_bytes());
        put(60, &self.write_behind.to_le_bytes());
        put(64, &self.sectors_reserved.to_le_bytes());
        put(68, &self.nodes.to_le_bytes());
        put(72, &self.cluster_name);
        bytes
    }

    /// Returns how many bits there are.
    pub fn chunks(&self) -> u64 {
        self.sync_size.0.div_ceil(self.chunk().0)
    }

    /// Returns how many sectors a bit stands for.
    pub fn chunk(&self) -> Sectors {
        Sectors::in_bytes(self.chunk_bytes.into())
    }

    /// Returns how many bytes header and bits take, whole 64-bit words.
    pub fn bytes(&self) -> u64 {
        HEADER as u64 + self.chunks().div_ceil(64) * 8
    }
}

/// A bitmap in memory: the header, and which chunks are dirty.
///
/// On a device it is read and written in logical blocks, counted from byte [`OFFSET`] on; the first
/// has the header, too.
pub struct Bitmap {
    /// What is written before the bits.
    pub header: Header,
    dirty: Bits,
    /// What lies past the last bit, up to the end of its block: ones where the kernel has made it.
    tail: bool,
}

impl Bitmap {
    /// Makes a bitmap in which all chunks are dirty, or none.
    pub fn new(header: Header, all: bool) -> Bitmap {
        let dirty = Bits::new(header.chunks(), all);
        Bitmap { header, dirty, tail: all }
    }

    /// Reads a bitmap whose header has been read: `bytes` are those after the header, whole 64-bit
    /// words and no less than there are bits. None without memory for it.
    pub fn read(header: Header, bytes: &[u8]) -> Option<Bitmap> {
        let mut bitmap = Bitmap::new(header, false);
        let needed = bitmap.header.bytes() as usize - HEADER;
        assert!(bytes.len() >= needed, "{} bytes of a bitmap of {needed}", bytes.len());
        bitmap.dirty.put_bytes(0, &bytes[..needed]).ok()?;
        let past = bitmap.header.chunks();
        let byte = bytes.get((past / 8) as usize);
        bitmap.tail = byte.is_some_and(|byte| byte >> (past % 8) & 1 == 1);
        Some(bitmap)
    }

    /// Makes a bitmap that says the same by another header, whose chunks may be of another length. What it
    /// covers more is dirty.
    pub fn converted(&self, header: Header) -> Bitmap {
        let (old, new) = (self.header.sync_size.to_sector(), header.sync_size.to_sector());
        let chunk = self.header.chunk().0;
        let mut bitmap = Bitmap::new(header, false);
        let sectors = |run: Range<u64>| Sector(run.start * chunk)..Sector(run.end * chunk).min(old);
        for dirty in self.dirty().map(sectors).chain([old..new]) {
            let dirty = dirty.start.min(new)..dirty.end.min(new);
            if !dirty.is_empty() {
                bitmap.set(bitmap.chunks_of(dirty), true);
            }
        }
        bitmap
    }

    /// Returns how many blocks of `block` bytes the bitmap has.
    pub fn blocks(&self, block: usize) -> u64 {
        self.header.bytes().div_ceil(block as u64)
    }

    /// Returns in which block of `block` bytes a chunk has its bit.
    pub fn block_of(chunk: u64, block: usize) -> u64 {
        (HEADER as u64 + chunk / 8) / block as u64
    }

    /// Writes a block; past the last bit, what has been there, zeros or ones.
    pub fn write_block(&self, nr: u64, bytes: &mut [u8]) {
        let begin = nr * bytes.len() as u64;
        let bits = match begin {
            0 => {
                let (header, bits) = bytes.split_at_mut(HEADER);
                header.copy_from_slice(&self.header.to_bytes());
                bits
            }
            _ => bytes,
        };
        let first = begin.saturating_sub(HEADER as u64) * 8;
        self.dirty.get_bytes(first, bits);
        if self.tail {
            let past = self.header.chunks().saturating_sub(first);
            if let Some((byte, rest)) =
                bits.get_mut((past / 8) as usize..).and_then(<[u8]>::split_first_mut)
            {
                *byte |= u8::MAX << (past % 8);
                rest.fill(u8::MAX);
            }
        }
    }

    /// Forgets what lies past the last bit, as the kernel does where legs are rebuilt.
    pub fn clear_tail(&mut self) {
        self.tail = false;
    }

    /// Says of all chunks that they are dirty, as if the bitmap was new.
    pub fn set_all(&mut self) {
        self.dirty.set_range(0..self.header.chunks(), true);
        self.tail = true;
    }

    /// Returns the chunks that sectors lie in.
    pub fn chunks_of(&self, sectors: Range<Sector>) -> Range<u64> {
        let chunk = self.header.chunk().0;
        sectors.start.0 / chunk..sectors.end.0.div_ceil(chunk)
    }

    /// Tells whether a chunk is dirty.
    pub fn is_dirty(&self, chunk: u64) -> bool {
        self.dirty.get(chunk)
    }

    /// Says of chunks that they are dirty, or clean.
    pub fn set(&mut self, chunks: Range<u64>, dirty: bool) {
        self.dirty.set_range(chunks, dirty);
    }

    /// Returns the first chunk from `from` on that is dirty.
    pub fn next_dirty(&self, from: u64) -> Option<u64> {
        self.dirty.next_one(from)
    }

    /// Returns the runs of chunks that are dirty, in order.
    pub fn dirty(&self) -> impl Iterator<Item = Range<u64>> {
        self.dirty.runs()
    }
}

/// How many ticks a second has.
const TICKS_A_SECOND: u32 = 250;

/// The most seconds in a header.
const MAX_DAEMON_SLEEP: u32 = 0x7fff_ffff / TICKS_A_SECOND;

/// The most writes behind in a header.
const MAX_WRITE_BEHIND: u32 = 16383;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::raid::recorded::recorded;

    fn header(name: &str) -> (Result<Header, Fault>, [u8; HEADER]) {
        let bytes = recorded(name).bitmap[..HEADER].try_into().expect("a header");
        (Header::read(&bytes), bytes)
    }

    #[test]
    fn a_recorded_header_is_read_and_written_back() {
        let check = |name: &str, expected: (u64, u64, u64, u32, u32, u32)| {
            let (header, bytes) = header(name);
            let header = header.expect("a header");
            let found = (
                header.events,
                header.events_cleared,
                header.sync_size.0,
                header.chunk_bytes,
                header.daemon_sleep,
                header.write_behind,
            );
            assert_eq!(found, expected, "{name}");
            assert_eq!(header.to_bytes(), bytes, "{name}");
        };
        check("raid1-resync-leg-0", (7, 1, 8192, 65536, 5, 0));
        check("raid10-far-leg-1", (10, 1, 4096, 65536, 5, 0));
        check("raid1-write-behind-leg-0", (5, 1, 8192, 65536, 5, 256));
        check("raid1-daemon-sleep-leg-0", (5, 1, 8192, 65536, 20, 0));
    }

    #[test]
    fn a_new_header_is_the_kernels() {
        let (header, _) = header("raid1-write-behind-leg-0");
        let header = header.expect("a header");
        let new = Header::new(Sectors(8192), Sectors(128), 1250, 256).expect("a header");
        assert_eq!(Header { events: 5, events_cleared: 1, ..new }, header);
        assert_eq!((header.chunks(), header.bytes()), (64, 264));
        let short = Header::new(Sectors(8193), Sectors(128), 100, 0).expect("a header");
        assert_eq!((short.chunks(), short.bytes(), short.daemon_sleep), (65, 272, 1));
        assert_eq!(Header::new(Sectors::MAX, Sectors(1 << 23), 1250, 0), None);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused_in_its_words() {
        let (recorded, _) = header("raid1-daemon-sleep-0-leg-0");
        assert_eq!(recorded, Err(Fault::DaemonSleep(0)));
        let (_, good) = header("raid1-resync-leg-0");
        let refused = |at: usize, value: u32, fault: Fault, why: &str| {
            let mut bytes = good;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(Header::read(&bytes), Err(fault.clone()));
            assert_eq!(fault.reason(), why);
        };
        refused(0, 0, Fault::Magic, "bad magic");
        refused(4, 3, Fault::Version(3), "unrecognized superblock version");
        refused(52, 1000, Fault::ChunkBytes(1000), "bitmap chunksize not a power of 2");
        refused(52, 256, Fault::ChunkBytes(256), "bitmap chunksize not a power of 2");
        refused(56, 0, Fault::DaemonSleep(0), "daemon sleep period out of range");
        let why = "write-behind limit out of range (0 - 16383)";
        refused(60, 16384, Fault::WriteBehind(16384), why);
    }

    #[test]
    fn a_bit_of_a_byte_stands_for_a_chunk_lowest_first() {
        let recorded = recorded("raid1-leg-1-failed").bitmap;
        let (header, bits) = recorded.split_at(HEADER);
        let header = Header::read(header.try_into().expect("a header")).expect("a header");
        let bitmap = Bitmap::read(header, bits).expect("memory");
        // The set had been written at sectors 0 and 5000, with chunks of 128 sectors.
        let chunk = bitmap.chunks_of(Sector(5000)..Sector(5001));
        assert_eq!(bitmap.dirty().collect::<Vec<_>>(), [0..1, chunk.clone()]);
        assert!(bitmap.is_dirty(chunk.start) && !bitmap.is_dirty(1));
        let mut block = [0xa5; 512];
        bitmap.write_block(0, &mut block);
        assert_eq!(block[..HEADER + 8], recorded[..HEADER + 8]);
        // The kernel left ones behind the last bit when it made it, which stay there.
        assert!(block[HEADER + 8..].iter().all(|byte| *byte == 0xff));
        let header = bitmap.header.clone();
        let mut again = Bitmap::read(header, &block[HEADER..]).expect("memory");
        again.clear_tail();
        again.write_block(0, &mut block);
        assert_eq!(block[..HEADER + 8], recorded[..HEADER + 8]);
        assert!(block[HEADER + 8..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn other_chunks_say_the_same() {
        let header = |sectors: u64, chunk: u64| {
            Header::new(Sectors(sectors), Sectors(chunk), 1250, 0).expect("a header")
        };
        let mut bitmap = Bitmap::new(header(8200, 128), false);
        bitmap.set(3..4, true);
        bitmap.set(40..43, true);
        let dirty =
            |sectors, chunk| bitmap.converted(header(sectors, chunk)).dirty().collect::<Vec<_>>();
        assert_eq!(dirty(8200, 128), [3..4, 40..43]);
        assert_eq!(dirty(8200, 256), [1..2, 20..22]);
        assert_eq!(dirty(8200, 64), [6..8, 80..86]);
        // Shorter, and longer: nobody has told anything of the rest.
        assert_eq!(dirty(5200, 128), [3..4, 40..41]);
        assert_eq!(dirty(9000, 128), [3..4, 40..43, 64..71]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn blocks_are_read_as_what_they_were_written_from(
            sectors in 1u64..3_000_000,
            block in select(vec![512, 4096]),
            ranges in prop::collection::vec((0u64..24_000, 1u64..500), 0..20),
        ) {
            let header = Header::new(Sectors(sectors), Sectors(128), 1250, 0).expect("a header");
            let mut bitmap = Bitmap::new(header.clone(), false);
            let mut model = vec![false; header.chunks() as usize];
            for (first, len) in ranges {
                let range = first.min(header.chunks())..(first + len).min(header.chunks());
                bitmap.set(range.clone(), true);
                model[range.start as usize..range.end as usize].fill(true);
            }
            let mut device = vec![0xa5; bitmap.blocks(block) as usize * block];
            for (nr, bytes) in device.chunks_mut(block).enumerate() {
                bitmap.write_block(nr as u64, bytes);
            }
            for (chunk, dirty) in model.iter().enumerate() {
                let at = HEADER + chunk / 8;
                prop_assert_eq!(device[at] >> (chunk % 8) & 1 == 1, *dirty);
                prop_assert_eq!(Bitmap::block_of(chunk as u64, block), (at / block) as u64);
            }
            let bits = &device[HEADER..];
            let again = Bitmap::read(header, bits).expect("memory");
            let dirty = (0..model.len()).map(|chunk| again.is_dirty(chunk as u64));
            prop_assert!(dirty.eq(model.iter().copied()));
        }
    }
}
