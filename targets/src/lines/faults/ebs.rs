//! `ebs <dev> <start> <emulated sectors> [<underlying sectors>]`

use std::fmt;

use sim_core::{Arg, CtrError, Sectors, Words};

use crate::lines::place::Place;
use crate::lines::words::{DeviceWord, Devices, from_text};

/// The longest block that is shown: a page.
const MAX_EMULATED: Sectors = Sectors(8);

/// A table line of `ebs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Where the target's sectors lie.
    pub place: Place<D>,
    /// The length of a block as it is shown.
    pub emulated: Sectors,
    /// The length of a block of the device, where the line says so; a logical block otherwise.
    pub underlying: Option<Sectors>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const COUNT: &str = "Invalid argument count";
        words.at_least(3, COUNT)?;
        if words.count() > 4 {
            words.exactly(4, COUNT)?;
        }
        let start_word = words.at(1, COUNT)?;
        let start = start_word.sector("Invalid device offset sector")?;
        let emulated = block(words.at(2, COUNT)?, MAX_EMULATED, "Invalid emulated block size")?;
        let underlying = match words.count() {
            3 => None,
            _ => {
                let most = Sectors(1 << 15);
                Some(block(words.at(3, COUNT)?, most, "Invalid underlying block size")?)
            }
        };
        let device = devices.open(words.at(0, COUNT)?, "Device lookup failed")?;
        let line = Line { place: Place { device, start }, emulated, underlying };
        if let Some(own) = devices.facts(&line.place.device).map(|facts| facts.logical_block) {
            let underlying = underlying.unwrap_or(own);
            if !underlying.0.is_power_of_two() {
                let error = CtrError::new("Invalid retrieved underlying block size").arg(0);
                return Err(error.detail(format!("a logical block has {own} sectors")));
            }
            if line.underlying.is_none() && emulated == underlying {
                devices.log("ebs", format_args!("{SUPERFLUOUS}"));
            }
            if !start.0.is_multiple_of(underlying.0) {
                let kernel = "Device offset must be multiple of underlying block size";
                return Err(start_word.error(format_args!("a multiple of {underlying}"), kernel));
            }
        }
        Ok(line)
    }
}

const SUPERFLUOUS: &str = "Emulation superfluous: emulated equal to underlying block size";

/// Reads the length of a block in sectors: digits and nothing else, modulo 2^16.
fn block(word: Arg<'_>, most: Sectors, kernel: &str) -> Result<Sectors, CtrError> {
    let sectors = Sectors((word.sector(kernel)?.0 as u16).into());
    match sectors.0.is_power_of_two() && sectors <= most {
        true => Ok(sectors),
        false => Err(word.error(format_args!("a power of two from 1 to {most}"), kernel)),
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
        write!(f, "{} {}", self.place, self.emulated)?;
        self.underlying.iter().try_for_each(|underlying| write!(f, " {underlying}"))
    }
}
