//! Selections: `-S 'minor>1 && (name=a || !(open=0))'`.

use regex::Regex;

use super::field::{Field, Kind};
use super::fields::{self, HelpFor};

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Number(u64),
    Text(String),
    /// A number that is shown as something else: a size, a rate.
    Shown(Shown),
}

/// A number, and how it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) number: f64,
    pub(crate) text: String,
}

impl Eq for Shown {}

impl PartialOrd for Shown {
    fn partial_cmp(&self, other: &Shown) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Shown {
    fn cmp(&self, other: &Shown) -> std::cmp::Ordering {
        self.number.total_cmp(&other.number).then_with(|| self.text.cmp(&other.text))
    }
}

/// A selection.
#[derive(Debug)]
pub(crate) enum Select {
    All(Vec<Select>),
    Any(Vec<Select>),
    Not(Box<Select>),
    Is(&'static Field, Test),
}

/// What a field is held against.
#[derive(Debug)]
pub(crate) enum Test {
    Number(Compare, u64),
    Equal(String),
    Unequal(String),
    Match(Regex),
    NoMatch(Regex),
}

/// How two numbers are to relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Unequal,
    AtLeast,
    Above,
    AtMost,
    Below,
}

/// What is wrong with a selection, as lines to print.
pub(crate) type Fault = String;

impl Select {
    /// Reads a selection; an empty text selects everything.
    pub(crate) fn parse(text: &str) -> Result<Option<Select>, Fault> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut parser = Parser { rest: text, depth: 0 };
        let select = parser.any()?;
        match parser.rest.trim_start() {
            "" => Ok(Some(select)),
            rest => Err(syntax("Expecting logical operator\n", rest)),
        }
    }

    /// Tells whether a row passes. `value` says what the row has in a field; a field without a
    /// value passes no test.
    pub(crate) fn passes(&self, value: &mut dyn FnMut(&'static Field) -> Option<Value>) -> bool {
        match self {
            Select::All(all) => all.iter().all(|one| one.passes(value)),
            Select::Any(any) => any.iter().any(|one| one.passes(value)),
            Select::Not(not) => !not.passes(value),
            Select::Is(field, test) => value(field).is_some_and(|value| test.holds(&value)),
        }
    }

    /// Lists the fields that are asked for.
    pub(crate) fn fields(&self) -> Vec<&'static Field> {
        match self {
            Select::All(all) | Select::Any(all) => all.iter().flat_map(Select::fields).collect(),
            Select::Not(not) => not.fields(),
            Select::Is(field, _) => vec![field],
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Test::Number(compare, with), Value::Number(value)) => compare.holds(*value, *with),
            (Test::Number(compare, with), Value::Shown(shown)) => {
                compare.holds(shown.number as u64, *with)
            }
            (Test::Equal(with), Value::Text(value)) => value == with,
            (Test::Unequal(with), Value::Text(value)) => value != with,
            (Test::Match(regex), Value::Text(value)) => regex.is_match(value),
            (Test::NoMatch(regex), Value::Text(value)) => !regex.is_match(value),
            (Test::Number(..), Value::Text(_)) => false,
            (
                Test::Equal(_) | Test::Unequal(_) | Test::Match(_) | Test::NoMatch(_),
                Value::Number(_) | Value::Shown(_),
            ) => false,
        }
    }
}

impl Compare {
    fn holds(self, value: u64, with: u64) -> bool {
        match self {
            Compare::Equal => value == with,
            Compare::Unequal => value != with,
            Compare::AtLeast => value >= with,
            Compare::Above => value > with,
            Compare::AtMost => value <= with,
            Compare::Below => value < with,
        }
    }
}

/// An operator between a field and a value.
#[derive(Clone, Copy)]
enum Operator {
    Number(Compare),
    Match,
    NoMatch,
    Time,
}

/// Longer ones first: each is the beginning of none after it.
const OPERATORS: &[(&str, Operator)] = &[
    ("=~", Operator::Match),
    ("!~", Operator::NoMatch),
    ("!=", Operator::Number(Compare::Unequal)),
    (">=", Operator::Number(Compare::AtLeast)),
    ("<=", Operator::Number(Compare::AtMost)),
    ("=", Operator::Number(Compare::Equal)),
    (">", Operator::Number(Compare::Above)),
    ("<", Operator::Number(Compare::Below)),
    ("since", Operator::Time),
    ("after", Operator::Time),
    ("until", Operator::Time),
    ("before", Operator::Time),
];

/// The deepest nesting of parentheses: each level is a call.
const MAX_DEPTH: u32 = 200;

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn take(&mut self, words: &[&str]) -> bool {
        let rest = self.rest.trim_start();
        let found = words.iter().find_map(|word| rest.strip_prefix(word));
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn any(&mut self) -> Result<Select, Fault> {
        let mut any = vec![self.all()?];
        while self.take(&["||", "#"]) {
            any.push(self.all()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Select::Any(any) })
    }

    fn all(&mut self) -> Result<Select, Fault> {
        let mut all = vec![self.one()?];
        while self.take(&["&&", ","]) {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Select::All(all) })
    }

    fn one(&mut self) -> Result<Select, Fault> {
        let negated = self.take(&["!"]);
        if negated && !self.rest.starts_with('(') {
            return Err(format!("Syntax error: left parenthesis expected at '{}'\n", self.rest));
        }
        if !self.take(&["("]) {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!(
                "Syntax error: more than {MAX_DEPTH} parentheses in one another\n"
            ));
        }
        let inner = self.any()?;
        self.depth -= 1;
        if !self.take(&[")"]) {
            return Err(format!(
                "Syntax error: right parenthesis expected at '{}'\n",
                self.rest.trim_start()
            ));
        }
        Ok(if negated { Select::Not(Box::new(inner)) } else { inner })
    }

    fn comparison(&mut self) -> Result<Select, Fault> {
        let whole = self.rest.trim_start();
        let len = whole
            .find(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != '-')
            .unwrap_or(whole.len());
        let (name, rest) = whole.split_at(len);
        if name.is_empty() {
            return Err(syntax("Expecting field name\n", whole));
        }
        let Some(field) =
            fields::find(name, fields::GROUPS).filter(|found| found.len() == 1).map(|f| f[0])
        else {
            let help = fields::help(HelpFor::Selection);
            return Err(syntax(&format!("{help}Unrecognised selection field: {name}\n"), whole));
        };
        let known = OPERATORS.iter().find_map(|(word, operator)| {
            rest.trim_start().strip_prefix(word).map(|rest| (*operator, rest))
        });
        let Some((operator, rest)) = known else {
            let what = format!("{OPERANDS}Unrecognised comparison operator: {rest}\n");
            return Err(syntax(&what, whole));
        };
        self.rest = rest.trim_start();
        let is_number = field.kind != Kind::String;
        let test = match operator {
            Operator::Time => {
                let what = format!("Operator can be used only with time fields: {whole}\n");
                return Err(syntax(&format!("{OPERANDS}{what}"), whole));
            }
            Operator::Number(compare) if is_number => {
                Test::Number(compare, self.number(field, whole)?)
            }
            Operator::Number(Compare::Equal) => Test::Equal(self.string(field, whole)?),
            Operator::Number(Compare::Unequal) => Test::Unequal(self.string(field, whole)?),
            Operator::Number(
                Compare::AtLeast | Compare::Above | Compare::AtMost | Compare::Below,
            ) => {
                let what = "Operator can be used only with number, size, time or percent fields";
                return Err(syntax(&format!("{OPERANDS}{what}: {whole}\n"), whole));
            }
            Operator::Match | Operator::NoMatch if is_number => {
                let name = field.name;
                return Err(format!(
                    "dm_report: incompatible comparison type for selection field {name}\n"
                ));
            }
            Operator::Match => Test::Match(self.regex(field, whole)?),
            Operator::NoMatch => Test::NoMatch(self.regex(field, whole)?),
        };
        Ok(Select::Is(field, test))
    }

    fn number(&mut self, field: &Field, whole: &str) -> Result<u64, Fault> {
        let name = field.name;
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        if number.is_empty() {
            let what = format!("Failed to parse numeric value for selection field {name}.\n");
            return Err(syntax(&what, whole));
        }
        // A fraction is read, and dropped.
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|char: char| char.is_ascii_digit()),
            None => rest,
        };
        let expected = format!("but numeric value expected for selection field {name}.\n");
        match rest.chars().next() {
            Some('%') => return Err(syntax(&format!("Found percent value {expected}"), whole)),
            Some(unit) if "bBsSkKmMgGtTpPeE".contains(unit) => {
                return Err(syntax(&format!("Found size unit specifier {expected}"), whole));
            }
            Some(_) | None => self.rest = rest,
        }
        number.parse().map_err(|_| {
            format!("Field selection value {number} out of supported range for field {name}.\n")
        })
    }

    fn string(&mut self, field: &Field, whole: &str) -> Result<String, Fault> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote, "string", field, whole),
            _ => Ok(self.unquoted()),
        }
    }

    /// A regular expression may stand in brackets, which are none of it.
    fn regex(&mut self, field: &Field, whole: &str) -> Result<Regex, Fault> {
        let closing = match self.rest.chars().next() {
            None => {
                let what =
                    format!("Regular expression expected for selection field {}\n", field.name);
                return Err(syntax(&what, whole));
            }
            Some('(') => Some(')'),
            Some('{') => Some('}'),
            Some('[') => Some(']'),
            Some(quote @ ('"' | '\'')) => Some(quote),
            Some(_) => None,
        };
        let text = match closing {
            Some(closing) => self.quoted(closing, "regex", field, whole)?,
            None => self.unquoted(),
        };
        Regex::new(&text).map_err(|error| {
            let error = match error.to_string() {
                text if text.contains("unclosed group") => {
                    "missing ')' in regular expression".to_owned()
                }
                text => text,
            };
            format!(
                "{error}\nParse error in regex\nCouldn't parse regex\ndm_report: failed to create regex matcher for selection field {}\n",
                field.name
            )
        })
    }

    /// Takes what lies between one sign and the sign that closes.
    fn quoted(
        &mut self,
        closing: char,
        kind: &str,
        field: &Field,
        whole: &str,
    ) -> Result<String, Fault> {
        let inner = &self.rest[1..];
        let Some(end) = inner.find(closing) else {
            let name = field.name;
            let what = format!(
                "Missing end quote.\nFailed to parse {kind} value for selection field {name}.\n"
            );
            return Err(syntax(&what, whole));
        };
        self.rest = &inner[end + 1..];
        Ok(inner[..end].to_owned())
    }

    /// Takes what lies before a blank, or before what joins conditions or closes them.
    fn unquoted(&mut self) -> String {
        let ends = [" ", "&&", ",", "||", "#", ")"].map(|end| self.rest.find(end));
        let end = ends.into_iter().flatten().min().unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text.to_owned()
    }
}

/// The list of operands and operators.
pub(crate) const OPERANDS: &str = include_str!("selection.txt");

fn syntax(what: &str, at: &str) -> Fault {
    format!("{what}Selection syntax error at '{at}'.\nUse 'help' for selection to get more help.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds a selection against a device `a` with minor 1, nothing open.
    fn passes(text: &str) -> bool {
        let select = Select::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let mut value = |field: &'static Field| match field.name {
            "name" => Some(Value::Text("a x".into())),
            "minor" => Some(Value::Number(1)),
            "open" => Some(Value::Number(0)),
            _ => None,
        };
        select.is_none_or(|select| select.passes(&mut value))
    }

    fn fault(text: &str) -> String {
        let fault = Select::parse(text).expect_err(text);
        fault
            .lines()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn comparisons_hold_or_do_not() {
        for yes in [
            "",
            "name='a x'",
            "name=~^a",
            "name=~(a)",
            "name!~b",
            "minor>0",
            "minor >= 1",
            "minor=1.0",
            "minor!=2",
            "minor<2,open=0",
            "name=b || minor=1",
            "name=b # minor=1",
            "!(name=b)",
            "((minor=1)) && !(open=1)",
            "NAME=\"a x\"",
            " minor = 1 ",
            "minor=1 || name=b && open=9",
        ] {
            assert!(passes(yes), "{yes}");
        }
        for no in ["name=a", "name==a", "minor=2", "!(minor=1)", "minor=1 && open=1", "uuid=x"] {
            assert!(!passes(no), "{no}");
        }
    }

    #[test]
    fn faults_name_the_place() {
        let at = |what: &str, at: &str| {
            format!(
                "{what}|Selection syntax error at '{at}'.|Use 'help' for selection to get more help."
            )
        };
        assert_eq!(fault("   "), at("Expecting field name", ""));
        assert_eq!(fault("name=a b"), at("Expecting logical operator", "b"));
        assert_eq!(fault("name=a)"), at("Expecting logical operator", ")"));
        assert_eq!(fault("bogus=1"), at("Unrecognised selection field: bogus", "bogus=1"));
        assert_eq!(fault("name in a"), at("Unrecognised comparison operator:  in a", "name in a"));
        let number = "Failed to parse numeric value for selection field minor.";
        assert_eq!(fault("minor=x"), at(number, "minor=x"));
        assert_eq!(fault("(name=a"), "Syntax error: right parenthesis expected at ''");
        assert_eq!(fault("! name=a"), "Syntax error: left parenthesis expected at ' name=a'");
    }

    #[test]
    fn a_thousand_parentheses_are_refused() {
        assert!(fault(&"(".repeat(1000)).contains("more than 200"));
    }
}
