//! The mapping table: what a device's sectors are made of.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};

use crate::args::Devices;
use crate::{
    Access, AnyTargetType, Args, Bio, BlkError, BlkResult, BlockDevice, DevNumber, DeviceStyle,
    End, Errno, FindDevice, Flat, KernelLog, Limits, Mapped, Misaligned, Op, OpenDevice, Profile,
    Registry, Runtime, Sector, Sectors, StatusKind, StatusWriter, Target, TargetEvents,
    split_words,
};

/// The longest device: past this the kernel's byte offsets would not fit a signed 64-bit number.
pub const MAX_TABLE_LEN: Sectors = Sectors(i64::MAX as u64 >> 9);

/// The most lines in a table; the kernel's limit.
pub const MAX_TARGETS: usize = 1_048_576;

/// The most mapped devices on top of one another: a bio recurses through them. The kernel has no
/// such limit for bio-based tables.
pub const MAX_DEPTH: u32 = 64;

/// One line of a table, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSpec {
    /// The first sector on the mapped device.
    pub start: Sector,
    /// The length.
    pub len: Sectors,
    /// The word that names the target type.
    pub target_type: String,
    /// The words after it, as one text.
    pub params: String,
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.start, self.len, self.target_type, self.params)
    }
}

/// A line that is no table line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("table line {line}: expected `start length type arguments...`, found `{text}`")]
pub struct BadLine {
    /// The line's number in the text, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// Reads a table's text as dmsetup does: a line a target, blank lines and comments left out.
///
/// Returns each line with its number in the text, from 1.
pub fn parse_table(text: &str) -> Result<Vec<(usize, TargetSpec)>, BadLine> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match parse_line(line) {
            Some(spec) => Ok((number, spec)),
            None => Err(BadLine { line: number, text: line.to_owned() }),
        })
        .collect()
}

/// Reads `start length type arguments...`, as dmsetup's `sscanf("%llu %llu %s %n")` does.
fn parse_line(line: &str) -> Option<TargetSpec> {
    let (start, rest) = scan_number(line)?;
    let (len, rest) = scan_number(rest)?;
    let rest = rest.trim_start();
    let (target_type, params) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if target_type.is_empty() {
        return None;
    }
    let params = params.split('#').next().unwrap_or_default().trim_start();
    Some(TargetSpec {
        start: Sector(start),
        len: Sectors(len),
        target_type: target_type.to_owned(),
        params: params.to_owned(),
    })
}

/// Reads one number as `%llu` does: blanks, a sign, digits; the largest one where it does not fit.
fn scan_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let number = unsigned[..digits].parse::<u64>().unwrap_or(u64::MAX);
    let number = if text.starts_with('-') { number.wrapping_neg() } else { number };
    Some((number, &unsigned[digits..]))
}

/// Why a table was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableError {
    /// The errno that the load fails with.
    pub errno: Errno,
    /// The kernel's text for this fault.
    pub kernel: String,
    /// Which target is at fault, from 0; none where it is the table as a whole.
    pub target: Option<usize>,
    /// Which word of its line is at fault, counted from 0 after the type.
    pub arg: Option<usize>,
    /// What was expected and what was found; empty where the kernel's text says it all.
    pub detail: String,
}

impl TableError {
    pub(crate) fn new(kernel: impl Into<String>) -> TableError {
        let (errno, target, arg, detail) = (Errno::INVAL, None, None, String::new());
        TableError { errno, kernel: kernel.into(), target, arg, detail }
    }

    fn in_target(self, index: usize) -> TableError {
        TableError { target: Some(index), ..self }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.detail.is_empty() {
            write!(f, "{}: ", self.detail)?;
        }
        f.write_str(&self.kernel)
    }
}

impl std::error::Error for TableError {}

/// What a table is built with.
pub(crate) struct Build<'a> {
    /// The device that the table is for, as messages name it.
    pub(crate) number: DevNumber,
    pub(crate) access: Access,
    pub(crate) registry: &'a Registry,
    pub(crate) finder: &'a dyn FindDevice,
    pub(crate) runtime: &'a Arc<dyn Runtime>,
    pub(crate) events: &'a TargetEvents,
    pub(crate) log: &'a dyn KernelLog,
    /// What the device's other tables have open already: one opening serves them all.
    pub(crate) open: Vec<Arc<OpenDevice>>,
}

impl Build<'_> {
    fn log(&self, text: fmt::Arguments<'_>) {
        self.log.line(&format!("device-mapper: table: {}: {text}", self.number));
    }
}

/// One target in its place.
pub(crate) struct Entry {
    pub(crate) begin: Sector,
    pub(crate) len: Sectors,
    pub(crate) target_type: Arc<dyn AnyTargetType>,
    pub(crate) target: Box<dyn Target>,
    pub(crate) profile: Profile,
}

/// A complete table: targets in order, without gap or overlap.
pub struct Table {
    entries: Vec<Entry>,
    /// The end of each entry: what a lookup searches, side by side in memory.
    ends: Vec<u64>,
    devices: Vec<Arc<OpenDevice>>,
    flush: FlushPlan,
    access: Access,
}

/// Where a flush of the whole table goes.
#[derive(Default)]
struct FlushPlan {
    /// Devices below targets that need no part in it, each once.
    devices: Vec<Arc<OpenDevice>>,
    /// Targets that take a flush through their `map`.
    targets: Vec<usize>,
}

impl Table {
    /// Builds a table, with every check that the kernel makes when one is loaded but those of
    /// [`limits`](Self::limits), and logs what the kernel logs.
    pub(crate) fn build(specs: &[TargetSpec], with: &Build<'_>) -> Result<Table, TableError> {
        if specs.is_empty() {
            with.log.line("device-mapper: ioctl: populate_table: no targets specified");
            return Err(TableError::new("no targets specified"));
        }
        if specs.len() > MAX_TARGETS {
            let found = specs.len();
            return Err(TableError {
                detail: format!("expected at most {MAX_TARGETS} lines, found {found}"),
                ..TableError::new("too many targets")
            });
        }
        let mut devices = Devices::new(with.finder, with.access, &with.open);
        let mut entries: Vec<Entry> = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            match add_target(&entries, spec, &mut devices, with) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    with.log.line("device-mapper: ioctl: error adding target to table");
                    return Err(error.in_target(index));
                }
            }
        }
        let ends = entries.iter().map(|entry| (entry.begin + entry.len).0).collect();
        let flush = FlushPlan::new(&entries, &devices.order);
        Ok(Table { entries, ends, devices: devices.order, flush, access: with.access })
    }

    /// Returns the size of a device with this table.
    pub fn size(&self) -> Sectors {
        Sectors(self.ends.last().copied().unwrap_or(0))
    }

    /// Tells whether the table was loaded read-only.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the number of targets.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the devices that the table has open, each once: the last named first, as the
    /// kernel lists them.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<OpenDevice>> {
        self.devices.iter().rev()
    }

    /// Returns the text of each target.
    pub fn status(&self, kind: StatusKind, style: DeviceStyle) -> Vec<TargetSpec> {
        let text = |entry: &Entry| {
            let mut text = String::new();
            let written = entry.target.status(kind, &mut StatusWriter::new(&mut text, style));
            written.expect("writing to a string cannot fail");
            text
        };
        let line = |entry: &Entry| TargetSpec {
            start: entry.begin,
            len: entry.len,
            target_type: entry.target_type.name().to_owned(),
            params: text(entry),
        };
        self.entries.iter().map(line).collect()
    }

    /// Tells whether the only target is of a type that is replaced by its own kind alone, and
    /// returns its name.
    pub(crate) fn immutable_type(&self) -> Option<&str> {
        self.entries
            .iter()
            .find(|entry| entry.target_type.features().immutable)
            .map(|entry| entry.target_type.name())
    }

    /// Tells whether the table is one target that may replace any other.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.entries.iter().all(|entry| entry.target_type.features().wildcard)
    }

    /// Returns the devices that a flush of the table goes to; `None` where a target takes flushes
    /// through its `map`.
    pub(crate) fn flush_devices(&self) -> Option<impl Iterator<Item = &Arc<dyn BlockDevice>>> {
        let all = self.flush.targets.is_empty();
        all.then(|| self.flush.devices.iter().map(|open| open.device()))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Finds the target that a sector of the device lies in.
    pub(crate) fn find(&self, sector: Sector) -> Option<&Entry> {
        self.find_index(sector).map(|index| &self.entries[index])
    }

    pub(crate) fn find_index(&self, sector: Sector) -> Option<usize> {
        let index = self.ends.partition_point(|end| *end <= sector.0);
        (index < self.ends.len()).then_some(index)
    }

    /// Stacks the limits of everything below, with the kernel's checks of each area, and logs
    /// what the kernel logs (`dm_calculate_queue_limits`).
    pub(crate) fn limits(&self, with: &Build<'_>) -> Result<Limits, TableError> {
        let mut limits = Limits::stacking();
        let mut blocks = Vec::with_capacity(self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            let below = entry.limits(with).map_err(|error| error.in_target(index))?;
            blocks.push(below.logical_block());
            if limits.stack(&below, Sector::ZERO) == Misaligned(true) {
                with.log(format_args!(
                    "adding target device (start sect {} len {}) caused an alignment inconsistency",
                    entry.begin, entry.len
                ));
            }
        }
        self.check_alignment(&limits, &blocks, with)?;
        self.restrict(&mut limits);
        Ok(limits)
    }

    /// A target boundary must not cut a logical block of the device in two
    /// (`validate_hardware_logical_block_alignment`). `blocks` are the targets' own block sizes.
    fn check_alignment(
        &self,
        limits: &Limits,
        blocks: &[Sectors],
        with: &Build<'_>,
    ) -> Result<(), TableError> {
        // What the next target has to bring to fill the block that the last one began.
        let mut owed = Sectors::ZERO;
        let begins_within_a_block = |(entry, own): (&Entry, &Sectors)| {
            let cut = owed < entry.len && !owed.0.is_multiple_of(own.0);
            if !cut {
                let end = (entry.begin + entry.len).0;
                owed = Sectors(end.next_multiple_of(limits.logical_block().0) - end);
            }
            cut
        };
        let at = self.entries.iter().zip(blocks).position(begins_within_a_block);
        if at.is_none() && owed.is_zero() {
            return Ok(());
        }
        // The kernel counts one on where the table ends within a block.
        let (line, index) = (at.unwrap_or(self.count()), at.unwrap_or(self.count() - 1));
        let entry = &self.entries[index];
        let text = format!(
            "table line {line} (start sect {} len {}) not aligned to h/w logical block size {}",
            entry.begin, entry.len, limits.logical_block_size
        );
        with.log(format_args!("{text}"));
        Err(TableError::new(text).in_target(index))
    }

    /// Takes away what not every target can do (`dm_table_set_restrictions`).
    fn restrict(&self, limits: &mut Limits) {
        let all = |able: fn(&Entry) -> bool| self.entries.iter().all(able);
        if !all(Entry::supports_discard) {
            limits.max_discard_sectors = 0;
            limits.discard_granularity = 0;
            limits.discard_alignment = 0;
        }
        if !all(|entry| entry.supports(Op::WriteZeroes, |below| below.max_write_zeroes_sectors)) {
            limits.max_write_zeroes_sectors = 0;
        }
        if !all(|entry| entry.supports(Op::SecureErase, |below| below.max_secure_erase_sectors)) {
            limits.max_secure_erase_sectors = 0;
        }
        limits.write_cache |= self
            .entries
            .iter()
            .any(|entry| entry.profile.num_flush_bios > 0 && entry.profile.flush_supported);
    }

    /// Carries a bio out: flush first, then the data in as many pieces as there are boundaries
    /// in it, all under way at once.
    pub(crate) async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        if bio.op() == Op::Flush || bio.flags.preflush {
            self.flush().await?;
            bio.flags.preflush = false;
        }
        if bio.is_empty() {
            return Ok(());
        }
        if bio.end().is_none_or(|end| end.0 > self.size().0) {
            return Err(BlkError::Io);
        }
        let entry = self.entry(bio.sector);
        if entry.room(&bio) >= bio.len() && entry.profile.copies(bio.op()) == 1 {
            let offset = bio.sector - entry.begin;
            return entry.run(bio.at(offset.to_sector())).await;
        }
        self.run_pieces(bio).await
    }

    async fn run_pieces(&self, bio: Bio<'_>) -> BlkResult {
        let mut pieces = FuturesUnordered::new();
        let mut rest = Some(bio);
        let mut result = Ok(());
        while let Some(bio) = rest.take() {
            let entry = self.entry(bio.sector);
            let room = entry.room(&bio);
            let piece = if room < bio.len() {
                let (piece, tail) = bio.split_at(room);
                rest = Some(tail);
                piece
            } else {
                bio
            };
            let offset = (piece.sector - entry.begin).to_sector();
            let piece = piece.at(offset);
            match (entry.profile.copies(piece.op()), piece.op().is_abnormal()) {
                (0, _) => result = Err(BlkError::NotSupported),
                (1, _) | (_, false) => pieces.push(entry.run(piece)),
                (copies, true) => {
                    for nr in 0..copies {
                        let mut copy = Bio::without_data(piece.op(), offset, piece.len());
                        (copy.nr, copy.flags) = (nr, piece.flags);
                        pieces.push(entry.run(copy));
                    }
                }
            }
        }
        // The bio ends when its last piece does; the first error is the bio's.
        while let Some(end) = pieces.next().await {
            result = result.and(end);
        }
        result
    }

    async fn flush(&self) -> BlkResult {
        let mut flushes = FuturesUnordered::new();
        for device in &self.flush.devices {
            flushes.push(device.device().submit(Bio::flush()));
        }
        for &index in &self.flush.targets {
            let entry = &self.entries[index];
            for nr in 0..entry.profile.num_flush_bios {
                let mut flush = Bio::flush();
                flush.nr = nr;
                flushes.push(Box::pin(entry.run(flush)));
            }
        }
        let mut result = Ok(());
        while let Some(end) = flushes.next().await {
            result = result.and(end);
        }
        result
    }

    fn entry(&self, sector: Sector) -> &Entry {
        self.find(sector).expect("a bio is checked against the size first")
    }
}

impl Entry {
    /// Returns how much of a bio the target takes in one piece.
    fn room(&self, bio: &Bio<'_>) -> Sectors {
        let offset = bio.sector - self.begin;
        let left = self.len - offset;
        let cut_at_max = !bio.op().is_abnormal() || self.profile.max_discard_granularity;
        match self.profile.max_io_len {
            Some(max) if cut_at_max => left.min(Sectors(max.0 - offset.0 % max.0)),
            _ => left,
        }
    }

    /// Carries out a bio whose sectors are relative to the target.
    pub(crate) async fn run(&self, bio: Bio<'_>) -> BlkResult {
        let (op, flags, sector, len) = (bio.op(), bio.flags, bio.sector, bio.len());
        match self.target.map(bio) {
            Mapped::Completed(result) => result,
            Mapped::InFlight(end) => end.await,
            Mapped::Remapped(area, to, bio) => {
                let result = area.submit(to, bio).await;
                self.target.end_io(&End { op, flags, sector, len, area }, result)
            }
        }
    }

    /// Carries a bio of the device out at once, or does nothing that counts: where it crosses a
    /// boundary, where more than a remap happens to it, or where the device below could wait.
    pub(crate) fn run_now(&self, bio: Bio<'_>) -> Option<BlkResult> {
        let offset = (bio.sector - self.begin).to_sector();
        if self.room(&bio) < bio.len() || matches!(self.target.flatten(offset), Flat::Opaque) {
            return None;
        }
        let (op, flags, sector, len) = (bio.op(), bio.flags, offset, bio.len());
        match self.target.map(bio.at(offset)) {
            Mapped::Completed(result) => Some(result),
            Mapped::InFlight(_) => None,
            Mapped::Remapped(area, to, bio) => {
                let result = match area.place(to, bio) {
                    Ok(bio) => area.device().try_now(bio).ok()?,
                    Err(error) => Err(error),
                };
                Some(self.target.end_io(&End { op, flags, sector, len, area }, result))
            }
        }
    }

    /// Stacks the limits of the devices below, and checks each area against them.
    fn limits(&self, with: &Build<'_>) -> Result<Limits, TableError> {
        let mut limits = Limits::stacking();
        self.target.iterate_devices(&mut |area| {
            let below = area.device().limits();
            if limits.stack(&below, area.start) == Misaligned(true) {
                with.log(format_args!(
                    "adding target device {} caused an alignment inconsistency: \
                     physical_block_size={}, logical_block_size={}, alignment_offset={}, start={}",
                    area.device().name(),
                    below.physical_block_size,
                    below.logical_block_size,
                    below.alignment_offset,
                    area.start.0.wrapping_mul(512),
                ));
            }
        });
        self.target.io_hints(&mut limits);
        let mut fault = Ok(());
        self.target.iterate_devices(&mut |area| {
            if fault.is_ok() {
                fault = check_area(area, &limits, with);
            }
        });
        fault.map(|()| limits)
    }

    fn supports_discard(&self) -> bool {
        let own = self.profile.discards_supported;
        self.profile.num_discard_bios > 0
            && (own || self.all_devices(|below| below.max_discard_sectors > 0))
    }

    fn supports(&self, op: Op, max: fn(&Limits) -> u32) -> bool {
        self.profile.copies(op) > 0 && self.all_devices(|below| max(below) > 0)
    }

    /// Tells whether the target has devices, and `able` holds for each.
    fn all_devices(&self, able: impl Fn(&Limits) -> bool) -> bool {
        let (mut any, mut all) = (false, true);
        self.target.iterate_devices(&mut |area| {
            any = true;
            all &= able(&area.device().limits());
        });
        any && all
    }
}

impl FlushPlan {
    fn new(entries: &[Entry], devices: &[Arc<OpenDevice>]) -> FlushPlan {
        let mut plan = FlushPlan::default();
        let mut below = HashSet::new();
        for (index, entry) in entries.iter().enumerate() {
            match (entry.profile.num_flush_bios, entry.profile.flush_bypasses_map) {
                (0, _) => {}
                (_, true) => entry.target.iterate_devices(&mut |area| {
                    below.insert(area.device().number());
                }),
                (_, false) => plan.targets.push(index),
            }
        }
        let reached = |device: &&Arc<OpenDevice>| below.contains(&device.device().number());
        plan.devices = devices.iter().filter(reached).cloned().collect();
        plan
    }
}

/// Makes one target, with the checks of `dm_table_add_target` in its order.
fn add_target(
    before: &[Entry],
    spec: &TargetSpec,
    devices: &mut Devices<'_>,
    with: &Build<'_>,
) -> Result<Entry, TableError> {
    let name = &spec.target_type;
    let plain = |text: String| {
        with.log(format_args!("{text}"));
        TableError::new(text)
    };
    // Types that do not mix with others: if there is one, it is the first.
    let first = before.first().map(|entry| &entry.target_type);
    if let Some(first) = first.filter(|first| first.features().singleton) {
        let first = first.name();
        return Err(plain(format!("target type {first} must appear alone in table")));
    }
    if spec.len.is_zero() {
        return Err(plain("zero-length target".to_owned()));
    }
    if spec.start.checked_add(spec.len).is_none_or(|end| end.0 > MAX_TABLE_LEN.0) {
        return Err(plain("too large device".to_owned()));
    }
    let Some(target_type) = with.registry.find(name) else {
        return Err(plain(format!("{name}: unknown target type")));
    };
    let features = target_type.features();
    let refuse = |text: &str, error: TableError| {
        with.log(format_args!("{name}: {text} (-{})", error.errno.name()));
        Err(error)
    };
    let fault = |text: &str| refuse(text, TableError::new(text));
    if features.singleton && !before.is_empty() {
        return fault("singleton target type must appear alone in table");
    }
    if features.always_writeable && with.access.is_read_only() {
        return fault("target type may not be included in a read-only table");
    }
    let mixes = first.is_none_or(|first| {
        first.name() == name || !(features.immutable || first.features().immutable)
    });
    if !mixes {
        return fault("immutable target type cannot be mixed with other target types");
    }
    let expected = before.last().map_or(Sector::ZERO, |last| last.begin + last.len);
    if spec.start != expected {
        let kernel = "Gap in table";
        let what = if spec.start < expected { "an overlap" } else { "a gap" };
        let detail = format!("{what}: expected start sector {expected}, found {}", spec.start);
        return refuse(kernel, TableError { detail, ..TableError::new(kernel) });
    }
    let words = split_words(&spec.params);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut args = Args::new(&words, spec.len, devices, with.runtime, with.events);
    match target_type.ctr(&mut args) {
        Ok(target) => {
            let profile = target.profile();
            let target_type = target_type.clone();
            Ok(Entry { begin: spec.start, len: spec.len, target_type, target, profile })
        }
        Err(error) => {
            let (arg, detail, errno) = (error.arg, error.detail.clone(), error.errno);
            let kernel = error.kernel.clone();
            refuse(&error.kernel, TableError { errno, kernel, target: None, arg, detail })
        }
    }
}

/// Checks an area against its device and against the target's limits
/// (`device_area_is_invalid`).
fn check_area(area: &crate::Area, limits: &Limits, with: &Build<'_>) -> Result<(), TableError> {
    let (device, size) = (area.device().name(), area.device().size());
    let refuse = |text: String| {
        with.log(format_args!("{text}"));
        Err(TableError::new(text))
    };
    // A device without a size yet cannot be checked.
    if size.is_zero() {
        return Ok(());
    }
    let (start, len) = (area.start, area.len);
    let fits = start.checked_add(len).is_some_and(|end| end.0 <= size.0) && start.0 < size.0;
    if !fits {
        return refuse(format!(
            "{device} too small for target: start={start}, len={len}, dev_size={size}"
        ));
    }
    let (block, bytes) = (limits.logical_block(), limits.logical_block_size);
    for (what, value) in [("start", start.0), ("len", len.0)] {
        if !value.is_multiple_of(block.0) {
            return refuse(format!(
                "{what}={value} not aligned to h/w logical block size {bytes} of {device}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let parsed = parse_table(text).expect("a table");
        parsed.into_iter().map(|(number, spec)| format!("{number}: {spec}")).collect()
    }

    #[test]
    fn comments_and_blank_lines_are_left_out() {
        let text = "# a comment\n0 16 linear /dev/loop0 0 # inline\n\n  16 16   zero  \n";
        assert_eq!(lines(text), ["2: 0 16 linear /dev/loop0 0 ", "4: 16 16 zero "]);
        assert_eq!(lines(""), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_its_three_words_is_refused_by_number() {
        for bad in ["0 8 zero\nx 8 zero", "0 8 zero\n8 x zero", "0 8 zero\n8 8", "0 8 zero\n8"] {
            assert_eq!(parse_table(bad).expect_err(bad).line, 2, "{bad}");
        }
    }

    #[test]
    fn numbers_of_a_line_are_read_as_scanf_reads_them() {
        assert_eq!(lines("+0 8 zero"), ["1: 0 8 zero "]);
        assert_eq!(lines("0 99999999999999999999 zero"), ["1: 0 18446744073709551615 zero "]);
        assert_eq!(lines("0 -1 zero"), ["1: 0 18446744073709551615 zero "]);
    }
}
