//! What is looked at: the order, the device that is selected, how deep in a stack.

use sim_core::DevNumber;

use super::sample::{Row, Sample};

/// What lines are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// The name
    Name,
    /// Bios a second
    Iops,
    /// Bytes a second
    Bandwidth,
    /// How long 99 of 100 bios took at most
    Latency,
    /// Bios under way
    InFlight,
}

impl Sort {
    pub(crate) const ALL: [(char, Sort, &str); 5] = [
        ('n', Sort::Name, "name"),
        ('i', Sort::Iops, "bios a second"),
        ('b', Sort::Bandwidth, "bytes a second"),
        ('l', Sort::Latency, "latency (99%)"),
        ('f', Sort::InFlight, "in flight"),
    ];

    pub(crate) fn word(self) -> &'static str {
        let known = Sort::ALL.iter().find(|(_, sort, _)| *sort == self);
        known.map_or("", |(_, _, word)| word)
    }

    /// Returns by what a row is ordered, more first.
    fn key(self, row: &Row) -> f64 {
        let rates = row.rates.unwrap_or_default();
        match self {
            Sort::Name => 0.0,
            Sort::Iops => rates.reads + rates.writes,
            Sort::Bandwidth => rates.read + rates.written,
            Sort::Latency => rates.latency_ns.map_or(0.0, |[_, _, most]| most as f64),
            Sort::InFlight => row.in_flight.unwrap_or(0) as f64,
        }
    }
}

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    /// Into a stack.
    In,
    /// Out of it.
    Out,
    Letter(char),
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line<'a> {
    Device { row: &'a Row, depth: usize },
    Image { name: String, dev: DevNumber, depth: usize },
}

/// What is shown.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) sample: Sample,
    pub(crate) sort: Sort,
    /// The devices whose stacks were descended into, the last one shown.
    path: Vec<String>,
    /// The device of the line that is selected; the first line where none is, or it is gone.
    selected: Option<DevNumber>,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    /// Said instead of the help line.
    pub(crate) notice: Option<String>,
}

/// A stack is followed so far down: a device may be reached by many ways.
const MAX_LINES: usize = 1000;

impl View {
    pub(crate) fn new(sort: Sort) -> View {
        View {
            sample: Sample::default(),
            sort,
            path: Vec::new(),
            selected: None,
            paused: false,
            help: false,
            notice: None,
        }
    }

    /// Takes what is known by now, unless it is paused.
    pub(crate) fn take(&mut self, sample: Sample) {
        if self.paused {
            return;
        }
        self.sample = sample;
        // A device that is gone is left.
        while let Some(name) = self.path.last() {
            if self.sample.rows.iter().any(|row| row.name == *name) {
                break;
            }
            self.notice = Some(format!("{name} is gone"));
            self.path.pop();
        }
    }

    /// Does what a key says; tells whether it goes on.
    pub(crate) fn press(&mut self, key: Key) -> bool {
        self.notice = None;
        if self.help {
            self.help = false;
            return key != Key::Letter('q');
        }
        match key {
            Key::Up => self.step(|at, _| at.saturating_sub(1)),
            Key::Down => self.step(|at, count| (at + 1).min(count.saturating_sub(1))),
            Key::In => {
                let name = match self.lines().get(self.at()) {
                    Some(Line::Device { row, .. }) => Some(row.name.clone()),
                    Some(Line::Image { .. }) | None => None,
                };
                if let Some(name) = name.filter(|name| self.path.last() != Some(name)) {
                    self.path.push(name);
                }
            }
            Key::Out => drop(self.path.pop()),
            Key::Letter('q') => return false,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter('p' | ' ') => self.paused = !self.paused,
            Key::Letter(letter) => {
                if let Some((_, sort, _)) = Sort::ALL.iter().find(|(known, ..)| *known == letter) {
                    self.sort = *sort;
                }
            }
        }
        true
    }

    fn step(&mut self, next: impl FnOnce(usize, usize) -> usize) {
        let (at, lines) = (self.at(), self.lines());
        let dev = lines.get(next(at, lines.len())).map(Line::dev);
        self.selected = dev;
    }

    /// Returns which line is selected.
    pub(crate) fn at(&self) -> usize {
        let lines = self.lines();
        lines.iter().position(|line| Some(line.dev()) == self.selected).unwrap_or(0)
    }

    /// Returns the device whose stack is shown.
    pub(crate) fn within(&self) -> Option<&str> {
        self.path.last().map(String::as_str)
    }

    /// Lists what is shown: all devices, or those of a stack, each above what it maps onto.
    pub(crate) fn lines(&self) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        match self.path.last() {
            None => {
                let mut rows: Vec<&Row> = self.sample.rows.iter().collect();
                self.order(&mut rows);
                lines.extend(rows.into_iter().map(|row| Line::Device { row, depth: 0 }));
            }
            Some(name) => {
                let root = self.sample.rows.iter().find(|row| row.name == *name);
                root.into_iter().for_each(|root| self.descend(root, 0, &mut lines));
            }
        }
        lines
    }

    fn descend<'a>(&'a self, row: &'a Row, depth: usize, lines: &mut Vec<Line<'a>>) {
        if lines.len() >= MAX_LINES {
            return;
        }
        lines.push(Line::Device { row, depth });
        let depth = depth + 1;
        let is_below = |below: &&Row| row.below.contains(&below.dev);
        let mut below: Vec<&Row> = self.sample.rows.iter().filter(is_below).collect();
        self.order(&mut below);
        below.into_iter().for_each(|below| self.descend(below, depth, lines));
        for dev in &row.below {
            if let Some(name) = self.sample.images.get(&(dev.major, dev.minor)) {
                lines.push(Line::Image { name: name.clone(), dev: *dev, depth });
            }
        }
    }

    fn order(&self, rows: &mut [&Row]) {
        rows.sort_by(|one, other| {
            let by_key = self.sort.key(other).total_cmp(&self.sort.key(one));
            by_key.then_with(|| one.name.cmp(&other.name))
        });
    }
}

impl Line<'_> {
    pub(crate) fn dev(&self) -> DevNumber {
        match self {
            Line::Device { row, .. } => row.dev,
            Line::Image { dev, .. } => *dev,
        }
    }
}
