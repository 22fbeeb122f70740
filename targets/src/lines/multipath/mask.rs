//! Which processors a path is for.

use std::fmt;

/// A set of processors, in the kernel's hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorMask {
    /// How many processors the text has room for.
    width: u32,
    /// 32 processors each, the lowest first.
    words: Vec<u32>,
}

/// Digits of one group.
const DIGITS: usize = 8;

impl ProcessorMask {
    /// Reads the digits, in groups of up to 8 with commas in between, as the kernel's `cpumask_parse`
    /// does: on a machine with so many processors, or on any. None where they are no mask, or name a
    /// processor that the machine has not.
    pub(super) fn parse(text: &str, processors: Option<u32>) -> Option<ProcessorMask> {
        let text = text.trim_matches([',', ' ', '\n', '\t']);
        let mut words = Vec::new();
        let mut digits = 0;
        for group in text.rsplit(',').filter(|group| !group.is_empty()) {
            let is_hex = group.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hex || group.len() > DIGITS {
                return None;
            }
            words.push(u32::from_str_radix(group, 16).ok()?);
            digits = group.len();
        }
        let groups = words.len();
        let own = ((groups.saturating_sub(1) * DIGITS + digits) * 4) as u32;
        let width = processors.unwrap_or(own);
        if words.len() > width.div_ceil(32) as usize {
            return None;
        }
        words.resize(width.div_ceil(32) as usize, 0);
        let mask = ProcessorMask { width, words };
        let last = mask.iter().max();
        last.is_none_or(|last| last < width).then_some(mask)
    }

    /// Returns the processors, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = |(nr, word): (usize, &u32)| {
            let word = *word;
            (0..32).filter(move |bit| word & 1 << bit != 0).map(move |bit| nr as u32 * 32 + bit)
        };
        self.words.iter().enumerate().flat_map(bits)
    }
}

impl fmt::Display for ProcessorMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = match self.width % 32 {
            0 => DIGITS,
            rest => rest.div_ceil(4) as usize,
        };
        for (nr, word) in self.words.iter().rev().enumerate() {
            f.write_str(if nr == 0 { "" } else { "," })?;
            write!(f, "{word:0digits$x}")?;
            digits = DIGITS;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, processors: Option<u32>) -> Option<String> {
        ProcessorMask::parse(text, processors).map(|mask| mask.to_string())
    }

    #[test]
    fn a_mask_is_printed_for_as_many_processors_as_there_are() {
        let shown = |text, processors| shown(text, Some(processors));
        assert_eq!(shown("1", 1).as_deref(), Some("1"));
        assert_eq!(shown("fF", 8).as_deref(), Some("ff"));
        assert_eq!(shown("3", 12).as_deref(), Some("003"));
        assert_eq!(shown("1,0", 40).as_deref(), Some("01,00000000"));
        assert_eq!(shown("3", 64).as_deref(), Some("00000000,00000003"));
        assert_eq!(shown("10", 4), None);
        assert_eq!(shown("1,00000000", 32), None);
        assert_eq!(shown("100000000", 64), None);
        assert_eq!(shown("0x1", 8), None);
    }

    #[test]
    fn a_mask_of_any_machine_is_printed_as_it_is() {
        for text in ["1", "00f", "ffffffff", "1,00000002"] {
            assert_eq!(shown(text, None).as_deref(), Some(text));
        }
        let mask = ProcessorMask::parse("2,00000009", None).expect("a mask");
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 3, 33]);
    }
}
