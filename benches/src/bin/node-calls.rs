//! `node-calls`: what an ioctl on the control node costs in `dmsim shell`, beside one that the node
//! refuses before it looks at it, which is what the way there and back costs. As root.
//!
//! Each row has so many devices; what is asked of one device costs the same in all of them.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

/// Measures ioctls on the control node.
#[derive(Parser)]
struct Options {
    /// A dmsim binary.
    #[arg(long)]
    dmsim: PathBuf,
    /// The most devices; each row before has a tenth as many.
    #[arg(long, default_value_t = 100)]
    most: u32,
    /// How many rows.
    #[arg(long, default_value_t = 3)]
    rows: u32,
    /// How many rounds; the median of them is shown.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// Makes calls in turn, each kind so many times at a time, and prints the microseconds of one of each
/// kind, a round a line. The first is a terminal's.
const PROGRAM: &str = r#"
use strict; use warnings; use Time::HiRes 'time';
open(F, '+<', '/dev/mapper/control') or die "open: $!\n";
my ($rounds, $room) = @ARGV;
for (1..$rounds) {
    my @took;
    for my $kind ([0x5401, ''], [0xc138fd00, ''], [0xc138fd07, 'd0'], [0xc138fd0c, 'd0'], [0xc138fd02, '']) {
        my ($number, $name) = @$kind;
        my $header = pack('L10 Q a128 a129 x7',
            4, 0, 0, 312 + $room, 312, 0, 0, 0, 0, 0, 0, $name, '');
        my ($buffer, $begun) = ('', time);
        for (1..2000) {
            $buffer = $header . "\0" x $room;
            my $done = ioctl(F, $number, $buffer);
            die "call $number: $!\n" if !$done && $number != 0x5401;
        }
        push @took, (time - $begun) / 2000 * 1e6;
    }
    print "@took\n";
}
"#;

fn main() -> ExitCode {
    let options = Options::parse();
    println!("microseconds of a call, and the part of it that is not the way there and back:");
    let kinds = ["way", "version", "status", "table status", "list"];
    println!("{:>8} {}", "devices", kinds.map(|kind| format!("{kind:>16}")).concat());
    for row in (0..options.rows).rev() {
        let count = options.most / 10_u32.pow(row);
        match measure(&options.dmsim, count, options.rounds) {
            Ok(micros) => {
                let way = micros[0];
                let cells = micros.iter().map(|each| format!("{each:.1} ({:.1})", each - way));
                let cells: String = cells.map(|cell| format!("{cell:>16}")).collect();
                println!("{count:>8} {cells}");
            }
            Err(why) => {
                eprintln!("node-calls: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Returns the median of each kind of call.
fn measure(dmsim: &Path, count: u32, rounds: u32) -> Result<Vec<f64>, String> {
    let dir = tempfile::tempdir_in("/dev/shm").map_err(|error| error.to_string())?;
    let run = |words: &[&str]| {
        let mut program = Command::new(dmsim);
        let program = program.arg("--dir").arg(dir.path().join("dm")).args(words);
        let output = program.output().map_err(|error| format!("{}: {error}", dmsim.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(text) }
    };
    let image = dir.path().join("image").display().to_string();
    run(&["attach", &image, "--create", "64M", "--as", "/dev/sda"])?;
    for nr in 0..count {
        run(&["create", &format!("d{nr}"), "--table", "0 64 linear /dev/sda 0"])?;
    }
    // A list takes some 40 bytes a device.
    let room = (64 * count + 512).to_string();
    let rounds = rounds.to_string();
    let said = run(&["shell", "--", "perl", "-e", PROGRAM, &rounds, &room]);
    let stopped = run(&["stop", "--force"]);
    let said = String::from_utf8(said?).map_err(|error| error.to_string())?;
    stopped?;
    let lines: Vec<Vec<f64>> = said
        .lines()
        .map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect())
        .collect();
    let kinds = lines.iter().map(Vec::len).min().filter(|kinds| *kinds > 0);
    let kinds = kinds.ok_or_else(|| format!("no figures: {said}"))?;
    Ok((0..kinds).map(|kind| median(lines.iter().map(|line| line[kind]).collect())).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
