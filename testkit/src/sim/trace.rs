//! What a run did, as a digest and, where asked for, as text.

use std::fmt::{self, Write};

/// A run's trace: one line for each step.
#[derive(Default)]
pub(crate) struct Trace {
    digest: Digest,
    lines: Option<Vec<String>>,
    /// The last lines, in a ring: each keeps its memory for the next.
    recent: [String; RECENT],
    next: usize,
}

/// How many lines are always there to be looked at.
const RECENT: usize = 12;

/// FNV-1a, 64 bits: two runs that differ in one byte of one line differ in it.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// Keeps the text of the lines from now on.
    pub(crate) fn keep_lines(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.digest, "{line}").expect("a digest takes everything");
        let recent = &mut self.recent[self.next % RECENT];
        recent.clear();
        write!(recent, "{line}").expect("a string takes everything");
        self.next += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line.to_string());
        }
    }

    /// Returns the last lines, the oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &str> {
        let from = self.next.saturating_sub(RECENT);
        (from..self.next).map(|at| self.recent[at % RECENT].as_str())
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.0
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
