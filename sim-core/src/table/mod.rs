//! The mapping table: what a device's sectors are made of.

pub(crate) mod build;
pub(crate) mod devices;
mod error;
mod kind;
mod limits;
mod parse;
mod spots;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::stream::{FuturesUnordered, StreamExt};

pub use error::TableError;
pub use kind::TableType;
pub use parse::{BadLine, Params, TargetSpec, hide_keys, parse_table};

use crate::ctr::routes::Routes;
use crate::stats::{Regions, Stats};
use crate::sync::barrier::Barrier;
use crate::sync::gate::Pass;
use crate::{
    Access, AnyTargetType, Area, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DeviceStyle,
    End, Errno, Flat, KeyText, Mapped, Op, OpenDevice, Profile, Refusal, Sector, Sectors,
    StatusKind, StatusWriter, Target,
};

/// The longest device: past this the kernel's byte offsets would not fit a signed 64-bit number.
pub const MAX_TABLE_LEN: Sectors = Sectors(i64::MAX as u64 >> 9);

/// The most lines in a table; the kernel's limit.
pub const MAX_TARGETS: usize = 1_048_576;

/// How long a table line with keys can become, in bytes.
const ROOM_FOR_KEYS: usize = 16 << 10;

/// One target in its place.
pub(crate) struct Entry {
    pub(crate) begin: Sector,
    pub(crate) len: Sectors,
    pub(crate) target_type: Arc<dyn AnyTargetType>,
    pub(crate) target: Box<dyn Target>,
    pub(crate) profile: Profile,
    /// Passed by what the target remaps, where it said that it reroutes. Few do, and a table may
    /// have a million entries.
    pub(crate) routes: Option<Box<Routes>>,
}

/// A complete table: targets in order, without gap or overlap.
pub struct Table {
    entries: Vec<Entry>,
    /// The end of each entry: what a lookup searches, side by side in memory.
    ends: Vec<u64>,
    devices: Vec<Arc<OpenDevice>>,
    flush: FlushPlan,
    access: Access,
    /// No target does more to a read or a write than to send it on.
    remap_only: bool,
    /// What a discard reads as zeros after depends on these alone; none where it never does.
    zeroing: Option<Vec<Arc<OpenDevice>>>,
    revision: AtomicU64,
    barrier: Barrier,
}

/// Revisions of tables that were given out.
static REVISIONS: AtomicU64 = AtomicU64::new(0);

/// How the text of a table is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextStyle {
    /// How devices are named.
    pub devices: DeviceStyle,
    /// What stands for a key.
    pub keys: KeyText,
}

/// What a bio is counted in, where the device counts.
type Counting<'a> = Option<(&'a Stats, &'a Regions)>;

/// Where a flush of the whole table goes.
#[derive(Default)]
struct FlushPlan {
    /// Devices below targets that need no part in it, each once.
    devices: Vec<Arc<OpenDevice>>,
    /// Targets that take a flush through their `map`.
    targets: Vec<usize>,
}

impl Table {
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

    /// Returns the text of each target, and whether a key was left out of any of them;
    /// [`Errno::IO`] where a target panics.
    pub fn status(
        &self,
        kind: StatusKind,
        style: TextStyle,
    ) -> Result<(Vec<TargetSpec>, bool), Errno> {
        self.texts(style, |entry, out| entry.target.status(kind, out))
    }

    /// Returns what would be measured of each target, for those that say anything with the type's name
    /// and version; as [`status`](Self::status) otherwise.
    pub(crate) fn measures(&self, devices: DeviceStyle) -> Result<Vec<TargetSpec>, Errno> {
        let style = TextStyle { devices, keys: KeyText::Zeros };
        let (mut lines, _) = self.texts(style, |entry, out| entry.target.measure(out))?;
        for (line, entry) in lines.iter_mut().zip(&self.entries) {
            if !line.params.is_empty() {
                let (name, [major, minor, patch]) =
                    (&line.target_type, entry.target_type.version());
                let head = format!("target_name={name},target_version={major}.{minor}.{patch}");
                line.params = format!("{head},{};", &*line.params).into();
            }
        }
        Ok(lines)
    }

    fn texts(
        &self,
        style: TextStyle,
        write: impl Fn(&Entry, &mut StatusWriter<'_>) -> fmt::Result,
    ) -> Result<(Vec<TargetSpec>, bool), Errno> {
        let mut without_keys = false;
        let mut line = |entry: &Entry| {
            // Room for the longest key first: a text that moves in memory leaves a copy behind.
            let mut text = String::with_capacity(match style.keys {
                KeyText::Plain => ROOM_FOR_KEYS,
                KeyText::Zeros | KeyText::LeftOut => 0,
            });
            let mut out = StatusWriter::new(&mut text, style.devices).with_keys(style.keys);
            // A string takes everything: an error is the target's own, and cuts its text short.
            let _cut_short = write(entry, &mut out);
            without_keys |= out.left_out_keys();
            TargetSpec {
                start: entry.begin,
                len: entry.len,
                target_type: entry.target_type.name().to_owned(),
                params: text.into(),
            }
        };
        let lines = self.barrier.run(None, || Some(self.entries.iter().map(&mut line).collect()));
        Ok((lines.ok_or(Errno::IO)?, without_keys))
    }

    /// Gives a target a message, and takes its answer; nothing where it takes no messages.
    pub(crate) async fn message(
        &self,
        entry: &Entry,
        words: &[&str],
    ) -> Option<Result<Option<String>, Refusal>> {
        let answer = async { Some(entry.target.message(words)?.await) };
        let answer = self.barrier.wait(Some(Err(Errno::IO.into())), answer).await;
        // It may have changed what the table says.
        self.revise();
        answer
    }

    /// Lets the targets get ready to be asked for their status.
    pub(crate) async fn prepare_status(&self) {
        for entry in &self.entries {
            self.barrier.wait((), async { entry.target.prepare_status().await }).await;
        }
    }

    /// Returns a number that no other table has, and that is another once the table's text may be.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Takes note that the table's text may be another one from now on.
    fn revise(&self) {
        self.revision.store(REVISIONS.fetch_add(1, Relaxed), Relaxed);
    }

    /// Tells whether no target does more to a read or a write than to send it on.
    pub(crate) fn is_remap_only(&self) -> bool {
        self.remap_only
    }

    /// Tells whether a discard can be made to read as zeros wherever it lies.
    pub(crate) fn discard_zeroes(&self) -> bool {
        let zeroing = self.zeroing.as_ref();
        zeroing.is_some_and(|devices| devices.iter().all(|below| below.discard_zeroes()))
    }

    /// Tells whether the only target is of a type that is replaced by its own kind alone, and
    /// returns its name.
    pub(crate) fn immutable_type(&self) -> Option<&str> {
        self.entries
            .iter()
            .find(|entry| entry.target_type.features().immutable)
            .map(|entry| entry.target_type.name())
    }

    /// Tells whether a target changes the devices below by itself.
    pub(crate) fn changes_below(&self) -> bool {
        self.entries.iter().any(|entry| entry.target_type.features().changes_below)
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

    /// Calls `each` with every area that the targets may write to.
    pub(crate) fn each_written(&self, each: &mut dyn FnMut(&Area)) {
        self.barrier.run((), || {
            self.entries.iter().for_each(|entry| entry.target.writes_to(each));
        });
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Finds the target that a sector of the device lies in.
    pub(crate) fn find(&self, sector: Sector) -> Option<&Entry> {
        self.entries.get(self.ends.partition_point(|end| *end <= sector.0))
    }

    /// Carries a bio out: flush first, then the data in as many pieces as there are boundaries
    /// in it, all under way at once.
    pub(crate) async fn run(&self, mut bio: Bio<'_>, counting: Counting<'_>) -> BlkResult {
        // Which copy it was to a target of the device above is nothing to those of this one.
        bio.nr = 0;
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
            let _counted = counting.and_then(|(stats, regions)| stats.begin(regions, &bio));
            return entry.run(bio.at(offset.to_sector())).await;
        }
        self.run_pieces(bio, counting).await
    }

    async fn run_pieces(&self, bio: Bio<'_>, counting: Counting<'_>) -> BlkResult {
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
            if entry.profile.copies(piece.op()) == 0 {
                result = Err(BlkError::NotSupported);
                continue;
            }
            let counted = counting.and_then(|(stats, regions)| stats.begin(regions, &piece));
            pieces.push(async move {
                let _counted = counted;
                let offset = (piece.sector - entry.begin).to_sector();
                entry.run_copies(piece.at(offset)).await
            });
        }
        // The bio ends when its last piece does; the first error is the bio's.
        while let Some(end) = pieces.next().await {
            result = result.and(end);
        }
        result
    }

    async fn flush(&self) -> BlkResult {
        let mut flushes: FuturesUnordered<BoxFuture<'_, BlkResult>> = FuturesUnordered::new();
        for device in &self.flush.devices {
            device.note_remap(Sector::ZERO, &Bio::flush(), Sector::ZERO);
            flushes.push(Box::pin(device.submit(Bio::flush())));
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

    /// As [`run`](Self::run), as often as the target wants a bio of this kind.
    async fn run_copies(&self, bio: Bio<'_>) -> BlkResult {
        let copies = self.profile.copies(bio.op());
        if copies == 1 || !bio.op().is_abnormal() {
            return self.run(bio).await;
        }
        let mut all: FuturesUnordered<_> = (0..copies)
            .map(|nr| {
                let mut copy = Bio::without_data(bio.op(), bio.sector, bio.len());
                (copy.nr, copy.flags) = (nr, bio.flags);
                self.run(copy)
            })
            .collect();
        let mut result = Ok(());
        while let Some(end) = all.next().await {
            result = result.and(end);
        }
        result
    }

    /// Carries out a bio whose sectors are relative to the target.
    pub(crate) async fn run(&self, bio: Bio<'_>) -> BlkResult {
        let (op, flags, sector, len) = (bio.op(), bio.flags, bio.sector, bio.len());
        let pass = self.enter_route();
        match self.target.map(bio) {
            Mapped::Completed(result) => result,
            Mapped::InFlight(end) => {
                // It may be the one for which the target changes its routes.
                drop(pass);
                end.await
            }
            Mapped::Remapped(area, to, bio) => {
                area.note_remap(to, &bio, self.begin + sector.from_start());
                let result = area.submit(to, bio).await;
                drop(pass);
                self.target.end_io(&End { op, flags, sector, len, area }, result)
            }
        }
    }

    /// Counts a bio that the target is about to route.
    fn enter_route(&self) -> Option<Pass<'_>> {
        self.routes.as_deref().map(Routes::enter)
    }

    /// Carries a bio of the device out on the spot, or hands it back: where it crosses a boundary,
    /// where more than a remap happens to it, or where the device below could wait.
    pub(crate) fn run_now<'b>(&self, mut bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        let offset = (bio.sector - self.begin).to_sector();
        let maps_again = self.profile.map_may_be_repeated
            || !matches!(self.target.flatten(bio.op(), offset), Flat::Opaque);
        if self.room(&bio) < bio.len() || !maps_again {
            return Err(bio);
        }
        let (op, flags, sector, len) = (bio.op(), bio.flags, offset, bio.len());
        let _pass = self.enter_route();
        match self.target.map(bio.reborrow().at(offset)) {
            Mapped::Completed(result) => return Ok(result),
            Mapped::InFlight(_) => {}
            Mapped::Remapped(area, to, bio) => {
                if let Ok(result) = area.submit(to, bio).now() {
                    let end = End { op, flags, sector, len, area };
                    return Ok(self.target.end_io(&end, result));
                }
            }
        }
        Err(bio)
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
                    below.insert(area.number());
                }),
                (_, false) => plan.targets.push(index),
            }
        }
        let reached = |device: &&Arc<OpenDevice>| below.contains(&device.number());
        plan.devices = devices.iter().filter(reached).cloned().collect();
        plan
    }
}
