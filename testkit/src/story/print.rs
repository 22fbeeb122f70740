//! A story as text: all of it, or what a person reads in a minute.

use super::{Kind, Line, Story};

/// Shows the whole of a story.
const ALL: &str = "DMSIM_TRACE";

/// The last lines before the end, which are always shown.
const LAST: usize = 14;

/// The most lines that are shown, unless all are asked for.
const MOST: usize = 70;

impl Story {
    /// Writes the story: headings, trouble, what is about the sector that is wrong, and the end.
    pub(crate) fn text(&self, why: &str, repeat: &str) -> String {
        let all = std::env::var_os(ALL).is_some_and(|value| value != "0");
        let shown = self.shown(all);
        let mut out = String::from("what led there");
        if let Some(sector) = self.blamed.filter(|_| !all) {
            out.push_str(&format!(", as far as sector {sector} is concerned"));
        }
        out.push_str(":\n");
        let mut left_out = 0;
        for (line, shown) in self.lines.iter().zip(shown) {
            if !shown {
                left_out += 1;
                continue;
            }
            gap(&mut out, left_out);
            left_out = 0;
            out.push_str("  ");
            out.push_str(&line.text);
            out.push('\n');
        }
        gap(&mut out, left_out);
        // Where it happened is in the story: the last part of the line is what is wrong.
        let first = why.lines().next().unwrap_or_default();
        let from = first.rfind("sector ").filter(|_| self.blamed.is_some()).unwrap_or(0);
        out.push_str(&format!("  >> {}\n", &first[from..]));
        if !all {
            out.push_str(&format!("all {} lines: {ALL}=1 {repeat}\n", self.lines.len()));
        }
        out
    }

    fn shown(&self, all: bool) -> Vec<bool> {
        let count = self.lines.len();
        if all || count <= LAST {
            return vec![true; count];
        }
        let about = |line: &Line| match self.blamed {
            Some(sector) => line.sectors.contains(&sector),
            None => false,
        };
        let mut shown = vec![false; count];
        let told = (0..count).rev().filter(|at| self.lines[*at].kind != Kind::Read);
        told.take(LAST).for_each(|at| shown[at] = true);
        let mut room = MOST - LAST;
        // The dearest first, and of those the latest.
        let ranks: [&dyn Fn(&Line) -> bool; 4] = [
            &|line| line.kind == Kind::Heading,
            &|line| about(line),
            &|line| line.kind == Kind::Trouble,
            &|line| line.kind == Kind::Flush,
        ];
        for rank in ranks {
            for at in (0..count).rev() {
                if room > 0 && !shown[at] && rank(&self.lines[at]) {
                    shown[at] = true;
                    room -= 1;
                }
            }
        }
        shown
    }
}

fn gap(out: &mut String, left_out: usize) {
    match left_out {
        0 => {}
        1 => out.push_str("      ... 1 line\n"),
        lines => out.push_str(&format!("      ... {lines} lines\n")),
    }
}
