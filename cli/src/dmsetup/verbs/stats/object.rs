//! One row of a report: an area, a region or a group, and the values of its fields.

use super::counters::Counters;
use super::histogram::{self, Style};
use super::region::{Group, Region, Regions};
use super::size::Units;
use crate::dmsetup::report::field::Field;
use crate::dmsetup::report::select::{Shown, Value};

/// Nanoseconds in a second, and in a millisecond.
const SECOND: f64 = 1e9;
const MILLISECOND: f64 = 1e6;

/// What a row is about.
#[derive(Clone, Copy)]
pub(super) enum Object<'a> {
    Area(&'a Region, u64),
    Region(&'a Region),
    Group(u32, &'a Group),
}

/// What the rows of a device have in common.
pub(super) struct Scene<'a> {
    pub(super) name: &'a str,
    pub(super) regions: &'a Regions,
    pub(super) units: Units,
    /// How long was counted, in nanoseconds.
    pub(super) interval: u64,
    /// What is not there is as dmstats shows it.
    pub(super) as_dmstats: bool,
}

/// A row.
pub(super) struct Row<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) object: Object<'a>,
    pub(super) counters: Counters,
}

impl Object<'_> {
    /// Returns the region of a row, of a group its first.
    fn region<'a>(&'a self, regions: &'a Regions) -> Option<&'a Region> {
        match self {
            Object::Area(region, _) | Object::Region(region) => Some(region),
            Object::Group(id, _) => regions.get(*id),
        }
    }
}

impl Row<'_> {
    /// Returns the value of a field; nothing for one that is no statistic.
    pub(super) fn value(&self, field: &Field) -> Option<Value> {
        self.of_counters(field.name).or_else(|| self.of_region(field.name))
    }

    fn of_counters(&self, field: &str) -> Option<Value> {
        let all = &self.counters;
        let ios = (all.reads + all.writes) as f64;
        let per_second = |count: u64| decimal(count as f64 * SECOND / self.scene.interval as f64);
        let ratio = |sum: u64, of: f64| if of > 0.0 { sum as f64 / of } else { 0.0 };
        let wait = |time: u64, of: u64| decimal(ratio(time, of as f64) / MILLISECOND);
        let bytes_per_second = |sectors: u64| {
            let rate = sectors as f64 * SECOND / self.scene.interval as f64;
            self.length(rate as u64)
        };
        let share = all.io_ticks as f64 / self.scene.interval as f64;
        Some(match field {
            "read_count" => Value::Number(all.reads),
            "reads_merged_count" => Value::Number(all.reads_merged),
            "read_sector_count" => Value::Number(all.read_sectors),
            "read_time" => Value::Number(all.read_time),
            "write_count" => Value::Number(all.writes),
            "writes_merged_count" => Value::Number(all.writes_merged),
            "write_sector_count" => Value::Number(all.write_sectors),
            "write_time" => Value::Number(all.write_time),
            "in_progress_count" => Value::Number(all.in_progress),
            "io_ticks" => Value::Number(all.io_ticks),
            "queue_ticks" => Value::Number(all.queue_ticks),
            "read_ticks" => Value::Number(all.read_ticks),
            "write_ticks" => Value::Number(all.write_ticks),
            "reads_merged_per_sec" => per_second(all.reads_merged),
            "writes_merged_per_sec" => per_second(all.writes_merged),
            "reads_per_sec" => per_second(all.reads),
            "writes_per_sec" => per_second(all.writes),
            "read_size_per_sec" => bytes_per_second(all.read_sectors),
            "write_size_per_sec" => bytes_per_second(all.write_sectors),
            "avg_request_size" => {
                self.length(ratio(all.read_sectors + all.write_sectors, ios) as u64)
            }
            "queue_size" => decimal(all.queue_ticks as f64 / self.scene.interval as f64),
            "await" => wait(all.read_time + all.write_time, all.reads + all.writes),
            "read_await" => wait(all.read_time, all.reads),
            "write_await" => wait(all.write_time, all.writes),
            "throughput" => decimal(ios * SECOND / self.scene.interval as f64),
            "service_time" => decimal(ratio(all.io_ticks, ios) / MILLISECOND),
            "util" => decimal((share * 100.0).min(100.0)),
            "interval_ns" => Value::Number(self.scene.interval),
            "interval" => {
                let seconds = self.scene.interval as f64 / SECOND;
                Value::Shown(Shown { number: seconds, text: format!("{seconds:.6}") })
            }
            "hist_count" => self.histogram(Style::Plain, false),
            "hist_count_bounds" => self.histogram(Style::Bounds, false),
            "hist_count_ranges" => self.histogram(Style::Ranges, false),
            "hist_percent" => self.histogram(Style::Plain, true),
            "hist_percent_bounds" => self.histogram(Style::Bounds, true),
            "hist_percent_ranges" => self.histogram(Style::Ranges, true),
            _ => return None,
        })
    }

    fn of_region(&self, field: &str) -> Option<Value> {
        let regions = self.scene.regions;
        let region = self.object.region(regions)?;
        let group = regions.group_of(region.id);
        let text = |text: &str| Value::Text(text.to_owned());
        let bounds = &region.bounds;
        let len = self.len();
        Some(match field {
            "region_id" => match self.object {
                Object::Group(id, group) => {
                    Value::Shown(Shown { number: id.into(), text: group.ids() })
                }
                Object::Area(..) | Object::Region(_) => Value::Number(region.id.into()),
            },
            "region_start" => self.length(region.start),
            "region_len" => self.length(len),
            "area_id" => Value::Number(self.area()),
            "area_start" => self.length(region.start.wrapping_add(self.offset())),
            "area_offset" => self.length(self.offset()),
            "area_len" => match self.object {
                Object::Group(..) => self.length(len),
                Object::Area(..) | Object::Region(_) => self.length(region.step),
            },
            "area_count" => match self.object {
                Object::Group(..) => Value::Number(1),
                Object::Area(..) | Object::Region(_) => Value::Number(region.areas()),
            },
            "group_id" => match group {
                Some(group) => Value::Number(group.into()),
                None => Value::Shown(Shown { number: -1.0, text: "-".to_owned() }),
            },
            "program_id" => text(&region.program),
            "user_data" => text(&region.user_data),
            "precise" => text(if region.precise { "1" } else { "0" }),
            "hist_bins" => {
                let bins = if bounds.is_empty() { 0 } else { bounds.len() + 1 };
                text(&bins.to_string())
            }
            "hist_bounds" => text(&histogram::bounds(bounds)),
            "hist_ranges" => text(&histogram::ranges(bounds)),
            "stats_name" => {
                let group = group.and_then(|group| regions.group(group));
                text(group.and_then(|group| group.alias.as_deref()).unwrap_or(self.scene.name))
            }
            "obj_type" => text(match self.object {
                Object::Area(..) => "area",
                Object::Region(_) => "region",
                Object::Group(..) => "group",
            }),
            _ => return None,
        })
    }

    /// Returns the number of the row's area: of a region and of a group, the first.
    fn area(&self) -> u64 {
        match self.object {
            Object::Area(_, area) => area,
            Object::Region(_) | Object::Group(..) => 0,
        }
    }

    /// Returns how far from the start of the region the row's area begins, in sectors.
    ///
    /// dmstats multiplies with the flag that says what the row is about; who reads such a line
    /// knows it, and other numbers would be new to them.
    fn offset(&self) -> u64 {
        let area = match self.object {
            Object::Region(_) if self.scene.as_dmstats => 1 << 49,
            Object::Group(..) if self.scene.as_dmstats => 1 << 50,
            _ => self.area(),
        };
        let region = self.object.region(self.scene.regions);
        region.map_or(0, |region| region.step.wrapping_mul(area))
    }

    /// Returns the length of the region, or of a group's regions together.
    fn len(&self) -> u64 {
        match self.object {
            Object::Area(region, _) | Object::Region(region) => region.len,
            Object::Group(_, group) => {
                let members = self.scene.regions.members(group);
                members.iter().map(|region| region.len).fold(0, u64::saturating_add)
            }
        }
    }

    fn length(&self, sectors: u64) -> Value {
        let text = self.scene.units.show(sectors);
        Value::Shown(Shown { number: sectors as f64, text })
    }

    fn histogram(&self, style: Style, relative: bool) -> Value {
        let region = self.object.region(self.scene.regions);
        let bounds = region.map(|region| &region.bounds[..]).unwrap_or_default();
        Value::Text(histogram::show(&self.counters.bins, bounds, style, relative))
    }
}

fn decimal(number: f64) -> Value {
    Value::Shown(Shown { number, text: format!("{number:.2}") })
}
