//! `stats list` and `stats report`.

use std::time::{Duration, Instant};

use super::super::devices::{Device, Devices, Names, Row as DeviceRow, opened};
use super::counters::Counters;
use super::object::{Object, Row, Scene};
use super::options::Rows;
use super::region::Regions;
use super::size::Units;
use super::{regions, send};
use crate::dmsetup::dm::Called;
use crate::dmsetup::report::Report;
use crate::dmsetup::report::field::Group;
use crate::dmsetup::session::{Done, Session};

const LIST: &str = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,\
    area_len,program_id";
const LIST_AREAS: &str = "stats_name,group_id,region_id,obj_type,region_start,region_len,\
    area_count,area_id,area_start,area_len,program_id";
const LIST_HISTOGRAMS: &str = "stats_name,group_id,region_id,obj_type,region_start,region_len,\
    area_count,area_len,hist_bins,hist_bounds";
const REPORT: &str = "stats_name,group_id,region_id,obj_type,area_id,area_start,area_len,\
    reads_merged_per_sec,writes_merged_per_sec,reads_per_sec,writes_per_sec,read_size_per_sec,\
    write_size_per_sec,avg_request_size,queue_size,util,await,read_await,write_await";
const REPORT_RAW: &str = "stats_name,group_id,region_id,obj_type,area_id,area_start,area_len,\
    read_count,reads_merged_count,read_sector_count,read_time,read_ticks,write_count,\
    writes_merged_count,write_sector_count,write_time,write_ticks,in_progress_count,io_ticks,\
    queue_ticks";
const REPORT_HISTOGRAMS: &str = "stats_name,group_id,region_id,obj_type,region_start,region_len,\
    area_count,area_len,util,await,hist_count_bounds";
const REPORT_SHARES: &str = "stats_name,group_id,region_id,obj_type,region_start,region_len,\
    area_count,area_len,util,await,hist_percent_bounds";

/// How long a report without `--interval` is said to have counted.
const SECOND: Duration = Duration::from_secs(1);

/// `stats list [DEVICE...]`.
pub(super) fn list(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let all = session.options.verbose > 0;
    let columns = match (session.options.statistics.histogram, all) {
        (true, _) => LIST_HISTOGRAMS,
        (false, true) => LIST_AREAS,
        (false, false) => LIST,
    };
    let rows = Rows { areas: all, regions: true, groups: true, skip_single: all };
    let report = Report::open_on(&session.options, columns, &[Group::Region]);
    let mut report = opened(session, report)?;
    fill(session, words, &mut report, rows, None)?;
    let text = report.print();
    session.print(text)
}

/// `stats report [--interval SECONDS] [--count N] [DEVICE...]`.
pub(super) fn report(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let options = &session.options.statistics;
    let columns = match (options.raw, options.histogram, options.relative) {
        (true, _, _) => REPORT_RAW,
        (false, true, true) => REPORT_SHARES,
        (false, true, false) => REPORT_HISTOGRAMS,
        (false, false, _) => REPORT,
    };
    let rows = Rows { areas: true, regions: true, groups: true, skip_single: true };
    let report = Report::open_on(&session.options, columns, &[Group::Stats, Group::Region]);
    let mut report = opened(session, report)?;
    let every = session.options.interval_s.map(|seconds| Duration::from_secs(seconds.into()));
    let default = if every.is_some() { 0 } else { 1 };
    let count = session.options.count.unwrap_or(default);
    let (mut round, mut counted, mut since) = (1, every.unwrap_or(SECOND), Instant::now());
    loop {
        fill(session, words, &mut report, rows, Some(counted))?;
        let text = report.print();
        session.print(text)?;
        if round == count {
            return Ok(());
        }
        round += 1;
        session.flush()?;
        std::thread::sleep(every.unwrap_or(SECOND).saturating_sub(since.elapsed()));
        counted = since.elapsed();
        since = Instant::now();
        session.print("\n")?;
    }
}

/// Adds the rows of all devices; with `counted`, the counters of that time, which begin anew.
fn fill(
    session: &mut Session<'_, '_>,
    words: &[String],
    report: &mut Report,
    default: Rows,
    counted: Option<Duration>,
) -> Done {
    let options = &session.options.statistics;
    let rows = if options.rows == Rows::default() { default } else { options.rows };
    let Some(units) = Units::new(options.units.as_deref(), !options.no_suffix) else {
        let units = options.units.clone().unwrap_or_default();
        return session.fail(&format!("Invalid argument for --units: {units}"));
    };
    let mut names = Names::default();
    // The report itself selects.
    let select = session.options.select.take();
    let json = std::mem::replace(&mut session.options.json, true);
    let devices = Devices::of(session, words);
    session.options.json = json;
    let filled = devices?.each(session, &mut |session, device| {
        add(session, device, report, &mut names, rows, units, counted)
    });
    session.options.select = select;
    filled
}

fn add(
    session: &mut Session<'_, '_>,
    device: &Device,
    report: &mut Report,
    names: &mut Names,
    rows: Rows,
    units: Units,
    counted: Option<Duration>,
) -> Done {
    let of_device = DeviceRow::ask(session, device, report, names)?;
    let name = device.shown_or_named(session)?;
    let regions = regions(session, &device.task)?;
    let mut counters: Vec<Vec<Counters>> = Vec::new();
    for region in &regions.list {
        counters.push(match counted {
            Some(_) => {
                let text =
                    send(session, &device.task, &format!("@stats_print_clear {}", region.id))?;
                Counters::parse(&text, region.precise)
            }
            None => Vec::new(),
        });
    }
    let interval = counted.unwrap_or(SECOND).as_nanos() as u64;
    let scene = Scene {
        name: &name,
        regions: &regions,
        units,
        interval: interval.max(1),
        as_dmstats: session.called != Called::Dmsim,
    };
    for (object, counters) in objects(&regions, &counters, rows) {
        let row = Row { scene: &scene, object, counters };
        let added = report.add(&mut |field| match row.value(field) {
            Some(value) => Ok(value),
            None => of_device.value(field),
        });
        session.try_text(added)?;
    }
    Ok(())
}

/// Lists what there is a row for, with its counters: areas, then regions, then groups.
fn objects<'a>(
    regions: &'a Regions,
    counters: &[Vec<Counters>],
    rows: Rows,
) -> Vec<(Object<'a>, Counters)> {
    let sum = |all: &[Counters]| {
        let mut sum = Counters::default();
        all.iter().for_each(|one| sum += one);
        sum
    };
    let mut objects = Vec::new();
    for (region, counters) in regions.list.iter().zip(counters).filter(|_| rows.areas) {
        for area in 0..region.areas() {
            let counted = counters.get(area as usize).cloned().unwrap_or_default();
            objects.push((Object::Area(region, area), counted));
        }
    }
    for (region, counters) in regions.list.iter().zip(counters).filter(|_| rows.regions) {
        if !rows.skip_single || region.areas() > 1 {
            objects.push((Object::Region(region), sum(counters)));
        }
    }
    for region in regions.list.iter().filter(|_| rows.groups) {
        let Some(group) = &region.leads else { continue };
        if rows.skip_single && group.members.len() == 1 {
            continue;
        }
        let of_members = regions.list.iter().zip(counters);
        let of_members = of_members.filter(|(region, _)| group.members.contains(&region.id));
        let all: Vec<Counters> = of_members.flat_map(|(_, all)| all.iter().cloned()).collect();
        objects.push((Object::Group(region.id, group), sum(&all)));
    }
    objects
}
