//! Partition tables: what the first and the last sectors of a disk say of its parts.
//!
//! Read here and by no crate, as none takes what a stranger's disk may hold: gpt 4.1 asserts the size of
//! an entry, it and gptman 3.1 take memory for as many entries as a header claims, mbrman 0.6 adds with
//! overflow and gives up a chain where one record is damaged, and none says which of two tables it took.

mod gpt;
mod layers;
mod mbr;
mod show;
mod types;

use sim_core::{SECTOR_SIZE, Sector, Sectors};

use crate::bytes::le32;
use crate::source::read as read_bytes;
use crate::{Error, Source};

pub use layers::layers;
use mbr::Mbr;
pub use types::{Guid, TypeId};

/// The highest number that a partition can have, as for Linux: what is behind is left out, with a warning.
pub const MAX_NUMBER: u32 = 255;

/// The most that is read of a source, in bytes: arrays of two sizes of sectors, at four places each, and as
/// many links of a chain as are followed.
pub const MOST_READ: u64 = 8 * (gpt::MAX_ARRAY + 4096) + mbr::MAX_LINKS as u64 * 512 + 4096;

/// Both sizes of logical sectors that disks have.
const SECTOR_SIZES: [u32; 2] = [512, 4096];

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which kind it is of.
    pub format: Format,
    /// What names the disk: a GUID, or the eight digits of an MBR's signature; none where that is zero.
    pub uuid: Option<String>,
    /// The size in bytes of the logical sectors that the table counts in.
    pub sector_size: u32,
    /// The length of what it lies on, whole sectors alone.
    pub sectors: Sectors,
    /// The partitions, by their numbers. None reaches past the end of what the table lies on.
    pub partitions: Vec<Partition>,
    /// What is odd about it, and what was left out.
    pub warnings: Vec<String>,
}

/// A kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The master boot record, with logical partitions in chains.
    Mbr,
    /// The GUID partition table.
    Gpt,
}

/// A partition. Places and lengths are in sectors of 512 bytes, whatever the disk counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as Linux has it: the slot's, from 1 on; of logical partitions from 5 on.
    pub number: u32,
    /// Where it begins.
    pub start: Sector,
    /// How long it is.
    pub sectors: Sectors,
    /// What it is said to hold.
    pub kind: TypeId,
    /// What people call that, where it is known.
    pub kind_name: Option<&'static str>,
    /// What udev and blkid call PARTUUID; none where an MBR has no signature.
    pub uuid: Option<String>,
    /// Its name, which GPT alone has; none where that is empty.
    pub name: Option<String>,
    /// Whether a BIOS is to boot from it.
    pub bootable: bool,
    /// The attribute bits of GPT; 0 in an MBR.
    pub attributes: u64,
    /// Which place it has in the table.
    pub place: Place,
    /// Whether it reaches past the end of what the table lies on, and was cut there.
    pub is_cut: bool,
}

/// Which place a partition has in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A slot of the table itself.
    Primary,
    /// A slot of an MBR whose partition is cut into logical ones: it holds no data of its own.
    Extended,
    /// Within an extended partition.
    Logical,
}

impl Partition {
    /// Returns the first sector behind it.
    pub fn end(&self) -> Sector {
        Sector(self.start.0.saturating_add(self.sectors.0))
    }

    /// Tells whether it may hold data, which an extended partition does not.
    pub fn holds_data(&self) -> bool {
        self.place != Place::Extended
    }
}

/// Reads the partition table of a disk; none where there is none. Sectors of 512 and of 4096 bytes are told
/// apart by where a GPT lies; an MBR alone is taken to count in sectors of 512.
///
/// # Errors
/// Where the disk cannot be read; where it has a GPT, and neither copy of it is sound.
pub fn read(source: &dyn Source) -> Result<Option<Table>, Error> {
    read_with(source, None)
}

/// As [`read`], of a disk whose logical sectors are known to have so many bytes.
///
/// # Errors
/// As [`read`]; where no disk has such sectors.
pub fn read_with(source: &dyn Source, sector_size: Option<u32>) -> Result<Option<Table>, Error> {
    let sizes = match &sector_size {
        None => &SECTOR_SIZES[..],
        Some(size) if SECTOR_SIZES.contains(size) => std::slice::from_ref(size),
        Some(size) => {
            let why = format!("expected logical sectors of 512 or 4096 bytes, found {size}");
            return Err(Error::BadArgument(why));
        }
    };
    if source.len() < SECTOR_SIZE {
        return Ok(None);
    }
    let first = read_bytes(source, 0, SECTOR_SIZE as usize)?;
    let mbr = Mbr::parse(&first);
    if let Some(mbr) = mbr.as_ref().filter(|mbr| mbr.is_protective()) {
        let table = gpt::read(source, sizes, mbr.last_protected(), gpt::Trust::Backup)?;
        let mut table = table.ok_or_else(|| {
            let found = "the MBR is a protective one, and there is no header of a GPT";
            Error::damaged(format!("{found}, neither in sector 1 nor at the end"))
        })?;
        table.warnings.splice(0..0, mbr.oddities());
        return Ok(Some(table));
    }
    // What lies in the last sectors alone may be left from before a file system was made over the disk; and what
    // is damaged and not protected is no table.
    let gpt = gpt::read(source, sizes, None, gpt::Trust::Primary).ok().flatten();
    let mbr = mbr.filter(|mbr| mbr.counts(source, sizes[0]));
    Ok(match (mbr, gpt) {
        (Some(mbr), Some(gpt)) if mbr.covers_header() => {
            let why = "the entry of the protective MBR is not of type 0xee: the GPT counts";
            Some(with_warning(gpt, why))
        }
        (Some(mbr), Some(_)) => {
            let why = "there is a GPT, too, which no entry of type 0xee in the MBR protects: the MBR counts, as \
                       for Linux";
            Some(with_warning(mbr::read(source, &mbr, sizes[0]), why))
        }
        (Some(mbr), None) => Some(mbr::read(source, &mbr, sizes[0])),
        (None, Some(gpt)) => Some(with_warning(
            gpt,
            "the protective MBR is damaged, or was overwritten: the GPT counts",
        )),
        (None, None) => None,
    })
}

fn with_warning(mut table: Table, why: &str) -> Table {
    table.warnings.insert(0, why.to_owned());
    table
}

/// Leaves out what is empty or lies outside, cuts what reaches past the end, and tells of both, and of what
/// lies over something else.
fn within(table: &mut Table) {
    let Table { sectors: Sectors(end), partitions, warnings, .. } = table;
    partitions.retain_mut(|partition| {
        let (number, start, last) = (partition.number, partition.start.0, partition.end().0);
        let told = match () {
            () if start >= *end => format!(
                "partition {number} lies past the end of the image, which has {end} sectors: it begins at \
                 {start}, and is left out"
            ),
            () if start == last => format!("partition {number} is empty: it is left out"),
            () if last > *end => {
                partition.sectors = Sectors(*end - start);
                partition.is_cut = true;
                warnings.push(format!(
                    "partition {number} reaches past the end of the image, which has {end} sectors: it is cut \
                     from {} to {}",
                    last - start,
                    partition.sectors
                ));
                return true;
            }
            () => return true,
        };
        warnings.push(told);
        false
    });
    partitions.sort_by_key(|partition| partition.number);
    overlaps(partitions, warnings);
}

fn overlaps(partitions: &[Partition], warnings: &mut Vec<String>) {
    let mut by_start: Vec<_> = partitions.iter().filter(|part| part.holds_data()).collect();
    by_start.sort_by_key(|partition| (partition.start, partition.number));
    // Each with the one before that reaches furthest: as many warnings as partitions, at most.
    let mut furthest: Option<&Partition> = None;
    for partition in by_start {
        if let Some(before) = furthest.filter(|before| partition.start < before.end()) {
            warnings.push(lies_over(before, partition));
        }
        if furthest.is_none_or(|before| before.end() < partition.end()) {
            furthest = Some(partition);
        }
    }
    let all = |place| partitions.iter().filter(move |partition| partition.place == place);
    for extended in all(Place::Extended) {
        let over = all(Place::Primary)
            .filter(|other| other.start < extended.end() && extended.start < other.end());
        warnings.extend(over.map(|other| lies_over(extended, other)));
    }
    for logical in all(Place::Logical) {
        let within = |extended: &Partition| {
            extended.start <= logical.start && logical.end() <= extended.end()
        };
        if !all(Place::Extended).any(within) {
            let number = logical.number;
            let why = format!("partition {number} is a logical one, and lies outside the extended");
            warnings.push(why);
        }
    }
}

fn lies_over(one: &Partition, other: &Partition) -> String {
    format!("partitions {} and {} overlap", one.number, other.number)
}

/// Tells whether a first sector is that of a file system or a container, which ends in the same signature as
/// an MBR: what would be the entries is code and text there.
fn is_boot_sector(first: &[u8]) -> bool {
    const SYSTEMS: [&[u8; 8]; 3] = [b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"];
    SYSTEMS.iter().any(|system| first[3..11] == system[..]) || is_fat(first)
}

/// Tells whether a sector begins with the parameters of a FAT file system. Those of OS/2's file systems look
/// the same. A boot loader in an MBR has zeros there, or code.
fn is_fat(first: &[u8]) -> bool {
    let word = |at: usize| u16::from_le_bytes([first[at], first[at + 1]]);
    let (sector, cluster, media) = (word(11), first[13], first[21]);
    let jumps = first[0] == 0xe9 || (first[0] == 0xeb && first[2] == 0x90);
    let has_length = word(19) != 0 || le32(first, 32) != 0;
    let has_tables = word(22) != 0 || le32(first, 36) != 0;
    jumps
        && (512..=4096).contains(&sector)
        && sector.is_power_of_two()
        && cluster.is_power_of_two()
        && word(14) != 0
        && (1..=4).contains(&first[16])
        && (media == 0xf0 || media >= 0xf8)
        && has_length
        && has_tables
}
