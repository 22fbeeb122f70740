//! `stats create`: makes regions.

use sim_core::control::Report;

use super::super::devices::Device;
use super::super::table::lines;
use super::options::PROGRAM;
use super::{group, histogram, send, size};
use crate::dmsetup::session::{Done, Session};

/// Nanoseconds in a millisecond: a bound that is no whole number of these needs a precise region.
const MILLISECOND: u64 = 1_000_000;

/// What every region of a command has.
struct Shape {
    step: Step,
    precise: bool,
    bounds: Vec<u64>,
    program: String,
    user_data: Option<String>,
}

/// How long an area is.
enum Step {
    Sectors(u64),
    /// The range is cut into so many.
    Areas(u64),
}

/// `stats create [--start S [--length L]] DEVICE`.
pub(super) fn create(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let (status, lines) = lines(session, device, Report::Table)?;
    let name = session.show_name(&status.name)?;
    let shape = shape(session, &name)?;
    let options = session.options.statistics.clone();
    let whole: u64 = lines.iter().map(|line| line.len.0).sum();
    let ranges: Vec<(u64, u64)> = if options.segments {
        lines.iter().map(|line| (line.start.0, line.len.0)).collect()
    } else {
        let start = length(session, "start", options.start.as_deref())?.unwrap_or(0);
        let len = length(session, "length", options.length.as_deref())?;
        vec![(start, len.filter(|len| *len > 0).unwrap_or(whole))]
    };
    let mut ids = Vec::new();
    for (start, len) in ranges {
        let (step, areas) = match shape.step {
            Step::Sectors(step) => (step.to_string(), len.div_ceil(step)),
            Step::Areas(areas) => (format!("/{areas}"), areas),
        };
        let message = format!("@stats_create {start}+{len} {step}{}", shape.words());
        let id = match send(session, &device.task, &message) {
            Ok(id) => id,
            Err(stop) => {
                session.complain(&format!("{name}: Could not create statistics region."));
                return Err(stop);
            }
        };
        session.print(format_args!(
            "{name}: Created new region with {areas} area(s) as region ID {id}\n"
        ))?;
        ids.extend(id.parse::<u32>());
    }
    if !options.segments || options.no_group || ids.is_empty() {
        return Ok(());
    }
    let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let id = group::make(session, &device.task, ids)?;
    let alias = options.alias.map(|alias| format!(" with alias {alias}")).unwrap_or_default();
    session.print(format_args!("Grouped regions {list} as group ID {id}{alias}\n"))
}

/// Says why the regions of a file are not made.
pub(super) fn file_map(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let Some(path) = words.first() else {
        return session.fail("--filemap requires a file path argument");
    };
    if std::fs::canonicalize(path).is_err() {
        return session.fail(&format!("Could not canonicalize file name: {path}"));
    }
    session.fail(
        "--filemap is not supported: the file system that has the file lies on a loop device over \
         the mapped device's file, not on the mapped device",
    )
}

/// Reads what the options say of every region.
fn shape(session: &mut Session<'_, '_>, name: &str) -> Done<Shape> {
    let options = session.options.statistics.clone();
    if options.areas.is_some() && options.area_size.is_some() {
        return session.fail("Please specify one of --areas and --areasize.");
    }
    let step = length(session, "areasize", options.area_size.as_deref())?;
    let step = match step.filter(|step| *step > 0) {
        Some(step) => Step::Sectors(step),
        None => Step::Areas(options.areas.unwrap_or(1).max(1).into()),
    };
    let bounds = match options.bounds.as_deref().map(histogram::parse).transpose() {
        Ok(bounds) => bounds.unwrap_or_default(),
        Err(why) if why.starts_with("Histogram") => {
            session.complain(&why);
            return session.fail(&format!("{name}: Could not create statistics region."));
        }
        Err(why) => return session.fail(&why),
    };
    let precise = options.precise || bounds.iter().any(|bound| bound % MILLISECOND != 0);
    let program = options.program.unwrap_or_else(|| PROGRAM.to_owned());
    Ok(Shape { step, precise, bounds, program, user_data: options.user_data })
}

impl Shape {
    /// Returns the words of a message after range and step.
    fn words(&self) -> String {
        let unit = if self.precise { 1 } else { MILLISECOND };
        let mut options = Vec::new();
        if self.precise {
            options.push("precise_timestamps".to_owned());
        }
        if !self.bounds.is_empty() {
            let bounds: Vec<String> =
                self.bounds.iter().map(|bound| (bound / unit).to_string()).collect();
            options.push(format!("histogram:{}", bounds.join(",")));
        }
        let mut words = String::new();
        if !options.is_empty() {
            words = format!(" {} {}", options.len(), options.join(" "));
        }
        let user_data = self.user_data.iter().map(|data| format!(" {data}"));
        format!("{words} {}{}", self.program, user_data.collect::<String>())
    }
}

/// Reads a length or a place, in sectors.
fn length(session: &mut Session<'_, '_>, option: &str, value: Option<&str>) -> Done<Option<u64>> {
    let Some(text) = value else { return Ok(None) };
    match size::sectors(text) {
        Some(sectors) => Ok(Some(sectors)),
        None => session.fail(&format!("Invalid argument for --{option}: {text}")),
    }
}
