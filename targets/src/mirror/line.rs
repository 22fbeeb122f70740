//! The words of a table line, in the order of the kernel's checks, and back again.

use std::fmt;

use sim_core::{Area, Arg, Args, CtrError, Errno, Sectors, StatusWriter, TargetLog};

use crate::parts::dirty_log::{self, InitialSync};

/// The most legs: as many as one copy of the kernel has destinations, and its source.
pub(super) const MAX_LEGS: u32 = 9;

/// The most regions: the kernel counts them in 32 bits.
const MAX_REGIONS: u64 = u32::MAX as u64;

const LOG: &str = "Error creating mirror dirty log";
const TOO_FEW_LOG: &str = "Insufficient mirror log arguments";
const TOO_FEW: &str = "Too few mirror arguments";
const LEGS: &str = "Invalid number of mirrors";

/// What a line says.
pub(super) struct Line {
    pub(super) log: LogWords,
    pub(super) legs: Vec<Area>,
    pub(super) features: Features,
}

/// What a line says of its dirty log.
pub(super) struct LogWords {
    /// The device of a `disk` log; nothing for `core`.
    pub(super) disk: Option<Area>,
    pub(super) region: Sectors,
    pub(super) sync: InitialSync,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) handle_errors: bool,
    pub(super) keep_log: bool,
}

impl Features {
    /// Tells whether a write that failed on a leg is held until the device is suspended.
    pub(super) fn hold(self) -> bool {
        self.handle_errors && !self.keep_log
    }
}

impl Line {
    pub(super) fn read(args: &mut Args<'_>) -> Result<Line, CtrError> {
        let log = LogWords::read(args)?;
        let count_word = args.next(LEGS)?;
        let count = count_word.wrapping_u32(LEGS)?;
        if !(2..=MAX_LEGS).contains(&count) {
            return Err(count_word.error(format_args!("2 to {MAX_LEGS} legs"), LEGS));
        }
        if args.left() < count as usize * 2 {
            let detail = format!("expected {} words for {count} legs", count * 2);
            return Err(CtrError::new(TOO_FEW).arg(args.count()).detail(detail));
        }
        let mut legs = Vec::new();
        for _ in 0..count {
            let (device, start) = (args.next(TOO_FEW)?, args.next(TOO_FEW)?);
            let start = start.sector("Invalid offset")?;
            legs.push(args.area(device, start, args.target_len(), "Device lookup failure")?);
        }
        Ok(Line { log, legs, features: Features::read(args)? })
    }

    /// Writes the line as it would be loaded again.
    pub(super) fn write(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        self.log.write(out)?;
        write!(out, "{}", self.legs.len())?;
        for leg in &self.legs {
            write!(out, " ")?;
            out.device(leg)?;
            write!(out, " {}", leg.start)?;
        }
        match self.features {
            Features { handle_errors: true, keep_log: true } => {
                write!(out, " 2 handle_errors keep_log")
            }
            Features { handle_errors: true, keep_log: false } => write!(out, " 1 handle_errors"),
            Features { handle_errors: false, .. } => Ok(()),
        }
    }
}

impl LogWords {
    fn read(args: &mut Args<'_>) -> Result<LogWords, CtrError> {
        const COUNT: &str = "Invalid mirror log argument count";
        args.at_least(2, TOO_FEW_LOG)?;
        let (kind, count_word) = (args.next(TOO_FEW_LOG)?, args.next(TOO_FEW_LOG)?);
        let count = count_word.wrapping_u32(COUNT)?;
        if args.count() < count.wrapping_add(2) as usize {
            let left = args.left();
            let expected = format_args!("a count of the log's words, of which {left} are there");
            return Err(count_word.error(expected, TOO_FEW_LOG));
        }
        let refuse = Refuse(args.log().of_module("dirty region log"));
        match kind.text() {
            "core" if (1..=2).contains(&count) => LogWords::read_core(args, count == 2, &refuse),
            "disk" if (2..=3).contains(&count) => LogWords::read_disk(args, count == 3, &refuse),
            "core" => {
                let why = "wrong number of arguments to dirty region log";
                Err(refuse.word(count_word, "1 or 2", why))
            }
            "disk" => {
                let why = "wrong number of arguments to disk dirty region log";
                Err(refuse.word(count_word, "2 or 3", why))
            }
            other => {
                let why = format_args!("Module for logging type \"{other}\" not found.");
                Err(refuse.word(kind, "`core` or `disk`", why))
            }
        }
    }

    fn read_core(args: &mut Args<'_>, has_sync: bool, refuse: &Refuse) -> Result<Self, CtrError> {
        let (region, sync) = read_regions(args, has_sync, refuse)?;
        Ok(LogWords { disk: None, region, sync })
    }

    fn read_disk(args: &mut Args<'_>, has_sync: bool, refuse: &Refuse) -> Result<Self, CtrError> {
        let word = args.next(TOO_FEW_LOG)?;
        let device = args.device(word, LOG).map_err(|error| error.errno(Errno::INVAL))?;
        let area = Area::whole(device);
        let (region, sync) = read_regions(args, has_sync, refuse)?;
        let regions = args.target_len().0.div_ceil(region.0);
        let need = dirty_log::bytes(regions, area.limits().logical_block());
        if need > area.size().bytes() {
            let (number, size) = (area.number(), area.size().bytes());
            let why = format_args!("log device {number} too small: need {need} bytes");
            let expected = format_args!("a device of {need} bytes at least, not of {size}");
            return Err(refuse.word(word, expected, why));
        }
        Ok(LogWords { disk: Some(area), region, sync })
    }

    fn write(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let words = if self.sync == InitialSync::AsLogged { 1 } else { 2 };
        match &self.disk {
            None => write!(out, "core {words} ")?,
            Some(area) => {
                write!(out, "disk {} ", words + 1)?;
                out.device(area)?;
                write!(out, " ")?;
            }
        }
        write!(out, "{} ", self.region)?;
        match self.sync {
            InitialSync::AsLogged => Ok(()),
            InitialSync::Nothing => write!(out, "sync "),
            InitialSync::Everything => write!(out, "nosync "),
        }
    }
}

/// Refuses words of the log: all in the same words of the table, with the log's own in the
/// kernel's log.
struct Refuse(TargetLog);

impl Refuse {
    fn word(&self, word: Arg<'_>, expected: impl fmt::Display, why: impl fmt::Display) -> CtrError {
        self.0.line(&why);
        word.error(expected, LOG)
    }
}

/// Reads the words that both kinds of log have: the region size, and what is in sync.
fn read_regions(
    args: &mut Args<'_>,
    has_sync: bool,
    refuse: &Refuse,
) -> Result<(Sectors, InitialSync), CtrError> {
    let size_word = args.next(TOO_FEW_LOG)?;
    let sync = match has_sync {
        true => {
            let word = args.next(TOO_FEW_LOG)?;
            match word.text() {
                "sync" => InitialSync::Nothing,
                "nosync" => InitialSync::Everything,
                other => {
                    let why = "unrecognised sync argument to dirty region log";
                    let why = format_args!("{why}: {other}");
                    return Err(refuse.word(word, "`sync` or `nosync`", why));
                }
            }
        }
        false => InitialSync::AsLogged,
    };
    let len = args.target_len();
    let size = size_word.wrapping_u32(LOG).unwrap_or(0);
    let fits = size.is_power_of_two() && size >= 2 && u64::from(size) <= len.0;
    if !fits {
        let expected = format_args!("a power of two from 2 to the target's length, {len}");
        let why = format_args!("invalid region size {}", size_word.text());
        return Err(refuse.word(size_word, expected, why));
    }
    let regions = len.0.div_ceil(size.into());
    if regions > MAX_REGIONS {
        let expected = format_args!("a size that makes {MAX_REGIONS} regions of {len} at most");
        let why = format_args!("region count exceeds limit of {MAX_REGIONS}");
        return Err(refuse.word(size_word, expected, why));
    }
    Ok((Sectors(size.into()), sync))
}

impl Features {
    fn read(args: &mut Args<'_>) -> Result<Features, CtrError> {
        let mut features = Features::default();
        if args.left() == 0 {
            return Ok(features);
        }
        let count_word = args.next(TOO_FEW)?;
        let count = count_word.wrapping_u32("Invalid number of features")?;
        if count as usize > args.left() {
            let expected = format_args!("a count of the words that follow, {}", args.left());
            let kernel = "Not enough arguments to support feature count";
            return Err(count_word.error(expected, kernel));
        }
        let mut keep_log = None;
        for _ in 0..count {
            let word = args.next(TOO_FEW)?;
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
        match args.left() {
            0 => Ok(features),
            _ => {
                let word = args.next(TOO_FEW)?;
                Err(word.error("nothing", "Too many mirror arguments"))
            }
        }
    }
}
