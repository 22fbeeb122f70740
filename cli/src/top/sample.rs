//! What devices did between two looks at their counters.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::mangle;
use daemon::protocol::{Gauge, GaugeCounters, Gauges, latency_bounds_ns};
use sim_core::{DevNumber, SECTOR_SIZE, TargetSpec};
use targets::lines::{mirror, raid, snapshot};

/// All devices over an interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// How long it was.
    pub(crate) took: Duration,
    /// The devices, by name.
    pub(crate) rows: Vec<Row>,
    /// The names of the images.
    pub(crate) images: BTreeMap<(u32, u32), String>,
    /// How many devices are not among them, as there are too many.
    pub(crate) left_out: usize,
}

/// One device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) dev: DevNumber,
    pub(crate) size_bytes: u64,
    pub(crate) suspended: bool,
    /// The target types of its table, each once.
    pub(crate) types: Vec<String>,
    pub(crate) below: Vec<DevNumber>,
    /// Nothing where nothing is known yet: at the first look, and of a device without a table.
    pub(crate) rates: Option<Rates>,
    pub(crate) in_flight: Option<u64>,
    pub(crate) progress: Option<Progress>,
}

/// What a device did, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
    /// In bytes.
    pub(crate) read: f64,
    pub(crate) written: f64,
    /// How long the bios took of which half, 95 and 99 in 100 took no longer, in nanoseconds; nothing
    /// where none ended.
    pub(crate) latency_ns: Option<[u64; 3]>,
}

/// What goes on in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) what: &'static str,
    pub(crate) done: u64,
    /// Nothing where it is not known what is left: `done` is what is left then, in sectors.
    pub(crate) total: Option<u64>,
}

impl Sample {
    /// Compares two looks; without the first one, only what needs no comparison is known.
    pub(crate) fn between(before: Option<&Gauges>, now: &Gauges) -> Sample {
        let took = before.map_or(0, |before| now.at_ns.saturating_sub(before.at_ns));
        let took = Duration::from_nanos(took);
        let row = |gauge: &Gauge| {
            let before = before.and_then(|before| {
                before.devices.iter().find(|old| old.dev == gauge.dev && old.name == gauge.name)
            });
            Row::new(before, gauge, took)
        };
        let images = now.images.iter().map(|(dev, name)| ((dev.major, dev.minor), name.clone()));
        let images = images.collect();
        Sample { took, rows: now.devices.iter().map(row).collect(), images, left_out: now.left_out }
    }
}

impl Row {
    fn new(before: Option<&Gauge>, now: &Gauge, took: Duration) -> Row {
        let old = before.and_then(|before| before.counters.as_ref());
        let rates = match (old, &now.counters) {
            (Some(old), Some(now)) if !took.is_zero() => Some(Rates::new(old, now, took)),
            _ => None,
        };
        let mut types: Vec<String> = Vec::new();
        for line in &now.status {
            if !types.contains(&line.target_type) {
                types.push(line.target_type.clone());
            }
        }
        if types.is_empty() && now.target_count > 0 {
            types.push(format!("{} targets", now.target_count));
        }
        Row {
            name: mangle::decode(&now.name),
            dev: now.dev,
            size_bytes: now.size.saturating_mul(SECTOR_SIZE),
            suspended: now.suspended,
            types,
            below: now.below.clone(),
            rates,
            in_flight: now.counters.as_ref().map(|counters| counters.in_flight),
            progress: now.status.iter().find_map(progress),
        }
    }
}

impl Rates {
    fn new(old: &GaugeCounters, now: &GaugeCounters, took: Duration) -> Rates {
        // Where the device has become longer, counting has begun anew.
        let anew = now.read_count < old.read_count || now.write_count < old.write_count;
        let zero = GaugeCounters { bins: vec![0; now.bins.len()], ..GaugeCounters::default() };
        let old = if anew || old.bins.len() != now.bins.len() { &zero } else { old };
        let seconds = took.as_secs_f64();
        let rate = |now: u64, old: u64| now.saturating_sub(old) as f64 / seconds;
        let bins: Vec<u64> =
            now.bins.iter().zip(&old.bins).map(|(now, old)| now.saturating_sub(*old)).collect();
        Rates {
            reads: rate(now.read_count, old.read_count),
            writes: rate(now.write_count, old.write_count),
            read: rate(now.read, old.read) * SECTOR_SIZE as f64,
            written: rate(now.written, old.written) * SECTOR_SIZE as f64,
            latency_ns: percentiles(&bins),
        }
    }
}

/// Returns how long the bios of a histogram took of which 50, 95 and 99 in 100 took no longer. Within a bin,
/// they are taken to lie evenly; what lies past the last bound is said to be that.
fn percentiles(bins: &[u64]) -> Option<[u64; 3]> {
    let bounds: Vec<u64> = latency_bounds_ns().collect();
    let all: u64 = bins.iter().sum();
    if all == 0 {
        return None;
    }
    Some([50, 95, 99].map(|percent| {
        let wanted = (all as f64 * f64::from(percent) / 100.0).max(1.0);
        let mut before = 0;
        for (nr, &count) in bins.iter().enumerate() {
            if count > 0 && (before + count) as f64 >= wanted {
                let from = if nr == 0 { 0 } else { bounds[(nr - 1).min(bounds.len() - 1)] };
                let to = bounds.get(nr).copied().unwrap_or(from);
                let share = (wanted - before as f64) / count as f64;
                return from + ((to - from) as f64 * share) as u64;
            }
            before += count;
        }
        unreachable!("the last bin has what is wanted")
    }))
}

/// Says what a target does in the background, by its status line.
fn progress(line: &TargetSpec) -> Option<Progress> {
    let text = &*line.params;
    match line.target_type.as_str() {
        "mirror" => {
            let status = mirror::Status::parse(text)?;
            let total = Some(status.regions);
            let goes_on = status.in_sync < status.regions;
            goes_on.then_some(Progress { what: "resync", done: status.in_sync, total })
        }
        "raid" => {
            let status = raid::Status::parse(text)?;
            let rests = matches!(status.action, raid::Action::Idle | raid::Action::Frozen);
            let what = status.action.word();
            (!rests).then_some(Progress { what, done: status.done, total: Some(status.total) })
        }
        "snapshot-merge" => match snapshot::Status::parse(text)? {
            snapshot::Status::Used { allocated, metadata, .. } => {
                let left = allocated.0.saturating_sub(metadata.0);
                (left > 0).then_some(Progress { what: "merge", done: left, total: None })
            }
            snapshot::Status::MergeFailed => {
                Some(Progress { what: "merge failed", done: 0, total: None })
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn counters(read_count: u64, read: u64, bins: &[(usize, u64)]) -> GaugeCounters {
        let mut all = vec![0; latency_bounds_ns().count() + 1];
        bins.iter().for_each(|(bin, count)| all[*bin] = *count);
        GaugeCounters { read_count, read, bins: all, in_flight: 3, ..GaugeCounters::default() }
    }

    fn gauges(at_ns: u64, counters: GaugeCounters, status: &str) -> Gauges {
        let (target_type, params) = status.split_once(' ').expect("a type and its status");
        let line = TargetSpec {
            start: sim_core::Sector(0),
            len: sim_core::Sectors(64),
            target_type: target_type.to_owned(),
            params: params.to_owned().into(),
        };
        let gauge = Gauge {
            name: "my\\x20disk".to_owned(),
            dev: DevNumber::mapped(0),
            size: 64,
            suspended: false,
            target_count: 1,
            status: vec![line],
            below: Vec::new(),
            counters: Some(counters),
        };
        Gauges { at_ns, devices: vec![gauge], images: Vec::new(), left_out: 0 }
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let before = gauges(0, counters(10, 80, &[(3, 10)]), "zero x");
        let now = gauges(2_000_000_000, counters(110, 880, &[(3, 109), (10, 1)]), "zero x");
        let first = Sample::between(None, &before);
        assert_eq!((first.rows[0].rates, first.rows[0].in_flight), (None, Some(3)));
        let sample = Sample::between(Some(&before), &now);
        let rates = sample.rows[0].rates.expect("two looks");
        assert_eq!((rates.reads, rates.read, rates.writes), (50.0, 204_800.0, 0.0));
        // Bin 3 is from 4 to 8 microseconds.
        let [half, _, most] = rates.latency_ns.expect("some have ended");
        assert!((4000..=8000).contains(&half) && (4000..=8000).contains(&most), "{half} {most}");
        assert_eq!(sample.rows[0].name, "my disk");
        // Counting has begun anew: what is there came since.
        let anew = gauges(3_000_000_000, counters(5, 40, &[(0, 5)]), "zero x");
        let rates = Sample::between(Some(&now), &anew).rows[0].rates.expect("two looks");
        assert_eq!((rates.reads, rates.read), (5.0, 20_480.0));
    }

    #[test]
    fn percentiles_lie_in_their_bins() {
        let mut bins = vec![0; latency_bounds_ns().count() + 1];
        assert_eq!(percentiles(&bins), None);
        (bins[1], bins[2], bins[5]) = (90, 6, 4);
        let [half, most, nearly] = percentiles(&bins).expect("there are some");
        assert!((1000..2000).contains(&half), "{half}");
        assert!((2000..4000).contains(&most), "{most}");
        assert!((16_000..32_000).contains(&nearly), "{nearly}");
        // Past the last bound nobody knows how far.
        *bins.last_mut().expect("a bin") = 1_000_000;
        let last = latency_bounds_ns().last().expect("a bound");
        assert_eq!(percentiles(&bins), Some([last; 3]));
    }

    #[test]
    fn what_goes_on_is_read_from_the_status() {
        let said = |status: &str| {
            Sample::between(None, &gauges(0, counters(0, 0, &[]), status)).rows[0].progress
        };
        let mirror = said("mirror 2 8:0 8:16 5/16 1 AA 1 core").expect("it goes on");
        assert_eq!((mirror.what, mirror.done, mirror.total), ("resync", 5, Some(16)));
        assert_eq!(said("mirror 2 8:0 8:16 16/16 1 AA 1 core"), None);
        let raid = said("raid raid1 2 Aa 128/1024 recover 0 0 -").expect("it goes on");
        assert_eq!((raid.what, raid.done, raid.total), ("recover", 128, Some(1024)));
        assert_eq!(said("raid raid1 2 AA 1024/1024 idle 0 0 -"), None);
        let merge = said("snapshot-merge 48/1024 16").expect("it goes on");
        assert_eq!((merge.what, merge.done, merge.total), ("merge", 32, None));
    }
}
