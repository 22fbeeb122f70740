//! The Disk Data Format of the SNIA (DDF 1.0 and 1.2): what each disk of a set has at its end, big-endian.
//!
//! The last sector is the anchor, which says where two copies lie: a header each, and behind it the
//! sections: the disks of the set, its volumes, the records of what lies on this disk, and which disk it
//! is. A copy is written while the header of the other is newer, or as new.

mod records;
mod set;

pub use set::Set;
pub(super) use set::name_of;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::Fault;
use super::pieces::{Pieces, Stop};
use crate::parts::bytes::{be16, be32, be64};
use records::Record;

const WHAT: &str = "metadata of a DDF RAID set";

const HEADER: u32 = 0xde11_de11;
const DISKS: u32 = 0x2222_2222;
const VOLUMES: u32 = 0xdddd_dddd;
const RECORD: u32 = 0xeeee_eeee;
const THIS_DISK: u32 = 0x3333_3333;

/// How many sectors a copy may take, as far as it is read: 1023 disks and volumes, and as many records.
const MOST: u64 = 32768;
/// How many bytes a list may take: more than 1023 entries do.
const MOST_OF_LIST: usize = 1 << 20;
/// Its header takes one.
const SECTOR: usize = SECTOR_SIZE as usize;

// In a header.
const GUID: usize = 8;
const GUID_LEN: usize = 24;
const REVISION: usize = 32;
const SEQUENCE: usize = 40;
const OPEN: usize = 48;
const PRIMARY: usize = 96;
const SECONDARY: usize = 104;
const KIND: usize = 112;
const RECORD_LEN: usize = 134;
const MOST_ELEMENTS: usize = 136;
/// Where the sections are: controller, disks, volumes, records, this disk.
const SECTIONS: [usize; 5] = [192, 200, 208, 216, 224];
/// Those that nothing here knows: bad blocks, diagnosis, the vendor's.
const OTHERS: [usize; 3] = [232, 240, 248];

// Where the sequence is, in sectors, of the sections' order.
const OF_DISKS: usize = 1;
const OF_VOLUMES: usize = 2;
const OF_RECORDS: usize = 3;
const OF_THIS: usize = 4;

/// What a disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The copy that counts.
    copy: Half,
    /// Where the other begins, and its header, where there is one.
    other: Option<(Sector, Vec<u8>)>,
    /// The other is as this one is.
    is_same: bool,
    /// By this the set knows the disk.
    reference: u32,
    records: Vec<Record>,
}

/// One of the two copies: the header, and the sectors behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Half {
    at: Sector,
    bytes: Vec<u8>,
}

/// Reads what a disk so long says; nothing where it has no anchor.
pub(super) fn read(len: Sectors, pieces: &Pieces) -> Result<Option<Disk>, Stop> {
    let Some(anchor) = pieces.sector(len.0.checked_sub(1))? else { return Ok(None) };
    if be32(anchor, 0) != HEADER {
        return Ok(None);
    }
    if !is_sound(anchor, HEADER) {
        return Err(fault("has an anchor with a wrong checksum"));
    }
    if !matches!(&anchor[REVISION..REVISION + 8], b"01.00.00" | b"01.02.00") {
        return Err(fault("is of a revision that is not known"));
    }
    let header = |at: u64, kind: u8| -> Result<Option<(Sector, Vec<u8>)>, Stop> {
        if at >= len.0.saturating_sub(1) {
            return Ok(None);
        }
        let found = pieces.sectors(Sector(at), Sectors(1))?;
        let same = |from: usize, to: usize| found[from..to] == anchor[from..to];
        let fits = is_sound(found, HEADER)
            && same(GUID, REVISION + 8)
            && same(PRIMARY, KIND)
            && same(KIND + 1, KIND + 4)
            && found[KIND] == kind;
        Ok(fits.then(|| (Sector(at), found.to_vec())))
    };
    let first = header(be64(anchor, PRIMARY), 1)?;
    let second = header(be64(anchor, SECONDARY), 2)?;
    let (one, other) = match (first, second) {
        (Some(first), Some(second)) if second_counts(&first.1, &second.1) => (second, Some(first)),
        (Some(first), second) => (first, second),
        (None, Some(second)) => (second, None),
        (None, None) => return Err(fault("has no header that is right")),
    };
    let copy = copy(len, pieces, &one)?;
    let wrong = match copy.fault() {
        None => return disk(len, pieces, copy, other).map(Some),
        Some(wrong) => wrong,
    };
    // A header that is right, and what it is of is not: the other may be.
    let Some(other) = other else { return Err(fault(wrong)) };
    let copy = self::copy(len, pieces, &other)?;
    match copy.fault() {
        None => disk(len, pieces, copy, Some(one)).map(Some),
        Some(_) => Err(fault(wrong)),
    }
}

fn fault(how: impl Into<String>) -> Stop {
    Fault::of(WHAT, how).into()
}

/// Tells whether the second copy is the one that counts, as mdadm has it.
fn second_counts(first: &[u8], second: &[u8]) -> bool {
    let (one, other) = (be32(first, SEQUENCE), be32(second, SEQUENCE));
    let is_closed = second[OPEN] == 0;
    is_closed && (one < other || one == other && first[OPEN] != 0)
}

/// Tells whether a part has its magic number and its checksum.
fn is_sound(bytes: &[u8], magic: u32) -> bool {
    be32(bytes, 0) == magic && checksum(bytes) == be32(bytes, 4)
}

/// Sums a part up, with its own checksum as if it were all ones: the common CRC-32 without its inversions.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(&bytes[..4]);
    hasher.update(&[0xff; 4]);
    hasher.update(&bytes[8..]);
    !hasher.finalize()
}

/// Reads a copy: as far as the sections go that are known here.
fn copy(len: Sectors, pieces: &Pieces, (at, header): &(Sector, Vec<u8>)) -> Result<Half, Stop> {
    let end =
        |section: &usize| u64::from(be32(header, *section)) + u64::from(be32(header, *section + 4));
    let end = SECTIONS.iter().map(end).max().unwrap_or_default();
    if !(1..=MOST).contains(&end) || at.0 + end > len.0 {
        return Err(fault("has a header whose sections lie past any end"));
    }
    let bytes = match end {
        1 => header.clone(),
        end => [header, pieces.sectors(*at + Sectors(1), Sectors(end - 1))?].concat(),
    };
    Ok(Half { at: *at, bytes })
}

/// Makes a disk of the copy that counts.
fn disk(
    len: Sectors,
    pieces: &Pieces,
    copy: Half,
    other: Option<(Sector, Vec<u8>)>,
) -> Result<Disk, Stop> {
    let mut is_same = false;
    if let Some(other) = &other {
        let found = self::copy(len, pieces, other)?;
        let same = |section| found.section(section) == copy.section(section);
        is_same = be32(&other.1, SEQUENCE) == be32(&copy.bytes, SEQUENCE)
            && other.1[OPEN] == 0
            && copy.bytes[OPEN] == 0
            && (OF_DISKS..=OF_THIS).all(same);
    }
    let reference = be32(copy.section(OF_THIS), 32);
    let records = copy.records();
    Ok(Disk { copy, other, is_same, reference, records })
}

impl Half {
    /// Returns a section; it lies within, as the copy was read as far as any goes.
    fn section(&self, nr: usize) -> &[u8] {
        let at = be32(&self.bytes, SECTIONS[nr]) as usize * SECTOR;
        let len = be32(&self.bytes, SECTIONS[nr] + 4) as usize * SECTOR;
        &self.bytes[at..at + len]
    }

    /// Says what is wrong with the sections.
    fn fault(&self) -> Option<String> {
        let parts = [
            (OF_DISKS, DISKS, "list of disks"),
            (OF_VOLUMES, VOLUMES, "list of volumes"),
            (OF_THIS, THIS_DISK, "record of which disk it is"),
        ];
        let wrong = |(nr, magic, _): &&(usize, u32, &str)| {
            let section = self.section(*nr);
            section.len() < SECTOR || section.len() > MOST_OF_LIST || !is_sound(section, *magic)
        };
        let (nr, magic, what) = parts.iter().find(wrong)?;
        let section = self.section(*nr);
        Some(match section.len() >= SECTOR && be32(section, 0) == *magic {
            true => format!("has a {what} with a wrong checksum"),
            false => format!("has no {what}"),
        })
    }

    /// Returns the records of volumes that are right.
    fn records(&self) -> Vec<Record> {
        let len = usize::from(be16(&self.bytes, RECORD_LEN)) * SECTOR;
        let most = usize::from(be16(&self.bytes, MOST_ELEMENTS));
        if len == 0 {
            return Vec::new();
        }
        let all = self.section(OF_RECORDS).chunks_exact(len);
        all.filter(|bytes| is_sound(bytes, RECORD))
            .filter_map(|bytes| Record::parse(bytes, most))
            .collect()
    }
}

impl Disk {
    /// Returns what the set is known by.
    pub(super) fn guid(&self) -> &[u8] {
        &self.copy.bytes[GUID..GUID + GUID_LEN]
    }

    /// Returns how many times it was written; one that was being written when it ended counts less.
    pub(super) fn sequence(&self) -> u32 {
        let sequence = be32(&self.copy.bytes, SEQUENCE);
        sequence.saturating_sub(u32::from(self.copy.bytes[OPEN] != 0))
    }

    /// Returns what the disk is known by in its set.
    pub(super) fn reference(&self) -> u32 {
        self.reference
    }

    /// Tells whether there are two copies, made alike, that both can be written anew.
    fn can_be_written(&self) -> bool {
        let header = &self.copy.bytes;
        let is_known = OTHERS
            .iter()
            .all(|section| matches!(be32(header, *section + 4), 0 | u32::MAX) || self.is_same);
        let shape = |header: &[u8]| header[RECORD_LEN..OTHERS[2] + 8].to_vec();
        let is_alike = |(_, other): &(Sector, Vec<u8>)| shape(other) == shape(header);
        self.other.as_ref().is_some_and(is_alike) && is_known
    }
}
