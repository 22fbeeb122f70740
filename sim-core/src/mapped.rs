//! A mapped device: a live table, the bios in flight through it, and suspend and resume.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use futures_util::lock::Mutex as AsyncMutex;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::event::Events;
use crate::extent::{FlatMap, Found, Place, walk};
use crate::gate::{Gate, Pass};
use crate::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, DevNumber, End, Errno, Flags, Flat,
    KernelLog, Limits, Op, Sector, Sectors, Table,
};

/// A device whose sectors are mapped by a table.
pub struct MappedDevice {
    minor: u32,
    me: Weak<MappedDevice>,
    /// Every bio that goes by the table passes here; closed while the device is suspended.
    gate: Gate,
    /// Read by a bio for as long as it is inside: a reader holds no more than one atomic, however
    /// deep the stack. Written when nobody passes the gate.
    live: RwLock<Option<Arc<Table>>>,
    flat: ArcSwapOption<FlatMap>,
    size: AtomicU64,
    read_only: AtomicBool,
    open_count: AtomicU32,
    events: Arc<Events>,
    /// One suspend or resume at a time.
    changing: AsyncMutex<()>,
    folding: AtomicBool,
    state: Mutex<State>,
    log: Arc<dyn KernelLog>,
}

struct State {
    limits: Limits,
    phase: Phase,
    /// Bios that targets hand back wait for the resume.
    noflush: bool,
    /// Devices whose live table maps onto this one.
    above: Vec<Weak<MappedDevice>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    Suspending,
    Suspended,
    Gone,
}

/// How a suspend treats bios that targets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Held {
    /// They end before the device is suspended.
    Flush,
    /// Targets may hand them back; they are mapped anew after the resume (`--noflush`).
    NoFlush,
}

impl MappedDevice {
    pub(crate) fn new(minor: u32, log: Arc<dyn KernelLog>) -> Arc<MappedDevice> {
        Arc::new_cyclic(|me| MappedDevice {
            minor,
            me: me.clone(),
            gate: Gate::default(),
            live: RwLock::new(None),
            flat: ArcSwapOption::empty(),
            size: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
            open_count: AtomicU32::new(0),
            events: Arc::default(),
            changing: AsyncMutex::new(()),
            folding: AtomicBool::new(true),
            state: Mutex::new(State {
                limits: Limits::stacking(),
                phase: Phase::Running,
                noflush: false,
                above: Vec::new(),
            }),
            log,
        })
    }

    /// Returns the minor number.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Returns the live table.
    pub fn live(&self) -> Option<Arc<Table>> {
        self.table().clone()
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Option<Arc<Table>>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another table in place, and returns the one before.
    fn replace_table(&self, table: Option<Arc<Table>>) -> Option<Arc<Table>> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *live, table)
    }

    /// Tells whether the device is suspended.
    pub fn is_suspended(&self) -> bool {
        self.state().phase == Phase::Suspended
    }

    /// Returns how many users have the device open, tables of other devices among them.
    pub fn open_count(&self) -> u32 {
        self.open_count.load(SeqCst)
    }

    /// Returns the device's events.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Returns how many bios are in flight, or wait for the device to be resumed with their
    /// place in the table taken.
    pub fn in_flight(&self) -> u64 {
        self.gate.inside() + self.flat.load().as_ref().map_or(0, |map| map.gate.inside())
    }

    /// Returns the number of extents in the flattened map; `None` while there is no map.
    pub fn extents(&self) -> Option<usize> {
        self.flat.load().as_ref().map(|map| map.len())
    }

    /// Follows a sector down to where it ends up below all tables: the leaf device and the sector
    /// on it, or nothing where it is mapped to zeros, to errors, or by more than a remap.
    ///
    /// Asks each table on the way; [`flat_place`](Self::flat_place) asks the flattened map.
    pub fn walk_place(&self, sector: Sector) -> Option<(DevNumber, Sector)> {
        match walk(self, sector)?.0 {
            Found::Leaf(leaf, to) => Some((leaf.number(), to)),
            Found::Zero | Found::Error | Found::Opaque => None,
        }
    }

    /// As [`walk_place`](Self::walk_place), by the flattened map; `None` also while there is none.
    pub fn flat_place(&self, sector: Sector) -> Option<(DevNumber, Sector)> {
        let map = self.flat()?;
        match map.find(sector)? {
            (Place::Leaf(leaf, start), begin, _) => {
                Some((map.leaf(*leaf).number(), *start + (sector - begin)))
            }
            (Place::Ask, _, _) => self.walk_place(sector),
            (Place::Zero | Place::Error | Place::Opaque, _, _) => None,
        }
    }

    /// Turns the flattened map on or off, for comparing the two ways. Takes effect at once.
    pub fn set_folding(&self, folding: bool) {
        self.folding.store(folding, SeqCst);
        if folding {
            self.refold();
        } else {
            self.flat.store(None);
        }
    }

    /// Turns away whoever waits for the device to be resumed, and whoever comes after.
    pub fn fail_held(&self) {
        self.gate.demolish();
    }

    pub(crate) fn flat(&self) -> Option<Arc<FlatMap>> {
        self.flat.load_full()
    }

    pub(crate) fn set_access(&self, access: Access) {
        self.read_only.store(access.is_read_only(), SeqCst);
    }

    /// Stops new bios, waits for those in flight, and leaves the device suspended. Nothing
    /// happens to a device that is suspended already.
    pub(crate) async fn suspend(&self, held: Held) -> Result<(), Errno> {
        let _one = self.changing.lock().await;
        self.suspend_locked(held).await
    }

    async fn suspend_locked(&self, held: Held) -> Result<(), Errno> {
        {
            let mut state = self.state();
            match state.phase {
                Phase::Running => state.phase = Phase::Suspending,
                Phase::Suspended => return Ok(()),
                Phase::Gone => return Err(Errno::NXIO),
                Phase::Suspending => unreachable!("one suspend at a time"),
            }
            state.noflush = held == Held::NoFlush;
        }
        // Whoever gives up waiting leaves the device as it was.
        let mut undo = UndoSuspend { device: self, done: false };
        let table = self.live();
        for entry in table.iter().flat_map(|table| table.entries()) {
            entry.target.presuspend();
        }
        let mut revoked = Vec::new();
        self.revoke(&mut revoked);
        self.gate.close();
        for map in &revoked {
            map.gate.drained().await;
        }
        self.gate.drained().await;
        for entry in table.iter().flat_map(|table| table.entries()) {
            entry.target.postsuspend().await;
        }
        undo.done = true;
        let mut state = self.state();
        if state.phase == Phase::Suspending {
            state.phase = Phase::Suspended;
        }
        state.noflush = false;
        Ok(())
    }

    /// Swaps `table` in, if there is one, and lets bios through again. `held` is how bios are
    /// treated should the device have to be suspended for the swap. Where the new table cannot
    /// be taken (`limits` fails), the device stays suspended with the table it had.
    pub(crate) async fn resume(
        &self,
        table: Option<Arc<Table>>,
        held: Held,
        limits: impl FnOnce(&Table) -> Result<Limits, Errno>,
    ) -> Result<(), Errno> {
        let _one = self.changing.lock().await;
        if let Some(table) = table {
            self.suspend_locked(held).await?;
            let limits = limits(&table)?;
            self.bind(table, limits);
        } else if self.state().phase == Phase::Running {
            return Ok(());
        }
        let table = self.live().ok_or(Errno::INVAL)?;
        for entry in table.entries() {
            if let Err(errno) = entry.target.preresume().await {
                self.log.line(&format!(
                    "device-mapper: table: {}: {}: preresume failed, error = -{}",
                    self.number(),
                    entry.target_type.name(),
                    errno.0
                ));
                return Err(errno);
            }
        }
        for entry in table.entries() {
            entry.target.resume();
        }
        {
            let mut state = self.state();
            if state.phase == Phase::Gone {
                return Err(Errno::NXIO);
            }
            state.phase = Phase::Running;
        }
        self.refold();
        self.gate.open();
        Ok(())
    }

    /// Makes `table` the live one; nothing is in flight.
    fn bind(&self, table: Arc<Table>, limits: Limits) {
        let old = self.replace_table(Some(table.clone()));
        for below in old.iter().flat_map(|table| table.devices()) {
            if let Some(below) = below.device().as_mapped() {
                below.state().above.retain(|above| !above.ptr_eq(&self.me));
            }
        }
        for below in table.devices() {
            if let Some(below) = below.device().as_mapped() {
                below.state().above.push(self.me.clone());
            }
        }
        self.size.store(table.size().0, SeqCst);
        self.set_access(table.access());
        self.set_limits(limits);
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Ends the device: nobody gets in any more, and the table goes.
    pub(crate) fn destroy(&self) {
        self.state().phase = Phase::Gone;
        self.gate.demolish();
        self.revoke(&mut Vec::new());
        self.replace_table(None);
        self.size.store(0, SeqCst);
        self.events.wake();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state().phase == Phase::Gone
    }

    /// Closes the flattened maps of this device and of all devices above it.
    fn revoke(&self, revoked: &mut Vec<Arc<FlatMap>>) {
        let above = {
            let state = self.state();
            if let Some(map) = self.flat.swap(None) {
                map.gate.close();
                revoked.push(map);
            }
            state.above.clone()
        };
        for device in above.iter().filter_map(Weak::upgrade) {
            device.revoke(revoked);
        }
    }

    /// Folds the map of this device anew, then those of the devices above it.
    fn refold(&self) {
        let above = {
            // Held until the map is in place: whoever revokes it comes before or after.
            let state = self.state();
            if state.phase != Phase::Running || !self.folding.load(SeqCst) {
                return;
            }
            let map = self.table().as_ref().and_then(|table| FlatMap::fold(table));
            self.flat.store(map.map(Arc::new));
            state.above.clone()
        };
        for device in above.iter().filter_map(Weak::upgrade) {
            device.refold();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a bio, waiting as long as the device is suspended.
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        loop {
            if let Some(result) = self.run_flat(&mut bio).await {
                return result;
            }
            let pass = self.enter(bio.flags).await?;
            let Some(table) = self.live() else { return Err(BlkError::Io) };
            let result = table.run(bio.reborrow()).await;
            drop((pass, table));
            // A bio that a target hands back waits for the resume, and is mapped anew.
            if result != Err(BlkError::Requeue) || !self.state().noflush {
                return result.map_err(|error| match error {
                    BlkError::Requeue => BlkError::Io,
                    other => other,
                });
            }
        }
    }

    async fn enter(&self, flags: Flags) -> Result<Pass<'_>, BlkError> {
        if let Some(pass) = self.gate.try_enter() {
            return Ok(pass);
        }
        match flags {
            Flags { nowait: true, .. } => Err(BlkError::Again),
            Flags { readahead: true, .. } => Err(BlkError::Io),
            _ => self.gate.enter().await.map_err(|_gone| BlkError::Gone),
        }
    }

    /// Carries out a bio by the flattened map; `None` where it needs the tables.
    async fn run_flat(&self, bio: &mut Bio<'_>) -> Option<BlkResult> {
        if bio.op().is_abnormal() || (bio.flags.preflush && bio.op() != Op::Flush) {
            return None;
        }
        let map = self.flat()?;
        let _pass = map.gate.try_enter()?;
        if bio.op() == Op::Flush {
            let mut flushes: FuturesUnordered<_> =
                map.flush.as_ref()?.iter().map(|leaf| leaf.submit(Bio::flush())).collect();
            let mut result = Ok(());
            while let Some(end) = flushes.next().await {
                result = result.and(end);
            }
            return Some(result);
        }
        if self.is_past_end(bio) {
            return Some(Err(BlkError::Io));
        }
        let mut runs = FuturesUnordered::new();
        let mut rest = Some(bio.reborrow());
        while let Some(bio) = rest.take() {
            let (found, len) = self.find(&map, bio.sector)?;
            let run = if len < bio.len() {
                let (run, tail) = bio.split_at(len);
                rest = Some(tail);
                run
            } else {
                bio
            };
            runs.push(async move {
                let (op, flags, sector, len) = (run.op(), run.flags, run.sector, run.len());
                let result = match found {
                    Found::Leaf(leaf, to) => leaf.submit(run.at(to)).await,
                    Found::Zero => fill_zeros(run),
                    Found::Error => Err(BlkError::Io),
                    Found::Opaque => return None,
                };
                Some(self.end_flat(op, flags, sector, len, result))
            });
        }
        let mut result = Ok(());
        while let Some(end) = runs.next().await {
            // Another run may have been carried out by now: it is again, by the tables.
            result = result.and(end?);
        }
        Some(result)
    }

    /// Finds where a sector ends up, by the map and, where it says so, by the tables.
    fn find(&self, map: &FlatMap, sector: Sector) -> Option<(Found, Sectors)> {
        let (place, begin, room) = map.find(sector)?;
        Some(match place {
            Place::Leaf(leaf, start) => {
                (Found::Leaf(map.leaf(*leaf).clone(), *start + (sector - begin)), room)
            }
            Place::Zero => (Found::Zero, room),
            Place::Error => (Found::Error, room),
            Place::Opaque => (Found::Opaque, room),
            Place::Ask => {
                let (found, run) = walk(self, sector)?;
                (found, run.min(room))
            }
        })
    }

    /// Carries out a read or a write that crosses runs, unless one of them could wait.
    fn runs_now<'b>(&self, map: &FlatMap, mut bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        let (mut done, mut result) = (Sectors::ZERO, Ok(()));
        while done < bio.len() {
            let sector = bio.sector + done;
            let Some((found, room)) = self.find(map, sector) else { return Err(bio) };
            let len = room.min(bio.len() - done);
            let run = bio.part(done, len);
            let (op, flags) = (run.op(), run.flags);
            let end = match found {
                Found::Zero => fill_zeros(run),
                Found::Error => Err(BlkError::Io),
                Found::Opaque => return Err(bio),
                Found::Leaf(leaf, to) => match leaf.try_now(run.at(to)) {
                    Ok(end) => end,
                    Err(_) => return Err(bio),
                },
            };
            result = result.and(self.end_flat(op, flags, sector, len, end));
            done += len;
        }
        Ok(result)
    }

    /// Carries out a read or a write by the table, where one target takes all of it and does no
    /// more than to send it on.
    fn walk_now<'b>(&self, mut bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        let Some(_pass) = self.gate.try_enter() else { return Err(bio) };
        let live = self.table();
        let Some(table) = live.as_ref() else { return Err(bio) };
        if self.is_past_end(&bio) {
            return Ok(Err(BlkError::Io));
        }
        let Some(entry) = table.find(bio.sector) else { return Err(bio) };
        match entry.run_now(bio.reborrow()) {
            Some(result) => Ok(result),
            None => Err(bio),
        }
    }

    /// Tells every target that a failed run passed through, from the last to the first.
    fn end_flat(
        &self,
        op: Op,
        flags: Flags,
        sector: Sector,
        len: Sectors,
        result: BlkResult,
    ) -> BlkResult {
        if result.is_ok() {
            return result;
        }
        let Some(table) = self.live() else { return result };
        let Some(entry) = table.find(sector) else { return result };
        let offset = (sector - entry.begin).to_sector();
        let Flat::Device(area, to, _) = entry.target.flatten(offset) else { return result };
        let result = match area.device().as_mapped() {
            Some(below) => below.end_flat(op, flags, area.start + to.from_start(), len, result),
            None => result,
        };
        entry.target.end_io(&End { op, flags, sector: offset, len, area }, result)
    }

    fn is_past_end(&self, bio: &Bio<'_>) -> bool {
        bio.end().is_none_or(|end| end.0 > self.size.load(SeqCst))
    }
}

/// Reads zeros; drops a write.
fn fill_zeros(mut bio: Bio<'_>) -> BlkResult {
    bio.buffer().fill(0);
    Ok(())
}

/// Opens the device again when a suspend is given up before its end.
struct UndoSuspend<'a> {
    device: &'a MappedDevice,
    done: bool,
}

impl Drop for UndoSuspend<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let device = self.device;
        {
            let mut state = device.state();
            if state.phase == Phase::Suspending {
                state.phase = Phase::Running;
            }
            state.noflush = false;
        }
        if let Some(table) = device.live() {
            for entry in table.entries() {
                entry.target.presuspend_undo();
            }
        }
        device.refold();
        device.gate.open();
    }
}

impl BlockDevice for MappedDevice {
    fn number(&self) -> DevNumber {
        DevNumber::mapped(self.minor)
    }

    fn name(&self) -> String {
        format!("dm-{}", self.minor)
    }

    fn size(&self) -> Sectors {
        Sectors(self.size.load(SeqCst))
    }

    fn limits(&self) -> Limits {
        self.state().limits.clone()
    }

    fn access(&self) -> Access {
        if self.read_only.load(SeqCst) { Access::ReadOnly } else { Access::ReadWrite }
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        if !matches!(bio.op(), Op::Read | Op::Write) || bio.flags.preflush {
            return Err(bio);
        }
        if !self.folding.load(SeqCst) {
            return self.walk_now(bio);
        }
        let flat = self.flat.load();
        let Some(map) = flat.as_ref() else {
            // A thread can hold few of these guards at once at no cost: one a layer is too many.
            drop(flat);
            return self.walk_now(bio);
        };
        let Some(_pass) = map.gate.try_enter() else { return Err(bio) };
        if self.is_past_end(&bio) {
            return Ok(Err(BlkError::Io));
        }
        match map.find(bio.sector) {
            // One run of one leaf: on to it, with the caller's buffer.
            Some((Place::Leaf(leaf, start), begin, room)) if room >= bio.len() => {
                let (op, flags, sector, len) = (bio.op(), bio.flags, bio.sector, bio.len());
                match map.leaf(*leaf).try_now(bio.at(*start + (sector - begin))) {
                    Ok(result) => Ok(self.end_flat(op, flags, sector, len, result)),
                    Err(bio) => Err(bio.at(sector)),
                }
            }
            _ => self.runs_now(map, bio),
        }
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(self.run(bio))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        if self.is_gone() {
            return Err(Errno::NXIO);
        }
        self.open_count.fetch_add(1, SeqCst);
        Ok(())
    }

    fn release(&self) {
        self.open_count.fetch_sub(1, SeqCst);
    }

    fn lend(&self, sector: Sector, len: Sectors, reply: &mut dyn FnMut(&[u8])) -> bool {
        let flat = self.flat.load();
        let Some(map) = flat.as_ref().filter(|map| map.unwatched) else { return false };
        let Some(_pass) = map.gate.try_enter() else { return false };
        if sector.checked_add(len).is_none_or(|end| end.0 > self.size.load(SeqCst)) {
            return false;
        }
        match map.find(sector) {
            Some((Place::Leaf(leaf, start), begin, room)) if room >= len => {
                map.leaf(*leaf).lend(*start + (sector - begin), len, reply)
            }
            _ => false,
        }
    }

    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        // A resume may have made the device smaller than the caller knows.
        let left = self.size.load(SeqCst).saturating_sub(at.0);
        let unknown = (Allocation::Data, Sectors(left));
        let Some(map) = self.flat() else { return unknown };
        let Some(_pass) = map.gate.try_enter() else { return unknown };
        match self.find(&map, at) {
            Some((Found::Leaf(leaf, to), room)) => {
                let (kind, run) = leaf.run_at(to);
                (kind, run.min(room))
            }
            Some((Found::Zero, room)) => (Allocation::Hole, room),
            Some((Found::Error | Found::Opaque, room)) => (Allocation::Data, room),
            None => unknown,
        }
    }

    fn as_mapped(&self) -> Option<&MappedDevice> {
        Some(self)
    }
}
