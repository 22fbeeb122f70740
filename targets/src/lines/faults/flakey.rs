//! `flakey <dev> <start> <up s> <down s> [<#features> <features>]`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// What a probability is a part of.
pub const PROBABILITY_BASE: u32 = 1_000_000_000;

/// A table line of `flakey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Where the target's sectors lie.
    pub place: Place<D>,
    /// For how many seconds the device is well at a time.
    pub up_s: u32,
    /// For how many seconds it is not.
    pub down_s: u32,
    /// What it does then.
    pub features: Features,
}

/// What the device does while it is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Reads fail.
    pub error_reads: bool,
    /// What becomes of writes, discards and flushes.
    pub writes: Writes,
    /// A byte of each bio that is another.
    pub corrupt: Option<Corrupt>,
    /// The probability that a random byte of a read is another, of [`PROBABILITY_BASE`].
    pub random_read: u32,
    /// The probability that a random byte of a write is another.
    pub random_write: u32,
}

/// What becomes of writes, discards and flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They are carried out.
    Pass,
    /// They end well, and nothing is done.
    Drop,
    /// They fail.
    Fail,
}

/// A byte that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Which byte of the bio, counted from 1.
    pub byte: u32,
    /// Of reads, or of writes.
    pub direction: Direction,
    /// What is there instead.
    pub value: u8,
    /// The bits of the kernel's `bi_opf` that a bio must have.
    pub flags: u32,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `r`
    Read,
    /// `w`
    Write,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        words.at_least(4, COUNT)?;
        let device_word = words.next(COUNT)?;
        let start = words.next(COUNT)?.sector("Invalid device sector")?;
        let (_, up_s) = words.number(0..=u32::MAX, "Invalid up interval")?;
        // The kernel has a text for the second, too, and uses the first one's.
        let (down_word, down_s) = words.number(0..=u32::MAX, "Invalid up interval")?;
        // As the kernel adds them, in 32 bits.
        if up_s.wrapping_add(down_s) == 0 {
            let kernel = "Total (up + down) interval is zero";
            return Err(down_word.error("an interval of some seconds", kernel));
        }
        if up_s.checked_add(down_s).is_none() {
            let expected = format_args!("at most {}", u32::MAX - up_s);
            return Err(down_word.error(expected, "Interval overflow"));
        }
        let features = Features::parse(words)?;
        let device = devices.open(device_word, "Device lookup failed")?;
        Ok(Line { place: Place { device, start }, up_s, down_s, features })
    }
}

impl Features {
    /// Nothing but errors.
    const ERRORS: Features = Features { error_reads: true, writes: Writes::Fail, ..Features::NONE };

    const NONE: Features = Features {
        error_reads: false,
        writes: Writes::Pass,
        corrupt: None,
        random_read: 0,
        random_write: 0,
    };

    fn parse(words: &mut Words<'_>) -> Result<Features, CtrError> {
        if words.left() == 0 {
            return Ok(Features::ERRORS);
        }
        let most = u32::try_from(words.left() - 1).unwrap_or(u32::MAX).min(11);
        let (_, mut left) = words.number(0..=most, "Invalid number of feature args")?;
        let mut features = Features::NONE;
        // Wraps around where a feature has taken more words than were counted: the kernel goes on
        // until there are no more words then.
        while left != 0 {
            let word = words.next("Insufficient feature arguments")?;
            left = left.wrapping_sub(1);
            let refuse = |kernel| Err(word.error("another feature", kernel));
            match &*word.text().to_ascii_lowercase() {
                "error_reads" if features.error_reads => {
                    return refuse("Feature error_reads duplicated");
                }
                "error_reads" => features.error_reads = true,
                "drop_writes" => match features.writes {
                    Writes::Pass => features.writes = Writes::Drop,
                    Writes::Drop => return refuse("Feature drop_writes duplicated"),
                    Writes::Fail => {
                        return refuse("Feature drop_writes conflicts with feature error_writes");
                    }
                },
                "error_writes" => match features.writes {
                    Writes::Pass => features.writes = Writes::Fail,
                    Writes::Fail => return refuse("Feature error_writes duplicated"),
                    Writes::Drop => {
                        return refuse("Feature error_writes conflicts with feature drop_writes");
                    }
                },
                "corrupt_bio_byte" if left == 0 => {
                    let kernel = "Feature corrupt_bio_byte requires parameters";
                    return Err(word.error("four more words to be counted", kernel));
                }
                "corrupt_bio_byte" => {
                    features.corrupt = Some(Corrupt::parse(words)?);
                    left = left.wrapping_sub(4);
                }
                name @ ("random_read_corrupt" | "random_write_corrupt") if left == 0 => {
                    let kernel = format!("Feature {name} requires a parameter");
                    return Err(word.error("one more word to be counted", &kernel));
                }
                name @ ("random_read_corrupt" | "random_write_corrupt") => {
                    let kernel = "Invalid random corrupt argument";
                    let (_, probability) = words.number(0..=PROBABILITY_BASE, kernel)?;
                    left = left.wrapping_sub(1);
                    match name {
                        "random_read_corrupt" => features.random_read = probability,
                        _ => features.random_write = probability,
                    }
                }
                _ => return Err(word.error("a feature", "Unrecognised flakey feature requested")),
            }
        }
        features.check()
    }

    fn check(self) -> Result<Features, CtrError> {
        let corrupts_writes =
            self.corrupt.as_ref().is_some_and(|it| it.direction == Direction::Write);
        let writes = match (corrupts_writes, self.writes) {
            (true, Writes::Drop) => "drop_writes",
            (true, Writes::Fail) => "error_writes",
            (true, Writes::Pass) | (false, _) => {
                let any = self != Features::NONE;
                return Ok(if any { self } else { Features::ERRORS });
            }
        };
        Err(CtrError::new(format!(
            "{writes} is incompatible with corrupt_bio_byte with the WRITE flag set"
        )))
    }

    /// How many words they are.
    fn count(&self) -> u32 {
        u32::from(self.error_reads)
            + u32::from(self.writes != Writes::Pass)
            + 5 * u32::from(self.corrupt.is_some())
            + 2 * u32::from(self.random_read > 0)
            + 2 * u32::from(self.random_write > 0)
    }
}

impl Corrupt {
    fn parse(words: &mut Words<'_>) -> Result<Corrupt, CtrError> {
        const DIRECTION: &str = "Invalid corrupt bio direction (r or w)";
        let (_, byte) = words.number(1..=u32::MAX, "Invalid corrupt bio byte")?;
        let word = words.next(DIRECTION)?;
        let direction = match &*word.text().to_ascii_lowercase() {
            "r" => Direction::Read,
            "w" => Direction::Write,
            _ => return Err(word.error("r or w", DIRECTION)),
        };
        let kernel = "Invalid corrupt value to write into bio byte (0-255)";
        let value = words.number(0..=255, kernel)?.1 as u8;
        let (_, flags) = words.number(0..=u32::MAX, "Invalid corrupt bio flags mask")?;
        Ok(Corrupt { byte, direction, value, flags })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.place, self.up_s, self.down_s, self.features)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count())?;
        f.write_str(if self.error_reads { " error_reads" } else { "" })?;
        f.write_str(match self.writes {
            Writes::Pass => "",
            Writes::Drop => " drop_writes",
            Writes::Fail => " error_writes",
        })?;
        if let Some(Corrupt { byte, direction, value, flags }) = &self.corrupt {
            let direction = match direction {
                Direction::Read => 'r',
                Direction::Write => 'w',
            };
            write!(f, " corrupt_bio_byte {byte} {direction} {value} {flags}")?;
        }
        for (name, probability) in
            [("random_read_corrupt", self.random_read), ("random_write_corrupt", self.random_write)]
        {
            if probability > 0 {
                write!(f, " {name} {probability}")?;
            }
        }
        Ok(())
    }
}
