//! Draws what is looked at on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row as TableRow, Table, TableState};
use recognise::shown_line;

use super::view::{Line, View};
use super::words;

/// Less than this shows nothing that helps.
const LEAST: (u16, u16) = (24, 4);

/// A column: its name, how wide it is, and from how wide a screen on it is shown.
const COLUMNS: [(&str, u16, u16); 10] = [
    ("r/s", 6, 0),
    ("w/s", 6, 0),
    ("read/s", 7, 46),
    ("write/s", 8, 46),
    ("50%", 6, 68),
    ("95%", 6, 84),
    ("99%", 6, 62),
    ("fly", 4, 54),
    ("size", 9, 110),
    ("what goes on", 22, 92),
];

const HELP: &[&str] = &[
    "up, down     select a device",
    "Enter        descend into its stack",
    "Backspace    back",
    "n i b l f    order by name, bios, bytes, latency, in flight",
    "p, space     pause, go on",
    "q            end",
    "",
    "Rates are of the last interval. 50%, 95%, 99%: so many bios",
    "took no longer. While this runs, devices count what they are",
    "sent, as `dmsim stats` does.",
];

/// Whether there are colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Yes,
    No,
}

impl Colours {
    fn style(self, colour: Color) -> Style {
        match self {
            Colours::Yes => Style::new().fg(colour),
            Colours::No => Style::new(),
        }
    }
}

pub(crate) fn draw(frame: &mut Frame<'_>, view: &View, colours: Colours) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        frame.render_widget(Paragraph::new("dmsim top: the window is too small"), area);
        return;
    }
    let [head, list, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(area);
    frame.render_widget(Paragraph::new(title(view, colours)), head);
    table(frame, list, view, colours);
    let words = match &view.notice {
        Some(notice) => shown_line(notice).to_string(),
        None => "q end  Enter descend  p pause  n i b l f order  ? help".to_owned(),
    };
    frame.render_widget(Paragraph::new(words).style(colours.style(Color::DarkGray)), foot);
    if view.help {
        help(frame, area);
    }
}

fn title(view: &View, colours: Colours) -> TextLine<'static> {
    let place = match view.within() {
        Some(name) => format!("the stack of {}", shown_line(name)),
        None => match view.sample.rows.len() {
            1 => "1 device".to_owned(),
            count => format!("{count} devices"),
        },
    };
    let mut text = format!("dmsim top: {place}, by {}", view.sort.word());
    if view.sample.left_out > 0 {
        text += &format!(", {} more are left out", view.sample.left_out);
    }
    let mut spans = vec![Span::styled(text, Style::new().add_modifier(Modifier::BOLD))];
    if view.paused {
        spans.push(Span::styled("  paused", colours.style(Color::Yellow)));
    }
    TextLine::from(spans)
}

fn table(frame: &mut Frame<'_>, area: Rect, view: &View, colours: Colours) {
    let shown = |column: &&(&str, u16, u16)| area.width >= column.2;
    let columns: Vec<_> = COLUMNS.iter().filter(shown).collect();
    let right = |text: &str, width: u16| format!("{text:>width$}", width = usize::from(width));
    let align = |name: &str, text: String, width: u16| match name {
        "what goes on" => text,
        _ => right(&text, width),
    };
    let head = columns.iter().map(|(name, width, _)| align(name, (*name).to_owned(), *width));
    let head = TableRow::new([String::from("device")].into_iter().chain(head));
    let head = head.style(colours.style(Color::Cyan).add_modifier(Modifier::BOLD));
    let lines = view.lines();
    let row = |line: &Line<'_>| {
        let cells = columns.iter().map(|(name, width, _)| align(name, cell(line, name), *width));
        let style = match line {
            Line::Device { row, .. } if row.suspended => colours.style(Color::Yellow),
            Line::Device { .. } => Style::new(),
            Line::Image { .. } => colours.style(Color::DarkGray),
        };
        TableRow::new([cell(line, "device")].into_iter().chain(cells)).style(style)
    };
    let widths = columns.iter().map(|(_, width, _)| Constraint::Length(*width));
    let widths = [Constraint::Min(8)].into_iter().chain(widths);
    let table = Table::new(lines.iter().map(row), widths).header(head);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((!lines.is_empty()).then(|| view.at()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn name_of(line: &Line<'_>) -> String {
    let (name, depth) = match line {
        Line::Device { row, depth } => (&row.name, *depth),
        Line::Image { name, depth, .. } => (name, *depth),
    };
    format!("{}{}", "  ".repeat(depth), shown_line(name))
}

/// Writes what a line has in a column.
pub(super) fn cell(line: &Line<'_>, column: &str) -> String {
    if column == "device" {
        return name_of(line);
    }
    let Line::Device { row, .. } = line else {
        return if column == "what goes on" { "image".to_owned() } else { String::new() };
    };
    let rates = |write: fn(&super::sample::Rates) -> String| {
        row.rates.as_ref().map_or_else(|| "-".to_owned(), write)
    };
    let latency = |nr: usize| {
        let all = row.rates.and_then(|rates| rates.latency_ns);
        all.map_or_else(|| "-".to_owned(), |all| words::time(all[nr]))
    };
    match column {
        "r/s" => rates(|rates| words::count(rates.reads)),
        "w/s" => rates(|rates| words::count(rates.writes)),
        "read/s" => rates(|rates| words::bytes(rates.read)),
        "write/s" => rates(|rates| words::bytes(rates.written)),
        "50%" => latency(0),
        "95%" => latency(1),
        "99%" => latency(2),
        "fly" => row.in_flight.map_or_else(|| "-".to_owned(), |count| words::count(count as f64)),
        "size" => words::bytes(row.size_bytes as f64),
        _ => what(row),
    }
}

/// Says what goes on in a device, or what it is.
fn what(row: &super::sample::Row) -> String {
    match (&row.progress, row.suspended) {
        (_, true) => "suspended".to_owned(),
        (Some(progress), _) => words::progress(progress),
        (None, _) if row.types.is_empty() => "no table".to_owned(),
        (None, _) => row.types.join(" "),
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (64.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let text: Vec<TextLine<'_>> = HELP.iter().map(|line| TextLine::from(*line)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" dmsim top ")), place);
}
