//! The moments of a recording at which it makes a difference that the power goes.

use crate::log::What;
use crate::recording::Recording;

/// A moment: between two of them the writes that can be lost only become more, and a subset of the later ones is a
/// state of the earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many entries of the log have come to pass.
    pub cut: usize,
    /// How many marks are among them.
    pub marks: usize,
}

impl Recording {
    /// Lists the moments: before each flush that follows a write that can be lost, before each mark that follows one, or
    /// nothing but a mark, in each write with FUA, and the end.
    ///
    /// Between two marks there is one always: what the first promised may be gone although nothing was written after.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        let (mut marks, mut can_lose) = (0, false);
        for (at, entry) in self.entries().iter().enumerate() {
            let is_mark = matches!(entry.what, What::Mark(_));
            let is_told = marks == 0 || windows.last().is_some_and(|window| window.marks == marks);
            if can_lose && (entry.flushes() || is_mark) || is_mark && !is_told {
                windows.push(Window { cut: at, marks });
            }
            if entry.flushes() {
                can_lose = false;
            }
            marks += usize::from(is_mark);
            if entry.changes() && entry.is_fua() {
                windows.push(Window { cut: at + 1, marks });
            } else if entry.changes() {
                can_lose = true;
            }
        }
        windows.push(Window { cut: self.entries().len(), marks });
        windows.dedup();
        windows
    }
}
