//! Sizes and times as `dmstats` reads and shows them.

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// Reads a length in sectors: digits, which are sectors unless a letter follows. Small letters are
/// multiples of 1024, capital ones of 1000.
pub(super) fn sectors(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = &text[digits..];
    let bytes = match unit {
        "" | "s" | "S" => SECTOR,
        _ => {
            let mut letters = unit.chars();
            let letter = letters.next().filter(|_| letters.next().is_none())?;
            let power = "bkmgtpe".find(letter.to_ascii_lowercase())? as u32;
            if letter.is_ascii_uppercase() { 1000_u64.pow(power) } else { 1024_u64.pow(power) }
        }
    };
    let bytes = u128::from(number) * u128::from(bytes);
    u64::try_from(bytes.div_ceil(SECTOR.into())).ok()
}

/// In which unit lengths are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Units {
    letter: char,
    suffix: bool,
}

impl Units {
    /// Takes `--units`; nothing for what is none.
    pub(super) fn new(units: Option<&str>, suffix: bool) -> Option<Units> {
        let mut letters = units.unwrap_or("h").chars();
        let letter = letters.next().filter(|_| letters.next().is_none())?;
        let known = "hbskmgtpe".contains(letter.to_ascii_lowercase());
        // Whoever names a unit knows which it is.
        known.then_some(Units { letter, suffix: suffix && letter.eq_ignore_ascii_case(&'h') })
    }

    /// Shows a length. Past 2^64 bytes it is as libdevmapper shows it.
    pub(super) fn show(self, sectors: u64) -> String {
        if sectors == 0 {
            return "0".to_owned();
        }
        let bytes = sectors.wrapping_mul(SECTOR);
        let power = |base: u64, power: u32| base.pow(power) as f64;
        let base = if self.letter.is_ascii_uppercase() { 1000 } else { 1024 };
        match self.letter.to_ascii_lowercase() {
            's' => sectors.to_string(),
            'b' => bytes.to_string(),
            'h' => {
                let large = (1..=6).rev().find(|at| bytes as f64 >= power(base, *at));
                let (number, letter) = match large {
                    Some(at) => (
                        format!("{:.2}", bytes as f64 / power(base, at)),
                        " kmgtpe".as_bytes()[at as usize],
                    ),
                    None => (bytes.to_string(), b'b'),
                };
                let letter = if base == 1000 { letter.to_ascii_uppercase() } else { letter };
                if self.suffix { format!("{number}{}", char::from(letter)) } else { number }
            }
            letter => {
                let at = "bkmgtpe".find(letter).expect("a known unit") as u32;
                format!("{:.2}", bytes as f64 / power(base, at))
            }
        }
    }
}

/// Shows a time in the largest unit that it is a whole number of.
pub(super) fn time(nanoseconds: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)];
    match units.iter().find(|(_, unit)| nanoseconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", nanoseconds / unit),
        None => format!("{nanoseconds}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_and_show_as_those_of_dmstats() {
        assert_eq!(
            ["8", "8s", "1k", "1K", "1b", "2m"].map(sectors),
            [8, 8, 2, 2, 1, 4096].map(Some)
        );
        assert_eq!(["", "k", "1x", "1kb", "-1", "99999999999e"].map(sectors), [None; 6]);
        let show = |units, sectors| Units::new(units, true).expect("a unit").show(sectors);
        assert_eq!(show(None, 2048), "1.00m");
        assert_eq!(show(None, 293), "146.50k");
        assert_eq!(show(None, 1), "512b");
        assert_eq!(show(None, 0), "0");
        assert_eq!(show(Some("k"), 2048), "1024.00");
        assert_eq!(show(Some("s"), 293), "293");
        assert_eq!(show(None, 8 << 49), "2.00e");
        assert_eq!(Units::new(Some("x"), true), None);
    }

    #[test]
    fn a_time_is_shown_in_its_unit() {
        assert_eq!(
            [0, 10, 20_000, 10_000_000, 1_000_000_000].map(time),
            ["0s", "10ns", "20us", "10ms", "1s"]
        );
    }
}
