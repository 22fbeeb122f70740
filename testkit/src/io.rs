//! Bios as text: `R 4+8`, `W a 14+8 fua`, `F b`.

use std::fmt;

use sim_core::{Bio, Flags, Op, Sector, Sectors};

/// What a disk was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Io {
    /// The disk's minor number.
    pub disk: u32,
    /// The operation.
    pub op: Op,
    /// The first sector.
    pub sector: Sector,
    /// The length.
    pub len: Sectors,
    /// What else was asked for.
    pub flags: Flags,
}

impl Io {
    pub(crate) fn of(disk: u32, bio: &Bio<'_>) -> Io {
        Io { disk, op: bio.op(), sector: bio.sector, len: bio.len(), flags: bio.flags }
    }

    /// Makes the bio; `data` is what a write carries, and what a read fills.
    pub(crate) fn bio<'a>(&self, data: &'a mut [u8]) -> Bio<'a> {
        let bio = match self.op {
            Op::Read => Bio::read(self.sector, data),
            Op::Write => Bio::write(self.sector, data),
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Bio::without_data(self.op, self.sector, self.len)
            }
        };
        bio.with_flags(self.flags)
    }
}

/// Returns the letter of a disk: `a` is 7:0.
pub(crate) fn letter(disk: u32) -> char {
    char::from(b'a' + (disk % 26) as u8)
}

/// Returns the letter of an operation.
fn op_letter(op: Op) -> char {
    match op {
        Op::Read => 'R',
        Op::Write => 'W',
        Op::Flush => 'F',
        Op::Discard => 'D',
        Op::WriteZeroes => 'Z',
        Op::SecureErase => 'E',
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", op_letter(self.op), letter(self.disk))?;
        if self.op != Op::Flush {
            write!(f, " {}+{}", self.sector, self.len)?;
        }
        let Flags { fua, preflush, .. } = self.flags;
        f.write_str(if preflush && self.op != Op::Flush { " preflush" } else { "" })?;
        f.write_str(if fua { " fua" } else { "" })
    }
}

/// Reads a bio of the device under test: `W 4+8 fua`.
pub(crate) fn parse(text: &str) -> Option<Io> {
    let mut words = text.split_whitespace();
    let op = match words.next()? {
        "R" => Op::Read,
        "W" => Op::Write,
        "F" => Op::Flush,
        "D" => Op::Discard,
        "Z" => Op::WriteZeroes,
        "E" => Op::SecureErase,
        _ => return None,
    };
    let (sector, len) = match op {
        Op::Flush => (0, 0),
        _ => {
            let (sector, len) = words.next()?.split_once('+')?;
            (sector.parse().ok()?, len.parse().ok()?)
        }
    };
    let mut flags = Flags::default();
    for word in words {
        match word {
            "fua" => flags.fua = true,
            "preflush" => flags.preflush = true,
            _ => return None,
        }
    }
    Some(Io { disk: 0, op, sector: Sector(sector), len: Sectors(len), flags })
}
