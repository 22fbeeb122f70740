//! What devices are doing, for who looks at all of them again and again: by regions of their statistics, which
//! are there as long as somebody looks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use backing::block_on;
use sim_core::control::{Answer, Command, Control, Id, Listed, Report, Slot};
use sim_core::{BlockDevice, KeyText, Sector, TargetSpec};

use crate::protocol::{Gauge, GaugeCounters, Gauges, MAX_GAUGES, latency_bounds_ns};

/// What the regions' program is called.
const PROGRAM: &str = "dmsim-top";

/// A table with more lines is not asked for its status.
const MAX_LINES: usize = 16;

/// How many devices below one are told.
const MAX_BELOW: usize = 256;

/// Whoever has regions has a number of their own.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Somebody who looks.
pub(super) struct Gauging<'a> {
    control: &'a Control,
    begun: Instant,
    /// The word that the regions keep: whose they are.
    own: String,
}

impl<'a> Gauging<'a> {
    pub(super) fn new(control: &'a Control) -> Gauging<'a> {
        let own = NEXT.fetch_add(1, Relaxed).to_string();
        Gauging { control, begun: Instant::now(), own }
    }

    /// Reads all counters, and begins to count where a device is not counted yet.
    pub(super) fn read(&self) -> Gauges {
        let listed = self.devices();
        let left_out = listed.len().saturating_sub(MAX_GAUGES);
        let devices = listed.into_iter().take(MAX_GAUGES).filter_map(|device| self.gauge(device));
        let devices = devices.collect();
        let at: Duration = self.begun.elapsed();
        Gauges { at_ns: at.as_nanos() as u64, devices, left_out, images: Vec::new() }
    }

    fn devices(&self) -> Vec<Listed> {
        match block_on(self.control.perform(Command::ListDevices)) {
            Ok(Answer::Devices(devices)) => devices,
            _ => Vec::new(),
        }
    }

    /// Tells of one device; nothing where it is gone by now.
    fn gauge(&self, listed: Listed) -> Option<Gauge> {
        let id = Id::Dev(listed.dev);
        let device = self.control.device(&id).ok()?;
        let (size, table) = (device.size().0, device.live());
        let below = table.iter().flat_map(|table| table.devices());
        let below = below.take(MAX_BELOW).map(|open| open.number()).collect();
        let counters = if size == 0 { None } else { self.counters(&id, size) };
        let target_count = table.as_ref().map_or(0, |table| table.count());
        let status = if target_count <= MAX_LINES { self.status(&id) } else { Vec::new() };
        let suspended = device.is_suspended();
        Some(Gauge {
            name: listed.name,
            dev: listed.dev,
            size,
            suspended,
            target_count,
            status,
            below,
            counters,
        })
    }

    fn status(&self, id: &Id) -> Vec<TargetSpec> {
        let command = Command::TableStatus {
            id: id.clone(),
            report: Report::StatusNoFlush,
            slot: Slot::Live,
            device_names: false,
            keys: KeyText::LeftOut,
        };
        match block_on(self.control.perform(command)) {
            Ok(Answer::Table(_, lines)) => lines,
            _ => Vec::new(),
        }
    }

    fn counters(&self, id: &Id, size: u64) -> Option<GaugeCounters> {
        let region = match self.region(id) {
            Some((region, len)) if len == size => region,
            other => {
                if let Some((region, _)) = other {
                    self.message(id, &format!("@stats_delete {region}"));
                }
                let bounds: Vec<_> = latency_bounds_ns().map(|bound| bound.to_string()).collect();
                let bounds = bounds.join(",");
                let create = format!(
                    "@stats_create - /1 2 precise_timestamps histogram:{bounds} {PROGRAM} {}",
                    self.own
                );
                self.message(id, &create)?.trim().parse().ok()?
            }
        };
        let text = self.message(id, &format!("@stats_print {region}"))?;
        parse(&text)
    }

    /// Finds the own region of a device, and how many sectors it has.
    fn region(&self, id: &Id) -> Option<(u32, u64)> {
        let list = self.message(id, &format!("@stats_list {PROGRAM}"))?;
        list.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [region, range, _, _, own, ..] = words[..] else { return None };
            let (_, len) = range.split_once('+')?;
            let region = region.strip_suffix(':')?.parse().ok()?;
            (own == self.own).then_some((region, len.parse().ok()?))
        })
    }

    fn message(&self, id: &Id, text: &str) -> Option<String> {
        let message = text.to_owned().into();
        let command =
            Command::TargetMsg { id: id.clone(), sector: Sector::ZERO, message, slot: Slot::Live };
        match block_on(self.control.perform(command)) {
            Ok(Answer::Text(text)) => Some(text.unwrap_or_default()),
            _ => None,
        }
    }
}

impl Drop for Gauging<'_> {
    fn drop(&mut self) {
        for listed in self.devices() {
            let id = Id::Dev(listed.dev);
            if let Some((region, _)) = self.region(&id) {
                self.message(&id, &format!("@stats_delete {region}"));
            }
        }
    }
}

/// Reads `<start>+<len> <reads> <merged> <sectors> <ns> <writes> <merged> <sectors> <ns> <in flight> ...
/// <bin>:<bin>...`.
fn parse(text: &str) -> Option<GaugeCounters> {
    let words: Vec<&str> = text.trim().split(' ').collect();
    let at = |nr: usize| words.get(nr)?.parse::<u64>().ok();
    let bins: Option<Vec<u64>> = words.get(14)?.split(':').map(|bin| bin.parse().ok()).collect();
    Some(GaugeCounters {
        read_count: at(1)?,
        read: at(3)?,
        write_count: at(5)?,
        written: at(7)?,
        in_flight: at(9)?,
        bins: bins?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_statistics_is_read() {
        let read = parse("0+64 3 0 24 5 2 1 16 7 4 12 12 5 7 0:5:0\n").expect("counters");
        let expected = GaugeCounters {
            read_count: 3,
            read: 24,
            write_count: 2,
            written: 16,
            in_flight: 4,
            bins: vec![0, 5, 0],
        };
        assert_eq!(read, expected);
        assert_eq!(parse("0+64 3 0 24 5 2 1 16 7 4 12 12 5 7"), None);
        assert_eq!(parse(""), None);
    }
}
