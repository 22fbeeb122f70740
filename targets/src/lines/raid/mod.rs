//! `raid <type> <#params> <chunk sectors> [<params>]* <#legs> [<meta dev|-> <data dev|->]+`

mod kind;
mod params;
mod shown;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;

use sim_core::{Arg, CtrError, Sectors, Words};

use super::words::{DeviceWord, Devices, from_text};
use crate::raid::layout::{Format, Raid10};
use params::{Reading, default_region};

pub use kind::{Family, Kind};
pub use params::{JournalMode, MAX_LEGS, Params, Synchronize};
pub use status::{Action, JournalHealth, LegHealth, Status};

/// The least length of a chunk.
const LEAST_CHUNK: i32 = 8;

const COUNT: &str = "Cannot understand number of raid parameters";
const LEGS: &str = "Cannot understand number of raid devices parameters";

/// What the kernel says where a word for a device is missing, as it has no text for that.
const UNKNOWN: &str = "Unknown error";

/// A table line of `raid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The type, as the line names it. With raid10 it says nothing of the format.
    pub kind: Kind,
    /// The length of a chunk; 0 for raid1.
    pub chunk: Sectors,
    /// The parameters.
    pub params: Params<D>,
    /// The legs, 1 to [`MAX_LEGS`].
    pub legs: Vec<Leg<D>>,
}

/// The devices of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg<D> {
    /// Where superblock and bitmap lie; none for a leg without (`-`).
    pub meta: Option<D>,
    /// Where the data lies; none for a leg that is missing (`-`).
    pub data: Option<D>,
}

/// How long things are, as a line asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// How much of each leg is in use.
    pub device: Sectors,
    /// The length of the set. With `delta_disks` or `data_offset`, after the reshape.
    pub array: Sectors,
}

impl<D> Line<D> {
    /// Reads the words, and checks the sizes of the devices.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        let name = words.at(0, "No arguments").map_err(|error| CtrError { arg: None, ..error })?;
        words.next("No arguments")?;
        let kind = Kind::named(name.text())
            .ok_or_else(|| name.error("a type of raid", "Unrecognised raid_type"))?;
        let count = count_of_params(words)?;
        let legs = count_of_legs(words, count, kind)?;
        let chunk = parse_chunk(words.next(COUNT)?, kind, devices)?;
        let mut reading = Reading::new(kind, legs);
        // The kernel takes one from the count for the chunk size, from 0 too: what follows is
        // parameters then.
        reading.read(words, count.wrapping_sub(1) as usize, devices)?;
        let params = reading.finish(words, chunk, devices)?;
        let legs = parse_legs(words, legs, &params, devices)?;
        let line = Line { kind, chunk, params, legs };
        let lengths = line.lengths(words.target_len()).map_err(CtrError::new)?;
        line.check_sizes(lengths.device, devices)?;
        Ok(line)
    }

    /// Returns how long the line makes a leg, and the set: the target is so long, and so divided.
    pub fn lengths(&self, len: Sectors) -> Result<Lengths, &'static str> {
        const UNEVEN: &str = "Target length not divisible by number of data devices";
        let data = (self.legs.len() - self.kind.family().parities()) as u64;
        let delta = self.params.delta_disks.unwrap_or(0);
        let offset = self.params.data_offset.unwrap_or(Sectors::ZERO).0;
        let copies = match self.kind.family() {
            Family::Raid1 => return Ok(Lengths { device: len, array: len }),
            Family::Raid10 if delta < 0 => {
                return Err("Bogus raid10 data copies or delta disks");
            }
            Family::Raid10 => self.copies() as u64,
            Family::Raid0 | Family::Raid5 | Family::Raid6 => 1,
        };
        // As the kernel counts, modulo 2^64.
        let all = len.0.wrapping_mul(copies);
        if !all.is_multiple_of(data) {
            return Err(UNEVEN);
        }
        let device = all / data;
        let after = data.wrapping_add_signed(delta.into());
        let array = after.wrapping_mul(device.wrapping_sub(offset));
        match array.is_multiple_of(copies) {
            true => Ok(Lengths { device: Sectors(device), array: Sectors(array / copies) }),
            false => Err(UNEVEN),
        }
    }

    /// Returns how many copies raid10 is to keep.
    pub fn copies(&self) -> usize {
        self.params.raid10_copies.unwrap_or(2)
    }

    /// Returns md's word for the layout that the line asks for.
    pub fn layout_word(&self) -> u32 {
        match self.kind.family() {
            Family::Raid10 => {
                let format = self.params.raid10_format.unwrap_or(Format::Near);
                let sets = format != Format::Near && !self.params.raid10_use_near_sets;
                Raid10::word(format, self.copies(), sets)
            }
            _ => self.kind.algorithm(),
        }
    }

    /// Returns what a bit of the bitmap stands for, for a target of this length.
    pub fn region_size(&self, len: Sectors) -> Sectors {
        self.params.region_size.unwrap_or_else(|| default_region(len))
    }

    /// Returns the length at which the core cuts bios; none for no limit. A region for raid1, if
    /// the line has one, else a chunk.
    pub fn max_io_len(&self) -> Option<Sectors> {
        match self.kind.family() {
            Family::Raid1 => self.params.region_size,
            _ => Some(self.chunk),
        }
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, mut device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let params = self.params.try_map(&mut device)?;
        let leg = |leg: &Leg<D>| {
            Ok(Leg {
                meta: leg.meta.as_ref().map(&mut device).transpose()?,
                data: leg.data.as_ref().map(&mut device).transpose()?,
            })
        };
        let legs = self.legs.iter().map(leg).collect::<Result<_, F>>()?;
        Ok(Line { kind: self.kind, chunk: self.chunk, params, legs })
    }

    fn check_sizes(
        &self,
        device: Sectors,
        devices: &impl Devices<Device = D>,
    ) -> Result<(), CtrError> {
        let sizes = self.legs.iter().filter_map(|leg| leg.data.as_ref());
        let sizes = sizes.filter_map(|data| devices.facts(data)).map(|facts| facts.size);
        match sizes.min() {
            Some(least) if least < device => {
                let detail = format!("expected legs of {device} sectors at least, found {least}");
                Err(CtrError::new("Component device(s) too small").detail(detail))
            }
            _ => Ok(()),
        }
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

/// Reads how many words the parameters and the chunk size are.
fn count_of_params(words: &mut Words<'_>) -> Result<u32, CtrError> {
    let word = words.next(COUNT)?;
    let count = word.wrapping_u32(COUNT)?;
    match count as usize > words.left() {
        true => {
            Err(word.error(format_args!("no more than the {} words left", words.left()), COUNT))
        }
        false => Ok(count),
    }
}

/// Reads how many legs there are: the word after the parameters.
fn count_of_legs(words: &Words<'_>, params: u32, kind: Kind) -> Result<usize, CtrError> {
    let at = words.count() - words.left() + params as usize;
    let word = words.at(at, LEGS)?;
    let count = word.wrapping_u32(LEGS)? as usize;
    let most = (words.count() - at - 1) / 2;
    if !(1..=most.max(1)).contains(&count) || most == 0 {
        let expected = format_args!("1 to the {most} pairs of devices that follow");
        return Err(word.error(expected, LEGS));
    }
    if count > MAX_LEGS {
        let expected = format_args!("{MAX_LEGS} legs at most");
        return Err(word.error(expected, "Invalid number of supplied raid devices"));
    }
    let parities = kind.family().parities();
    match count > parities {
        true => Ok(count),
        false => {
            let expected = format_args!("more than {parities} legs");
            Err(word.error(expected, "Insufficient number of devices"))
        }
    }
}

fn parse_chunk<D>(
    word: Arg<'_>,
    kind: Kind,
    devices: &mut impl Devices<Device = D>,
) -> Result<Sectors, CtrError> {
    let chunk = word.i32("Bad numerical argument given for chunk_size")?;
    if kind.family() == Family::Raid1 {
        if chunk != 0 {
            devices.log("raid", format_args!("Ignoring chunk size parameter for RAID 1"));
        }
        return Ok(Sectors::ZERO);
    }
    if chunk <= 0 || !(chunk as u32).is_power_of_two() {
        return Err(word.error("a power of two", "Chunk size must be a power of 2"));
    }
    if chunk < LEAST_CHUNK {
        let expected = format_args!("{LEAST_CHUNK} sectors at least");
        return Err(word.error(expected, "Chunk size value is too small"));
    }
    Ok(Sectors(chunk as u64))
}

/// Reads the devices. What follows them is left unread, as in the kernel.
fn parse_legs<D>(
    words: &mut Words<'_>,
    count: usize,
    params: &Params<D>,
    devices: &mut impl Devices<Device = D>,
) -> Result<Vec<Leg<D>>, CtrError> {
    // How many there are, or what a pair of parameters has left in its place.
    words.next(UNKNOWN)?;
    let mut legs = Vec::with_capacity(count);
    for nr in 0..count {
        let meta = match words.next(UNKNOWN)? {
            word if word.text() == "-" => None,
            word => Some(devices.open(word, "RAID metadata device lookup failure")?),
        };
        let word = words.next(UNKNOWN)?;
        let data = match word.text() == "-" {
            false => Some(devices.open(word, "RAID device lookup failure")?),
            true if params.rebuild.contains(&nr) => {
                let why = "Drive designated for rebuild not specified";
                return Err(word.error("a device to be rebuilt", why));
            }
            true if meta.is_some() => {
                let why = "No data device supplied with metadata device";
                return Err(word.error("a device", why));
            }
            true => None,
        };
        legs.push(Leg { meta, data });
    }
    Ok(legs)
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = 1 + self.params.count();
        write!(f, "{} {words} {}{} {}", self.kind, self.chunk, self.params, self.legs.len())?;
        let word = |f: &mut fmt::Formatter<'_>, device: &Option<D>| match device {
            Some(device) => write!(f, " {device}"),
            None => f.write_str(" -"),
        };
        self.legs.iter().try_for_each(|leg| {
            word(f, &leg.meta)?;
            word(f, &leg.data)
        })
    }
}
