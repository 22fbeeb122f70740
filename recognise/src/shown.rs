//! Text that others have written, as a terminal may be given it: names that images have, paths.

use std::borrow::Cow;

/// Writes what a terminal would obey (colours, another place, another title), or what shows text in another order than
/// it has, as escapes. Ends of lines stay.
pub fn shown_text(text: &str) -> Cow<'_, str> {
    shown(text, |c| c == '\n' || c == '\t')
}

/// As [`shown_text`], with ends of lines as escapes too: a name that has one would look like two lines.
pub fn shown_line(text: &str) -> Cow<'_, str> {
    shown(text, |_| false)
}

fn shown(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_safe = |c: char| stays(c) || !(c.is_control() || turns(c));
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_safe(c) {
            true => safe.push(c),
            false => safe.extend(c.escape_default()),
        }
    }
    Cow::Owned(safe)
}

/// Tells whether a character changes the order in which others are shown, or ends a line for some.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (text, line) in [
            ("plain, Bücher, 書 🎉", "plain, Bücher, 書 🎉"),
            ("\u{1b}[31mred\u{7}", r"\u{1b}[31mred\u{7}"),
            ("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}"),
            ("gpj.\u{202e}exe\u{2066}", r"gpj.\u{202e}exe\u{2066}"),
            ("one\ntwo\r", r"one\ntwo\r"),
        ] {
            assert_eq!(shown_line(text), line);
        }
        assert_eq!(shown_text("a\n\tb\r\u{1b}"), "a\n\tb\\r\\u{1b}");
        assert!(matches!(shown_line("plain"), Cow::Borrowed(_)));
    }
}
