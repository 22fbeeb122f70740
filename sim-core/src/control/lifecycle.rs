//! Operations that change a device's state: removing, suspending, resuming, waiting for events.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Waker};

use super::claims::{Shared, written};
use super::{
    Answer, Cell, Changed, CommandResult, Control, DevStatus, Failure, Id, Overlap, Report, Slot,
    WhenOpen, lock,
};
use crate::{
    BoxFuture, Errno, Held, KeyText, MappedDevice, Outcome, Refusal, Sector, Sectors, Table,
};

impl Control {
    pub(super) async fn dev_remove(&self, id: &Id, open: WhenOpen) -> CommandResult {
        let minor = self.with(id, |cell| Ok(cell.device.minor()))?;
        match (self.take_closed(minor), open) {
            (Ok(cell), _) => self.end(cell).await,
            (Err(errno), WhenOpen::Defer) if errno == Errno::BUSY => {
                let name = self.defer_removal(minor, true)?;
                self.changed(&Changed::Name(name));
            }
            (Err(errno), _) => return Err(errno.into()),
        }
        self.reap();
        Ok(Answer::Done)
    }

    pub(super) async fn remove_all(&self, open: WhenOpen) -> CommandResult {
        loop {
            let (mut removed, mut last) = (0, None);
            // Each is looked for when its turn comes: others come and go meanwhile.
            while let Some(minor) = self.next_minor(last) {
                last = Some(minor);
                if let Ok(cell) = self.take_closed(minor) {
                    self.end(cell).await;
                    removed += 1;
                }
            }
            // Each device removed may have been what kept another open.
            if removed == 0 {
                break;
            }
        }
        let left: Vec<String> = self.cells().iter().map(|cell| cell.name.clone()).collect();
        if left.is_empty() {
            return Ok(Answer::Done);
        }
        if open == WhenOpen::Defer {
            let mut cells = self.cells();
            let minors: Vec<u32> = cells.iter().map(|cell| cell.device.minor()).collect();
            minors.into_iter().for_each(|minor| cells.set_deferred(minor, true));
        }
        let count = left.len();
        self.log.line(&format!("device-mapper: ioctl: remove_all left {count} open device(s)"));
        left.into_iter().for_each(|name| self.changed(&Changed::Name(name)));
        Ok(Answer::Done)
    }

    fn next_minor(&self, last: Option<u32>) -> Option<u32> {
        self.cells().after(last)
    }

    /// Says whether a device is to be removed when it is closed, and returns its name.
    pub(super) fn defer_removal(&self, minor: u32, deferred: bool) -> Result<String, Failure> {
        let mut cells = self.cells();
        let name = cells.get(minor).ok_or(Errno::NXIO)?.name.clone();
        cells.set_deferred(minor, deferred);
        Ok(name)
    }

    /// Removes what was to be removed when closed, and is closed now. To be called by whoever
    /// has released a device.
    pub fn reap(&self) {
        while let Some(minor) = self.next_due() {
            if let Ok(cell) = self.take_closed(minor) {
                // Whoever closes a device does not wait for its end.
                drop(self.start_end(cell));
            }
        }
    }

    fn next_due(&self) -> Option<u32> {
        self.cells().due()
    }

    /// Takes a device that nobody has open out of the control plane, so that nobody opens it from
    /// here on: [`Errno::BUSY`] if somebody has. What is left of it is for [`end`](Self::end).
    fn take_closed(&self, minor: u32) -> Result<Cell, Errno> {
        let mut cells = self.cells();
        cells.get(minor).ok_or(Errno::NXIO)?.device.retire()?;
        if let Some(recorder) = self.recorder.get() {
            recorder.note(minor, None);
        }
        let cell = cells.remove(minor).expect("found above");
        self.journal.removed(&cell);
        lock(&self.claims).remove(cell.device.node());
        Ok(cell)
    }

    /// Ends a device that was taken out: its targets are told as at a suspend, and its tables go.
    /// Goes on by itself when it is dropped, as the device cannot come back.
    async fn end(&self, cell: Cell) {
        self.start_end(cell).wait().await;
    }

    fn start_end(&self, cell: Cell) -> Arc<Outcome<()>> {
        let (name, minor) = (cell.name.clone(), cell.device.minor());
        let ended = Arc::new(Outcome::new());
        let outcome = ended.clone();
        let mut end: BoxFuture<'static, ()> = Box::pin(async move {
            cell.tear_down().await;
            outcome.set(());
        });
        // What ends at once needs no task.
        let mut cx = Context::from_waker(Waker::noop());
        if end.as_mut().poll(&mut cx).is_pending() {
            self.runtime.spawn(end);
        }
        self.changed(&Changed::Name(name));
        self.changed(&Changed::Content(minor));
        ended
    }

    pub(super) async fn dev_suspend(&self, id: &Id, held: Held) -> CommandResult {
        let device = self.device(id)?;
        let suspended = device.suspend(held).await;
        self.journal.settled(&device, false);
        suspended?;
        self.claim(&device);
        self.cells().cell_of(&device).into_iter().for_each(|cell| self.note(cell));
        self.status_of(&device).map(Answer::Status)
    }

    pub(super) async fn dev_resume(&self, id: &Id, held: Held) -> CommandResult {
        let (device, inactive) =
            self.with(id, |cell| Ok((cell.device.clone(), cell.inactive.take())))?;
        let new_table = inactive.is_some();
        // However it ends, how the device is then is noted; and until the new table is bound, a
        // resume that is given up puts it back.
        let mut pending = PendingResume { control: self, device: &device, table: inactive };
        let result = device
            .resume(pending.table.clone(), held, |table| {
                pending.table = None;
                let site = self.site(&device, table.access(), "");
                let limits = table.limits(&site.build());
                limits.map_err(|error| Refusal::because(error.errno, error.to_string()))
            })
            .await;
        drop(pending);
        // Where it fails, it may have been suspended on the way.
        self.journal.settled(&device, new_table && result.is_ok());
        let overlap = self.claim(&device);
        if new_table && result.is_ok() {
            // A table brings its own, whatever was set before.
            self.cells().cell_of(&device).into_iter().for_each(|cell| {
                cell.read_ahead = None;
                self.note(cell);
            });
        }
        // The old table is gone now, and with it what kept devices below open.
        self.reap();
        let status = self.status_of(&device);
        result?;
        self.changed(&Changed::Content(device.minor()));
        Ok(Answer::Status(DevStatus { overlap, ..status? }))
    }

    /// Notes what a device writes to as it is now: nothing while it is suspended, or was removed. Tells
    /// of another one that writes there too, where that is new.
    fn claim(&self, device: &MappedDevice) -> Option<Overlap> {
        let table = device.live();
        let runs = table.as_deref().map(written).unwrap_or_default();
        let mut cells = self.cells();
        let is_there = cells.cell_of(device).is_some();
        let mut claims = lock(&self.claims);
        let in_use = device.live().filter(|_| is_there && !device.is_suspended());
        // Another resume has changed the table meanwhile: it claims what that writes to.
        let Some(table) = in_use.filter(|now| table.is_some_and(|then| Arc::ptr_eq(&then, now)))
        else {
            match is_there {
                true => claims.suspend(device.node()),
                false => claims.remove(device.node()),
            }
            return None;
        };
        let Shared { other, run: (below, start, end) } =
            claims.set(device.node(), device.minor(), &table, runs)?;
        let other = cells.get(other)?.name.clone();
        let below_name = table.devices().find(|open| open.number() == below)?.name();
        let (start, len) = (Sector(start), Sectors(end - start));
        Some(Overlap { other, below, below_name, start, len })
    }

    /// Returns how a device is; [`Errno::NXIO`] where it was removed.
    fn status_of(&self, device: &MappedDevice) -> Result<DevStatus, Failure> {
        let mut cells = self.cells();
        let cell = cells.cell_of(device).ok_or(Errno::NXIO)?;
        Ok(cell.status(Slot::Live))
    }

    pub(super) async fn dev_wait(&self, id: &Id, event_nr: u32) -> CommandResult {
        let (device, before) =
            self.with(id, |cell| Ok((cell.device.clone(), cell.status(Slot::Live))))?;
        device.events().until(|number| number != event_nr || device.is_gone()).await;
        // By the name that it has now. One that is gone is told of as it was, without its table: it is not the
        // kernel's way to fail then.
        let name = self.cells().cell_of(&device).map(|cell| cell.name.clone());
        let gone = || {
            let (event_nr, target_count) = (device.events().number(), 0);
            let (live_present, inactive_present, open_count) = (false, false, 0);
            let status = DevStatus {
                event_nr,
                target_count,
                live_present,
                inactive_present,
                open_count,
                ..before
            };
            Ok(Answer::Table(status, Vec::new()))
        };
        let Some(name) = name else { return gone() };
        let id = Id::Name(name);
        let status =
            self.table_status(&id, Report::Status, Slot::Live, false, KeyText::Zeros).await;
        match status {
            Err(failure) if failure.errno == Errno::NXIO => gone(),
            status => status,
        }
    }
}

impl Cell {
    /// Suspends the device for good, and lets its tables go.
    async fn tear_down(self) {
        self.device.tear_down().await;
    }
}

/// A resume under way.
struct PendingResume<'a> {
    control: &'a Control,
    device: &'a MappedDevice,
    /// The table that is to be live; nothing once it is.
    table: Option<Arc<Table>>,
}

impl Drop for PendingResume<'_> {
    fn drop(&mut self) {
        // Also where it fails, the device may have another size by now.
        self.control.changes.fetch_add(1, SeqCst);
        if let Some(cell) = self.control.cells().cell_of(self.device) {
            if let Some(table) = self.table.take() {
                // A table loaded in the meantime is newer.
                cell.inactive.get_or_insert(table);
            }
            self.control.note(cell);
        }
    }
}
