//! The texts of a mirror: its table line, its status, and what it answers when asked which leg is
//! behind where.

use std::ops::Range;

use sim_core::{DevNumber, Sector, Sectors, TargetSpec};

/// The words of a line of `mirror`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) log: Log,
    pub(super) region: Sectors,
    /// `sync` or `nosync`.
    pub(super) sync: Option<String>,
    pub(super) legs: Vec<Leg>,
    /// With their number in front; empty where there are none.
    pub(super) features: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Log {
    Core,
    /// What the line calls its device.
    Disk(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// What the line calls its device: in a table that is read back, the number.
    pub(super) word: String,
    pub(super) start: Sector,
}

impl Leg {
    /// Returns the number of a leg of a table that was read back.
    pub(super) fn dev(&self) -> Option<DevNumber> {
        self.word.parse().ok()
    }
}

impl Line {
    pub(super) fn read(line: &TargetSpec) -> Option<Line> {
        let mut words = line.params.split_whitespace().map(str::to_owned);
        let kind = words.next()?;
        let count: usize = words.next()?.parse().ok()?;
        let (log, own) = match kind.as_str() {
            "core" => (Log::Core, 0),
            "disk" => (Log::Disk(words.next()?), 1),
            _ => return None,
        };
        let region = Sectors(words.next()?.parse().ok()?);
        let sync = if count > own + 1 { Some(words.next()?) } else { None };
        let legs: usize = words.next()?.parse().ok()?;
        let mut leg =
            || Some(Leg { word: words.next()?, start: Sector(words.next()?.parse().ok()?) });
        let legs = (0..legs).map(|_| leg()).collect::<Option<Vec<Leg>>>()?;
        Some(Line { log, region, sync, legs, features: words.collect::<Vec<_>>().join(" ") })
    }

    /// Writes the words.
    pub(super) fn params(&self) -> String {
        let sync = self.sync.iter();
        let log: Vec<&str> = match &self.log {
            Log::Core => vec!["core"],
            Log::Disk(device) => vec!["disk", device],
        };
        let region = self.region.to_string();
        let own: Vec<&str> =
            log[1..].iter().copied().chain([&*region]).chain(sync.map(|word| &**word)).collect();
        let legs: Vec<String> =
            self.legs.iter().map(|leg| format!("{} {}", leg.word, leg.start)).collect();
        let text = format!(
            "{} {} {} {} {} {}",
            log[0],
            own.len(),
            own.join(" "),
            legs.len(),
            legs.join(" "),
            self.features
        );
        text.trim_end().to_owned()
    }

    /// Returns the number of the log's device in a table that was read back.
    pub(super) fn log_dev(&self) -> Option<DevNumber> {
        match &self.log {
            Log::Core => None,
            Log::Disk(device) => device.parse().ok(),
        }
    }
}

/// What the status line of a mirror says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) in_sync: u64,
    pub(super) regions: u64,
    /// A letter for each leg.
    pub(super) legs: String,
    /// The log's letter; nothing for one that is kept in memory.
    pub(super) log: Option<char>,
}

impl Status {
    pub(super) fn read(text: &str) -> Option<Status> {
        let mut words = text.split_whitespace();
        let legs: usize = words.next()?.parse().ok()?;
        let (in_sync, regions) = words.by_ref().nth(legs)?.split_once('/')?;
        let (in_sync, regions) = (in_sync.parse().ok()?, regions.parse().ok()?);
        let letters = words.by_ref().nth(1)?.to_owned();
        let log = match (words.next()?, words.next()?) {
            ("1", "core") => None,
            ("3", "disk") => Some(words.nth(1)?.chars().next()?),
            _ => return None,
        };
        Some(Status { in_sync, regions, legs: letters, log })
    }

    pub(super) fn is_in_sync(&self) -> bool {
        self.in_sync == self.regions
    }

    /// Tells whether no leg has failed since all was in sync.
    pub(super) fn legs_are_good(&self) -> bool {
        self.legs.chars().all(|letter| letter == 'A')
    }

    pub(super) fn log_is_good(&self) -> bool {
        self.log.is_none_or(|letter| letter == 'A')
    }
}

/// For each leg, the runs of regions in which it lacks what another has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behind(pub(super) Vec<Vec<Range<u64>>>);

impl Behind {
    pub(super) fn read(text: &str) -> Option<Behind> {
        let run = |run: &str| {
            let (first, count) = run.split_once('+')?;
            let first: u64 = first.parse().ok()?;
            Some(first..first.checked_add(count.parse().ok()?)?)
        };
        let leg = |word: &str| match word {
            "-" => Some(Vec::new()),
            runs => runs.split(',').map(run).collect(),
        };
        text.split_whitespace().map(leg).collect::<Option<Vec<_>>>().map(Behind)
    }

    /// Tells whether a leg has everything.
    pub(super) fn has_all(&self, leg: usize) -> bool {
        self.0.get(leg).is_some_and(Vec::is_empty)
    }

    /// Tells whether every leg has everything.
    pub(super) fn is_none(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Returns the regions that are the same on all legs no more, or not yet, as runs in order.
    pub(super) fn regions(&self) -> Vec<Range<u64>> {
        let mut all: Vec<Range<u64>> = self.0.iter().flatten().cloned().collect();
        all.sort_unstable_by_key(|run| run.start);
        all.dedup_by(|next, run| {
            let joins = next.start <= run.end;
            if joins {
                run.end = run.end.max(next.end);
            }
            joins
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_written() {
        for words in [
            "core 1 1024 2 7:0 0 7:1 8",
            "core 2 1024 nosync 2 7:0 0 7:1 8 1 handle_errors",
            "disk 2 7:2 512 3 7:0 0 7:1 0 253:3 0",
            "disk 3 7:2 512 sync 2 7:0 0 7:1 0 2 handle_errors keep_log",
        ] {
            let spec = &crate::commands::one(Sectors(64), "mirror", words)[0];
            assert_eq!(Line::read(spec).expect("a line").params(), words);
        }
        let short = &crate::commands::one(Sectors(64), "mirror", "core 1 1024 2 7:0 0 7:1")[0];
        assert_eq!(Line::read(short), None);
    }

    #[test]
    fn a_status_is_read() {
        let read = |text| Status::read(text).expect("a status");
        let core = read("2 7:0 7:1 12/16 1 AD 1 core");
        assert_eq!((core.in_sync, core.regions, core.log), (12, 16, None));
        assert!(!core.is_in_sync() && !core.legs_are_good() && core.log_is_good());
        let disk = read("3 7:0 7:1 253:2 16/16 1 AAA 3 disk 7:2 F");
        assert!(disk.is_in_sync() && disk.legs_are_good() && !disk.log_is_good());
        assert_eq!(Status::read("2 7:0 7:1 16 1 AA"), None);
    }

    #[test]
    fn what_is_behind_is_read_and_united() {
        let behind = Behind::read("- 3+2,9+1 4+3").expect("an answer");
        assert!(behind.has_all(0) && !behind.has_all(1) && !behind.is_none());
        assert_eq!(behind.regions(), [3..7, 9..10]);
        assert!(Behind::read("- -").expect("an answer").is_none());
        assert_eq!(Behind::read("x"), None);
    }
}
