//! `md <#params> [force] [volume <name>] [serials <serial>[,<serial>]*] <#members> <dev>+`: an array that
//! mdadm made, or a volume of a set that a BIOS did. Its superblocks say all else.
//!
//! The members come in any order, and some may be missing. With a `volume`, they are disks of a set in
//! the format of Intel or of DDF; Intel's need their serial numbers, in the order of the members. In both
//! words, a byte that would end the word is written as `%` and two digits. A target of dmsim alone: Linux
//! has md itself.

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use super::raid::MAX_LEGS;
use super::words::{DeviceWord, Devices, from_text};
use crate::raid::superblock::Geometry;

/// A table line of `md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// Start it as `mdadm --assemble --force` does.
    pub force: bool,
    /// It is this volume of a BIOS's set.
    pub volume: Option<String>,
    /// The serial numbers of the disks, or none.
    pub serials: Vec<String>,
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
        const UNKNOWN: &str = "Unknown parameter";
        const MEMBERS: &str = "Invalid number of members";
        let count = words.next(PARAMS)?.u32(PARAMS)?;
        let (mut force, mut volume, mut serials) = (false, None, Vec::new());
        let mut left = count;
        while left > 0 {
            let word = words.next(PARAMS)?;
            let value = match word.text() {
                "force" if !force => {
                    force = true;
                    left -= 1;
                    continue;
                }
                "volume" if volume.is_none() => &mut volume,
                "serials" if serials.is_empty() => &mut None,
                _ => return Err(word.error("force, volume or serials, once each", UNKNOWN)),
            };
            left = left.checked_sub(2).ok_or_else(|| word.error("a value as well", PARAMS))?;
            let named = words.next(PARAMS)?;
            let texts: Option<Vec<String>> = named.text().split(',').map(unescape).collect();
            let texts = texts.ok_or_else(|| named.error("two digits after %", UNKNOWN))?;
            match (word.text(), &texts[..]) {
                ("volume", [name]) => *value = Some(name.clone()),
                ("volume", _) => return Err(named.error("one name", UNKNOWN)),
                (_, _) => serials = texts,
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
        if !serials.is_empty() && serials.len() != members.len() {
            let (expected, found) = (members.len(), serials.len());
            let detail = format!("expected {expected} serial numbers, found {found}");
            return Err(CtrError::new(MEMBERS).detail(detail));
        }
        Ok(Line { force, volume, serials, members })
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let members = self.members.iter().map(device).collect::<Result<_, F>>()?;
        let (volume, serials) = (self.volume.clone(), self.serials.clone());
        Ok(Line { force: self.force, volume, serials, members })
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
        let mut params = Vec::new();
        if self.force {
            params.push("force".to_owned());
        }
        if let Some(volume) = &self.volume {
            params.extend(["volume".to_owned(), escape(volume)]);
        }
        if !self.serials.is_empty() {
            let serials: Vec<String> = self.serials.iter().map(|serial| escape(serial)).collect();
            params.extend(["serials".to_owned(), serials.join(",")]);
        }
        write!(f, "{}", params.len())?;
        params.iter().try_for_each(|param| write!(f, " {param}"))?;
        write!(f, " {}", self.members.len())?;
        self.members.iter().try_for_each(|member| write!(f, " {member}"))
    }
}

/// The message that is answered by [`Members`].
pub const MEMBERS: &str = "members";

/// What an array is, and who has which place in it, as the array in use knows it: its superblocks cannot be
/// read for this, as they may be written at that moment.
///
/// In text `<level> <layout> <chunk> <region> <#places> {<dev>|-}+`: level and layout as md counts them, the
/// length of a chunk and of what a bit of the bitmap stands for in sectors, 0 where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members<D> {
    /// How the array is laid out.
    pub geometry: Geometry,
    /// What a bit of its bitmap stands for; 0 without a bitmap.
    pub region: Sectors,
    /// Who has each place, or had it until it failed.
    pub places: Vec<Option<D>>,
}

impl Members<DeviceWord> {
    /// Reads the text; nothing where it is none.
    pub fn from_text(text: &str) -> Option<Members<DeviceWord>> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let [level, layout, chunk, region, count] =
            [number()?, number()?, number()?, number()?, number()?];
        let small = |number: u64| u32::try_from(number).ok();
        let (level, layout, chunk_sectors) = (small(level)?, small(layout)?, small(chunk)?);
        let geometry = Geometry { level, layout, chunk_sectors };
        let places: Vec<Option<DeviceWord>> =
            words.map(|word| (word != "-").then(|| DeviceWord(word.to_owned()))).collect();
        let is_whole = places.len() as u64 == count;
        is_whole.then_some(Members { geometry, region: Sectors(region), places })
    }
}

impl<D: fmt::Display> fmt::Display for Members<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { level, layout, chunk_sectors } = self.geometry;
        let (region, count) = (self.region, self.places.len());
        write!(f, "{level} {layout} {chunk_sectors} {region} {count}")?;
        self.places.iter().try_for_each(|place| match place {
            Some(device) => write!(f, " {device}"),
            None => f.write_str(" -"),
        })
    }
}

/// Writes a text as one word; no text at all is a `%`.
fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',' | b'\\');
    match text {
        "" => "%".to_owned(),
        text => text
            .bytes()
            .map(|byte| match is_plain(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02x}"),
            })
            .collect(),
    }
}

/// Reads what [`escape`] has written.
fn unescape(word: &str) -> Option<String> {
    if word == "%" {
        return Some(String::new());
    }
    let mut parts = word.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_printed() {
        for text in [
            "0 1 7:0",
            "1 force 3 7:0 7:2 /dev/x",
            "2 volume Volume0 1 7:0",
            "5 force volume my%20%25%c3%a4 serials S1,%2c,% 3 7:0 7:2 /dev/x",
        ] {
            let line = Line::from_text(text, Sectors(8)).expect("a line");
            assert_eq!(line.to_string(), text);
        }
    }

    #[test]
    fn members_are_read_and_printed() {
        for text in ["1 0 0 0 2 7:0 -", "5 2 128 131072 3 7:2 7:0 7:1"] {
            assert_eq!(Members::from_text(text).expect("members").to_string(), text);
        }
        for text in ["", "1 0 0 0 2 7:0", "1 0 0 x 1 7:0", "4294967296 0 0 0 1 -"] {
            assert_eq!(Members::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for (text, kernel) in [
            ("", "Invalid number of parameters"),
            ("1 fast 1 7:0", "Unknown parameter"),
            ("2 force force 1 7:0", "Unknown parameter"),
            ("1 volume x 1 7:0", "Invalid number of parameters"),
            ("2 volume a,b 1 7:0", "Unknown parameter"),
            ("2 volume a%2 1 7:0", "Unknown parameter"),
            ("2 volume a%+2 1 7:0", "Unknown parameter"),
            ("4 volume a volume b 1 7:0", "Unknown parameter"),
            ("2 serials a 2 7:0 7:2", "Invalid number of members"),
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
