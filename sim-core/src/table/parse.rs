//! The text of a table, read as dmsetup reads it.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Sector, Sectors};

/// One line of a table, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSpec {
    /// The first sector on the mapped device.
    pub start: Sector,
    /// The length.
    pub len: Sectors,
    /// The word that names the target type.
    pub target_type: String,
    /// The words after it, as one text.
    pub params: Params,
}

/// A text that may hold keys, as the arguments of a target do and messages to it: wiped from
/// memory when dropped, and not all of it printed by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(Zeroizing<String>);

/// As many hexadecimal digits may be a key: the shortest key of any cipher has 16 bytes.
const KEY_DIGITS: usize = 32;

impl From<String> for Params {
    fn from(text: String) -> Params {
        Params(Zeroizing::new(text))
    }
}

impl From<&str> for Params {
    fn from(text: &str) -> Params {
        text.to_owned().into()
    }
}

impl Deref for Params {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&hide_keys(self), f)
    }
}

/// Returns a table's text with an `x` for each digit of what may be a key, which keeps every
/// word in its place.
pub fn hide_keys(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_digit) {
        let digits = rest[at..].find(|c| !is_digit(c)).unwrap_or(rest.len() - at);
        hidden.push_str(&rest[..at]);
        match digits {
            KEY_DIGITS.. => hidden.extend(std::iter::repeat_n('x', digits)),
            _ => hidden.push_str(&rest[at..at + digits]),
        }
        rest = &rest[at + digits..];
    }
    hidden + rest
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.start, self.len, self.target_type, self.params)
    }
}

/// A line that is no table line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("table line {line}: expected `start length type arguments...`, found `{text}`")]
pub struct BadLine {
    /// The line's number in the text, from 1.
    pub line: usize,
    /// The line, without its keys.
    pub text: String,
}

/// Reads a table's text as dmsetup does: a line a target, blank lines and comments left out.
///
/// Returns each line with its number in the text, from 1.
pub fn parse_table(text: &str) -> Result<Vec<(usize, TargetSpec)>, BadLine> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match parse_line(line) {
            Some(spec) => Ok((number, spec)),
            None => Err(BadLine { line: number, text: hide_keys(line) }),
        })
        .collect()
}

/// Reads `start length type arguments...`, as dmsetup's `sscanf("%llu %llu %s %n")` does.
fn parse_line(line: &str) -> Option<TargetSpec> {
    let (start, rest) = scan_number(line)?;
    let (len, rest) = scan_number(rest)?;
    let rest = rest.trim_start();
    let (target_type, params) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if target_type.is_empty() {
        return None;
    }
    let params = params.split('#').next().unwrap_or_default().trim_start();
    Some(TargetSpec {
        start: Sector(start),
        len: Sectors(len),
        target_type: target_type.to_owned(),
        params: params.into(),
    })
}

/// Reads one number as `%llu` does: blanks, a sign, digits; the largest one where it does not fit.
fn scan_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let number = unsigned[..digits].parse::<u64>().unwrap_or(u64::MAX);
    let number = if text.starts_with('-') { number.wrapping_neg() } else { number };
    Some((number, &unsigned[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let parsed = parse_table(text).expect("a table");
        parsed.into_iter().map(|(number, spec)| format!("{number}: {spec}")).collect()
    }

    #[test]
    fn comments_and_blank_lines_are_left_out() {
        let text = "# a comment\n0 16 linear /dev/loop0 0 # inline\n\n  16 16   zero  \n";
        assert_eq!(lines(text), ["2: 0 16 linear /dev/loop0 0 ", "4: 16 16 zero "]);
        assert_eq!(lines(""), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_its_three_words_is_refused_by_number() {
        for bad in ["0 8 zero\nx 8 zero", "0 8 zero\n8 x zero", "0 8 zero\n8 8", "0 8 zero\n8"] {
            assert_eq!(parse_table(bad).expect_err(bad).line, 2, "{bad}");
        }
    }

    #[test]
    fn numbers_of_a_line_are_read_as_scanf_reads_them() {
        assert_eq!(lines("+0 8 zero"), ["1: 0 8 zero "]);
        assert_eq!(lines("0 99999999999999999999 zero"), ["1: 0 18446744073709551615 zero "]);
        assert_eq!(lines("0 -1 zero"), ["1: 0 18446744073709551615 zero "]);
    }
}
