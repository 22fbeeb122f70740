//! `unstriped <#stripes> <chunk sectors> <stripe> <dev> <start>`

use std::fmt;

use sim_core::{CtrError, Errno, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// A table line of `unstriped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// How many stripes there are.
    pub stripes: u32,
    /// The length of a chunk.
    pub chunk: Sectors,
    /// Which stripe it is, from 0. The kernel takes one past the last for one, too, and any where
    /// there is only one.
    pub stripe: u32,
    /// Where all stripes lie.
    pub place: Place<D>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid number of arguments";
        words.exactly(5, COUNT)?;
        let stripes = words.next(COUNT)?.positive_u32("Invalid stripe count")?;
        let chunk_word = words.next(COUNT)?;
        let chunk = Sectors(chunk_word.positive_u32("Invalid chunk_size")?.into());
        let stripe_word = words.next(COUNT)?;
        let stripe = stripe_word.u32("Invalid stripe number")?;
        if stripe > stripes && stripes > 1 {
            let expected = format_args!("a number below {stripes}");
            let kernel = "Please provide stripe between [0, # of stripes]";
            return Err(stripe_word.error(expected, kernel));
        }
        let device = devices.open(words.next(COUNT)?, "Couldn't get striped device");
        // Whatever kept it from being opened.
        let device = device.map_err(|error| error.errno(Errno::INVAL))?;
        let start = words.next(COUNT)?.sector("Invalid striped device offset")?;
        let len = words.target_len();
        if !len.0.is_multiple_of(chunk.0) {
            let expected = format_args!("a divisor of the length, {len}");
            return Err(chunk_word.error(expected, "Target length not divisible by chunk size"));
        }
        Ok(Line { stripes, chunk, stripe, place: Place { device, start } })
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
        let Line { stripes, chunk, stripe, place } = self;
        write!(f, "{stripes} {chunk} {stripe} {place}")
    }
}
