//! Column reports: fields, widths, order and selection, as `info -c` and `splitname` print them.

pub(super) mod field;
pub(super) mod fields;
pub(super) mod select;
mod statistics;

use super::options::Options;
use field::{Field, Group, Id, Kind};
use fields::HelpFor;
use select::{OPERANDS, Select, Value};

/// A report: what its columns are, and the rows so far.
pub(super) struct Report {
    columns: Vec<&'static Field>,
    keys: Vec<Key>,
    select: Option<Select>,
    layout: Layout,
    rows: Vec<Row>,
}

/// A field that rows are put in order by.
struct Key {
    field: &'static Field,
    descending: bool,
}

struct Row {
    values: Vec<Value>,
    keys: Vec<Value>,
}

/// How a report is laid out.
struct Layout {
    headings: bool,
    prefixes: bool,
    quoted: bool,
    /// Fields below one another, rows side by side.
    turned: bool,
    separator: String,
    aligned: bool,
}

/// What comes of the options of a report.
pub(super) enum Opened {
    /// A report to fill.
    Report(Box<Report>),
    /// Only the list of fields was asked for: this text, for standard error.
    Help(String),
}

/// Why a report cannot be made: the text for standard error.
pub(super) struct Fault(pub(super) String);

impl Report {
    /// Opens a report with these columns, unless `-o` says otherwise.
    pub(super) fn open(options: &Options, default: &str) -> Result<Opened, Fault> {
        Report::open_on(options, default, fields::GROUPS)
    }

    /// As [`open`](Self::open), where `all` stands for the fields of some groups.
    pub(super) fn open_on(
        options: &Options,
        default: &str,
        groups: &[Group],
    ) -> Result<Opened, Fault> {
        let asked = options.fields.as_deref();
        let (added, asked) = match asked.and_then(|asked| asked.strip_prefix('+')) {
            Some(more) => (default, Some(more)),
            None => ("", asked),
        };
        let wanted = [Some(added), asked.or(Some(default))];
        let mut help = String::new();
        let mut columns = Vec::new();
        for list in wanted.into_iter().flatten() {
            let appended = !added.is_empty() && list.is_empty();
            for word in words(list, appended) {
                if matches!(word, "help" | "?") {
                    help = fields::help(HelpFor::Options);
                    continue;
                }
                let unknown = || unknown_field("", word);
                columns.extend(fields::find(word, groups).ok_or_else(unknown)?);
            }
        }
        let mut keys = Vec::new();
        for word in words(options.sort.as_deref().unwrap_or_default(), false) {
            let (descending, word) = match (word.strip_prefix('-'), word.strip_prefix('+')) {
                (Some(word), _) => (true, word),
                (None, Some(word)) => (false, word),
                (None, None) => (false, word),
            };
            if matches!(word, "help" | "?") {
                help = fields::help(HelpFor::Options);
                continue;
            }
            let found =
                fields::find(word, groups).ok_or_else(|| unknown_field("dm_report: ", word))?;
            keys.extend(found.into_iter().map(|field| Key { field, descending }));
        }
        let selection = options.select.as_deref().unwrap_or_default();
        if matches!(selection.trim(), "help" | "?") {
            help += &(fields::help(HelpFor::Selection) + OPERANDS);
        }
        if !help.is_empty() {
            return Ok(Opened::Help(help));
        }
        let select = Select::parse(selection).map_err(Fault)?;
        let layout = Layout::of(options);
        Ok(Opened::Report(Box::new(Report { columns, keys, select, layout, rows: Vec::new() })))
    }

    /// Tells whether some field of this kind is a column, a key, or selected by.
    pub(super) fn asks_for(&self, test: impl Fn(&Field) -> bool) -> bool {
        let keys = self.keys.iter().map(|key| key.field);
        let selected = self.select.iter().flat_map(Select::fields);
        self.columns.iter().copied().chain(keys).chain(selected).any(test)
    }

    /// Tells whether the report is on statistics: rows have them for regions alone, and no device
    /// has any.
    pub(super) fn is_on_statistics(&self) -> bool {
        self.asks_for(|field| field.id == Id::Statistic)
    }

    /// Tells whether a row passes the selection.
    pub(super) fn selects(
        &self,
        value: &mut dyn FnMut(&'static Field) -> Result<Value, String>,
    ) -> bool {
        self.select.as_ref().is_none_or(|select| {
            select.passes(&mut |field| match field.id {
                Id::Selected => Some(Value::Number(1)),
                _ => value(field).ok(),
            })
        })
    }

    /// Adds a row, where it passes the selection.
    ///
    /// # Errors
    /// What `value` said of a field that it has no value for.
    pub(super) fn add(
        &mut self,
        value: &mut dyn FnMut(&'static Field) -> Result<Value, String>,
    ) -> Result<(), String> {
        let selected = self.selects(value);
        let mut of = |field: &'static Field| match field.id {
            Id::Selected => Ok(Value::Number(u64::from(selected))),
            _ => value(field),
        };
        let values = self.columns.iter().map(|field| of(field)).collect::<Result<_, _>>()?;
        let keys = self.keys.iter().map(|key| of(key.field)).collect::<Result<_, _>>()?;
        // With the column that tells, rows that are not selected are shown too.
        if selected || self.columns.iter().any(|field| field.id == Id::Selected) {
            self.rows.push(Row { values, keys });
        }
        Ok(())
    }

    /// Prints the report; the rows go.
    pub(super) fn print(&mut self) -> String {
        let mut rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return String::new();
        }
        rows.sort_by(|a, b| {
            let orders = self
                .keys
                .iter()
                .zip(a.keys.iter().zip(&b.keys))
                .map(|(key, (a, b))| if key.descending { b.cmp(a) } else { a.cmp(b) });
            orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        let heading = |field: &&Field| field.heading.to_owned();
        let mut lines: Vec<Vec<String>> = Vec::new();
        if self.layout.headings {
            lines.push(self.columns.iter().map(heading).collect());
        }
        for row in rows {
            let cells = self.columns.iter().zip(row.values);
            lines.push(cells.map(|(field, value)| self.layout.cell(field, value)).collect());
        }
        if self.layout.turned {
            let turned = |column: usize| lines.iter().map(|line| line[column].clone()).collect();
            lines = (0..self.columns.len()).map(turned).collect();
        } else if self.layout.aligned {
            self.align(&mut lines);
        }
        lines.iter().map(|line| line.join(&self.layout.separator) + "\n").collect()
    }

    fn align(&self, lines: &mut [Vec<String>]) {
        for (at, field) in self.columns.iter().enumerate() {
            let widest = lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
            let width = widest.max(field.width);
            for (nth, line) in lines.iter_mut().enumerate() {
                line[at] = match (field.kind, nth) {
                    // Headings stand on the left, those of numbers too.
                    (Kind::Number | Kind::Size, 1..) => format!("{:>width$}", line[at]),
                    (Kind::Number | Kind::Size, 0) | (Kind::String, _) => {
                        format!("{:<width$}", line[at])
                    }
                };
            }
        }
    }
}

impl Layout {
    fn of(options: &Options) -> Layout {
        let headings = !options.noheadings;
        let default = || if headings { " " } else { ":" }.to_owned();
        let plain = options.separator.is_none() && !options.nameprefixes && !options.rows;
        Layout {
            headings,
            prefixes: options.nameprefixes,
            quoted: !options.unquoted,
            turned: options.rows,
            separator: options.separator.clone().unwrap_or_else(default),
            aligned: headings && plain,
        }
    }

    fn cell(&self, field: &Field, value: Value) -> String {
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Shown(shown) => shown.text,
        };
        match (self.prefixes, self.quoted) {
            (false, _) => text,
            (true, true) => format!("DM_{}='{text}'", field.name.to_ascii_uppercase()),
            (true, false) => format!("DM_{}={text}", field.name.to_ascii_uppercase()),
        }
    }
}

/// Splits a list at its commas. An empty list has no words, or one that is empty.
fn words(list: &str, empty_counts: bool) -> impl Iterator<Item = &str> {
    list.split(',').filter(move |word| !list.is_empty() || (empty_counts && word.is_empty()))
}

fn unknown_field(prefix: &str, word: &str) -> Fault {
    Fault(format!("{}{prefix}Unrecognised field: {word}\n", fields::help(HelpFor::Options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints a report on devices `b` (1) and `a` (10).
    fn report(options: Options) -> String {
        let opened =
            Report::open(&options, "name,minor").unwrap_or_else(|fault| panic!("{}", fault.0));
        let Opened::Report(mut report) = opened else { panic!("a report") };
        for (name, minor) in [("b", 1), ("a", 10)] {
            let mut value = |field: &'static Field| match field.name {
                "name" => Ok(Value::Text(name.into())),
                "minor" => Ok(Value::Number(minor)),
                other => Err(format!("no data assigned to field {other}")),
            };
            report.add(&mut value).unwrap();
        }
        report.print()
    }

    fn options() -> Options {
        Options::default()
    }

    #[test]
    fn columns_are_as_wide_as_their_field_wants() {
        assert_eq!(
            report(options()),
            "Name             Min\nb                  1\na                 10\n"
        );
    }

    #[test]
    fn rows_come_in_the_order_of_the_keys() {
        let sort =
            |keys: &str| report(Options { sort: Some(keys.into()), noheadings: true, ..options() });
        assert_eq!(sort("name"), "a:10\nb:1\n");
        assert_eq!(sort("-minor"), "a:10\nb:1\n");
        assert_eq!(sort("+minor"), "b:1\na:10\n");
    }

    #[test]
    fn fields_may_be_added_to_the_usual_ones() {
        let added = Options { fields: Some("+minor".into()), noheadings: true, ..options() };
        assert_eq!(report(added), "b:1:1\na:10:10\n");
    }

    #[test]
    fn prefixes_and_turning_go_together() {
        let turned = Options {
            rows: true,
            nameprefixes: true,
            unquoted: true,
            noheadings: true,
            ..options()
        };
        assert_eq!(report(turned), "DM_NAME=b:DM_NAME=a\nDM_MINOR=1:DM_MINOR=10\n");
        let prefixed = Options { nameprefixes: true, ..options() };
        assert_eq!(
            report(prefixed),
            "Name Min\nDM_NAME='b' DM_MINOR='1'\nDM_NAME='a' DM_MINOR='10'\n"
        );
    }

    #[test]
    fn selected_shows_what_is_not() {
        let fields = Some("selected,name".into());
        let select = Some("name=a".into());
        let all = report(Options { fields, select: select.clone(), ..options() });
        assert_eq!(
            all,
            "Selected Name            \n       0 b               \n       1 a               \n"
        );
        let one = report(Options { select, noheadings: true, ..options() });
        assert_eq!(one, "a:10\n");
    }

    #[test]
    fn unknown_fields_are_told_after_the_list_of_all() {
        let fault = |options: Options| match Report::open(&options, "name") {
            Err(Fault(text)) => text.lines().last().unwrap_or_default().to_owned(),
            Ok(_) => panic!("a fault"),
        };
        let of = |fields: &str| Options { fields: Some(fields.into()), ..options() };
        assert_eq!(fault(of("bogus")), "Unrecognised field: bogus");
        assert_eq!(fault(of("name,")), "Unrecognised field: ");
        assert_eq!(fault(of("+")), "Unrecognised field: ");
        let sort = Options { sort: Some("bogus".into()), ..options() };
        assert_eq!(fault(sort), "dm_report: Unrecognised field: bogus");
    }
}
