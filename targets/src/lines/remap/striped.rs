//! `striped <#stripes> <chunk sectors> [<dev> <start>]+`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// A table line of `striped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The length of a chunk.
    pub chunk: Sectors,
    /// Where each stripe lies.
    pub stripes: Vec<Place<D>>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const TOO_FEW: &str = "Not enough arguments";
        const DESTINATION: &str = "Couldn't parse stripe destination";
        words.at_least(2, TOO_FEW)?;
        let count_word = words.next(TOO_FEW)?;
        let count = count_word.positive_u32("Invalid stripe count")?;
        let chunk_word = words.next(TOO_FEW)?;
        let chunk = Sectors(chunk_word.positive_u32("Invalid chunk_size")?.into());

        let len = words.target_len();
        if !len.0.is_multiple_of(count.into()) {
            let expected = format_args!("a divisor of the length, {len}");
            let kernel = "Target length not divisible by number of stripes";
            return Err(count_word.error(expected, kernel));
        }
        let width = Sectors(len.0 / u64::from(count));
        if !width.0.is_multiple_of(chunk.0) {
            let expected = format_args!("a divisor of each stripe's length, {width}");
            return Err(chunk_word.error(expected, "Target length not divisible by chunk size"));
        }
        let all = (count as usize).saturating_mul(2).saturating_add(2);
        words.exactly(all, "Not enough destinations specified")?;

        let mut stripes = Vec::new();
        for _ in 0..count {
            let device = words.next(DESTINATION)?;
            let start = words.next(DESTINATION)?.sector(DESTINATION)?;
            stripes.push(Place { device: devices.open(device, DESTINATION)?, start });
        }
        Ok(Line { chunk, stripes })
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
        write!(f, "{} {}", self.stripes.len(), self.chunk)?;
        self.stripes.iter().try_for_each(|stripe| write!(f, " {stripe}"))
    }
}

/// A status line of `striped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<D> {
    /// What is said of each stripe.
    pub stripes: Vec<StripeStatus<D>>,
}

/// What is said of a stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeStatus<D> {
    /// Its device.
    pub device: D,
    /// A bio has failed on it (`D`).
    pub failed: bool,
}

impl Status<DeviceWord> {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status<DeviceWord>> {
        let mut words = text.split_whitespace();
        let count: usize = words.next()?.parse().ok()?;
        let devices: Vec<&str> = words.by_ref().take(count).collect();
        let (Some("1"), Some(letters), None) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        if (devices.len(), letters.len()) != (count, count) {
            return None;
        }
        let stripe = |(device, letter): (&str, char)| {
            let failed = match letter {
                'A' => false,
                'D' => true,
                _ => return None,
            };
            Some(StripeStatus { device: device.into(), failed })
        };
        let stripes = devices.into_iter().zip(letters.chars()).map(stripe);
        Some(Status { stripes: stripes.collect::<Option<_>>()? })
    }
}

impl<D: fmt::Display> fmt::Display for Status<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stripes.len())?;
        self.stripes.iter().try_for_each(|stripe| write!(f, " {}", stripe.device))?;
        write!(f, " 1 ")?;
        let letter = |stripe: &StripeStatus<D>| if stripe.failed { 'D' } else { 'A' };
        self.stripes.iter().try_for_each(|stripe| write!(f, "{}", letter(stripe)))
    }
}
