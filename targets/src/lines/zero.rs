//! `zero`

use std::fmt;

use sim_core::{CtrError, Sectors, Words};

use super::words::from_text;

/// A table line of `zero`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line;

impl Line {
    /// Reads the words.
    pub fn parse(words: &mut Words<'_>) -> Result<Line, CtrError> {
        words.exactly(0, "No arguments required")?;
        Ok(Line)
    }

    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line, CtrError> {
        from_text(text, len, |words, _| Line::parse(words))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
