//! What passes through devices, in the text form of blkparse.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sim_core::{DevNumber, Step, Struck, Traced};

/// Writes a step as blkparse does by default. `pid` is the process that sends bios: the daemon.
pub(crate) fn trace_line(traced: &Traced, pid: u32) -> String {
    let Traced { seq, at_ns, cpu, dev, step, sector, len, .. } = traced;
    let (seconds, rest) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
    let action = action(*step);
    let asks = asks(traced);
    let mut line = format!(
        "{:3},{:<3} {cpu:2} {seq:8} {seconds:5}.{rest:09} {pid:5} {action:>2} {asks:>3} ",
        dev.major, dev.minor
    );
    let range = format!("{} + {}", sector.0, len.0);
    let written = match step {
        Step::Queued if len.is_zero() => write!(line, "[dmsim]"),
        Step::Queued => write!(line, "{range} [dmsim]"),
        Step::Remapped { from, sector } => {
            write!(line, "{range} <- ({},{}) {}", from.major, from.minor, sector.0)
        }
        Step::Completed(error) => {
            // blkparse prints the errno as the kernel notes it: its negative, in 16 bits.
            let end = error.map_or(0, |error| (-error.errno().0) as u16);
            let range = if len.is_zero() { sector.0.to_string() } else { range };
            write!(line, "{range} [{end}]")
        }
    };
    written.expect("a string takes everything");
    line
}

/// Returns the letter of what happens.
fn action(step: Step) -> &'static str {
    match step {
        Step::Queued => "Q",
        Step::Remapped { .. } => "A",
        Step::Completed(_) => "C",
    }
}

/// Returns the letters of what a bio asks for: blkparse's RWBS. Somebody waits for each but a read-ahead.
fn asks(traced: &Traced) -> String {
    let Traced { op, preflush, readahead, .. } = *traced;
    let kind = match op {
        Struck::Read => "R",
        Struck::Write | Struck::WriteZeroes => "W",
        Struck::WriteFua => "WF",
        // A flush alone is a write without sectors.
        Struck::Flush => "FW",
        Struck::Discard | Struck::SecureErase => "D",
    };
    let before = if preflush && op != Struck::Flush { "F" } else { "" };
    format!("{before}{kind}{}", if readahead { "A" } else { "S" })
}

/// Writes a step as JSON.
pub(crate) fn trace_json(traced: &Traced, dropped: u64) -> Value {
    let Traced { seq, at_ns, cpu, dev, step, op, preflush, readahead, sector, len } = *traced;
    let from = match step {
        Step::Remapped { from, sector } => {
            json!({ "major": from.major, "minor": from.minor, "sector": sector.0 })
        }
        Step::Queued | Step::Completed(_) => Value::Null,
    };
    let error = match step {
        Step::Completed(error) => error.map(|error| error.errno().name()),
        Step::Queued | Step::Remapped { .. } => None,
    };
    let op = if op == Struck::WriteFua { Struck::Write } else { op };
    json!({
        "seq": seq,
        "at_ns": at_ns,
        "cpu": cpu,
        "major": dev.major,
        "minor": dev.minor,
        "action": action(step),
        "op": op.word(),
        "fua": traced.op == Struck::WriteFua,
        "preflush": preflush,
        "readahead": readahead,
        "sector": sector.0,
        "len": len.0,
        "from": from,
        "error": error,
        "dropped_count": dropped,
    })
}

/// What all of a trace comes to, as blkparse sums it up.
#[derive(Default)]
pub(crate) struct TraceSum {
    devices: BTreeMap<(u32, u32), Totals>,
    /// Steps that were left out.
    pub(crate) dropped: u64,
    first_ns: Option<u64>,
    last_ns: u64,
}

/// What one device was sent: counts and KiB, of reads and of what is none.
#[derive(Default)]
struct Totals {
    queued: [(u64, u64); 2],
    completed: [(u64, u64); 2],
    failed: u64,
    steps: u64,
}

impl TraceSum {
    /// Adds a step.
    pub(crate) fn add(&mut self, traced: &Traced) {
        let DevNumber { major, minor } = traced.dev;
        self.first_ns.get_or_insert(traced.at_ns);
        self.last_ns = traced.at_ns;
        let totals = self.devices.entry((major, minor)).or_default();
        totals.steps += 1;
        let way = usize::from(traced.op != Struck::Read);
        let add = |to: &mut (u64, u64)| {
            to.0 += 1;
            to.1 = to.1.saturating_add(traced.len.0);
        };
        match traced.step {
            Step::Queued => add(&mut totals.queued[way]),
            Step::Completed(error) => {
                add(&mut totals.completed[way]);
                totals.failed += u64::from(error.is_some());
            }
            Step::Remapped { .. } => {}
        }
    }

    /// Writes it all.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let took_ms = (self.last_ns - self.first_ns.unwrap_or(0)) / 1_000_000;
        for ((major, minor), totals) in &self.devices {
            let row = |what: &str, [reads, writes]: [(u64, u64); 2]| {
                format!(
                    " {:<17}{:8}, {:8}KiB\t {:<18}{:8}, {:8}KiB\n",
                    format!("Reads {what}:"),
                    reads.0,
                    reads.1 / 2,
                    format!("Writes {what}:"),
                    writes.0,
                    writes.1 / 2
                )
            };
            let rate = |(_, sectors): (u64, u64)| sectors.saturating_mul(500) / took_ms.max(1);
            let [reads, writes] = totals.completed;
            let rows = row("Queued", totals.queued) + &row("Completed", totals.completed);
            let (steps, failed) = (totals.steps, totals.failed);
            let (read, written) = (rate(reads), rate(writes));
            let written = write!(
                text,
                "Total ({major},{minor}):\n{rows}\nThroughput (R/W): {read}KiB/s / {written}KiB/s\n\
                 Events ({major},{minor}): {steps} entries, {failed} failed\n"
            );
            written.expect("a string takes everything");
        }
        let dropped = self.dropped;
        let _ends_with = writeln!(text, "Dropped: {dropped} entries");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::{BlkError, Sector, Sectors};

    fn traced(step: Step, op: Struck, sector: u64, len: u64) -> Traced {
        Traced {
            seq: 5,
            at_ns: 290_163_079,
            cpu: 1,
            dev: DevNumber::mapped(1),
            step,
            op,
            preflush: op == Struck::Flush,
            readahead: false,
            sector: Sector(sector),
            len: Sectors(len),
        }
    }

    /// What blkparse (blktrace 1.2.0) printed of what Linux 6.12 traced, but for the process.
    #[test]
    fn lines_are_those_of_blkparse() {
        let from = Step::Remapped { from: DevNumber::mapped(1), sector: Sector(24) };
        let none = Step::Remapped { from: DevNumber::mapped(1), sector: Sector(0) };
        let (queued, ended) = (Step::Queued, Step::Completed(None));
        let failed = Step::Completed(Some(BlkError::Io));
        let cases = [
            (traced(queued, Struck::WriteFua, 24, 8), "  Q WFS 24 + 8 [dmsim]"),
            (traced(from, Struck::WriteFua, 24, 8), "  A WFS 24 + 8 <- (253,1) 24"),
            (traced(ended, Struck::WriteFua, 24, 8), "  C WFS 24 + 8 [0]"),
            (traced(queued, Struck::Flush, 0, 0), "  Q FWS [dmsim]"),
            (traced(none, Struck::Flush, 0, 0), "  A FWS 0 + 0 <- (253,1) 0"),
            (traced(ended, Struck::Flush, 0, 0), "  C FWS 0 [0]"),
            (traced(queued, Struck::Read, 8, 8), "  Q  RS 8 + 8 [dmsim]"),
            (traced(failed, Struck::Read, 0, 8), "  C  RS 0 + 8 [65531]"),
            (traced(queued, Struck::Discard, 128, 8), "  Q  DS 128 + 8 [dmsim]"),
            (traced(queued, Struck::WriteZeroes, 256, 8), "  Q  WS 256 + 8 [dmsim]"),
        ];
        for (traced, end) in cases {
            let line = format!("253,1    1        5     0.290163079   173{end}");
            assert_eq!(trace_line(&traced, 173), line);
        }
        let ahead = Traced { readahead: true, ..traced(queued, Struck::Read, 8, 8) };
        assert!(trace_line(&ahead, 173).ends_with("  Q  RA 8 + 8 [dmsim]"));
    }

    #[test]
    fn what_failed_and_what_was_left_out_is_summed_up() {
        let mut sum = TraceSum { dropped: 7, ..TraceSum::default() };
        sum.add(&traced(Step::Queued, Struck::Read, 0, 8));
        sum.add(&traced(Step::Completed(Some(BlkError::Io)), Struck::Read, 0, 8));
        let text = sum.text();
        let rows = "Total (253,1):\n Reads Queued:           1,        4KiB\t Writes Queued:           0,        0KiB\n";
        assert!(text.starts_with(rows), "{text}");
        let end = "Events (253,1): 2 entries, 1 failed\nDropped: 7 entries\n";
        assert!(text.ends_with(end), "{text}");
    }
}
