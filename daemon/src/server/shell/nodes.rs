//! Keeps block nodes and files true.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use backing::block_on;
use block_frontend::{Error, Facts, Node, OLD_NAME_LASTS, Shown};
use sim_core::control::{Answer, Changed, Command, DevStatus, Id, Slot, WhenOpen};
use sim_core::{BlockDevice, DevNumber, SECTOR_SIZE};

use super::super::state::{Daemon, spawn};
use super::Open;
use super::numbers::Numbers;
use crate::fault::{Fault, causes};

/// How often it is tried to take the node of a device that is removed when nobody uses it any more.
const RETRY: Duration = Duration::from_millis(200);

/// The nodes that devices have.
#[derive(Default)]
pub(super) struct Placed {
    /// By minor number; each has a lock of its own, as one that hangs is to hold up no other.
    places: Mutex<HashMap<u32, Arc<Mutex<Place>>>>,
    pub(super) numbers: Numbers,
    /// How many commands are under way that change a device, by minor number: its node is made true
    /// when they are done, and not before.
    under_way: Mutex<HashMap<u32, u32>>,
}

/// A device's node.
#[derive(Default)]
struct Place {
    node: Option<Node>,
    /// The minor number of the node by which the tree has it: programs take it for that of the device.
    in_tree: Option<u32>,
    /// It shows the device's file.
    shows: bool,
    /// How long it has been told that the device is, in bytes.
    bytes: u64,
    /// The device is removed when nobody uses it any more.
    goes: bool,
}

impl Placed {
    fn at(&self, minor: u32) -> Arc<Mutex<Place>> {
        self.places().entry(minor).or_default().clone()
    }

    fn is_under_way(&self, minor: u32) -> bool {
        lock(&self.under_way).contains_key(&minor)
    }

    fn minors(&self) -> Vec<u32> {
        self.places().keys().copied().collect()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u32, Arc<Mutex<Place>>>> {
        lock(&self.places)
    }
}

/// What a command is about that has been begun.
pub(in super::super) struct Touched {
    open: Arc<Open>,
    minors: Vec<u32>,
    /// It makes a device, whose number is not known yet.
    creates: bool,
    /// Those that are counted as changed by it.
    under_way: Vec<u32>,
}

impl Drop for Touched {
    fn drop(&mut self) {
        let mut under_way = lock(&self.open.placed.under_way);
        for minor in &self.under_way {
            if let Some(count) = under_way.get_mut(minor) {
                *count -= 1;
            }
        }
        under_way.retain(|_, count| *count > 0);
    }
}

impl Daemon {
    /// Prepares the nodes for a command; nothing where there are none.
    pub(in super::super) fn before(&self, command: &Command) -> Option<Touched> {
        let open = self.shell.get()?;
        let mut minors = Vec::new();
        match command {
            Command::DevRemove { id, open: when } => {
                let device = self.control.device(id).ok();
                // One that is in use stays, and the command says so.
                if let Some(device) = device.filter(|device| device.user_count() == 0) {
                    self.displace(&open, device.minor(), *when);
                    minors.push(device.minor());
                }
            }
            Command::RemoveAll { .. } => {
                while self.remove_each(&open) {}
                minors = open.placed.minors();
            }
            Command::DevRename { id, .. }
            | Command::DevSuspend { id, .. }
            | Command::DevResume { id, .. }
            | Command::SetReadAhead { id, .. } => {
                minors.extend(self.control.device(id).map(|device| device.minor()));
            }
            _ => {}
        }
        let creates = matches!(command, Command::DevCreate { .. });
        for minor in &minors {
            *lock(&open.placed.under_way).entry(*minor).or_default() += 1;
        }
        let under_way = minors.clone();
        Some(Touched { open, minors, creates, under_way })
    }

    /// Makes the nodes true after a command.
    pub(in super::super) fn after(&self, touched: Touched, done: Option<&Answer>) {
        let open = &touched.open;
        for minor in &touched.minors {
            self.place(open, *minor);
        }
        if let (true, Some(Answer::Status(status))) = (touched.creates, done) {
            self.place(open, status.dev.minor);
        }
    }

    /// Removes the devices that nobody uses, one by one, and tells whether there was one.
    fn remove_each(&self, open: &Arc<Open>) -> bool {
        let mut removed = false;
        for minor in self.minors() {
            let id = Id::Dev(DevNumber::mapped(minor));
            let device = self.control.device(&id).ok();
            if device.is_some_and(|device| device.user_count() == 0)
                && self.displace(open, minor, WhenOpen::Refuse)
            {
                let command = Command::DevRemove { id, open: WhenOpen::Refuse };
                super::super::settle::settle(&self.control, &command);
                removed |= block_on(self.control.perform(command)).is_ok();
                self.place(open, minor);
            }
        }
        removed
    }

    /// Lists all devices, by minor number.
    pub(super) fn minors(&self) -> Vec<u32> {
        match block_on(self.control.execute(Command::ListDevices)) {
            Ok(Answer::Devices(devices)) => {
                devices.into_iter().map(|listed| listed.dev.minor).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Makes the node of a device what the device is now, or takes it away where there is none.
    pub(super) fn place(&self, open: &Open, minor: u32) {
        let place = open.placed.at(minor);
        let mut place = lock(&place);
        let id = Id::Dev(DevNumber::mapped(minor));
        let command = Command::DevStatus { id: id.clone(), slot: Slot::Live };
        let done = match block_on(self.control.execute(command)) {
            Ok(Answer::Status(status)) => self.put(open, &mut place, &id, &status),
            Ok(_) | Err(_) => take(open, &mut place, minor),
        };
        if let Err(error) = done {
            tracing::error!(error = causes(&*error), minor, "a block node is not as its device");
        }
    }

    fn put(
        &self,
        open: &Open,
        place: &mut Place,
        id: &Id,
        status: &DevStatus,
    ) -> Result<(), Failed> {
        let minor = status.dev.minor;
        if place.goes && place.node.is_none() {
            return Ok(());
        }
        let node = match place.node {
            Some(node) => node,
            None => {
                let node = open.nodes.reserve()?;
                open.placed.numbers.set(minor, Some(node));
                *place.node.insert(node)
            }
        };
        let Ok(device) = self.control.device(id) else { return Ok(()) };
        let (bytes, limits) = (device.size().0 * SECTOR_SIZE, device.limits());
        place.bytes = bytes;
        let read_ahead = status.read_ahead.unwrap_or_else(|| limits.read_ahead()).0;
        let (block, read_ahead) =
            (limits.logical_block_size, u32::try_from(read_ahead).unwrap_or(u32::MAX));
        let read_only = status.read_only;
        let mut shown = Ok(());
        if let Some(file) = self.control.find_minor(minor).filter(|_| bytes > 0) {
            device.set_showing(1);
            let file = self.mount.join(file.name);
            shown = open.nodes.show(node, &Shown { file, bytes, read_only, block, read_ahead });
            place.shows |= shown.is_ok();
            device.set_showing(u32::from(place.shows));
        }
        let deps = Command::TableDeps { id: id.clone(), slot: Slot::Live };
        let below = match block_on(self.control.execute(deps)) {
            Ok(Answer::Deps(deps)) => {
                deps.into_iter().map(|dev| open.placed.numbers.node(dev)).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        };
        if place.in_tree != Some(node.dev.minor) {
            take_from_tree(open, place)?;
        }
        place.in_tree = Some(node.dev.minor);
        open.tree.put(&Facts {
            minor: node.dev.minor,
            dev: node.dev,
            disk: node.disk,
            name: status.name.clone(),
            uuid: status.uuid.clone(),
            bytes,
            suspended: status.suspended,
            read_only,
            block,
            read_ahead,
            below,
        })?;
        Ok(shown?)
    }

    /// Takes away the node of a device that is about to be removed, and tells whether it is gone. Where
    /// it is in use, the removal is refused, or comes when it is not.
    fn displace(&self, open: &Open, minor: u32, when: WhenOpen) -> bool {
        let place = open.placed.at(minor);
        let mut place = lock(&place);
        let Some(node) = place.node else { return true };
        match open.nodes.remove(node) {
            Ok(()) => {
                place.node = None;
                place.shows = false;
                let id = Id::Dev(DevNumber::mapped(minor));
                if let Ok(device) = self.control.device(&id) {
                    device.set_showing(0);
                }
                true
            }
            Err(error) => {
                if !error.is_busy() {
                    tracing::error!(error = causes(&error), minor, "a block node stays");
                }
                place.goes = when == WhenOpen::Defer;
                false
            }
        }
    }

    /// Takes all nodes away, and names the devices whose nodes are in use.
    pub(super) fn displace_all(&self, open: &Open) -> Vec<String> {
        let mut busy = Vec::new();
        for minor in open.placed.minors() {
            if !self.displace(open, minor, WhenOpen::Refuse) {
                let shown = self.control.find_minor(minor);
                busy.push(shown.map_or_else(|| format!("dm-{minor}"), |shown| shown.name));
            }
        }
        busy
    }

    /// Starts the threads that see what changes without a command: devices that go when they are closed,
    /// and those that become longer or shorter when a reshape is over.
    pub(super) fn watch_private(&self, open: &Arc<Open>) -> Result<(), Fault> {
        let (changed, changes) = channel::<()>();
        self.control.watch(watcher(changed.clone()));
        let control = self.control.clone();
        spawn("events", move || {
            loop {
                let events = control.events();
                if changed.send(()).is_err() {
                    return;
                }
                block_on(control.any_event(events));
            }
        })?;
        let (daemon, open) = (self.me.clone(), Arc::downgrade(open));
        spawn("nodes", move || {
            let mut wait = None;
            loop {
                let more = match wait {
                    Some(limit) => changes.recv_timeout(limit),
                    None => changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                let (Some(daemon), Some(open)) = (daemon.upgrade(), Weak::upgrade(&open)) else {
                    return;
                };
                while changes.try_recv().is_ok() {}
                let again = daemon.look_again(&open);
                wait = match more {
                    Err(RecvTimeoutError::Disconnected) => return,
                    _ if again => Some(RETRY),
                    // Old names go then.
                    Ok(()) => Some(OLD_NAME_LASTS + RETRY),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = open.tree.refresh() {
                            tracing::error!(%error, "what programs see of devices is out of date");
                        }
                        None
                    }
                };
            }
        })
    }

    /// Takes the nodes of devices that are gone, or are to go, and makes those as long as their devices
    /// that are not; tells whether it is to be tried again.
    fn look_again(&self, open: &Open) -> bool {
        let there: BTreeSet<u32> = self.minors().into_iter().collect();
        let mut again = false;
        for minor in open.placed.minors() {
            let (goes, bytes) = {
                let place = open.placed.at(minor);
                let place = lock(&place);
                (place.goes, place.bytes)
            };
            let device = self.control.device(&Id::Dev(DevNumber::mapped(minor)));
            let is_longer_or_shorter = bytes > 0
                && device.is_ok_and(|device| device.size().0 * SECTOR_SIZE != bytes)
                && !open.placed.is_under_way(minor);
            if !there.contains(&minor) || is_longer_or_shorter {
                self.place(open, minor);
            } else if goes {
                again |= !self.displace(open, minor, WhenOpen::Defer);
            }
        }
        again
    }
}

type Failed = Box<dyn std::error::Error>;

fn take(open: &Open, place: &mut Place, minor: u32) -> Result<(), Failed> {
    let removed = match place.node {
        // Gone by force, under whoever uses it.
        Some(node) => open
            .nodes
            .remove(node)
            .or_else(|error| if error.is_busy() { Ok(()) } else { Err(error) }),
        None => Ok::<(), Error>(()),
    };
    open.placed.numbers.set(minor, None);
    open.placed.places().remove(&minor);
    take_from_tree(open, place)?;
    *place = Place::default();
    Ok(removed?)
}

fn take_from_tree(open: &Open, place: &mut Place) -> std::io::Result<()> {
    match place.in_tree.take() {
        Some(minor) => open.tree.take(minor),
        None => Ok(()),
    }
}

fn watcher(changed: Sender<()>) -> impl Fn(&Changed) + Send + Sync + 'static {
    // Nobody listens any more where the nodes are gone.
    move |_| {
        let _ended = changed.send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
