//! fio on a file that a program shows.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// A workload, as fio is told it.
pub(crate) struct Load<'a> {
    pub(crate) rw: &'a str,
    pub(crate) block: u64,
    pub(crate) depth: u32,
    pub(crate) places: Places<'a>,
}

/// Where the I/O of a workload goes.
pub(crate) enum Places<'a> {
    /// Anywhere, for all of the time.
    Anywhere,
    /// Through the file once, from its start.
    Through,
    /// To these offsets, once, in this order.
    List { offsets: &'a [u64], dir: &'a Path, end: Batch },
}

/// What follows on as many writes as are under way at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// More writes, as soon as one has ended.
    Endless,
    /// All of them end, and one `fdatasync`.
    Synced,
}

/// Runs fio for so many seconds at most, and returns MiB/s.
pub(crate) fn run(file: &Path, load: &Load<'_>, seconds: u32) -> Result<f64, String> {
    let mut command = Command::new("fio");
    command
        .arg("--name=row")
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--rw={}", load.rw))
        .arg(format!("--bs={}", load.block))
        .arg(format!("--iodepth={}", load.depth))
        .arg(format!("--runtime={seconds}"))
        .args(["--direct=1", "--ioengine=libaio", "--minimal"])
        .args(["--randrepeat=1", "--allow_file_create=0"]);
    match &load.places {
        Places::Anywhere => {
            command.args(["--time_based", "--ramp_time=0.3", "--norandommap"]);
        }
        Places::Through => {}
        Places::List { offsets, dir, end } => {
            let list = dir.join("offsets");
            write_list(&list, file, offsets, load, *end)?;
            command.arg(format!("--read_iolog={}", list.display())).arg("--replay_no_stall=1");
            if *end == Batch::Synced {
                let depth = load.depth;
                command.arg(format!("--iodepth_batch={depth}"));
                command.arg(format!("--iodepth_batch_complete_min={depth}"));
            }
        }
    }
    let output = command.output().map_err(|error| format!("fio: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = text.trim().lines().last().unwrap_or_default().split(';').collect();
    // Fields of fio's terse output, version 3: KiB/s of reads and of writes.
    let at = if load.rw.ends_with("read") { 6 } else { 47 };
    let rate: Option<f64> = fields.get(at).and_then(|field| field.parse().ok());
    let failed =
        || format!("fio on {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    rate.filter(|_| output.status.success()).map(|kib| kib / 1024.0).ok_or_else(failed)
}

/// Writes a list for fio's `read_iolog`: its own random orders cannot be told to write a part of
/// each chunk, and each once.
fn write_list(
    list: &Path,
    file: &Path,
    offsets: &[u64],
    load: &Load<'_>,
    end: Batch,
) -> Result<(), String> {
    let (file, block, depth) = (file.display(), load.block, load.depth as usize);
    let mut text = format!("fio version 2 iolog\n{file} add\n{file} open\n");
    let mut line = |what: std::fmt::Arguments<'_>| {
        writeln!(text, "{file} {what}").expect("a string takes every line");
    };
    for batch in offsets.chunks(depth) {
        batch.iter().for_each(|offset| line(format_args!("write {offset} {block}")));
        if end == Batch::Synced {
            line(format_args!("datasync 0 0"));
        }
    }
    line(format_args!("close"));
    std::fs::write(list, text).map_err(|error| error.to_string())
}
