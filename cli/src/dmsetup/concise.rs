//! The concise format: `name,uuid,minor,flags,table[,table]...` and `;` between devices.

use sim_core::TargetSpec;

use super::options::number;

/// One device of a concise text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) uuid: Option<String>,
    pub(crate) minor: Option<u32>,
    pub(crate) read_only: bool,
    /// The table, a line each.
    pub(crate) table: String,
}

/// The fields before the table.
const FIELDS: usize = 5;

/// Reads a concise text, device by device, until one that is wrong.
pub(crate) struct Entries<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

/// What the text of a device ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A `;`, or the text's end after anything that needs no more.
    Whole,
    /// The text's end after a comma, or after a character that a backslash protects.
    CutOff,
    /// A backslash, which protects nothing.
    Backslash,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(text: &'a str) -> Entries<'a> {
        Entries { rest: text.chars().peekable() }
    }

    /// Reads up to the next `;`. Returns the fields, and what they ended with.
    fn fields(&mut self) -> (Vec<String>, End) {
        let mut fields = vec![String::new()];
        let mut end = End::Whole;
        while let Some(next) = self.rest.next() {
            let is_table = fields.len() == FIELDS;
            let field = fields.last_mut().expect("there is a field");
            end = End::Whole;
            match next {
                ';' => break,
                ',' => {
                    end = End::CutOff;
                    if is_table {
                        field.push('\n');
                    } else {
                        fields.push(String::new());
                    }
                }
                '\\' => match self.rest.next() {
                    Some(protected) => {
                        end = End::CutOff;
                        field.push(protected);
                    }
                    None => end = End::Backslash,
                },
                blank if blank.is_whitespace() && field.is_empty() => (),
                other => field.push(other),
            }
        }
        (fields, end)
    }
}

impl Iterator for Entries<'_> {
    /// A device, or the lines to print of what is wrong.
    type Item = Result<Entry, Vec<String>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.next_if(|next| next.is_whitespace()).is_some() {}
        self.rest.peek()?;
        let (fields, end) = self.fields();
        let need = "ive comma-separated fields are required for each device";
        let need = match (end, fields.len() < FIELDS) {
            (End::Backslash, _) => {
                "Backslash must be followed by another character at end of string.".to_owned()
            }
            (End::CutOff, _) => format!("Incomplete entry: f{need}"),
            (End::Whole, true) => format!("F{need}"),
            (End::Whole, false) => return Some(entry(fields)),
        };
        // As the fault leaves the text in an unknown state, nothing of it is read any more.
        self.rest = "".chars().peekable();
        let field = |at: usize| fields.get(at).map_or("(null)", String::as_str);
        Some(Err(vec![
            need,
            format!(
                "Parsed {} fields: name: {} uuid: {} minor: {} flags: {} table: {}",
                fields.len(),
                field(0),
                field(1),
                field(2),
                field(3),
                field(4)
            ),
        ]))
    }
}

fn entry(fields: Vec<String>) -> Result<Entry, Vec<String>> {
    let fields: [String; FIELDS] = fields.try_into().expect("five fields were counted");
    let [name, uuid, minor, flags, table] = fields;
    let read_only = match flags.as_str() {
        "" | "rw" => false,
        "ro" => true,
        other => {
            let text = format!("Invalid flags parameter '{other}' must be 'ro' or 'rw' or empty.");
            return Err(vec![text]);
        }
    };
    Ok(Entry {
        name,
        uuid: Some(uuid).filter(|uuid| !uuid.is_empty()),
        minor: (!minor.is_empty()).then(|| number(&minor)),
        read_only,
        table,
    })
}

/// Writes one device; its table may be none, and its minor left to whoever reads it.
pub(crate) fn write(
    name: &str,
    uuid: Option<&str>,
    minor: impl Into<Option<u32>>,
    read_only: bool,
    table: &[TargetSpec],
) -> String {
    let flags = if read_only { "ro" } else { "rw" };
    let minor = minor.into().map(|minor| minor.to_string()).unwrap_or_default();
    let mut text =
        format!("{},{},{minor},{flags}", escaped(name), escaped(uuid.unwrap_or_default()));
    for line in table {
        text.push(',');
        text.push_str(&escaped(&line.to_string()));
    }
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, ',' | ';' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<Entry, Vec<String>>> {
        Entries::new(text).collect()
    }

    #[test]
    fn devices_and_their_lines_are_told_apart() {
        let read = read("c1,uuid-1,,rw,0 8 zero,8 8 zero;a\\,b,,5,ro,0 16 zero\n");
        let [Ok(one), Ok(two)] = &read[..] else { panic!("{read:?}") };
        assert_eq!((one.name.as_str(), one.uuid.as_deref()), ("c1", Some("uuid-1")));
        assert_eq!((one.minor, one.read_only), (None, false));
        assert_eq!(one.table, "0 8 zero\n8 8 zero");
        assert_eq!((two.name.as_str(), two.minor, two.read_only), ("a,b", Some(5), true));
    }

    #[test]
    fn an_empty_text_and_a_last_semicolon_are_no_devices() {
        assert!(read("").is_empty());
        assert_eq!(read("x,,,,0 8 zero;").len(), 1);
    }

    #[test]
    fn too_few_fields_are_told() {
        let fault = |text: &str| read(text).pop().unwrap().unwrap_err().join("\n");
        assert_eq!(
            fault("c6,,rw,0 8 zero"),
            "Five comma-separated fields are required for each device\n\
             Parsed 4 fields: name: c6 uuid:  minor: rw flags: 0 8 zero table: (null)"
        );
        assert_eq!(
            fault("q2,,,"),
            "Incomplete entry: five comma-separated fields are required for each device\n\
             Parsed 4 fields: name: q2 uuid:  minor:  flags:  table: (null)"
        );
        assert_eq!(
            fault("x6,,,,").lines().nth(1).unwrap(),
            "Parsed 5 fields: name: x6 uuid:  minor:  flags:  table: "
        );
        assert_eq!(
            fault("c5,,,xx,0 8 zero"),
            "Invalid flags parameter 'xx' must be 'ro' or 'rw' or empty."
        );
    }

    #[test]
    fn a_text_that_ends_early_is_told() {
        let fault = |text: &str| read(text).pop().unwrap().unwrap_err().join("\n");
        for (text, why) in [
            ("a,,,,0 8 zero,", "Incomplete entry: "),
            ("a,,,,0 8 zero\\;", "Incomplete entry: "),
            ("a,,,,0 8 zero\\\\", "Incomplete entry: "),
            ("a,,,,,", "Incomplete entry: "),
            ("a,,,,0 8 zero\\", "Backslash must be followed by another character"),
            ("a,\\", "Backslash must be followed by another character"),
            ("a,,,,0 8 zero;;", "Five comma-separated fields"),
            (";", "Five comma-separated fields"),
        ] {
            assert!(fault(text).starts_with(why), "{text}: {}", fault(text));
        }
        // What comes after the comma ends it well: so the real program has it.
        for text in ["a,,,,0 8 zero,\n", "a,,,,0 8 zero,;", "a,,,,0 8 zero;\n", "a,,,,;"] {
            assert!(read(text).iter().all(Result::is_ok), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = write("n", Some(r"a,b;c\d"), 4, false, &[]);
        assert_eq!(text, r"n,a\,b\;c\\d,4,rw");
        let [Ok(entry)] = &read(&format!("{text},0 8 zero"))[..] else { panic!("one device") };
        assert_eq!(entry.uuid.as_deref(), Some(r"a,b;c\d"));
    }
}
