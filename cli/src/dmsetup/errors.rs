//! Faults in tables as dmsim tells them: the line, and a caret under the word at fault.

use sim_core::{BadLine, TableError, TargetSpec, hide_keys, parse_table};

/// A table's text and its lines.
pub(super) struct Source {
    text: String,
    lines: Vec<(usize, TargetSpec)>,
}

/// The most of a line that is shown, in characters.
const SHOWN: usize = 100;

impl Source {
    pub(super) fn read(text: String) -> Result<Source, BadLine> {
        let lines = parse_table(&text)?;
        Ok(Source { text, lines })
    }

    /// Returns the table's lines.
    pub(super) fn targets(&self) -> Vec<TargetSpec> {
        self.lines.iter().map(|(_, target)| target.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Tells of a table that the control plane refused.
pub(super) fn table_fault(what: &str, fault: &TableError, source: Option<&Source>) -> String {
    let found = source.zip(fault.target).and_then(|(source, target)| {
        let (number, target) = source.lines.get(target)?;
        Some((source, *number, target))
    });
    let Some((source, number, target)) = found else {
        return format!("dmsim: {what}: {fault}\n");
    };
    let argument = fault.arg.map(|arg| format!("argument {}: ", arg + 1)).unwrap_or_default();
    let kind = &target.target_type;
    // The kernel's own text may name the target type already.
    let kind = match fault.kernel.starts_with(&format!("{kind}: ")) {
        true => String::new(),
        false => format!("{kind}: "),
    };
    let head = format!("dmsim: {what}: table line {number}: {kind}{argument}{fault}\n");
    let line = source.text.lines().nth(number - 1).unwrap_or_default();
    head + &point_at(line, word_at_fault(fault, line))
}

/// Tells of a line that is no table line.
pub(super) fn line_fault(what: &str, fault: &BadLine, text: &str) -> String {
    let shown: String = fault.text.chars().take(SHOWN).collect();
    let expected = "expected `start length type arguments...`";
    let head = format!("dmsim: {what}: table line {}: {expected}, found `{shown}`\n", fault.line);
    let line = text.lines().nth(fault.line - 1).unwrap_or_default();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let mut numbers = line.split_whitespace().take(2);
    let bad = numbers.position(|word| !is_number(word));
    head + &point_at(line, bad.unwrap_or(line.split_whitespace().count()))
}

/// Which word of the line is at fault, counted from 0: start, length, type, arguments.
fn word_at_fault(fault: &TableError, line: &str) -> usize {
    const START: usize = 0;
    const LEN: usize = 1;
    const TYPE: usize = 2;
    match fault.arg {
        Some(arg) => TYPE + 1 + arg,
        None if fault.kernel == "Gap in table" => START,
        None if ["zero-length target", "too large device"].contains(&fault.kernel.as_str()) => LEN,
        // What does not fit is so much of that device, which goes by the kernel's name.
        None => match misfit(&fault.kernel) {
            Some(device) => {
                let mut words = line.split_whitespace();
                words.position(|word| word.rsplit('/').next() == Some(device)).unwrap_or(LEN)
            }
            None => TYPE,
        },
    }
}

/// Returns the device of which the kernel says that it is too small, or its blocks too large.
fn misfit(kernel: &str) -> Option<&str> {
    let small = kernel.split_once(" too small for target: ").map(|(device, _)| device);
    small.or_else(|| {
        kernel.split_once(" not aligned to h/w logical block size ")?.1.rsplit(' ').next()
    })
}

/// Prints a line without its keys, and a caret under its word `word`; past the line's end where it has no such.
fn point_at(line: &str, word: usize) -> String {
    let line = hide_keys(line);
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let ends = chars.iter().rposition(|char| !char.is_whitespace()).map_or(0, |last| last + 1);
    let column = word_starts(&chars).nth(word).unwrap_or(ends + 1);
    let (from, to) = if ends <= SHOWN {
        (0, ends)
    } else {
        let from = column.saturating_sub(SHOWN / 2);
        (from, ends.min(from + SHOWN))
    };
    let before = if from > 0 { "..." } else { "" };
    let after = if to < ends { "..." } else { "" };
    let shown: String = chars[from.min(to)..to].iter().collect();
    let indent = " ".repeat(before.len() + column - from);
    format!("  {before}{shown}{after}\n  {indent}^\n")
}

/// Where each word begins; a backslash keeps the character after it within the word.
fn word_starts(chars: &[char]) -> impl Iterator<Item = usize> {
    let (mut within, mut escaped) = (false, false);
    chars.iter().enumerate().filter_map(move |(at, char)| {
        let blank = char.is_whitespace() && !escaped;
        let starts = !blank && !within;
        within = !blank;
        escaped = *char == '\\' && !escaped;
        starts.then_some(at)
    })
}

/// Begins a sentence of the kernel's or of dmsetup's in lower case; a word in capitals, an option
/// or a name stays as it is.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::Errno;

    fn fault(target: usize, arg: Option<usize>, detail: &str, kernel: &str) -> TableError {
        TableError {
            errno: Errno::INVAL,
            kernel: kernel.into(),
            target: Some(target),
            arg,
            detail: detail.into(),
        }
    }

    #[test]
    fn the_caret_is_under_the_word_at_fault() {
        let text = "# two\n0 8 zero\n8 1024  linear /dev/loop0 x\n";
        let source = Source::read(text.into()).unwrap();
        let fault =
            fault(1, Some(1), "expected a sector number, found `x`", "Invalid device sector");
        assert_eq!(
            table_fault("create bad", &fault, Some(&source)),
            "dmsim: create bad: table line 3: linear: argument 2: expected a sector number, found `x`: Invalid device sector\n\
             \x20 8 1024  linear /dev/loop0 x\n\
             \x20                           ^\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_pointed_at_by_the_device_or_by_the_length() {
        for (line, kernel, caret) in [
            ("0 9 linear /dev/sda 0", "sda too small for target: start=0, len=9, dev_size=8", 11),
            ("0 9 linear low 0", "dm-0 too small for target: start=0, len=9, dev_size=8", 2),
            (
                "0 9 linear /dev/sda 0",
                "len=9 not aligned to h/w logical block size 4096 of sda",
                11,
            ),
            ("0 9 linear 7:0 0", "len=9 not aligned to h/w logical block size 4096 of loop0", 2),
        ] {
            let source = Source::read(line.into()).unwrap();
            let told = table_fault("load x", &fault(0, None, "", kernel), Some(&source));
            let pointed = told.lines().last().unwrap().find('^').unwrap();
            assert_eq!(pointed, 2 + caret, "{told}");
        }
    }

    #[test]
    fn a_missing_word_is_past_the_end() {
        let source = Source::read("0 8 linear 7:0".into()).unwrap();
        let fault = fault(0, Some(1), "", "Invalid argument count");
        let told = table_fault("load x", &fault, Some(&source));
        assert!(told.ends_with("  0 8 linear 7:0\n                 ^\n"), "{told}");
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_around_the_caret() {
        let text = format!("0 8 linear {} x{}", "g".repeat(500_000), " y".repeat(250_000));
        let source = Source::read(text).unwrap();
        let told = table_fault("load x", &fault(0, Some(1), "", "bad"), Some(&source));
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].len() < 120 && lines[1].starts_with("  ...ggg"), "{told}");
        assert_eq!(&lines[1][lines[2].len() - 1..lines[2].len()], "x");
    }

    #[test]
    fn a_line_that_is_none_is_pointed_into() {
        let text = "0 8 zero\n0 x zero";
        let told = line_fault("create b", &parse_table(text).unwrap_err(), text);
        assert!(told.ends_with("found `0 x zero`\n  0 x zero\n    ^\n"), "{told}");
    }

    #[test]
    fn sentences_begin_small() {
        assert_eq!(lower_first("Device does not exist"), "device does not exist");
        assert_eq!(lower_first("UUID in"), "UUID in");
        assert_eq!(lower_first(""), "");
    }
}
