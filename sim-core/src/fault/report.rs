//! What a plan has done so far.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::FaultPlan;
use super::units::Seconds;
use crate::{BlkError, DevNumber, Op, Sector, Sectors};

/// The most strikes of a plan that are remembered: the last ones.
pub const MAX_STRIKES: usize = 1000;

/// A plan that is armed, or was, and what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The device below that it is for; none where it is for whoever uses the device.
    pub below: Option<DevNumber>,
    /// The plan, with its seed.
    pub plan: FaultPlan,
    /// How long it has been armed.
    pub armed_s: Seconds,
    /// How many bios came.
    pub bio_count: u64,
    /// What each rule has done.
    pub rules: Vec<RuleCount>,
    /// The last strikes, up to [`MAX_STRIKES`], the oldest first.
    pub strikes: Vec<Strike>,
}

/// What a rule has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// How many bios fitted.
    pub fit_count: u64,
    /// How many of them it struck.
    pub struck_count: u64,
}

/// A bio that was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Which of the plan's rules struck, counted from 1.
    pub rule: usize,
    /// When, since the plan was armed.
    pub at_s: Seconds,
    /// What the bio was.
    pub op: Struck,
    /// Its first sector.
    pub start: Sector,
    /// Its length; zero of a flush.
    pub len: Sectors,
    /// What became of it.
    pub fate: Fate,
}

/// What a bio was that was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are those of `Op`")]
pub enum Struck {
    Read,
    Write,
    WriteFua,
    Flush,
    Discard,
    WriteZeroes,
    SecureErase,
}

/// What became of a bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It failed, and nothing was done.
    Fails(BlkError),
    /// It came late, and nothing else.
    Late,
    /// So many sectors were done, then it failed.
    Short(Sectors),
    /// So many sectors were done, and it ended well.
    Torn(Sectors),
    /// It was done here instead.
    Elsewhere(Sector),
    /// Bits were flipped.
    Flipped {
        /// Where the sectors begin that they are in, from the bio's first.
        skip: Sectors,
        /// How many sectors these are.
        len: Sectors,
        /// The first bit, counted from the first of these; the others follow evenly.
        first: u64,
        /// How many.
        bits: u32,
    },
    /// Nothing was done, and it ended well.
    Lost,
    /// It was done without its FUA.
    WithoutFua,
}

impl Struck {
    pub(crate) fn of(op: Op, fua: bool) -> Struck {
        match op {
            Op::Read => Struck::Read,
            Op::Write if fua => Struck::WriteFua,
            Op::Write => Struck::Write,
            Op::Flush => Struck::Flush,
            Op::Discard => Struck::Discard,
            Op::WriteZeroes => Struck::WriteZeroes,
            Op::SecureErase => Struck::SecureErase,
        }
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Struck::Read => "read",
            Struck::Write => "write",
            Struck::WriteFua => "write-fua",
            Struck::Flush => "flush",
            Struck::Discard => "discard",
            Struck::WriteZeroes => "write-zeroes",
            Struck::SecureErase => "secure-erase",
        }
    }
}

impl Fate {
    /// Lists the bits that are flipped, counted from the first of the bio, in their order from the first on.
    pub fn bits(self) -> impl Iterator<Item = u64> {
        let (skip, total, first, bits) = match self {
            Fate::Flipped { skip, len, first, bits } => {
                (skip.bytes() * 8, len.bytes() * 8, first, u64::from(bits))
            }
            Fate::Fails(_)
            | Fate::Late
            | Fate::Short(_)
            | Fate::Torn(_)
            | Fate::Elsewhere(_)
            | Fate::Lost
            | Fate::WithoutFua => (0, 0, 0, 0),
        };
        // As far apart as they can be, so that none meets another and is put right again.
        let bits = bits.min(total);
        let apart = total.checked_div(bits).unwrap_or(0);
        (0..bits).map(move |bit| skip + (first + bit * apart) % total)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Fails(error) => error.fmt(f),
            Fate::Late => f.write_str("late"),
            Fate::Short(done) => write!(f, "{done} sectors done, then input/output error"),
            Fate::Torn(done) => write!(f, "{done} sectors done"),
            Fate::Elsewhere(to) => write!(f, "done at sector {to}"),
            Fate::Flipped { bits, .. } => {
                let first = self.bits().next().unwrap_or(0);
                write!(f, "bit {} of byte {}", first % 8, first / 8)?;
                match bits {
                    0 | 1 => f.write_str(" flipped"),
                    more => write!(f, " and {} more flipped", more - 1),
                }
            }
            Fate::Lost => f.write_str("nothing done"),
            Fate::WithoutFua => f.write_str("done without FUA"),
        }
    }
}
