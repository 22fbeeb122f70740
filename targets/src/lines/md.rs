//! `md <#params> [force] <#members> <dev>+`: an array that mdadm made. Its superblocks say all else.
//!
//! The members come in any order, and some may be missing. A target of dmsim alone: Linux has md
//! itself.

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use super::raid::MAX_LEGS;
use super::words::{DeviceWord, Devices, from_text};

/// A table line of `md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Start it as `mdadm --assemble --force` does.
    pub force: bool,
    /// The members, 1 to [`MAX_LEGS`] and as many spares.
    pub members: Vec<D>,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const PARAMS: &str = "Invalid number of parameters";
        const MEMBERS: &str = "Invalid number of members";
        let count = words.next(PARAMS)?.u32(PARAMS)?;
        let mut force = false;
        for _ in 0..count {
            let word = words.next(PARAMS)?;
            match word.text() {
                "force" if !force => force = true,
                _ => return Err(word.error("force, once at most", "Unknown parameter")),
            }
        }
        let word = words.next(MEMBERS)?;
        let count = word.u32(MEMBERS)? as usize;
        if !(1..=2 * MAX_LEGS).contains(&count) {
            let expected = format_args!("1 to {} members", 2 * MAX_LEGS);
            return Err(word.error(expected, MEMBERS));
        }
        let mut members = Vec::new();
        for _ in 0..count {
            let word = words.next(MEMBERS)?;
            members.push(devices.open(word, "Member lookup failure")?);
        }
        words.exactly(words.count() - words.left(), "Too many arguments")?;
        Ok(Line { force, members })
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let members = self.members.iter().map(device).collect::<Result<_, F>>()?;
        Ok(Line { force: self.force, members })
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
        let params = if self.force { "1 force" } else { "0" };
        write!(f, "{params} {}", self.members.len())?;
        self.members.iter().try_for_each(|member| write!(f, " {member}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_printed() {
        for text in ["0 1 7:0", "1 force 3 7:0 7:2 /dev/x"] {
            let line = Line::from_text(text, Sectors(8)).expect("a line");
            assert_eq!(line.to_string(), text);
        }
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for (text, kernel) in [
            ("", "Invalid number of parameters"),
            ("1 fast 1 7:0", "Unknown parameter"),
            ("2 force force 1 7:0", "Unknown parameter"),
            ("0 0", "Invalid number of members"),
            ("0 2 7:0", "Invalid number of members"),
            ("0 600 7:0", "Invalid number of members"),
            ("0 1 7:0 7:1", "Too many arguments"),
        ] {
            let error = Line::from_text(text, Sectors(8)).expect_err(text);
            assert_eq!(error.kernel, kernel, "{text}");
        }
    }
}
