//! A mapped device: a live table, the bios in flight through it, and suspend and resume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};

use futures_util::future::BoxFuture;
use futures_util::lock::Mutex as AsyncMutex;

use crate::fault::FaultSlot;
use crate::graph::NodeId;
use crate::mapped::flat_map::FlatMap;
use crate::stats::Stats;
use crate::sync::barrier::Barrier;
use crate::sync::event::Events;
use crate::sync::gate::Gate;
use crate::trace::TapSlot;
use crate::{
    Access, BlockDevice, Errno, KernelLog, Limits, Refusal, Runtime, Table, TableType, Target,
};

pub(crate) mod flat_map;
mod fold;
mod hooks;
mod io;
mod maps;
mod opens;
mod reserve;
mod slot;
mod walk;

use opens::Opens;
use slot::MapSlot;

/// A device whose sectors are mapped by a table.
pub struct MappedDevice {
    minor: u32,
    node: NodeId,
    me: Weak<MappedDevice>,
    /// Every bio that goes by the table passes here; closed while the device is suspended.
    gate: Gate,
    /// Read by a bio for as long as it is inside: a reader holds no more than one atomic, however
    /// deep the stack. Written when nobody passes the gate.
    live: RwLock<Option<Arc<Table>>>,
    flat: MapSlot,
    size: Arc<AtomicU64>,
    read_only: AtomicBool,
    opens: Opens,
    /// The type of the first table that was loaded: it stays.
    table_type: OnceLock<TableType>,
    events: Arc<Events>,
    /// One suspend or resume at a time.
    changing: AsyncMutex<()>,
    folding: AtomicBool,
    state: Mutex<State>,
    log: Arc<dyn KernelLog>,
    barrier: Barrier,
    /// What goes wrong for whoever uses the device. There is no flattened map where something does,
    /// here and above.
    faults: FaultSlot,
    stats: Stats,
    tap: TapSlot,
}

struct State {
    limits: Limits,
    phase: Phase,
    /// Bios that targets hand back wait for the resume.
    noflush: bool,
    /// Devices whose live table maps onto this one.
    above: BTreeMap<NodeId, Weak<MappedDevice>>,
    /// Flattened maps that are closed, and may have bios in them yet.
    draining: Vec<Arc<FlatMap>>,
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
    pub(crate) fn new(
        minor: u32,
        node: NodeId,
        log: Arc<dyn KernelLog>,
        runtime: Arc<dyn Runtime>,
    ) -> Arc<MappedDevice> {
        let barrier = Barrier::new(runtime.clone(), format!("dm-{minor}"));
        Arc::new_cyclic(|me| MappedDevice {
            minor,
            node,
            me: me.clone(),
            gate: Gate::default(),
            live: RwLock::new(None),
            flat: MapSlot::empty(),
            size: Arc::default(),
            read_only: AtomicBool::new(false),
            opens: Opens::default(),
            table_type: OnceLock::new(),
            events: Arc::default(),
            changing: AsyncMutex::new(()),
            folding: AtomicBool::new(true),
            state: Mutex::new(State {
                limits: Limits::stacking(),
                phase: Phase::Running,
                noflush: false,
                above: BTreeMap::new(),
                draining: Vec::new(),
            }),
            log,
            barrier,
            faults: FaultSlot::default(),
            stats: Stats::new(runtime),
            tap: TapSlot::default(),
        })
    }

    /// Returns the mapped device that a device is, if it is one.
    pub fn of(device: &dyn BlockDevice) -> Option<&MappedDevice> {
        device.as_any()?.downcast_ref()
    }

    /// Returns the minor number.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Returns which device this is in the graph of its instance.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the type that the first table made the device; none before one was loaded.
    pub(crate) fn table_type(&self) -> Option<TableType> {
        self.table_type.get().copied()
    }

    /// Gives the device the type of a table, unless it has one; returns what it has.
    pub(crate) fn settle_type(&self, table_type: TableType) -> TableType {
        *self.table_type.get_or_init(|| table_type)
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
        self.opens.count()
    }

    /// Says how many of those who have the device open only show it as something else, and are no
    /// users to anybody who asks. As long as they have it open, it cannot be removed all the same.
    pub fn set_showing(&self, opens: u32) {
        self.opens.set_showing(opens);
    }

    /// Returns how many users have the device open, without those who only show it.
    pub fn user_count(&self) -> u32 {
        self.opens.users()
    }

    /// Turns away whoever opens the device from here on; [`Errno::BUSY`] where somebody has it
    /// open.
    pub(crate) fn retire(&self) -> Result<(), Errno> {
        self.opens.retire()
    }

    /// Returns the device's events.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Returns how many bios are in flight, or wait for the device to be resumed with their
    /// place in the table taken.
    pub fn in_flight(&self) -> u64 {
        let state = self.state();
        let flat = self.flat.look();
        let maps = flat.map().into_iter().chain(&state.draining);
        self.gate.inside() + maps.map(|map| map.gate.inside()).sum::<u64>()
    }

    /// Tells the targets here and below that somebody who could write has closed the device.
    pub async fn closed(&self) {
        self.tell_closed(&mut BTreeSet::new()).await;
    }

    fn tell_closed<'a>(&'a self, seen: &'a mut BTreeSet<u32>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // A suspended device has put nothing off.
            let Some(_pass) = self.gate.try_enter() else { return };
            let Some(table) = self.live().filter(|_| seen.insert(self.minor)) else { return };
            for entry in table.entries() {
                self.barrier.wait((), async { entry.target.closed().await }).await;
            }
            for below in mapped_below(&table) {
                below.tell_closed(seen).await;
            }
        })
    }

    /// Tells whether no bio that is in this device has reached a device below all tables: it is
    /// suspended, or only remaps onto devices of which that is true.
    ///
    /// Whoever asks must not have the bio in question carried on meanwhile.
    pub fn holds_all(&self) -> bool {
        self.holds_all_but(&mut BTreeSet::new())
    }

    fn holds_all_but(&self, seen: &mut BTreeSet<u32>) -> bool {
        // One that was looked at before, and let something through, has ended the search.
        if self.is_suspended() || !seen.insert(self.minor) {
            return true;
        }
        let Some(table) = self.live().filter(|table| table.is_remap_only()) else { return false };
        let mut devices = table.devices().map(|open| MappedDevice::of(&**open.device()));
        devices.all(|below| below.is_some_and(|below| below.holds_all_but(seen)))
    }

    /// Turns away whoever waits for the device to be resumed, and whoever comes after.
    pub fn fail_held(&self) {
        self.hold_late(false);
        self.faults.hold(false);
        self.gate.demolish();
    }

    pub(crate) fn flat(&self) -> Option<Arc<FlatMap>> {
        self.flat.get()
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
        self.tell(&table, |target| target.presuspend_with(held));
        let revoked = self.revoke();
        self.gate.close();
        self.hold_late(false);
        for map in &revoked {
            map.gate.drained().await;
        }
        self.gate.drained().await;
        self.end_background(&table).await;
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
        limits: impl FnOnce(&Table) -> Result<Limits, Refusal>,
    ) -> Result<(), Refusal> {
        let _one = self.changing.lock().await;
        // Kept up to the end: the new table may take over what the old one holds.
        let old = if let Some(table) = table {
            self.suspend_locked(held).await?;
            let limits = limits(&table)?;
            self.bind(table, limits)
        } else if self.state().phase == Phase::Running {
            return Ok(());
        } else {
            None
        };
        let resumed = self.resume_live().await;
        self.finish(&old).await;
        resumed
    }

    /// Lets bios through the live table again.
    async fn resume_live(&self) -> Result<(), Refusal> {
        let table = self.live().ok_or(Errno::INVAL)?;
        for entry in table.entries() {
            let preresume = async { entry.target.preresume().await };
            let ready = self.barrier.wait(Err(Errno::IO.into()), preresume).await;
            if let Err(refusal) = ready {
                self.log.line(&format!(
                    "device-mapper: table: {}: {}: preresume failed, error = -{}",
                    self.number(),
                    entry.target_type.name(),
                    refusal.errno.0
                ));
                return Err(refusal);
            }
        }
        let table = Some(table);
        if !self.tell(&table, |target| target.resume()) {
            // Those that have begun end what they do in the background, as at a suspend.
            self.end_background(&table).await;
            return Err(Errno::IO.into());
        }
        {
            let mut state = self.state();
            if state.phase == Phase::Gone {
                return Err(Errno::NXIO.into());
            }
            state.phase = Phase::Running;
        }
        self.refold();
        self.hold_late(true);
        self.gate.open();
        Ok(())
    }

    /// Tells each target of a table something. False where one panicked: the others are told.
    fn tell(&self, table: &Option<Arc<Table>>, what: impl Fn(&dyn Target)) -> bool {
        let mut all = true;
        for entry in table.iter().flat_map(|table| table.entries()) {
            all &= self.barrier.run(false, || {
                what(&*entry.target);
                true
            });
        }
        all
    }

    /// Ends what the targets do in the background.
    async fn end_background(&self, table: &Option<Arc<Table>>) {
        for entry in table.iter().flat_map(|table| table.entries()) {
            self.barrier.wait((), async { entry.target.postsuspend().await }).await;
        }
    }

    /// Lets the targets of a table that is not used any more do what is left to do.
    async fn finish(&self, table: &Option<Arc<Table>>) {
        for entry in table.iter().flat_map(|table| table.entries()) {
            self.barrier.wait((), async { entry.target.finish().await }).await;
        }
    }

    /// Makes `table` the live one, and returns the one before; nothing is in flight.
    fn bind(&self, table: Arc<Table>, limits: Limits) -> Option<Arc<Table>> {
        let old = self.replace_table(Some(table.clone()));
        old.iter().for_each(|old| self.leave(old));
        for below in mapped_below(&table) {
            below.state().above.insert(self.node, self.me.clone());
        }
        self.size.store(table.size().0, SeqCst);
        self.set_access(table.access());
        self.set_limits(limits);
        old
    }

    /// Takes this device from those above the devices of a table that is live no more.
    fn leave(&self, table: &Table) {
        for below in mapped_below(table) {
            below.state().above.remove(&self.node);
        }
    }

    /// Returns where the size is kept, for a target that changes it.
    pub(crate) fn shared_size(&self) -> Arc<AtomicU64> {
        self.size.clone()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Ends the device: nobody gets in any more, and the table goes.
    pub(crate) fn destroy(&self) {
        self.state().phase = Phase::Gone;
        self.gate.demolish();
        self.revoke();
        if let Some(table) = self.replace_table(None) {
            self.leave(&table);
        }
        self.size.store(0, SeqCst);
        self.events.wake();
        self.tap.end();
    }

    /// Ends the device as the kernel's `__dm_destroy` does: unless it is suspended already, its
    /// targets are told as at a suspend.
    pub(crate) async fn tear_down(&self) {
        // Nothing but a device that is gone refuses, and that has been told.
        let _told = self.suspend(Held::Flush).await;
        self.finish(&self.live()).await;
        self.destroy();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state().phase == Phase::Gone
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists the mapped devices that a table maps onto.
fn mapped_below(table: &Table) -> impl Iterator<Item = &MappedDevice> {
    table.devices().filter_map(|open| MappedDevice::of(&**open.device()))
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
        device.tell(&device.live(), |target| target.presuspend_undo());
        device.refold();
        device.hold_late(true);
        device.gate.open();
    }
}
