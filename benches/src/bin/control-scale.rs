//! `control-scale`: how the control plane's time grows with the number of devices. Each row makes
//! so many devices, lists them, and removes them; twice as many should take twice as long.
//!
//! By the library, over an image and over one mapped device; and with `--dmsim` by the command
//! line: one `create --concise` batch, `ls` of the mount, and the daemon's memory and record.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, ExitCode};
use std::time::{Duration, Instant};

use backing::block_on;
use benches::Instance;
use clap::Parser;
use sim_core::control::{Command, WhenOpen};

/// Measures the control plane with many devices.
#[derive(Parser)]
struct Options {
    /// The most devices; each row before has half as many.
    #[arg(long, default_value_t = 20_000)]
    most: u32,
    /// How many rows.
    #[arg(long, default_value_t = 5)]
    rows: u32,
    /// A dmsim binary, to measure the command line too.
    #[arg(long)]
    dmsim: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let counts: Vec<u32> = (0..options.rows).rev().map(|row| options.most >> row).collect();
    println!("by the library, seconds (microseconds for each device):");
    println!("{:>8} {:>22} {:>22} {:>22}", "devices", "create, image", "create, device", "remove");
    for count in &counts {
        by_library(*count);
    }
    let Some(dmsim) = options.dmsim else { return ExitCode::SUCCESS };
    println!("\nby the command line:");
    println!(
        "{:>8} {:>22} {:>10} {:>12} {:>12} {:>12}",
        "devices", "create --concise", "ls, ms", "ls -l, ms", "KiB each", "record, B"
    );
    for count in &counts {
        if let Err(why) = by_command(&dmsim, *count) {
            eprintln!("control-scale: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn by_library(count: u32) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("room for an image");
    let instance = Instance::new();
    instance.image(&dir.path().join("image"), "image", 64 << 20);
    let create = |below: &str, prefix: &str| {
        let begun = Instant::now();
        let table = format!("0 64 linear {below} 0");
        for nr in 0..count {
            instance.create(&format!("{prefix}{nr}"), &table);
        }
        begun.elapsed()
    };
    let remove = || {
        let begun = Instant::now();
        let removed =
            block_on(instance.control.execute(Command::RemoveAll { open: WhenOpen::Refuse }));
        removed.expect("nobody has one open");
        begun.elapsed()
    };
    let over_image = create("image", "a");
    let removed = remove();
    instance.create("base", "0 131072 linear image 0");
    let over_device = create("/dev/mapper/base", "b");
    let row = [over_image, over_device, removed].map(|time| each(time, count));
    println!("{count:>8} {:>22} {:>22} {:>22}", row[0], row[1], row[2]);
}

fn each(time: Duration, count: u32) -> String {
    let micros = time.as_secs_f64() * 1e6 / f64::from(count);
    format!("{:.2} ({micros:.0})", time.as_secs_f64())
}

fn by_command(dmsim: &Path, count: u32) -> Result<(), String> {
    let dir = tempfile::tempdir_in("/dev/shm").map_err(|error| error.to_string())?;
    let run = |words: &[&str]| {
        let mut program = Program::new(dmsim);
        let output = program.arg("--dir").arg(dir.path().join("dm")).args(words).output();
        let output = output.map_err(|error| format!("{}: {error}", dmsim.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(text) }
    };
    let image = dir.path().join("image").display().to_string();
    run(&["attach", &image, "--create", "64M", "--as", "/dev/sda"])?;
    let before = memory(dir.path())?;
    let mut batch = String::new();
    for nr in 0..count {
        let _ = write!(batch, "d{nr},,,rw,0 64 linear /dev/sda 0;");
    }
    let begun = Instant::now();
    let file = dir.path().join("batch");
    std::fs::write(&file, batch.trim_end_matches(';')).map_err(|error| error.to_string())?;
    let input = std::fs::File::open(&file).map_err(|error| error.to_string())?;
    let mut create = Program::new(dmsim);
    let create = create.arg("--dir").arg(dir.path().join("dm")).args(["create", "--concise"]);
    let done = create.stdin(input).output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let created = begun.elapsed();
    let mapper = dir.path().join("dm/mapper");
    let list = |words: &[&str]| {
        let begun = Instant::now();
        let listed = Program::new("ls").args(words).arg(&mapper).output();
        let lines = listed.map_err(|error| error.to_string())?.stdout;
        let found = lines.iter().filter(|byte| **byte == b'\n').count();
        match found >= count as usize {
            true => Ok(begun.elapsed().as_secs_f64() * 1e3),
            false => Err(format!("ls found {found} of {count}")),
        }
    };
    let (names, long) = (list(&["-f"])?, list(&["-l"])?);
    let memory = (memory(dir.path())?.saturating_sub(before)) as f64 / f64::from(count);
    println!(
        "{count:>8} {:>22} {names:>10.0} {long:>12.0} {memory:>12.1} {:>12}",
        each(created, count),
        record(&dir.path().join("dm"))
    );
    run(&["stop"])?;
    Ok(())
}

/// The daemon's resident memory in KiB.
fn memory(dir: &Path) -> Result<u64, String> {
    let lock = std::fs::read_to_string(dir.join("dm/lock")).map_err(|error| error.to_string())?;
    let pid = lock.split(' ').next().unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| error.to_string())?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| "no memory of the daemon".to_owned())
}

/// The bytes of the files that are the record.
fn record(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_record = |name: &str| name.starts_with("record") || name.starts_with("state");
    let files = entries.filter(|entry| is_record(&entry.file_name().to_string_lossy()));
    files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
