//! How a table is printed: for people, and as JSON.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use sim_core::{SECTOR_SIZE, Sectors};

use super::{Format, Partition, Place, Table};

/// The columns, in their order.
const COLUMNS: [&str; 8] = ["#", "Boot", "Start", "End", "Sectors", "Size", "Type", "Name"];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Mbr => "MBR",
            Format::Gpt => "GPT",
        })
    }
}

/// Prints a table as `sfdisk --list` does: a row for each partition, places and lengths in sectors of 512 bytes,
/// the end being the last sector.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table { format, sectors, sector_size, .. } = self;
        write!(f, "{format}, {}, {sectors} sectors of 512 bytes", short(*sectors))?;
        if u64::from(*sector_size) != SECTOR_SIZE {
            write!(f, ", logical sectors of {sector_size} bytes")?;
        }
        if let Some(uuid) = &self.uuid {
            write!(f, ", {uuid}")?;
        }
        writeln!(f)?;
        if self.partitions.is_empty() {
            return writeln!(f, "no partitions");
        }
        let header = COLUMNS.map(str::to_owned);
        let rows: Vec<[String; 8]> =
            std::iter::once(header).chain(self.partitions.iter().map(row)).collect();
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        writeln!(f)?;
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Words stand at the left, numbers at the right.
                line += &match COLUMNS[column] {
                    "Type" | "Name" | "Boot" => format!("{cell:<width$}  "),
                    _ => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn row(partition: &Partition) -> [String; 8] {
    let Partition { number, start, sectors, .. } = partition;
    let kind = partition.kind_name.map_or_else(|| partition.kind.to_string(), str::to_owned);
    [
        number.to_string(),
        if partition.bootable { "*" } else { "" }.to_owned(),
        start.to_string(),
        partition.end().0.saturating_sub(1).to_string(),
        sectors.to_string(),
        short(*sectors),
        kind,
        partition.name.clone().unwrap_or_default(),
    ]
}

/// Writes a length so that it fits a column: rounded down to a tenth, in the largest unit that leaves a number
/// before the point.
fn short(sectors: Sectors) -> String {
    let bytes = u128::from(sectors.0) * u128::from(SECTOR_SIZE);
    let units = [(60, "E"), (50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K"), (0, "B")];
    let (shift, unit) = units.into_iter().find(|(shift, _)| bytes >> shift > 0).unwrap_or((0, "B"));
    let tenths = (bytes * 10) >> shift;
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        rest => format!("{}.{rest}{unit}", tenths / 10),
    }
}

/// The attributes of GPT by the names that sfdisk has for them; others by their numbers.
fn attributes(bits: u64) -> Vec<String> {
    let named = |bit: u32| match bit {
        0 => "RequiredPartition".to_owned(),
        1 => "NoBlockIOProtocol".to_owned(),
        2 => "LegacyBIOSBootable".to_owned(),
        bit => bit.to_string(),
    };
    (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1).map(named).collect()
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut to = to.serialize_struct("Table", 6)?;
        // As blkid and lsblk call it.
        let pttype = match self.format {
            Format::Mbr => "dos",
            Format::Gpt => "gpt",
        };
        to.serialize_field("type", pttype)?;
        to.serialize_field("uuid", &self.uuid)?;
        to.serialize_field("sector_size_bytes", &self.sector_size)?;
        to.serialize_field("size_bytes", &bytes(self.sectors))?;
        to.serialize_field("partitions", &self.partitions)?;
        to.serialize_field("warnings", &self.warnings)?;
        to.end()
    }
}

impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut to = to.serialize_struct("Partition", 11)?;
        to.serialize_field("number", &self.number)?;
        to.serialize_field("start", &self.start.0)?;
        to.serialize_field("size_bytes", &bytes(self.sectors))?;
        to.serialize_field("type", &self.kind.to_string())?;
        to.serialize_field("type_name", &self.kind_name)?;
        to.serialize_field("uuid", &self.uuid)?;
        to.serialize_field("label", &self.name)?;
        to.serialize_field("bootable", &self.bootable)?;
        to.serialize_field("attributes", &attributes(self.attributes))?;
        to.serialize_field("logical", &(self.place == Place::Logical))?;
        to.serialize_field("extended", &(self.place == Place::Extended))?;
        to.end()
    }
}

fn bytes(sectors: Sectors) -> u64 {
    sectors.0.saturating_mul(SECTOR_SIZE)
}
