//! `mirror <log> <#log args> <log args> <#legs> [<dev> <start>]+ [<#features> <features>]`

use std::fmt;

use sim_core::{Arg, CtrError, Errno, Sectors, Words};

use super::place::Place;
use super::words::{DeviceWord, Devices, from_text};
use crate::parts::dirty_log;

pub use super::mirror_status::{Behind, LegHealth, LegStatus, LogHealth, LogStatus, Status};
pub use crate::parts::dirty_log::InitialSync;

/// The most legs: as many as one copy of the kernel has destinations, and its source.
pub const MAX_LEGS: u32 = 9;

/// The most regions: the kernel counts them in 32 bits.
const MAX_REGIONS: u64 = u32::MAX as u64;

const LOG: &str = "Error creating mirror dirty log";
const TOO_FEW_LOG: &str = "Insufficient mirror log arguments";
const TOO_FEW: &str = "Too few mirror arguments";
const LEGS: &str = "Invalid number of mirrors";

/// A table line of `mirror`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The dirty log.
    pub log: Log<D>,
    /// The legs, 2 to [`MAX_LEGS`].
    pub legs: Vec<Place<D>>,
    /// The features.
    pub features: Features,
}

/// What a line says of its dirty log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<D> {
    /// The device of a `disk` log; nothing for `core`.
    pub disk: Option<D>,
    /// The length of a region.
    pub region: Sectors,
    /// `sync`, `nosync`, or neither.
    pub sync: InitialSync,
}

/// What a line asks for besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// What fails on a leg is held, or goes to another.
    pub handle_errors: bool,
    /// Writes that fail on a leg end well.
    pub keep_log: bool,
}

impl Features {
    /// Tells whether a write that failed on a leg is held until the device is suspended.
    pub fn hold(self) -> bool {
        self.handle_errors && !self.keep_log
    }
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        let log = Log::parse(words, devices)?;
        let count_word = words.next(LEGS)?;
        let count = count_word.wrapping_u32(LEGS)?;
        if !(2..=MAX_LEGS).contains(&count) {
            return Err(count_word.error(format_args!("2 to {MAX_LEGS} legs"), LEGS));
        }
        if words.left() < count as usize * 2 {
            let detail = format!("expected {} words for {count} legs", count * 2);
            return Err(CtrError::new(TOO_FEW).arg(words.count()).detail(detail));
        }
        let mut legs = Vec::new();
        for _ in 0..count {
            let (device, start) = (words.next(TOO_FEW)?, words.next(TOO_FEW)?);
            let start = start.sector("Invalid offset")?;
            legs.push(Place { device: devices.open(device, "Device lookup failure")?, start });
        }
        Ok(Line { log, legs, features: Features::parse(words)? })
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, mut device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let disk = self.log.disk.as_ref().map(&mut device).transpose()?;
        let log = Log { disk, region: self.log.region, sync: self.log.sync };
        let leg = |leg: &Place<D>| Ok(Place { device: device(&leg.device)?, start: leg.start });
        let legs = self.legs.iter().map(leg).collect::<Result<_, F>>()?;
        Ok(Line { log, legs, features: self.features })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D> Log<D> {
    fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Log<D>, CtrError> {
        const COUNT: &str = "Invalid mirror log argument count";
        words.at_least(2, TOO_FEW_LOG)?;
        let (kind, count_word) = (words.next(TOO_FEW_LOG)?, words.next(TOO_FEW_LOG)?);
        let count = count_word.wrapping_u32(COUNT)?;
        if words.count() < count.wrapping_add(2) as usize {
            let left = words.left();
            let expected = format_args!("a count of the log's words, of which {left} are there");
            return Err(count_word.error(expected, TOO_FEW_LOG));
        }
        match kind.text() {
            "core" if (1..=2).contains(&count) => Log::parse_core(words, count == 2, devices),
            "disk" if (2..=3).contains(&count) => Log::parse_disk(words, count == 3, devices),
            "core" => {
                let why = format_args!("wrong number of arguments to dirty region log");
                Err(refuse(devices, count_word, "1 or 2", why))
            }
            "disk" => {
                let why = format_args!("wrong number of arguments to disk dirty region log");
                Err(refuse(devices, count_word, "2 or 3", why))
            }
            other => {
                let why = format_args!("Module for logging type \"{other}\" not found.");
                Err(refuse(devices, kind, "`core` or `disk`", why))
            }
        }
    }

    fn parse_core(
        words: &mut Words<'_>,
        has_sync: bool,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Log<D>, CtrError> {
        let (region, sync) = parse_regions(words, has_sync, devices)?;
        Ok(Log { disk: None, region, sync })
    }

    fn parse_disk(
        words: &mut Words<'_>,
        has_sync: bool,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Log<D>, CtrError> {
        let word = words.next(TOO_FEW_LOG)?;
        let device = devices.open(word, LOG).map_err(|error| error.errno(Errno::INVAL))?;
        let (region, sync) = parse_regions(words, has_sync, devices)?;
        if let Some(facts) = devices.facts(&device) {
            let regions = words.target_len().0.div_ceil(region.0);
            let need = dirty_log::bytes(regions, facts.logical_block);
            let (number, size) = (facts.number, facts.size.bytes());
            if need > size {
                let why = format_args!("log device {number} too small: need {need} bytes");
                let expected = format_args!("a device of {need} bytes at least, not of {size}");
                return Err(refuse(devices, word, expected, why));
            }
        }
        Ok(Log { disk: Some(device), region, sync })
    }
}

/// Refuses words of the log: all in the same words of the table, with the log's own in the
/// kernel's log.
fn refuse<D>(
    devices: &mut impl Devices<Device = D>,
    word: Arg<'_>,
    expected: impl fmt::Display,
    why: fmt::Arguments<'_>,
) -> CtrError {
    devices.log(dirty_log::LOG_MODULE, why);
    word.error(expected, LOG)
}

/// Reads the words that both kinds of log have: the region size, and what is in sync.
fn parse_regions<D>(
    words: &mut Words<'_>,
    has_sync: bool,
    devices: &mut impl Devices<Device = D>,
) -> Result<(Sectors, InitialSync), CtrError> {
    let size_word = words.next(TOO_FEW_LOG)?;
    let sync = match has_sync {
        true => {
            let word = words.next(TOO_FEW_LOG)?;
            match word.text() {
                "sync" => InitialSync::Nothing,
                "nosync" => InitialSync::Everything,
                other => {
                    let why = "unrecognised sync argument to dirty region log";
                    let why = format_args!("{why}: {other}");
                    return Err(refuse(devices, word, "`sync` or `nosync`", why));
                }
            }
        }
        false => InitialSync::AsLogged,
    };
    let len = words.target_len();
    let size = size_word.wrapping_u32(LOG).unwrap_or(0);
    let fits = size.is_power_of_two() && size >= 2 && u64::from(size) <= len.0;
    if !fits {
        let expected = format_args!("a power of two from 2 to the target's length, {len}");
        let why = format_args!("invalid region size {}", size_word.text());
        return Err(refuse(devices, size_word, expected, why));
    }
    let regions = len.0.div_ceil(size.into());
    if regions > MAX_REGIONS {
        let expected = format_args!("a size that makes {MAX_REGIONS} regions of {len} at most");
        let why = format_args!("region count exceeds limit of {MAX_REGIONS}");
        return Err(refuse(devices, size_word, expected, why));
    }
    Ok((Sectors(size.into()), sync))
}

impl Features {
    fn parse(words: &mut Words<'_>) -> Result<Features, CtrError> {
        let mut features = Features::default();
        if words.left() == 0 {
            return Ok(features);
        }
        let count_word = words.next(TOO_FEW)?;
        let count = count_word.wrapping_u32("Invalid number of features")?;
        if count as usize > words.left() {
            let expected = format_args!("a count of the words that follow, {}", words.left());
            let kernel = "Not enough arguments to support feature count";
            return Err(count_word.error(expected, kernel));
        }
        let mut keep_log = None;
        for _ in 0..count {
            let word = words.next(TOO_FEW)?;
            match word.text() {
                "handle_errors" => features.handle_errors = true,
                "keep_log" => keep_log = Some(word),
                _ => {
                    let expected = "`handle_errors` or `keep_log`";
                    return Err(word.error(expected, "Unrecognised feature requested"));
                }
            }
        }
        if let Some(word) = keep_log {
            if !features.handle_errors {
                let kernel = "keep_log feature requires the handle_errors feature";
                return Err(word.error("`handle_errors` beside it", kernel));
            }
            features.keep_log = true;
        }
        match words.left() {
            0 => Ok(features),
            _ => {
                let word = words.next(TOO_FEW)?;
                Err(word.error("nothing", "Too many mirror arguments"))
            }
        }
    }
}

impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.log, self.legs.len())?;
        self.legs.iter().try_for_each(|leg| write!(f, " {leg}"))?;
        match self.features {
            Features { handle_errors: true, keep_log: true } => {
                f.write_str(" 2 handle_errors keep_log")
            }
            Features { handle_errors: true, keep_log: false } => f.write_str(" 1 handle_errors"),
            Features { handle_errors: false, .. } => Ok(()),
        }
    }
}

impl<D: fmt::Display> fmt::Display for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if self.sync == InitialSync::AsLogged { 1 } else { 2 };
        match &self.disk {
            None => write!(f, "core {words} {}", self.region)?,
            Some(device) => write!(f, "disk {} {device} {}", words + 1, self.region)?,
        }
        match self.sync {
            InitialSync::AsLogged => Ok(()),
            InitialSync::Nothing => f.write_str(" sync"),
            InitialSync::Everything => f.write_str(" nosync"),
        }
    }
}
