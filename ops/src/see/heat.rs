//! What is read and written where, over a while: by the statistics of the device, in areas.

use std::time::{Duration, Instant};

use daemon::{Fault, mangle};
use serde::Serialize;
use sim_core::DevNumber;
use sim_core::control::Slot;

use super::device_in_use;
use crate::commands::message;
use crate::device_mapper::DeviceMapper;
use crate::size::in_bytes;
use crate::watch::{PERIOD, Watch};

/// What the region's program is called, so that one that is left by a killed command is known.
const PROGRAM: &str = "dmsim-heat";

/// What a device was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Heat {
    /// The device's name.
    pub name: String,
    /// Its number.
    #[serde(flatten)]
    pub dev: DevNumber,
    /// How long it was looked at, in milliseconds.
    pub took_ms: u64,
    /// The areas, in order.
    pub areas: Vec<AreaHeat>,
}

/// What an area was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AreaHeat {
    /// The first sector.
    pub start: u64,
    /// How many sectors.
    pub len: u64,
    /// Reads that have ended.
    pub read_count: u64,
    /// What they read, in sectors; as JSON in bytes.
    #[serde(rename = "read_bytes", serialize_with = "in_bytes")]
    pub read: u64,
    /// Writes that have ended.
    pub write_count: u64,
    /// What they wrote, in sectors; as JSON in bytes.
    #[serde(rename = "written_bytes", serialize_with = "in_bytes")]
    pub written: u64,
}

/// Counts for so long what a device is sent, in so many areas at most, and counts no more then, whatever
/// happens. Where it is interrupted, what was counted so far is the answer.
///
/// # Errors
/// Where there is no such device, and where the device-mapper cannot be asked.
pub fn heat(
    dm: &mut dyn DeviceMapper,
    word: &str,
    areas: u32,
    long: Duration,
    watch: &dyn Watch,
) -> Result<Heat, Fault> {
    let device = device_in_use(dm, word)?;
    let name = device.name();
    let create = format!("@stats_create - /{areas} {PROGRAM}");
    let region = message(dm, name, Slot::Live, &create)?.unwrap_or_default();
    let region = region.trim();
    let begun = Instant::now();
    while begun.elapsed() < long && !watch.is_interrupted() {
        std::thread::sleep(PERIOD.min(long.saturating_sub(begun.elapsed())));
    }
    let took_ms = begun.elapsed().as_millis() as u64;
    let printed = message(dm, name, Slot::Live, &format!("@stats_print {region}"));
    let deleted = message(dm, name, Slot::Live, &format!("@stats_delete {region}"));
    let text = printed?.unwrap_or_default();
    deleted?;
    let areas = text.lines().map(|line| {
        parse(line).ok_or_else(|| Fault::new(word, format!("expected statistics, found `{line}`")))
    });
    let (areas, dev) = (areas.collect::<Result<_, _>>()?, device.status.dev);
    Ok(Heat { name: mangle::decode(name), dev, took_ms, areas })
}

/// Reads `<start>+<len> <reads> <merged> <sectors> <ms> <writes> <merged> <sectors> ...`.
fn parse(line: &str) -> Option<AreaHeat> {
    let (range, counters) = line.split_once(' ')?;
    let (start, len) = range.split_once('+')?;
    let counters: Vec<u64> = counters.split(' ').map_while(|word| word.parse().ok()).collect();
    let at = |nr: usize| counters.get(nr).copied();
    Some(AreaHeat {
        start: start.parse().ok()?,
        len: len.parse().ok()?,
        read_count: at(0)?,
        read: at(2)?,
        write_count: at(4)?,
        written: at(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_an_area_are_read() {
        let area = parse("128+64 3 0 24 5 2 0 16 7 0 12 12 5 7").expect("an area");
        let expected =
            AreaHeat { start: 128, len: 64, read_count: 3, read: 24, write_count: 2, written: 16 };
        assert_eq!(area, expected);
        assert_eq!(parse("128+64 3 0 24 5 2 0"), None);
        assert_eq!(parse("nothing"), None);
    }
}
