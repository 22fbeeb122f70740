//! The text that LVM2 keeps its metadata in: keys with values, and sections of these in braces.
//!
//! ```text
//! text    = (key "=" value | key "{" text "}")*
//! key     = word | string
//! value   = number | string | "[" (value ",")* value? "]"
//! ```
//! Between tokens there may be white space, and comments from `#` to the end of the line. A string has two
//! escapes, `\"` and `\\`. Source: `lib/config` of LVM2, as a description of the format.

use std::collections::HashMap;
use std::fmt;

/// How deep sections and lists may lie in one another. LVM2 writes four levels.
const DEEPEST: usize = 16;

/// How many values a text may have: each takes more memory than it takes of the text. Those of sixteen thousand
/// volumes come to half of it.
const MOST_VALUES: usize = 1 << 20;

/// What a key stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number. LVM2 writes no other ones that count.
    Number(u64),
    /// A number that is none of ours: negative, or with a fraction.
    OtherNumber,
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

/// Keys and what they stand for, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

/// Where a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// The line, from 1 on.
    pub(super) line: usize,
    /// What was expected, what was found.
    pub(super) what: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Section {
    /// Reads a text; what follows a NUL is left out, as LVM2 ends its texts with one.
    pub(super) fn parse(text: &[u8]) -> Result<Section, Bad> {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let mut parser = Parser { text: &text[..end], at: 0, values: 0 };
        let section = parser.section(0)?;
        match parser.peek() {
            None => Ok(section),
            Some(byte) => Err(parser.bad("a key or the end", Some(byte))),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|at| &self.entries[*at].1)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn section(&self, key: &str) -> Option<&Section> {
        match self.get(key)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// Returns the list under a key; none where it is no list.
    pub(super) fn list(&self, key: &str) -> Option<&[Value]> {
        match self.get(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Tells whether a list of texts has this one.
    pub(super) fn has(&self, key: &str, word: &str) -> bool {
        let list = self.list(key).unwrap_or_default();
        list.iter().any(|value| matches!(value, Value::Text(text) if text == word))
    }

    /// Lists the sections in this one.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.entries.iter().filter_map(|(key, value)| match value {
            Value::Section(section) => Some((key.as_str(), section)),
            _ => None,
        })
    }

    /// Adds an entry. Of two with one key the later counts, as in LVM2.
    fn push(&mut self, key: String, value: Value) {
        match self.by_key.get(&key) {
            Some(at) => self.entries[*at].1 = value,
            None => {
                self.by_key.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// How many values there were.
    values: usize,
}

impl Parser<'_> {
    /// Returns the first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                b'#' => {
                    let rest = &self.text[self.at..];
                    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    self.at += end;
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn bad(&self, expected: &str, found: Option<u8>) -> Bad {
        let line = 1 + self.text[..self.at].iter().filter(|byte| **byte == b'\n').count();
        let found = match found {
            Some(byte) => format!("`{}`", byte.escape_ascii()),
            None => "the end of the text".to_owned(),
        };
        Bad { line, what: format!("expected {expected}, found {found}") }
    }

    fn take(&mut self, byte: u8, expected: &str) -> Result<(), Bad> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            found => Err(self.bad(expected, found)),
        }
    }

    /// Reads entries up to a closing brace or the end.
    fn section(&mut self, depth: usize) -> Result<Section, Bad> {
        if depth > DEEPEST {
            return Err(self.bad(&format!("at most {DEEPEST} levels of sections"), Some(b'{')));
        }
        let mut section = Section::default();
        loop {
            match self.peek() {
                None | Some(b'}') => return Ok(section),
                Some(_) => {}
            }
            let key = self.key()?;
            self.count()?;
            let value = match self.peek() {
                Some(b'=') => {
                    self.at += 1;
                    self.value(depth)?
                }
                Some(b'{') => {
                    self.at += 1;
                    let inner = self.section(depth + 1)?;
                    self.take(b'}', "`}`")?;
                    Value::Section(inner)
                }
                found => return Err(self.bad("`=` or `{`", found)),
            };
            section.push(key, value);
        }
    }

    fn count(&mut self) -> Result<(), Bad> {
        self.values += 1;
        match self.values > MOST_VALUES {
            true => {
                Err(self
                    .bad(&format!("at most {MOST_VALUES} values"), self.text.get(self.at).copied()))
            }
            false => Ok(()),
        }
    }

    fn key(&mut self) -> Result<String, Bad> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(byte) if is_word(byte) => Ok(self.word()),
            found => Err(self.bad("a key", found)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Bad> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'[') if depth < DEEPEST => {
                self.at += 1;
                let mut list = Vec::new();
                loop {
                    match self.peek() {
                        Some(b']') => break,
                        Some(_) => {
                            self.count()?;
                            list.push(self.value(depth + 1)?);
                        }
                        None => return Err(self.bad("`]`", None)),
                    }
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => break,
                        found => return Err(self.bad("`,` or `]`", found)),
                    }
                }
                self.at += 1;
                Ok(Value::List(list))
            }
            Some(byte) if is_word(byte) => {
                let word = self.word();
                let looks_like_a_number =
                    word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                match word.parse() {
                    Ok(number) => Ok(Value::Number(number)),
                    Err(_) if looks_like_a_number => Ok(Value::OtherNumber),
                    Err(_) => Ok(Value::Text(word)),
                }
            }
            found => Err(self.bad("a value", found)),
        }
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        self.at += end;
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    fn string(&mut self) -> Result<String, Bad> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            match self.text.get(self.at) {
                None => return Err(self.bad("`\"`", None)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Some(b'\\') if matches!(self.text.get(self.at + 1), Some(b'"' | b'\\')) => {
                    bytes.push(self.text[self.at + 1]);
                    self.at += 2;
                }
                Some(byte) => {
                    bytes.push(*byte);
                    self.at += 1;
                }
            }
        }
    }
}

/// Tells whether a byte goes on a word that has no quotes.
fn is_word(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'=' | b'{' | b'}' | b'[' | b']' | b',' | b'"' | b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_with_comments_strings_and_sections() {
        let text = br#"
            # a comment
            vg-one { id = "a\"b\\c" # behind a value
                seqno=46 flags = [] status = ["READ", "WRITE",]
                inner { stripes = [ "pv0", 12
                ] } delta = -1 } "odd name" { x = 1 }
        "#;
        let all = Section::parse(text).expect("a text");
        let group = all.section("vg-one").expect("a section");
        assert_eq!(group.text("id"), Some("a\"b\\c"));
        assert_eq!(group.number("seqno"), Some(46));
        assert!(group.has("status", "WRITE") && !group.has("flags", "WRITE"));
        assert_eq!(group.get("delta"), Some(&Value::OtherNumber));
        let stripes = group.section("inner").and_then(|inner| inner.list("stripes"));
        assert_eq!(stripes, Some(&[Value::Text("pv0".into()), Value::Number(12)][..]));
        assert_eq!(
            all.sections().map(|(name, _)| name).collect::<Vec<_>>(),
            ["vg-one", "odd name"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("a {\n b = \n}", 3, "expected a value, found `}`"),
            ("a = \"b", 1, "expected `\"`, found the end of the text"),
            ("a b", 1, "expected `=` or `{`, found `b`"),
            ("a = [1 2]", 1, "expected `,` or `]`, found `2`"),
            ("a { }\n}", 2, "expected a key or the end, found `}`"),
            ("a {", 1, "expected `}`, found the end of the text"),
        ] {
            let bad = Section::parse(text.as_bytes()).expect_err(text);
            assert_eq!((bad.line, bad.what.as_str()), (line, what), "{text}");
        }
        Section::parse("a {".repeat(100_000).as_bytes()).expect_err("deeper than anybody writes");
        let lists = format!("a = {}", "[".repeat(100_000));
        Section::parse(lists.as_bytes()).expect_err("deeper than anybody writes");
        let many = |count: usize| format!("a = [{}]", "1,".repeat(count));
        Section::parse(many(MOST_VALUES - 1).as_bytes()).expect("as many as there may be");
        let bad = Section::parse(many(MOST_VALUES).as_bytes()).expect_err("one more");
        assert!(bad.what.starts_with("expected at most 1048576 values"), "{}", bad.what);
    }
}
