//! Makes tables out of raw numbers, and other tables out of tables.

use testkit::{DeviceBelow, Kind, Line};

use crate::plan::LineSeed;

/// Makes a table over `below`, each device with its size in sectors; all of it fits.
pub(crate) fn make(seeds: &[LineSeed], below: &[(DeviceBelow, u64)]) -> Vec<Line> {
    seeds.iter().map(|seed| line(seed, below)).collect()
}

fn line(seed: &LineSeed, all: &[(DeviceBelow, u64)]) -> Line {
    let pick = |nth: u64| all[(u64::from(seed.below) + nth) as usize % all.len()];
    let start = |len: u64, size: u64| u64::from(seed.start) % (size - len + 1);
    let (below, size) = pick(0);
    let len = (1 + u64::from(seed.len) % 32).min(size);
    match seed.kind % 16 {
        0..=7 => Line { len, kind: Kind::Linear(below, start(len, size)) },
        8..=13 => {
            let legs: Vec<_> = (0..1 + u64::from(seed.legs) % 3).map(pick).collect();
            let room = legs.iter().map(|(_, size)| *size).min().expect("a leg at least");
            let chunk = (1 + u64::from(seed.chunk) % 8).min(room);
            let rows = (1 + u64::from(seed.len) % 8).min(room / chunk);
            let len = rows * chunk * legs.len() as u64;
            let legs = legs.into_iter().map(|(leg, size)| (leg, start(rows * chunk, size)));
            Line { len, kind: Kind::Striped(chunk, legs.collect()) }
        }
        14 => Line { len, kind: Kind::Zero },
        _ if seed.legs.is_multiple_of(2) => Line { len, kind: Kind::Error(None) },
        _ => Line { len, kind: Kind::Error(Some((below, start(len, size)))) },
    }
}

/// Cuts a table off at `size`, or fills it up with zeros.
pub(crate) fn resize(mut lines: Vec<Line>, size: u64) -> Vec<Line> {
    let mut room = size;
    for line in &mut lines {
        if line.len > room {
            // Stripes cannot be cut anywhere.
            if matches!(line.kind, Kind::Striped(..)) {
                line.kind = Kind::Zero;
            }
            line.len = room;
        }
        room -= line.len;
    }
    lines.retain(|line| line.len > 0);
    if room > 0 {
        lines.push(Line { len: room, kind: Kind::Zero });
    }
    lines
}

/// Cuts a line in two where that can be done; every sector stays where it is.
pub(crate) fn split(mut lines: Vec<Line>, at: u8) -> Vec<Line> {
    let (at, index) = (u64::from(at), usize::from(at) % lines.len());
    let line = lines[index].clone();
    let unit = match &line.kind {
        Kind::Striped(chunk, legs) => chunk * legs.len() as u64,
        Kind::Linear(..) | Kind::Zero | Kind::Error(_) => 1,
    };
    let units = line.len / unit;
    if units < 2 {
        return lines;
    }
    let head = (1 + at % (units - 1)) * unit;
    let kind = match line.kind {
        Kind::Linear(below, start) => Kind::Linear(below, start + head),
        Kind::Striped(chunk, legs) => {
            let down = head / legs.len() as u64;
            let legs = legs.into_iter().map(|(below, start)| (below, start + down));
            Kind::Striped(chunk, legs.collect())
        }
        Kind::Error(Some((below, start))) => Kind::Error(Some((below, start + head))),
        kind @ (Kind::Zero | Kind::Error(None)) => kind,
    };
    lines[index].len = head;
    lines.insert(index + 1, Line { len: line.len - head, kind });
    lines
}
