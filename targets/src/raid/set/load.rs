//! What is read from the metadata devices before a set is in use, and written to them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sim_core::{
    Access, Area, Bio, Buffer, CtrError, Errno, Locked, OpenDevice, Refusal, Runtime, Sector,
    Sectors, Signal, TargetEvents, TargetLog,
};

use super::commit::{Event, Events};
use super::intent::{Intent, PAGE};
use super::log::{Entry, Log};
use super::metadata::{self, Metadata};
use super::reshape::{Moves, Reshaping};
use super::state::{Behind, Cleared, Leg, State};
use super::stripes::{Cache, Turns};
use super::{Devices, RaidSet};
use crate::lines::raid::{Family, JournalHealth, JournalMode, Leg as LineLeg, Line};
use crate::parts::background::Background;
use crate::parts::pace::Pace;
use crate::raid::bitmap::{Bitmap, Fault, HEADER, Header, OFFSET, STALE};
use crate::raid::layout::Layout;
use crate::raid::start::{self, BitmapStart, Candidate, Found, LegStart, Start};
use crate::raid::superblock::{Reshape, Superblock};

const FAILED: &str = "Failed to load bitmap";
const RUN: &str = "Failed to run raid array";

/// A tick of the kernel's clock, which `daemon_sleep` counts.
pub(super) const TICK: Duration = Duration::from_millis(4);

/// How long a bit stays where the line says nothing: five seconds.
const DAEMON_SLEEP: u32 = 1250;

/// What a set is made with, besides its line.
pub(super) struct Surroundings {
    pub(super) len: Sectors,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) events: TargetEvents,
    pub(super) log: TargetLog,
    /// Read-only, nothing is written: superblocks and bitmaps neither, and nothing is rebuilt.
    pub(super) access: Access,
}

/// Reads the superblocks of a line's legs.
pub(super) async fn candidates(line: &Line<Arc<OpenDevice>>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for leg in &line.legs {
        let found = match &leg.meta {
            Some(meta) => read_superblock(&Area::whole(meta.clone())).await,
            None => Found::NoDevice,
        };
        candidates.push(Candidate { found, size: leg.data.as_ref().map(|data| data.size()) });
    }
    candidates
}

/// What matters at the first resume of a set.
#[derive(Clone, Copy)]
pub(super) struct Begins {
    /// What is with the bitmap.
    bitmap: BitmapStart,
    /// The superblocks change by the table alone, which is an event of its own.
    updates: bool,
}

/// Decides how a set starts, and what matters at the first resume. What the kernel logs goes
/// to `log`.
pub(super) async fn load(
    line: &Line<Arc<OpenDevice>>,
    around: &Surroundings,
    candidates: &[Candidate],
    log: &mut Vec<String>,
) -> Result<(RaidSet, Begins), CtrError> {
    let start = start::decide(line, around.len, candidates, log)?;
    // Where its data lies is known when the superblocks are.
    let devices = |(nr, leg): (usize, &LineLeg<Arc<OpenDevice>>)| Devices {
        meta: leg.meta.clone().map(Area::whole),
        data: None,
        write_mostly: line.params.write_mostly.contains(&nr),
    };
    let mut legs: Vec<Devices> = line.legs.iter().enumerate().map(devices).collect();
    if line.kind.family().parities() > 0 {
        check_bitmap(&start, &legs).await?;
        check_journal(line, &start, around.access).await?;
        check_stripe_cache(line, log)?;
        log.push("raid456 discard support disabled due to discard_zeroes_data uncertainty.".into());
        log.push("Set dm-raid.devices_handle_discard_safely=Y to override.".into());
    }
    place(line, &mut legs, &start);
    make(line, around, legs, start)
}

/// Says where the data of the legs lies: from the beginning on while data moves, as there are two
/// offsets then. A leg that a reshape takes away may be no more in the line.
fn place(line: &Line<Arc<OpenDevice>>, legs: &mut Vec<Devices>, start: &Start) {
    let (before, after) = start.data_offsets.unwrap_or_default();
    let device = start.grown.map_or(start.lengths.device, |grown| grown.device);
    let (at, len) = match start.reshape {
        Some(reshape) => (Sector::ZERO, reshape.device + before.max(after)),
        None => (before.to_sector(), device),
    };
    for (devices, leg) in legs.iter_mut().zip(&line.legs) {
        devices.data = leg.data.clone().map(|data| Area::new(data, at, len));
    }
    let most = legs.len().max(start.most_devices());
    legs.resize_with(most, || Devices { meta: None, data: None, write_mostly: false });
}

/// Refuses a set whose first leg in sync has no bitmap where one is expected: it was made with a
/// journal, which may have what the legs lack.
async fn check_bitmap(start: &Start, legs: &[Devices]) -> Result<(), CtrError> {
    let first = start.legs.iter().position(|leg| *leg == LegStart::InSync);
    let (BitmapStart::Load, Some(first)) = (start.bitmap, first) else { return Ok(()) };
    let Some(meta) = &legs[first].meta else { return Ok(()) };
    let at = Sectors::in_bytes(OFFSET).to_sector();
    let mut bytes = Buffer::take(PAGE);
    if meta.device_size().bytes() < OFFSET + PAGE as u64
        || meta.submit(at, Bio::read(at, &mut bytes)).await.is_err()
    {
        // The first resume says so.
        return Ok(());
    }
    let (head, _) = bytes.split_first_chunk::<HEADER>().expect("a page has a header");
    match Header::read(head) {
        Err(Fault::Magic) => {
            let detail =
                format!("leg {first} has no bitmap: was the set made with a `journal_dev`?");
            Err(CtrError::new(RUN).detail(detail))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses a journal that cannot be read, one for writes to end in where a leg is not in sync, and any where
/// nothing may be written: it may have what the legs lack.
async fn check_journal(
    line: &Line<Arc<OpenDevice>>,
    start: &Start,
    access: Access,
) -> Result<(), CtrError> {
    let Some(device) = line.params.journal_dev.clone() else { return Ok(()) };
    if access.is_read_only() {
        let detail = "a set with a journal is not loaded read-only: the journal is replayed first";
        return Err(CtrError::new("Failed to start raid array").detail(detail));
    }
    let mut bytes = Buffer::take(PAGE);
    let read = Bio::read(Sector::ZERO, &mut bytes);
    if Area::whole(device).submit(Sector::ZERO, read).await.is_err() {
        let detail = "the journal cannot be read";
        return Err(CtrError::new("Failed to start raid array").detail(detail).errno(Errno::IO));
    }
    let parities = line.kind.family().parities();
    if Entry::most_pages(line.legs.len(), parities).is_none() {
        let detail = format!("a journal has no room for pages of {} legs", line.legs.len());
        return Err(CtrError::new(RUN).detail(detail));
    }
    let is_whole = start.legs.iter().all(|leg| *leg == LegStart::InSync);
    match line.params.journal_mode == Some(JournalMode::WriteBack) && !is_whole {
        true => {
            let detail = "`writeback` is for sets with all legs in sync";
            Err(CtrError::new("Failed to set raid4/5/6 journal mode").detail(detail))
        }
        false => Ok(()),
    }
}

/// What the kernel's stripe cache begins with, in stripes of a page of each leg.
const STRIPE_CACHE: u64 = 256;

/// Returns the size of the kernel's stripe cache: as asked for, and four times what a chunk takes at
/// least.
fn stripe_cache(line: &Line<Arc<OpenDevice>>) -> u64 {
    line.params.stripe_cache.map_or(STRIPE_CACHE, u64::from).max(line.chunk.0 / 8 * 4)
}

/// Holds the size of the kernel's stripe cache to what that takes. Here the cache of a journal has it;
/// without one, rows are in memory as long as somebody works on them.
fn check_stripe_cache(line: &Line<Arc<OpenDevice>>, log: &mut Vec<String>) -> Result<(), CtrError> {
    /// What md takes.
    const ENTRIES: RangeInclusive<u64> = 17..=32768;
    let asked = line.params.stripe_cache.map_or(STRIPE_CACHE, u64::from);
    let entries = stripe_cache(line);
    if asked < entries {
        log.push(format!(
            "Adjusting requested {asked} stripe cache entries to {entries} to suit stripe size"
        ));
    }
    if entries == STRIPE_CACHE {
        return Ok(());
    }
    if !ENTRIES.contains(&entries) {
        let (least, most) = (ENTRIES.start(), ENTRIES.end());
        let detail = format!("expected {least} to {most} stripes, found {entries}");
        return Err(CtrError::new("Failed to set raid4/5/6 stripe cache size").detail(detail));
    }
    log.push(format!("{entries} stripe cache entries"));
    Ok(())
}

/// Makes the journal that a line asks for.
fn journal(line: &Line<Arc<OpenDevice>>) -> Option<Arc<Log>> {
    let device = line.params.journal_dev.clone()?;
    let health = match line.params.journal_mode {
        Some(JournalMode::WriteBack) => JournalHealth::WriteBack,
        Some(JournalMode::WriteThrough) | None => JournalHealth::WriteThrough,
    };
    Some(Arc::new(Log::new(Area::whole(device), health)))
}

/// Makes the cache of a journal that writes end in.
fn cache(
    line: &Line<Arc<OpenDevice>>,
    layout: &Layout,
    journal: Option<&Arc<Log>>,
) -> Option<Arc<Cache>> {
    let ends_there = line.params.journal_mode == Some(JournalMode::WriteBack);
    match (layout, journal.filter(|_| ends_there)) {
        (Layout::Parity(parity), Some(log)) => {
            Some(Arc::new(Cache::new(*parity, log.clone(), stripe_cache(line) as usize)))
        }
        _ => None,
    }
}

async fn read_superblock(meta: &Area) -> Found {
    let mut block = Buffer::take(meta.limits().logical_block_size as usize);
    match meta.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut block)).await {
        Err(_) => Found::Unreadable,
        Ok(()) => Superblock::read(&block).map_or(Found::Blank, Found::Superblock),
    }
}

fn make(
    line: &Line<Arc<OpenDevice>>,
    around: &Surroundings,
    legs: Vec<Devices>,
    start: Start,
) -> Result<(RaidSet, Begins), CtrError> {
    let mut layout = start.layout().ok_or_else(|| CtrError::new(RUN))?;
    let reshape = reshaping(&start, around.len)?;
    if let Some(reshape) = &reshape {
        layout = reshape.moving.new;
    }
    let rows = reshape.as_ref().map_or(Sectors::ZERO, |reshape| reshape.moving.old.resync_len());
    let rows = rows.max(layout.resync_len());
    let region = line.region_size(around.len);
    let ticks = line.params.daemon_sleep.unwrap_or(DAEMON_SLEEP);
    let behind = line.params.max_write_behind.unwrap_or(0);
    let header = match start.bitmap {
        // As the kernel; raid1 may be without, and is then to be synchronized by whoever knows.
        BitmapStart::None if start.geometry.level == Family::Raid10.level() => {
            let detail = "without metadata devices nobody knows what differs after a crash";
            return Err(CtrError::new(RUN).detail(detail));
        }
        BitmapStart::None => None,
        BitmapStart::New | BitmapStart::Load => {
            let header = Header::new(layout.resync_len(), region, ticks, behind);
            Some(header.ok_or_else(|| CtrError::new(RUN).detail("regions of 4 GiB or more"))?)
        }
    };
    let is_new = start.bitmap == BitmapStart::New;
    // What it says of a leg that comes back holds from now on.
    let header = header.map(|header| Header { events_cleared: start.events, ..header });
    let bitmap = header.map(|header| Bitmap::new(header, is_new));
    let intent = Intent::new(rows, region, bitmap);
    let states = start.legs.iter().map(|leg| match leg {
        LegStart::InSync => Leg::InSync,
        LegStart::Recover { from, back } => {
            Leg::Behind(Behind { from: *from, back: *back, by_bitmap: false })
        }
        LegStart::Failed => Leg::Failed(Behind::ALL),
        LegStart::Missing | LegStart::Unused => Leg::Missing,
    });
    let gone = legs.len() - start.legs.len();
    let states = states.chain(std::iter::repeat_n(Leg::Missing, gone));
    let events = Events::each(start.events);
    let mut state = State::new(states.collect(), events, start.resync_from, intent);
    if legs.iter().any(|leg| leg.meta.is_some()) {
        state.metadata_says_clean = false;
        state.reopen();
    }
    state.moves = Moves::at(start.reshape.map(|reshape| reshape.position));
    let pace = Pace::default();
    // KiB a second.
    pace.set_rate(u64::from(line.params.max_recovery_rate.unwrap_or(0)) * 2);
    let superblocks: Vec<_> = (0..start.legs.len()).map(|leg| start.superblock(leg)).collect();
    let journal = journal(line);
    let set = RaidSet {
        cache: cache(line, &layout, journal.as_ref()),
        journal,
        layout,
        geometry: superblocks[0]
            .extension
            .as_ref()
            .map_or(start.geometry, |extension| extension.new_geometry),
        metadata: Metadata::Raid(superblocks),
        reshape,
        is_read_only: around.access.is_read_only(),
        legs,
        len: layout.resync_len(),
        daemon_sleep: TICK * ticks.max(1),
        runtime: around.runtime.clone(),
        events: around.events.clone(),
        log: around.log.clone(),
        signal: Signal::default(),
        background: Background::default(),
        legs_wait: AtomicBool::new(false),
        turns: Turns::default(),
        pace,
        state: Locked::new(state),
    };
    Ok((set, Begins { bitmap: start.bitmap, updates: start.write_superblocks }))
}

/// Says what moves, and how long a device of so many sectors is meanwhile.
fn reshaping(start: &Start, len: Sectors) -> Result<Option<Reshaping>, CtrError> {
    let Some(reshape) = start.reshape else { return Ok(None) };
    let moving = start.moving()?;
    let (old, new) = (moving.old.len(), moving.new.len());
    let before = match (reshape.way, reshape.waits) {
        // As the kernel has it, less than can be read.
        (Reshape::Backwards, true) => reshape.array.min(new),
        (Reshape::Backwards, false) | (Reshape::Forwards, _) => old.min(new),
    };
    Ok(Some(Reshaping {
        moving,
        waits: reshape.waits,
        before: before.min(len),
        after: new.min(len),
        device: reshape.device,
    }))
}

impl RaidSet {
    /// Gets ready for the first resume: the bitmap is read, and what the legs are to have written.
    pub(super) async fn begin(self: &Arc<Self>, begins: Begins) -> Result<(), Refusal> {
        let bytes = self.state().intent.header().map_or(0, |header| OFFSET + header.bytes());
        let metas = self.legs.iter().filter_map(|leg| leg.meta.as_ref());
        if metas.map(|meta| meta.device_size().bytes()).any(|size| size < bytes) {
            return Err(self.log.refusal(Errno::IO, FAILED));
        }
        if begins.bitmap == BitmapStart::Load {
            self.read_bitmap(begins.updates).await?;
        }
        if let (Some(log), Layout::Parity(parity)) = (&self.journal, &self.layout)
            && self.replay(log, parity).await.is_err()
        {
            return Err(self.log.refusal(Errno::IO, "Failed to replay the journal"));
        }
        self.write_all_metadata(if begins.updates { 2 } else { 1 }).await;
        if let Some(reshape) = &self.reshape {
            self.events.resize(reshape.before);
        }
        Ok(())
    }

    /// Writes superblocks and bitmap to all legs, with so many events more.
    pub(super) async fn write_all_metadata(self: &Arc<Self>, events: u64) {
        let commit = {
            let mut state = self.state();
            let pages = state.intent.pages();
            state.commits.pages(pages);
            state.commit(Event::Change, events)
        };
        self.commit(commit).await;
    }

    /// Reads the bitmap of the first leg in sync that has one.
    async fn read_bitmap(&self, rebuilds: bool) -> Result<(), Refusal> {
        let source = {
            let state = self.state();
            let in_sync = (0..self.legs.len()).filter(|leg| state.is_in_sync(*leg));
            in_sync.filter_map(|leg| self.legs[leg].meta.as_ref()).next()
        };
        let Some(meta) = source else { return Ok(()) };
        let mut bytes = Buffer::take(PAGE);
        let at = Sectors::in_bytes(OFFSET).to_sector();
        let unreadable = |_| self.log.refusal(Errno::IO, FAILED);
        meta.submit(at, Bio::read(at, &mut bytes)).await.map_err(unreadable)?;
        let found = Header::read(bytes.first_chunk().expect("a page has a header"));
        let room = meta.device_size().bytes() - OFFSET;
        let (events, own) = {
            let state = self.state();
            let own = state.intent.header().expect("a set that loads a bitmap has one").clone();
            (state.events.now(), own)
        };
        let is_good = |found: &Header| {
            found.events >= events && found.state & STALE == 0 && found.bytes() <= room
        };
        let found = match found {
            Ok(found) => Some(found).filter(is_good),
            Err(Fault::Magic) => None,
            Err(fault) => {
                let why = format!("{FAILED}: {}", fault.reason());
                return Err(self.log.refusal(Errno::INVAL, &why));
            }
        };
        let cleared = found.as_ref().map(|found| found.events_cleared);
        let bitmap = match found {
            Some(found) => Some(self.load_bitmap(meta, found, own, rebuilds).await?),
            None => None,
        };
        let mut state = self.state();
        match bitmap {
            Some(bitmap) => state.intent.put_bitmap(bitmap),
            // It says nothing, as where there is none: everything may have been written.
            None => state.intent.set_all(),
        }
        let resync_from = state.resync_from;
        for leg in 0..state.legs.len() {
            if let Leg::Behind(behind) = state.legs[leg] {
                let back = behind.back.zip(cleared);
                let by_bitmap =
                    back.is_some_and(|(events, cleared)| state.has_all_but_bits(events, cleared));
                state.legs[leg] = Leg::Behind(Behind { by_bitmap, ..behind });
            }
        }
        state.intent.distrust(resync_from);
        if state.intent.has_bits() {
            state.cleared = Cleared::Before;
        }
        Ok(())
    }

    /// Reads a bitmap whose header was found, to be one that has what the set knows.
    async fn load_bitmap(
        &self,
        meta: &Area,
        found: Header,
        own: Header,
        rebuilds: bool,
    ) -> Result<Bitmap, Refusal> {
        let at = Sectors::in_bytes(OFFSET).to_sector();
        let block = meta.limits().logical_block_size as usize;
        let mut bytes = Buffer::take((found.bytes() as usize).next_multiple_of(block));
        let read = meta.submit(at, Bio::read(at, &mut bytes)).await;
        read.map_err(|_| self.log.refusal(Errno::IO, FAILED))?;
        let is_same = (found.chunk_bytes, found.sync_size) == (own.chunk_bytes, own.sync_size);
        let header = Header { events_cleared: found.events_cleared, uuid: found.uuid, ..own };
        let read = |header| Bitmap::read(header, &bytes[HEADER..]).ok_or(Errno::NOMEM);
        let mut bitmap = match is_same {
            true => read(header)?,
            false => read(found)?.converted(header),
        };
        if rebuilds {
            bitmap.clear_tail();
        }
        Ok(bitmap)
    }

    /// Takes legs back that had failed, where their metadata can be read again: they lack what has
    /// bits since then.
    pub(super) async fn revive(self: &Arc<Self>) {
        let (legs, cleared) = {
            let state = self.state();
            (state.legs.clone(), state.intent.header().map(|header| header.events_cleared))
        };
        // What comes back with all but what has a bit is no event.
        let (mut is_back, mut events) = (false, 0);
        for (leg, was) in legs.into_iter().enumerate() {
            let devices = &self.legs[leg];
            let (Leg::Failed(_) | Leg::Broken, Some(meta), Some(_)) =
                (was, &devices.meta, &devices.data)
            else {
                continue;
            };
            let found = match self.metadata.find(leg, meta).await {
                metadata::Found::Unreadable => continue,
                found => found,
            };
            let kind = self.kind();
            self.log.line(format_args!(
                "Faulty {kind} device #{leg} has readable super block.  Attempting to revive it."
            ));
            // What is there may be another device by now.
            let is_known = matches!(found, metadata::Found::Own(events)
                if cleared.is_some_and(|at| self.state().has_all_but_bits(events, at)));
            self.state().legs[leg] = match was {
                // Nothing was written since; what it has alone is better than nothing.
                Leg::Broken => Leg::InSync,
                Leg::Failed(lacks) if is_known => Leg::Behind(lacks),
                _ => {
                    events = 1;
                    Leg::Behind(Behind::ALL)
                }
            };
            is_back = true;
        }
        if is_back {
            self.write_all_metadata(events).await;
        }
    }
}
