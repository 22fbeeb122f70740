//! How a group chooses a path, and what it is told of each.

use std::fmt;

use sim_core::{Arg, CtrError, Words};

use super::{MAX_COUNT, ProcessorMask, group};
use crate::lines::Devices;

/// The weight of the past that `historical-service-time` has where the line says nothing: 95 percent.
const BASE_WEIGHT: u32 = 972;

/// One, as `historical-service-time` has it.
const ONE: u32 = 1024;

/// The most that `service-time` takes for a path's throughput.
const MAX_THROUGHPUT: u32 = 100;

/// How a group chooses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One after the other.
    RoundRobin,
    /// That with the fewest bios in flight.
    QueueLength,
    /// That which will have done its share of bytes first.
    ServiceTime,
    /// That which will be ready first, by how long it took before.
    HistoricalServiceTime {
        /// How much the past counts, in 1024ths; less than 1024.
        base_weight: u32,
        /// Paths of which none takes more than so many times as long as the other are equal.
        threshold_multiplier: u32,
    },
    /// That which is for the processor.
    IoAffinity,
}

impl Selector {
    /// Returns the word in table lines.
    pub fn name(self) -> &'static str {
        match self {
            Selector::RoundRobin => "round-robin",
            Selector::QueueLength => "queue-length",
            Selector::ServiceTime => "service-time",
            Selector::HistoricalServiceTime { .. } => "historical-service-time",
            Selector::IoAffinity => "io-affinity",
        }
    }

    /// Returns how many words a line has for each path.
    pub(super) fn path_args(self) -> usize {
        match self {
            Selector::ServiceTime => 2,
            Selector::RoundRobin
            | Selector::QueueLength
            | Selector::HistoricalServiceTime { .. }
            | Selector::IoAffinity => 1,
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Selector, CtrError> {
        const FAILED: &str = "path selector constructor failed";
        let name = words.next("unknown path selector type")?;
        let selector = match name.text() {
            "round-robin" => Selector::RoundRobin,
            "queue-length" => Selector::QueueLength,
            "service-time" => Selector::ServiceTime,
            "historical-service-time" => Selector::HistoricalServiceTime {
                base_weight: BASE_WEIGHT,
                threshold_multiplier: 0,
            },
            "io-affinity" => Selector::IoAffinity,
            _ => return Err(name.error("a path selector", "unknown path selector type")),
        };
        let args = group(words, MAX_COUNT, "invalid number of path selector args")?;
        let Selector::HistoricalServiceTime { mut base_weight, mut threshold_multiplier } =
            selector
        else {
            // The others read none.
            return Ok(selector);
        };
        if let Some(word) = args.get(2) {
            return Err(word.error("two words at most", FAILED));
        }
        if let Some(word) = args.first() {
            base_weight = word.wrapping_u32(FAILED)?;
            if base_weight >= ONE {
                return Err(word.error(format_args!("a number below {ONE}"), FAILED));
            }
        }
        if let Some(word) = args.get(1) {
            threshold_multiplier = word.wrapping_u32(FAILED)?;
        }
        Ok(Selector::HistoricalServiceTime { base_weight, threshold_multiplier })
    }
}

/// The count of its arguments and these, each with a blank after it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::HistoricalServiceTime { base_weight, threshold_multiplier } => {
                write!(f, "2 {base_weight} {threshold_multiplier} ")
            }
            _ => f.write_str("0 "),
        }
    }
}

/// What a selector is told of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathArgs {
    /// How many bios the path takes before the next one's turn: 0 or 1, which are the same.
    pub repeat_count: u32,
    /// How much the path carries next to others, to `service-time`; 0 is taken if nothing else is left.
    pub relative_throughput: u32,
    /// The processors that the path is for, to `io-affinity`.
    pub processors: ProcessorMask,
}

impl Default for PathArgs {
    fn default() -> PathArgs {
        PathArgs { repeat_count: 1, relative_throughput: 1, processors: ProcessorMask::default() }
    }
}

impl PathArgs {
    /// Reads what is said of the path that `device` names. `taken` are the processors that others of the
    /// group are for.
    pub(super) fn parse(
        selector: Selector,
        device: Arg<'_>,
        words: &[Arg<'_>],
        taken: &mut Vec<u32>,
        devices: &mut impl Devices,
    ) -> Result<PathArgs, CtrError> {
        let name = selector.name();
        if selector == Selector::IoAffinity {
            return PathArgs::parse_mask(device, words, taken, devices);
        }
        if let Some(word) = words.get(selector.path_args()) {
            let expected = format_args!("{} words at most", selector.path_args());
            return Err(word.error(expected, &format!("{name} ps: incorrect number of arguments")));
        }
        let mut args = PathArgs::default();
        if let Some(word) = words.first() {
            args.repeat_count = word.wrapping_u32(&format!("{name} ps: invalid repeat count"))?;
        }
        if matches!(selector, Selector::HistoricalServiceTime { .. }) {
            // Neither used nor shown.
            return Ok(PathArgs::default());
        }
        if args.repeat_count > 1 {
            let why = "repeat_count > 1 is deprecated, using 1 instead";
            devices.log(&format!("multipath {name}"), format_args!("{why}"));
            args.repeat_count = 1;
        }
        if let Some(word) = words.get(1) {
            let kernel = "service-time ps: invalid relative_throughput value";
            args.relative_throughput = word.wrapping_u32(kernel)?;
            if args.relative_throughput > MAX_THROUGHPUT {
                let expected = format_args!("a number from 0 to {MAX_THROUGHPUT}");
                return Err(word.error(expected, kernel));
            }
        }
        Ok(args)
    }

    fn parse_mask(
        device: Arg<'_>,
        words: &[Arg<'_>],
        taken: &mut Vec<u32>,
        devices: &mut impl Devices,
    ) -> Result<PathArgs, CtrError> {
        let [word] = words else {
            return Err(device.error(
                "one word after the device",
                "io-affinity ps: invalid number of arguments",
            ));
        };
        let machine = devices.processors();
        let Some(processors) = ProcessorMask::parse(word.text(), machine) else {
            let expected = "a mask of processors in hexadecimal digits";
            return Err(word.error(expected, "io-affinity ps: invalid cpumask"));
        };
        let known = taken.len();
        for processor in processors.iter() {
            match taken.contains(&processor) {
                true => {
                    let why = format_args!("CPU mapping for {processor} exists. Ignoring.");
                    devices.log("multipath io-affinity", why);
                }
                false => taken.push(processor),
            }
        }
        match taken.len() > known {
            true => Ok(PathArgs { processors, ..PathArgs::default() }),
            false => {
                let kernel = "io-affinity ps: No new/valid CPU mapping found";
                Err(word.error("a processor that no path before it has", kernel))
            }
        }
    }

    /// Writes what a line has of it, with a blank after each word.
    pub(super) fn write(&self, selector: Selector, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match selector {
            Selector::RoundRobin | Selector::QueueLength => write!(f, "{} ", self.repeat_count),
            Selector::ServiceTime => {
                write!(f, "{} {} ", self.repeat_count, self.relative_throughput)
            }
            Selector::HistoricalServiceTime { .. } => f.write_str("0 "),
            Selector::IoAffinity => write!(f, "{} ", self.processors),
        }
    }
}
