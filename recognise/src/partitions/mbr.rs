//! The master boot record: four entries in the first sector, and chains of logical partitions.
//!
//! Numbers, and what becomes of odd entries, are those of Linux (`block/partitions/msdos.c`).

use std::collections::BTreeSet;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::{Format, MAX_NUMBER, Partition, Place, Table, TypeId, is_boot_sector, within};
use crate::Source;
use crate::bytes::le32;
use crate::source::read as read_bytes;

/// How many links of chains are followed. Each has one partition in tables that tools write.
pub(super) const MAX_LINKS: usize = 512;

/// Where the entries begin.
const ENTRIES: usize = 446;

/// The type of the entry that protects a GPT.
const PROTECTIVE: u8 = 0xee;

/// What AIX begins a disk of its own with: "IBMA" in EBCDIC.
const AIX: [u8; 4] = [0xc9, 0xc2, 0xd4, 0xc1];

/// A first sector that may be an MBR.
pub(super) struct Mbr {
    signature: u32,
    entries: [Entry; 4],
}

/// An entry of the MBR or of a link, in the disk's own sectors.
#[derive(Clone, Copy)]
struct Entry {
    flag: u8,
    kind: u8,
    start: u64,
    len: u64,
}

impl Entry {
    fn is_used(&self) -> bool {
        self.len != 0
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// Reads the entries of a sector that ends as one with entries does.
fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    let entry = |number: usize| {
        let bytes = &sector[ENTRIES + 16 * number..][..16];
        let (start, len) = (le32(bytes, 8).into(), le32(bytes, 12).into());
        Entry { flag: bytes[0], kind: bytes[4], start, len }
    };
    (sector[510..512] == [0x55, 0xaa]).then(|| std::array::from_fn(entry))
}

impl Mbr {
    /// Takes a first sector for an MBR, where it can be one.
    pub(super) fn parse(first: &[u8]) -> Option<Mbr> {
        let entries = entries(first)?;
        let makes_sense = entries.iter().all(|entry| matches!(entry.flag, 0 | 0x80));
        let is_other = first[..4] == AIX || is_boot_sector(first);
        (makes_sense && !is_other).then(|| Mbr { signature: le32(first, 440), entries })
    }

    /// Tells whether it says that the disk has a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }

    /// Tells whether its one entry begins where a GPT's header is, as the one that protects it does: no
    /// partition can.
    pub(super) fn covers_header(&self) -> bool {
        let mut used = self.entries.iter().filter(|entry| entry.is_used());
        used.next().is_some_and(|entry| entry.start == 1) && used.next().is_none()
    }

    /// Returns the last sector that it protects, where it says.
    pub(super) fn last_protected(&self) -> Option<u64> {
        let entry = self.entries.iter().find(|entry| entry.kind == PROTECTIVE)?;
        let is_known = entry.len != 0 && entry.len != u64::from(u32::MAX);
        is_known.then(|| entry.start + entry.len - 1)
    }

    /// Says what is odd about one that protects a GPT.
    pub(super) fn oddities(&self) -> Vec<String> {
        let mut odd = Vec::new();
        if !self.entries.iter().any(|entry| entry.kind == PROTECTIVE && entry.start == 1) {
            odd.push(
                "the protective MBR is damaged: its entry does not begin in sector 1".to_owned(),
            );
        }
        let is_other = |entry: &Entry| entry.is_used() && ![0, PROTECTIVE].contains(&entry.kind);
        let others = self.entries.iter().filter(|entry| is_other(entry)).count();
        if others > 0 {
            odd.push(format!("a hybrid MBR with {others} partitions of its own: the GPT counts"));
        }
        odd
    }

    /// Tells whether it is a table: one that has a partition which begins on the disk. A boot sector whose
    /// table is empty is none.
    pub(super) fn counts(&self, source: &dyn Source, sector_size: u32) -> bool {
        let begins =
            |entry: &Entry| entry.is_used() && entry.start * u64::from(sector_size) < source.len();
        self.entries.iter().any(begins)
    }
}

/// Reads the partitions of an MBR, the logical ones too.
pub(super) fn read(source: &dyn Source, mbr: &Mbr, sector_size: u32) -> Table {
    let disk = u64::from(sector_size);
    let id = mbr.signature;
    let mut reader = Reader {
        source,
        factor: disk / SECTOR_SIZE,
        uuid: (id != 0).then(|| format!("{id:08x}")),
        partitions: Vec::new(),
        warnings: Vec::new(),
        seen: BTreeSet::new(),
    };
    for (number, entry) in (1..).zip(&mbr.entries) {
        let place = if entry.is_extended() { Place::Extended } else { Place::Primary };
        // One of no type and no length is a slot that is free.
        if entry.is_used() || entry.kind != 0 {
            reader.add(number, entry, entry.start, place);
        }
    }
    for (number, entry) in (1..).zip(&mbr.entries) {
        if entry.is_used() && entry.is_extended() {
            reader.follow(number, entry);
        }
    }
    let Reader { uuid, partitions, warnings, .. } = reader;
    let sectors = Sectors(source.len() / disk * disk / SECTOR_SIZE);
    let format = Format::Mbr;
    let mut table = Table { format, uuid, sector_size, sectors, partitions, warnings };
    within(&mut table);
    table
}

/// What is found while chains are followed.
struct Reader<'a> {
    source: &'a dyn Source,
    /// How many sectors of 512 bytes one of the disk's has.
    factor: u64,
    uuid: Option<String>,
    partitions: Vec<Partition>,
    warnings: Vec<String>,
    /// Where links were read, of all chains.
    seen: BTreeSet<u64>,
}

impl Reader<'_> {
    fn add(&mut self, number: u32, entry: &Entry, start: u64, place: Place) {
        let kind = TypeId::Mbr(entry.kind);
        self.partitions.push(Partition {
            number,
            start: Sector(start * self.factor),
            sectors: Sectors(entry.len * self.factor),
            kind,
            kind_name: kind.name(),
            uuid: self.uuid.as_ref().map(|disk| format!("{disk}-{number:02x}")),
            name: None,
            bootable: entry.flag == 0x80,
            attributes: 0,
            place,
            is_cut: false,
        });
    }

    /// Follows the chain of an extended partition: each link has a partition, whose place counts from the link,
    /// and names the next link, whose place counts from the extended partition.
    fn follow(&mut self, number: u32, extended: &Entry) {
        let (mut at, mut span) = (extended.start, extended.len);
        while let Some(link) = self.link(number, at) {
            for (slot, entry) in link.iter().enumerate() {
                let start = at + entry.start;
                // The last two slots have no use; some programs left data there.
                let is_likely = slot < 2
                    || (entry.start + entry.len <= span
                        && start >= extended.start
                        && start + entry.len <= extended.start + extended.len);
                if !entry.is_used() || entry.is_extended() || !is_likely {
                    continue;
                }
                let next = self.next_number();
                if next > MAX_NUMBER {
                    let why = format!(
                        "there are more than {MAX_NUMBER} partitions: the rest is left out"
                    );
                    self.warnings.push(why);
                    return;
                }
                self.add(next, entry, start, Place::Logical);
            }
            match link.iter().find(|entry| entry.is_used() && entry.is_extended()) {
                Some(next) => (at, span) = (extended.start + next.start, next.len),
                None => return,
            }
        }
    }

    /// Logical partitions are numbered in the order of the links.
    fn next_number(&self) -> u32 {
        let logical = self.partitions.iter().filter(|part| part.place == Place::Logical);
        5 + logical.count() as u32
    }

    /// Reads a link; where there is none, says why the chain ends.
    fn link(&mut self, number: u32, at: u64) -> Option<[Entry; 4]> {
        let sector = at * self.factor;
        let why = if self.seen.len() == MAX_LINKS {
            format!("has more than {MAX_LINKS} links: the rest is left out")
        } else if !self.seen.insert(at) {
            format!("comes back to sector {sector}, and ends there")
        } else if self.source.len() / SECTOR_SIZE <= sector {
            format!("goes on in sector {sector}, past the end of the image: the rest is left out")
        } else {
            let bytes = read_bytes(self.source, sector * SECTOR_SIZE, SECTOR_SIZE as usize);
            match bytes.map(|bytes| entries(&bytes)) {
                Ok(Some(entries)) => return Some(entries),
                Ok(None) => {
                    format!("is damaged: sector {sector} is no link of it, and it ends there")
                }
                Err(error) => format!("cannot be read: {}: it ends there", error.with_cause()),
            }
        };
        let chain = format!("the chain of logical partitions in partition {number}");
        self.warnings.push(format!("{chain} {why}"));
        None
    }
}
