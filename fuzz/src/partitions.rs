//! The fuzz target for partition tables: what the first and the last sectors of somebody else's disk say.

use std::cell::Cell;
use std::io;

use recognise::Source;
use recognise::partitions::{MAX_NUMBER, MOST_READ, Table, layers, read_with};
use targets::lines::{DeviceWord, linear};

use crate::bytes::Bytes;

/// How much of a disk has something in it.
const WRITTEN: usize = 64 << 10;

/// How long a disk is, in bytes: what was written, less of it, or zeros behind.
const LENGTHS: [u64; 6] =
    [WRITTEN as u64, 20_000, 1500, WRITTEN as u64 + 100, 1 << 20, u64::MAX / 2];

/// An entry of a chain: its sector, its slot, its type, its start and its length.
const ENTRY: usize = 9;

/// A disk, and how much was read of it.
struct Disk {
    bytes: Vec<u8>,
    len: u64,
    read: Cell<u64>,
}

/// Reads a partition table, prints it and makes its layers. The first byte says what those behind the next two
/// are: a disk from its first byte on, a header of a GPT and its array, to be given a copy at the end and
/// checksums that are right, or entries of an MBR and its chains. The second says which copy is damaged, and the
/// third how long the disk is.
///
/// # Panics
/// When the reader does, reads more than it says, or gives a partition that is not within the disk.
pub fn partitions(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (kind, damage, len) = (bytes.below(4), bytes.byte(), bytes.pick(&LENGTHS));
    let rest = bytes.rest();
    let written = match kind {
        0 => start(rest),
        1 => gpt(512, damage, rest),
        2 => gpt(4096, damage, rest),
        _ => chains(rest),
    };
    for sector_size in [None, Some(512), Some(4096)] {
        let disk = Disk { bytes: written.clone(), len, read: Cell::new(0) };
        let table = read_with(&disk, sector_size);
        assert!(disk.read.get() <= MOST_READ, "{} bytes read", disk.read.get());
        if let Ok(Some(table)) = table {
            check(&table, len);
        }
    }
}

fn check(table: &Table, len: u64) {
    serde_json::to_string(table).expect("a table is JSON");
    assert!(!table.to_string().is_empty(), "a table without words");
    let mut before = 0;
    for partition in &table.partitions {
        assert!(before < partition.number, "a number again");
        before = partition.number;
        assert!(partition.sectors.0 > 0, "an empty partition");
        let end = partition.start.0.checked_add(partition.sectors.0).expect("sectors of a disk");
        assert!(end <= len / 512, "a partition past the end");
    }
    assert!(before <= MAX_NUMBER, "a number that Linux has not");
    for layer in layers(table, &DeviceWord::from("dev"), "disk") {
        let [line] = &layer.lines[..] else { panic!("a partition of several lines") };
        let read = linear::Line::from_text(&line.params, line.len).expect("a line");
        assert!(read.place.start.0 + line.len.0 <= len / 512, "a line past the end");
    }
}

fn start(bytes: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; WRITTEN];
    put(&mut disk, 0, bytes);
    disk
}

/// A protective MBR, and a GPT with both copies but for those that are damaged.
fn gpt(sector_size: usize, damage: u8, bytes: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; WRITTEN];
    let last = WRITTEN / sector_size - 1;
    if damage & 4 == 0 {
        let len = (last as u32).to_le_bytes();
        put(
            &mut disk,
            446,
            &[0, 0, 0, 0, 0xee, 0, 0, 0, 1, 0, 0, 0, len[0], len[1], len[2], len[3]],
        );
        put(&mut disk, 510, &[0x55, 0xaa]);
    }
    let mut header = [0; 92];
    put(&mut header, 0, &bytes[..bytes.len().min(92)]);
    put(&mut disk, 2 * sector_size, bytes.get(92..).unwrap_or_default());
    for (at, copy) in [(1, 1), (last, 2)] {
        put(&mut header, 0, b"EFI PART\0\0\x01\0\x5c\0\0\0\0\0\0\0");
        put(&mut header, 24, &(at as u64).to_le_bytes());
        let array = number(&header, 72, 8).saturating_mul(sector_size as u64) as usize;
        let len = (number(&header, 80, 4) * number(&header, 84, 4)) as usize;
        if let Some(array) = array.checked_add(len).and_then(|end| disk.get(array..end)) {
            let crc = crc32fast::hash(array);
            put(&mut header, 88, &crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&header);
        put(&mut header, 16, &crc.to_le_bytes());
        header[20] ^= u8::from(damage & copy != 0);
        put(&mut disk, at * sector_size, &header);
        // The other says where it is itself.
        put(&mut header, 32, &1_u64.to_le_bytes());
    }
    disk
}

/// An MBR and the links of its chains.
fn chains(bytes: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; WRITTEN];
    put(&mut disk, 510, &[0x55, 0xaa]);
    for entry in bytes.chunks_exact(ENTRY) {
        let sector = usize::from(entry[0]) % (WRITTEN / 512) * 512;
        let slot = sector + 446 + 16 * usize::from(entry[1] % 4);
        put(&mut disk, slot, &[entry[1] & 0x80]);
        put(&mut disk, slot + 4, &entry[2..3]);
        // Of the length the bits that matter most, too.
        put(&mut disk, slot + 8, &entry[3..6]);
        put(&mut disk, slot + 12, &[entry[6], entry[7], 0, entry[8]]);
        put(&mut disk, sector + 510, &[0x55, 0xaa]);
    }
    disk
}

/// Writes bytes, as far as there is room.
fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    let room = to.len().saturating_sub(at).min(bytes.len());
    to[at..at + room].copy_from_slice(&bytes[..room]);
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Source for Disk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read.set(self.read.get() + into.len() as u64);
        into.fill(0);
        let known = usize::try_from(offset).ok().and_then(|from| self.bytes.get(from..));
        put(into, 0, known.unwrap_or_default());
        Ok(())
    }
}
