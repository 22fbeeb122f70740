//! What devices do, for who is no terminal: a table, or JSON.

use serde_json::{Value, json};

use super::sample::{Progress, Row, Sample};
use super::screen::cell;
use super::view::View;

/// The columns, as the screen names them.
const COLUMNS: [&str; 10] =
    ["device", "r/s", "w/s", "read/s", "write/s", "50%", "95%", "99%", "fly", "what goes on"];

/// Writes a table of all devices, in the order of the view.
pub(crate) fn table(view: &View) -> String {
    let lines = view.lines();
    let mut cells = vec![COLUMNS.map(str::to_owned)];
    cells.extend(lines.iter().map(|line| COLUMNS.map(|column| cell(line, column))));
    let last = COLUMNS.len() - 1;
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..=last).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; COLUMNS.len()]| {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for column in 1..last {
            line += &format!("  {:>width$}", row[column], width = widths[column]);
        }
        format!("{line}  {}", row[last]).trim_end().to_owned() + "\n"
    };
    let mut text: String = cells.iter().map(line).collect();
    if view.sample.left_out > 0 {
        text += &format!("{} devices more are left out\n", view.sample.left_out);
    }
    text
}

/// Writes an interval as JSON.
pub(crate) fn as_json(sample: &Sample) -> Value {
    json!({
        "took_ms": sample.took.as_millis() as u64,
        "devices": sample.rows.iter().map(device).collect::<Vec<_>>(),
        "left_out_count": sample.left_out,
    })
}

fn device(row: &Row) -> Value {
    let rates = row.rates;
    let latency = |nr: usize| rates.and_then(|rates| rates.latency_ns).map(|all| all[nr]);
    let below = row.below.iter().map(|dev| json!({ "major": dev.major, "minor": dev.minor }));
    json!({
        "name": row.name,
        "major": row.dev.major,
        "minor": row.dev.minor,
        "size_bytes": row.size_bytes,
        "suspended": row.suspended,
        "target_types": row.types,
        "below_devices": below.collect::<Vec<_>>(),
        "reads_per_s": rates.map(|rates| rates.reads),
        "writes_per_s": rates.map(|rates| rates.writes),
        "read_bytes_per_s": rates.map(|rates| rates.read),
        "written_bytes_per_s": rates.map(|rates| rates.written),
        "latency_p50_ns": latency(0),
        "latency_p95_ns": latency(1),
        "latency_p99_ns": latency(2),
        "in_flight_count": row.in_flight,
        "progress": row.progress.as_ref().map(progress),
    })
}

fn progress(progress: &Progress) -> Value {
    let Progress { what, done, total } = *progress;
    json!({
        "what": what,
        "done": total.map(|_| done),
        "total": total,
        "left_bytes": total.is_none().then_some(done.saturating_mul(512)),
    })
}
