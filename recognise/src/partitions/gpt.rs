//! The GUID partition table: a header and an array of entries in the first sectors, and copies in the last.
//!
//! As the UEFI specification has it, version 2.10, chapter 5.

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use super::{Format, Guid, MAX_NUMBER, Partition, Place, Table, TypeId, within};
use crate::bytes::{array, le16, le32, le64, printable};
use crate::source::read as read_bytes;
use crate::{Error, Source};

/// The longest array that is read, in bytes: of 8192 entries. Tables have 128 entries, and seldom more.
pub(super) const MAX_ARRAY: u64 = 1 << 20;

/// The largest entry that is read. All have 128 bytes, and longer ones nothing behind these.
const MAX_ENTRY: u32 = 4096;

/// The shortest header.
const HEADER: usize = 92;

/// What a header begins with.
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// Says that a BIOS is to boot from a partition.
const LEGACY_BOOT: u64 = 1 << 2;

/// Which copies may tell that there is a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The header in sector 1 has to be sound.
    Primary,
    /// The copy at the end is enough.
    Backup,
}

/// A header whose checksum is right. Places are in the disk's own sectors.
#[derive(Clone, Copy)]
struct Header {
    at: u64,
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Guid,
    array: u64,
    count: u32,
    entry_size: u32,
    array_crc: u32,
}

/// Why a copy is of no use.
enum Flaw {
    /// There is no header at all.
    Absent,
    /// It would lie past the end of the image.
    Outside,
    /// It is there, and damaged.
    Damaged(String),
}

/// One of the two copies of a table.
struct OneCopy {
    at: u64,
    /// Where it says that the other copy is, true or not.
    other: Option<u64>,
    header: Option<Header>,
    entries: Result<Vec<u8>, Flaw>,
}

/// A disk, in sectors of one size.
struct Disk<'a> {
    source: &'a dyn Source,
    sector_size: u32,
}

/// Reads a GPT; none where there is no header. `last` is where the protective MBR has the disk's last sector.
pub(super) fn read(
    source: &dyn Source,
    sizes: &[u32],
    last: Option<u64>,
    trust: Trust,
) -> Result<Option<Table>, Error> {
    let mut backup_of = None;
    let mut flaws = Vec::new();
    for sector_size in sizes {
        let disk = Disk { source, sector_size: *sector_size };
        let primary = disk.copy(1);
        let backup = disk.backup(&primary, last);
        if primary.entries.is_ok() {
            return Ok(Some(disk.table(&primary, &primary, &backup)));
        }
        let is_enough = trust == Trust::Backup || primary.header.is_some();
        if backup.entries.is_ok() && is_enough && backup_of.is_none() {
            backup_of = Some(disk.table(&backup, &primary, &backup));
        }
        if primary.is_there() || backup.is_there() {
            let (one, other) = (primary.state(), backup.state());
            let (first, second) = (disk.sector(1), disk.sector(backup.at));
            flaws.push(format!(
                "the GPT in sector {first} {one}, and its backup in sector {second} {other}"
            ));
        }
    }
    match backup_of {
        None if flaws.is_empty() => Ok(None),
        None => Err(Error::damaged(flaws.join("; "))),
        table => Ok(table),
    }
}

impl OneCopy {
    fn is_there(&self) -> bool {
        !matches!(self.entries, Err(Flaw::Absent | Flaw::Outside))
    }

    /// Says what is wrong with it.
    fn state(&self) -> String {
        match &self.entries {
            Ok(_) => "is sound".to_owned(),
            Err(Flaw::Absent) => "is not there".to_owned(),
            Err(Flaw::Outside) => "would lie past the end of the image".to_owned(),
            Err(Flaw::Damaged(why)) => format!("is damaged ({why})"),
        }
    }
}

impl Disk<'_> {
    /// Returns how many whole sectors it has.
    fn len(&self) -> u64 {
        self.source.len() / u64::from(self.sector_size)
    }

    /// Says which sector of 512 bytes one of the disk's begins with.
    fn sector(&self, at: u64) -> u64 {
        at.saturating_mul(u64::from(self.sector_size) / SECTOR_SIZE)
    }

    /// Reads the copy whose header lies there.
    fn copy(&self, at: u64) -> OneCopy {
        if at >= self.len() {
            return OneCopy { at, other: None, header: None, entries: Err(Flaw::Outside) };
        }
        let size = self.sector_size;
        let bytes = read_bytes(self.source, at * u64::from(size), size as usize);
        let sector = match &bytes {
            Ok(bytes) if bytes[..8] == SIGNATURE[..] => bytes,
            other => {
                let flaw = match other {
                    Ok(_) => Flaw::Absent,
                    Err(error) => Flaw::Damaged(error.with_cause()),
                };
                return OneCopy { at, other: None, header: None, entries: Err(flaw) };
            }
        };
        let header = Header::parse(sector, at);
        let entries = match &header {
            Ok(header) => self.entries(header),
            Err(why) => Err(why.clone()),
        };
        let other = Some(le64(sector, 32));
        OneCopy { at, other, header: header.ok(), entries: entries.map_err(Flaw::Damaged) }
    }

    /// Finds the copy at the end: where the first one says, else at the end of the image, else at the end of
    /// what the MBR protects. The first place is the one that is told of where it is nowhere.
    fn backup(&self, primary: &OneCopy, last: Option<u64>) -> OneCopy {
        let mut places: Vec<u64> = Vec::new();
        for place in [primary.other, self.len().checked_sub(1), last].into_iter().flatten() {
            // The first copy is not its own backup.
            if place > 1 && !places.contains(&place) {
                places.push(place);
            }
        }
        let mut copies: Vec<OneCopy> = Vec::new();
        for place in places {
            let copy = self.copy(place);
            if copy.entries.is_ok() {
                return copy;
            }
            copies.push(copy);
        }
        let told = copies.iter().position(OneCopy::is_there).unwrap_or(0);
        let at = self.len();
        let nowhere = || OneCopy { at, other: None, header: None, entries: Err(Flaw::Outside) };
        copies.into_iter().nth(told).unwrap_or_else(nowhere)
    }

    /// Reads the array of entries.
    fn entries(&self, header: &Header) -> Result<Vec<u8>, String> {
        let Header { array, count, entry_size, .. } = *header;
        let fits = entry_size.is_power_of_two() && (128..=MAX_ENTRY).contains(&entry_size);
        if !fits {
            return Err(format!("entries of {entry_size} bytes, expected 128"));
        }
        let len = u64::from(count) * u64::from(entry_size);
        if len > MAX_ARRAY {
            return Err(format!(
                "{count} entries of {entry_size} bytes, more than {MAX_ARRAY} bytes"
            ));
        }
        let start = array.checked_mul(u64::from(self.sector_size));
        let start = start
            .filter(|start| start.checked_add(len).is_some_and(|end| end <= self.source.len()));
        let start = start.ok_or("the array of entries would lie past the end of the image")?;
        let bytes = read_bytes(self.source, start, len as usize);
        let bytes = bytes.map_err(|error| error.with_cause())?.to_vec();
        let found = crc32fast::hash(&bytes);
        match found == header.array_crc {
            true => Ok(bytes),
            false => Err(format!(
                "checksum of the array of entries: expected {:08x}, found {found:08x}",
                header.array_crc
            )),
        }
    }

    /// Makes the table of the copy that counts, which is one of the two.
    fn table(&self, counts: &OneCopy, primary: &OneCopy, backup: &OneCopy) -> Table {
        let header = counts.header.as_ref().expect("what has entries has a header");
        let bytes = counts.entries.as_ref().map(Vec::as_slice).unwrap_or_default();
        let mut warnings = self.oddities(primary, backup);
        let mut partitions = Vec::new();
        let mut more = 0;
        for (number, entry) in (1..).zip(bytes.chunks_exact(header.entry_size as usize)) {
            // A free slot has no type.
            if entry[..16] == [0; 16] {
                continue;
            }
            if number > MAX_NUMBER {
                more += 1;
                continue;
            }
            let partition = self.partition(number, entry);
            let usable = Sector(self.sector(header.first_usable))
                ..Sector(self.sector(header.last_usable.saturating_add(1)));
            let is_usable = usable.start <= partition.start && partition.end() <= usable.end;
            if !is_usable && partition.sectors > Sectors(0) {
                warnings.push(format!(
                    "partition {number} lies outside the sectors {} to {} that the GPT has for partitions",
                    usable.start,
                    usable.end.0 - 1
                ));
            }
            partitions.push(partition);
        }
        if more > 0 {
            warnings.push(format!(
                "{more} partitions have a number above {MAX_NUMBER}: they are left out"
            ));
        }
        let mut table = Table {
            format: Format::Gpt,
            uuid: Some(header.disk.to_string()),
            sector_size: self.sector_size,
            sectors: Sectors(self.sector(self.len())),
            partitions,
            warnings,
        };
        within(&mut table);
        table
    }

    /// Says what is odd about two copies of which one counts at least.
    fn oddities(&self, primary: &OneCopy, backup: &OneCopy) -> Vec<String> {
        let place = self.sector(backup.at);
        let end = self.sector(self.len());
        let mut odd = Vec::new();
        let why = match (&primary.entries, &backup.entries) {
            (Ok(_), Ok(_)) => match (&primary.header, &backup.header) {
                (Some(one), Some(other)) if !one.says_the_same(other) => Some(format!(
                    "the backup of the GPT, in sector {place}, differs: the first counts"
                )),
                _ => None,
            },
            (Ok(_), Err(Flaw::Outside)) => Some(format!(
                "the backup of the GPT would lie in sector {place}, past the end of the image, which has {end} \
                 sectors: it was cut short"
            )),
            (Ok(_), Err(_)) => {
                Some(format!("the backup of the GPT, in sector {place}, {}", backup.state()))
            }
            (Err(_), _) => {
                let state = primary.state();
                Some(format!("the GPT in sector 1 {state}: its backup, in sector {place}, counts"))
            }
        };
        odd.extend(why);
        if backup.entries.is_ok() && backup.at + 1 != self.len() {
            odd.push(format!(
                "the backup of the GPT lies in sector {place}, and the image has {end} sectors: something \
                 follows the disk, or it has grown"
            ));
        }
        odd
    }

    fn partition(&self, number: u32, entry: &[u8]) -> Partition {
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        let attributes = le64(entry, 48);
        let start = Sector(self.sector(first));
        // The last sector belongs to it. One that ends before it begins has none.
        let end = self.sector(last.saturating_add(1));
        let kind = TypeId::Gpt(Guid(array(entry, 0)));
        Partition {
            number,
            start,
            sectors: Sectors(end.saturating_sub(start.0)),
            kind,
            kind_name: kind.name(),
            uuid: Some(Guid(array(entry, 16)).to_string()),
            name: Some(name(&entry[56..128])).filter(|name| !name.is_empty()),
            bootable: attributes & LEGACY_BOOT != 0,
            attributes,
            place: Place::Primary,
            is_cut: false,
        }
    }
}

impl Header {
    /// Reads a header that begins with the signature, and was found there.
    fn parse(sector: &[u8], at: u64) -> Result<Header, String> {
        let size = le32(sector, 12) as usize;
        if !(HEADER..=sector.len()).contains(&size) {
            return Err(format!("header of {size} bytes, expected {HEADER}"));
        }
        let mut bytes = sector[..size].to_vec();
        bytes[16..20].fill(0);
        let (expected, found) = (le32(sector, 16), crc32fast::hash(&bytes));
        if expected != found {
            return Err(format!(
                "checksum of the header: expected {expected:08x}, found {found:08x}"
            ));
        }
        if le64(sector, 24) != at {
            return Err(format!("the header says that it lies in LBA {}", le64(sector, 24)));
        }
        Ok(Header {
            at,
            other: le64(sector, 32),
            first_usable: le64(sector, 40),
            last_usable: le64(sector, 48),
            disk: Guid(array(sector, 56)),
            array: le64(sector, 72),
            count: le32(sector, 80),
            entry_size: le32(sector, 84),
            array_crc: le32(sector, 88),
        })
    }

    /// Tells whether two copies are of one table.
    fn says_the_same(&self, other: &Header) -> bool {
        let told = |header: &Header| {
            let usable = (header.first_usable, header.last_usable);
            (header.disk, usable, header.count, header.entry_size, header.array_crc)
        };
        told(self) == told(other) && (self.at, self.other) == (other.other, other.at)
    }
}

/// Reads a name: UTF-16, up to the first NUL.
fn name(field: &[u8]) -> String {
    let units = (0..field.len() / 2).map(|at| le16(field, 2 * at));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    printable(&String::from_utf16_lossy(&units))
}
