//! Keeps block nodes and files true.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use backing::{Cancel, block_on, block_on_or};
use block_frontend::{Error, Facts, Node, ORPHANS_LAST, Owner, Shown, Whole};
use sim_core::control::{Answer, Changed, Command, DevStatus, Id, Slot, WhenOpen};
use sim_core::{BlockDevice, DevNumber, Held, MappedDevice, OpenDevice, SECTOR_SIZE};

use super::super::state::{Daemon, spawn};
use super::Open;
use super::calls::{count, count_openers};
use super::numbers::NOBODYS;
use super::place::{Force, Place, lock};
use super::volume::Volume;
use crate::fault::{Fault, causes};
use crate::protocol::User;

/// How often it is tried to take the node of a device that is removed when nobody uses it any more.
const RETRY: Duration = Duration::from_millis(200);

/// How often it is looked which block devices the machine has, and for how long old names have been there.
const LOOK: Duration = Duration::from_secs(1);

impl Open {
    /// Takes the nodes of names away that a device had before.
    pub(in super::super) fn forget_old_names(&self, minor: u32) {
        let place = self.placed.at(minor);
        let Some(shown) = lock(&place).in_tree else { return };
        if let Err(error) = self.tree.forget_old_names(shown) {
            self.placed.say(Some(minor), "an old name of a device is still to be seen", error);
        }
    }

    /// Tells whether a user of a device, by its minor number, is nobody but the loop device of its node.
    pub(in super::super) fn shows(&self, user: &User, minor: Option<u32>) -> bool {
        let helper = lock(&self.helper).id();
        let is_ours = |name: &String| {
            let disk = name.strip_prefix("/dev/loop").and_then(|disk| disk.parse::<u32>().ok());
            disk.is_some_and(|disk| self.placed.has_disk(disk))
        };
        // A loop device says the path that its file had: after a rename it is found by its device alone.
        let is_nameless = user.program.is_none() && user.loops.is_empty();
        user.pid == helper
            || !user.loops.is_empty() && user.loops.iter().all(is_ours)
            || is_nameless && minor.is_some_and(|minor| self.placed.shows_by_loop(minor))
    }
}

/// What a command is about that has been begun.
pub(in super::super) struct Touched {
    open: Arc<Open>,
    /// The devices, which are under way until this is dropped.
    minors: Vec<u32>,
    /// It makes a device, whose number is not known yet.
    creates: bool,
}

impl Drop for Touched {
    fn drop(&mut self) {
        let mut under_way = lock(&self.open.placed.under_way);
        for minor in &self.minors {
            if let Some(count) = under_way.get_mut(minor) {
                *count -= 1;
            }
        }
        under_way.retain(|_, count| *count > 0);
    }
}

impl Daemon {
    /// Prepares the nodes for a command; nothing where there are none.
    pub(in super::super) fn before(&self, command: &Command, hung_up: &Cancel) -> Option<Touched> {
        let open = self.shell.get()?;
        let mut minors = Vec::new();
        match command {
            Command::DevRemove { id, .. } => {
                if let Ok(device) = self.control.device(id) {
                    minors.push(device.minor());
                    // One that is in use stays, and the command says so.
                    if device.user_count() == 0 {
                        self.displace(&open, device.minor());
                    }
                }
            }
            Command::RemoveAll { .. } => {
                while self.remove_each(&open, hung_up) {}
                minors = open.placed.numbers.minors();
            }
            Command::DevSuspend { id, held } => {
                if let Ok(device) = self.control.device(id) {
                    minors.push(device.minor());
                    // What is held below would be waited for.
                    if *held == Held::Flush && !device.is_suspended() && !device.holds_all() {
                        write_out(&open, device.minor(), hung_up);
                    }
                }
            }
            Command::DevRename { id, .. }
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
        Some(Touched { open, minors, creates })
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
    fn remove_each(&self, open: &Arc<Open>, hung_up: &Cancel) -> bool {
        let mut removed = false;
        for minor in self.minors() {
            if hung_up.is_cancelled() {
                return false;
            }
            let id = Id::Dev(DevNumber::mapped(minor));
            let device = self.control.device(&id).ok();
            if device.is_some_and(|device| device.user_count() == 0) && self.displace(open, minor) {
                let command = Command::DevRemove { id, open: WhenOpen::Refuse };
                super::super::settle::settle(&self.control, &command);
                let done = block_on_or(self.control.perform(command), hung_up);
                removed |= done.is_some_and(|done| done.is_ok());
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
        match done {
            Ok(()) => open.placed.goes_well(Some(minor)),
            Err(error) => {
                let what = "a block node is not as its device";
                open.placed.say(Some(minor), what, causes(&*error));
            }
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
        place.goes = status.deferred_remove;
        if place.goes && place.node.is_none() {
            return Ok(());
        }
        let owner = Owner { minor, uuid: status.uuid.clone(), name: status.name.clone() };
        let node = match place.node {
            Some(node) => {
                open.nodes.note(node, &owner);
                node
            }
            None => {
                let node = open.nodes.reserve(&owner)?;
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
        let read_only = status.read_only || self.access.is_read_only();
        let mut shown = Ok(());
        if let Some(file) = self.control.find_minor(minor).filter(|_| bytes > 0) {
            device.set_showing(1);
            match node.disk {
                // It would go on with the size from before.
                Whole::Loop(_) => self.frontend.told(),
                Whole::Ublk(_) => self.fill(open, place, node, &device)?,
            }
            let file = self.mount.join(file.name);
            shown = open.nodes.show(node, &Shown { file, bytes, read_only, block, read_ahead });
            place.shows |= shown.is_ok();
            device.set_showing(u32::from(place.shows || place.opened.is_some()));
        }
        let below = self.below(open, id);
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

    /// Has a node on a ublk disk hold its device.
    fn fill(
        &self,
        open: &Open,
        place: &mut Place,
        node: Node,
        device: &Arc<MappedDevice>,
    ) -> Result<(), Failed> {
        if place.opened.is_none() {
            place.opened = Some(OpenDevice::new(device.clone(), self.access)?);
        }
        let (disk, access) = (self.frontend.disk(device), self.access);
        open.nodes.fill(node, || Arc::new(Volume { disk, access }));
        Ok(())
    }

    /// Lists what a device's table has open, by the numbers that programs see.
    fn below(&self, open: &Open, id: &Id) -> Vec<DevNumber> {
        let deps = Command::TableDeps { id: id.clone(), slot: Slot::Live };
        match block_on(self.control.execute(deps)) {
            Ok(Answer::Deps(deps)) => {
                let nodes = deps.into_iter().map(|dev| open.placed.numbers.node(dev));
                nodes.filter(|dev| *dev != NOBODYS).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Takes away the node of a device that is about to be removed, and tells whether it is gone: where it
    /// is in use it stays.
    fn displace(&self, open: &Open, minor: u32) -> bool {
        self.displace_by(Force::Refuse, open, minor)
    }

    fn displace_by(&self, force: Force, open: &Open, minor: u32) -> bool {
        let place = open.placed.at(minor);
        let mut place = lock(&place);
        let Some(node) = place.node else { return true };
        let removed = match open.nodes.remove(node) {
            Err(error) if error.is_busy() && force == Force::Take => open.nodes.remove_used(node),
            removed => removed,
        };
        if removed.as_ref().is_err_and(Error::is_busy) {
            return false;
        }
        // Whatever became of it, its number may be another's from now on.
        place.node = None;
        open.placed.numbers.set(minor, None);
        if let Err(error) = take_from_tree(open, &mut place) {
            open.placed.say(Some(minor), "a device that is gone is still to be seen", error);
        }
        let opened = place.opened.take();
        match removed {
            // With the helper, the kernel lets go of all.
            Ok(()) | Err(Error::Ended) => {
                place.shows = false;
                drop(place);
                self.let_go(minor, opened);
                true
            }
            Err(error) => {
                open.placed.say(Some(minor), "a block node is left behind", causes(&error));
                false
            }
        }
    }

    /// Closes a device whose node is gone, as the close of a file would.
    fn let_go(&self, minor: u32, opened: Option<OpenDevice>) {
        if let Ok(device) = self.control.device(&Id::Dev(DevNumber::mapped(minor))) {
            if opened.is_some() {
                block_on(device.closed());
            }
            drop(opened);
            device.set_showing(0);
        }
        self.control.reap();
    }

    /// Lists the devices whose nodes somebody has open.
    pub(in super::super) fn users_of_nodes(&self, open: &Open) -> Vec<User> {
        let who = "whoever has its block node open or mounted, in `dmsim shell`";
        let mut users = Vec::new();
        for (nr, minor) in open.placed.numbers.minors().into_iter().enumerate() {
            let Some(node) = open.placed.numbers.node_of(minor) else { continue };
            // One look for all of them.
            let is_used = count(open, node, nr == 0).is_ok_and(|count| count > 0);
            if let Some(shown) = self.control.find_minor(minor).filter(|_| is_used) {
                let loops = vec![who.to_owned()];
                users.push(User { device: shown.name, pid: 0, program: None, loops });
            }
        }
        users
    }

    /// Adds to the answer to a client those who have the device's node open.
    pub(in super::super) fn with_openers(&self, answer: &mut Answer, now: bool) {
        if let Some(open) = self.shell.get() {
            count_openers(&open, answer, now);
        }
    }

    /// Takes all nodes away, and names the devices whose nodes are in use. Those that seem to be are tried
    /// first, so that where one is, the others keep their numbers: unless it is by `force`.
    pub(super) fn displace_all(&self, open: &Open, force: bool) -> Vec<String> {
        let mut minors = open.placed.numbers.minors();
        let seem_used: Vec<String> =
            self.users_of_nodes(open).into_iter().map(|user| user.device).collect();
        let name = |minor: u32| {
            let shown = self.control.find_minor(minor);
            shown.map_or_else(|| format!("dm-{minor}"), |shown| shown.name)
        };
        minors.sort_by_key(|minor| !seem_used.contains(&name(*minor)));
        let mut busy = Vec::new();
        for minor in minors {
            let is_next = force || busy.is_empty() || seem_used.contains(&name(minor));
            let force = if force { Force::Take } else { Force::Refuse };
            if is_next && !self.displace_by(force, open, minor) {
                busy.push(name(minor));
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
            let mut wait = LOOK;
            loop {
                let more = changes.recv_timeout(wait);
                let (Some(daemon), Some(open)) = (daemon.upgrade(), Weak::upgrade(&open)) else {
                    return;
                };
                while changes.try_recv().is_ok() {}
                wait = if daemon.look_again(&open) { RETRY } else { LOOK };
                if more == Err(RecvTimeoutError::Timeout) {
                    match open.tree.refresh() {
                        Ok(()) => open.placed.goes_well(None),
                        Err(error) => {
                            let what = "what programs see of devices is out of date";
                            open.placed.say(None, what, error);
                        }
                    }
                }
            }
        })
    }

    /// Takes the nodes of devices that are gone, or are to go, and makes those as long as their devices
    /// that are not; tells whether it is to be tried again.
    fn look_again(&self, open: &Open) -> bool {
        let mut again = false;
        open.nodes.expire_orphans(ORPHANS_LAST);
        for minor in self.minors() {
            if open.placed.numbers.node_of(minor).is_none() && !open.placed.is_under_way(minor) {
                // Made without a command that is seen here.
                self.place(open, minor);
            }
        }
        for minor in open.placed.numbers.minors() {
            let (goes, bytes) = {
                let place = open.placed.at(minor);
                let place = lock(&place);
                (place.goes, place.bytes)
            };
            let device = self.control.device(&Id::Dev(DevNumber::mapped(minor)));
            let Ok(device) = device else {
                self.place(open, minor);
                continue;
            };
            let is_longer_or_shorter = bytes > 0
                && device.size().0 * SECTOR_SIZE != bytes
                && !open.placed.is_under_way(minor);
            if is_longer_or_shorter {
                self.place(open, minor);
            } else if goes {
                again |= device.user_count() > 0 || !self.displace(open, minor);
            }
        }
        again
    }
}

type Failed = Box<dyn std::error::Error>;

fn take(open: &Open, place: &mut Place, minor: u32) -> Result<(), Failed> {
    let removed = match place.node {
        // Gone by force, under whoever uses it: the kernel takes a loop device away when it is closed.
        Some(node) => open
            .nodes
            .remove(node)
            .or_else(
                |error| if error.is_busy() { open.nodes.remove_used(node) } else { Err(error) },
            )
            .or_else(|error| if error.is_busy() { Ok(()) } else { Err(error) }),
        None => Ok::<(), Error>(()),
    };
    open.placed.numbers.set(minor, None);
    let taken = take_from_tree(open, place);
    *place = Place::default();
    taken?;
    Ok(removed?)
}

/// Writes out what programs have written to a device's node, a file system on it among them: a kernel's
/// device has that frozen when it is suspended, which comes to the same for what is in by then.
fn write_out(open: &Open, minor: u32, hung_up: &Cancel) {
    let place = open.placed.at(minor);
    let node = {
        let place = lock(&place);
        place.node.filter(|_| place.shows)
    };
    if let Some(Err(error)) = node.map(|node| open.nodes.sync(node, &|| !hung_up.is_cancelled())) {
        tracing::warn!(
            error = causes(&error),
            minor,
            "a device is suspended before all was written"
        );
    }
}

fn take_from_tree(open: &Open, place: &mut Place) -> std::io::Result<()> {
    match place.in_tree.take() {
        Some(minor) => open.tree.take(minor),
        None => Ok(()),
    }
}

pub(super) fn watcher(changed: Sender<()>) -> impl Fn(&Changed) + Send + Sync + 'static {
    // Nobody listens any more where the nodes are gone.
    move |_| {
        let _ended = changed.send(());
    }
}
