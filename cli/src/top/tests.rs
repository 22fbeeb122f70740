//! Screens, as they are drawn.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use sim_core::DevNumber;

use super::plain;
use super::sample::{Progress, Rates, Row, Sample};
use super::screen::{Colours, draw};
use super::view::{Key, Sort, View};

fn row(name: &str, minor: u32, reads: f64, types: &str, below: &[(u32, u32)]) -> Row {
    let below = below.iter().map(|&(major, minor)| DevNumber { major, minor }).collect();
    let latency_ns = (reads > 0.0).then_some([12_000, 40_000, 3_400_000]);
    Row {
        name: name.to_owned(),
        dev: DevNumber::mapped(minor),
        size_bytes: 64 << 20,
        suspended: false,
        types: vec![types.to_owned()],
        below,
        rates: Some(Rates { reads, writes: 2.0, read: reads * 4096.0, written: 0.0, latency_ns }),
        in_flight: Some(u64::from(minor)),
        progress: None,
    }
}

/// A mirror under two devices.
fn sample() -> Sample {
    let mut mirror = row("m", 0, 1234.0, "mirror", &[(8, 0), (8, 16)]);
    mirror.progress = Some(Progress { what: "resync", done: 5, total: Some(16) });
    let mut other = row("my disk", 2, 0.0, "zero", &[]);
    other.suspended = true;
    let rows = vec![mirror, row("top", 1, 10.0, "linear", &[(253, 0)]), other];
    let images = [((8, 0), "/dev/sda".to_owned()), ((8, 16), "/dev/sdb".to_owned())];
    Sample { took: Duration::from_secs(1), rows, images: images.into(), left_out: 0 }
}

fn view() -> View {
    let mut view = View::new(Sort::Name);
    view.take(sample());
    view
}

/// Returns what is drawn on a screen of this size, line by line, without the blanks at their ends.
fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| draw(frame, view, Colours::No)).expect("it is drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn all_devices_are_listed_with_what_they_do() {
    let lines = drawn(&view(), 100, 7);
    assert_eq!(
        lines,
        [
            "dmsim top: 3 devices, by name",
            "device                  r/s    w/s  read/s  write/s    50%    95%    99%  fly what goes on",
            "m                      1.2k      2    4.8M        0   12us   40us  3.4ms    0 resync 31%",
            "my disk                   0      2       0        0      -      -      -    2 suspended",
            "top                      10      2     40K        0   12us   40us  3.4ms    1 linear",
            "",
            "q end  Enter descend  p pause  n i b l f order  ? help",
        ]
    );
}

#[test]
fn a_stack_is_descended_into_and_left() {
    let mut view = view();
    assert!(view.press(Key::Down) && view.press(Key::Down) && view.press(Key::In));
    let lines = drawn(&view, 60, 7);
    assert_eq!(lines[0], "dmsim top: the stack of top, by name");
    assert!(lines[2].starts_with("top ") && lines[3].starts_with("  m "), "{lines:?}");
    assert_eq!(lines[4..6], ["    /dev/sda", "    /dev/sdb"]);
    // A device that disappears is left, and that is said.
    let mut gone = sample();
    gone.rows.retain(|row| row.name != "top");
    view.take(gone);
    let lines = drawn(&view, 60, 7);
    assert_eq!((&*lines[0], &*lines[6]), ("dmsim top: 2 devices, by name", "top is gone"));
    assert!(!view.press(Key::Letter('q')));
}

#[test]
fn keys_order_pause_and_help() {
    let mut view = view();
    view.press(Key::Letter('i'));
    assert!(drawn(&view, 80, 7)[2].starts_with("m ") && drawn(&view, 80, 7)[3].starts_with("top "));
    view.press(Key::Letter('f'));
    assert!(drawn(&view, 80, 7)[2].starts_with("my disk "));
    view.press(Key::Letter('p'));
    view.take(Sample::default());
    let lines = drawn(&view, 80, 7);
    assert_eq!(lines[0], "dmsim top: 3 devices, by in flight  paused");
    view.press(Key::Letter('p'));
    view.take(Sample::default());
    assert_eq!(drawn(&view, 80, 7)[0], "dmsim top: 0 devices, by in flight");
    view.press(Key::Letter('?'));
    assert!(drawn(&view, 80, 24).iter().any(|line| line.contains("descend into its stack")));
    assert!(view.press(Key::Down), "any key puts the help away");
    assert!(!view.help);
    // Nothing is there to be selected.
    assert!(view.press(Key::Down) && view.press(Key::Up) && view.press(Key::In));
}

#[test]
fn every_size_of_a_window_is_drawn() {
    let mut view = view();
    for width in 1..130 {
        for height in 1..30 {
            assert_eq!(drawn(&view, width, height).len(), usize::from(height));
        }
    }
    view.press(Key::Letter('?'));
    for (width, height) in [(1, 1), (24, 4), (30, 5), (63, 11), (200, 60)] {
        drawn(&view, width, height);
    }
    assert_eq!(drawn(&view, 23, 4)[0], "dmsim top: the window i");
}

#[test]
fn a_pipe_gets_a_table() {
    let text = plain::table(&view());
    let expected = "\
device    r/s  w/s  read/s  write/s   50%   95%    99%  fly  what goes on
m        1.2k    2    4.8M        0  12us  40us  3.4ms    0  resync 31%
my disk     0    2       0        0     -     -      -    2  suspended
top        10    2     40K        0  12us  40us  3.4ms    1  linear
";
    assert_eq!(text, expected);
    let json = plain::as_json(&sample());
    assert_eq!(json["devices"][0]["progress"]["total"], 16);
    assert_eq!(json["devices"][2]["latency_p99_ns"], serde_json::Value::Null);
}
