//! One command under way: its options, where it writes, and how an operation's failure is told.

use std::fmt;
use std::io::{self, BufRead};

use sim_core::control::{Answer, Command, DevStatus, Failure, Id, Listed, Slot};
use sim_core::{Access, DevNumber, Errno, Held};

use super::dm::{Called, Dm, Streams};
use super::errors::{Source, lower_first, table_fault};
use super::options::Options;
use super::udev::Udev;
use daemon::mangle::{self, Mode, What};

/// Why a command stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed, and has said why.
    Failed,
    /// All that was asked for is said: a list of fields.
    Enough,
    /// The command line makes no sense, which has been said.
    Refused,
    /// Its output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

pub(super) type Done<T = ()> = Result<T, Stop>;

/// The device that an operation is about, as the kernel is given it.
#[derive(Clone, Debug, Default)]
pub(super) struct Task {
    /// The name, mangled.
    pub(super) name: Option<String>,
    /// The uuid, mangled.
    pub(super) uuid: Option<String>,
    pub(super) dev: Option<DevNumber>,
}

impl Task {
    pub(super) fn named(name: &str) -> Task {
        Task { name: Some(name.to_owned()), ..Task::default() }
    }

    /// The way the kernel finds it: by name, else by uuid, else by number.
    pub(super) fn id(&self) -> Id {
        match (&self.name, &self.uuid, self.dev) {
            (Some(name), _, _) => Id::Name(name.clone()),
            (None, Some(uuid), _) => Id::Uuid(uuid.clone()),
            (None, None, Some(dev)) => Id::Dev(dev),
            (None, None, None) => Id::Name(String::new()),
        }
    }
}

impl fmt::Display for Task {
    /// As dmsetup's errors have it: `NAME UUID(MAJOR:MINOR)`, the blank always there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        write!(f, "{} {}", text(&self.name), text(&self.uuid))?;
        match self.dev {
            Some(dev) => write!(f, "({dev})"),
            None => Ok(()),
        }
    }
}

/// A command under way.
pub(super) struct Session<'a, 's> {
    pub(super) called: Called,
    pub(super) verb: &'static str,
    pub(super) options: Options,
    pub(super) dm: &'a mut dyn Dm,
    io: &'a mut Streams<'s>,
    mode: Mode,
    pub(super) udev: Udev,
    /// The first overlap of the command, and how many devices have one.
    overlaps: Option<(String, usize)>,
    /// What was removed, each with the devices that were made as parts of it.
    pub(super) removed: Vec<(String, Vec<String>)>,
}

impl<'a, 's> Session<'a, 's> {
    pub(super) fn new(
        called: Called,
        options: Options,
        dm: &'a mut dyn Dm,
        io: &'a mut Streams<'s>,
    ) -> Session<'a, 's> {
        let from_environment = || {
            let word = std::env::var("DM_DEFAULT_NAME_MANGLING_MODE").unwrap_or_default();
            Mode::named(&word).unwrap_or_default()
        };
        let mode = options.mangling.unwrap_or_else(from_environment);
        let (overlaps, removed) = (None, Vec::new());
        let udev = Udev::new(dm.udev_is_running(), options.udev_cookie);
        Session { called, verb: "", options, dm, io, mode, udev, overlaps, removed }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn stdin(&mut self) -> &mut dyn BufRead {
        self.io.stdin
    }

    /// Writes to standard output.
    pub(super) fn print(&mut self, text: impl fmt::Display) -> Done {
        Ok(write!(self.io.stdout, "{text}")?)
    }

    pub(super) fn flush(&mut self) -> Done {
        Ok(self.io.stdout.flush()?)
    }

    /// Prints a value as JSON.
    pub(super) fn print_json(&mut self, value: &serde_json::Value) -> Done {
        self.print(format_args!("{value:#}\n"))
    }

    /// Writes to standard error, as it stands. A standard error that is gone changes nothing.
    pub(super) fn complain_plainly(&mut self, text: &str) {
        let _ = self.io.stderr.write_all(text.as_bytes());
    }

    /// Writes a line of dmsetup's to standard error; as dmsim, in dmsim's way.
    pub(super) fn complain(&mut self, text: &str) {
        let line = match self.called {
            Called::Dmsetup | Called::Dmstats => format!("{text}\n"),
            Called::Dmsim => format!("dmsim: {}\n", lower_first(text.trim_end_matches(['.', ' ']))),
        };
        self.complain_plainly(&line);
    }

    /// Writes a line of dmsetup's, and stops the command.
    pub(super) fn fail<T>(&mut self, text: &str) -> Done<T> {
        self.complain(text);
        Err(Stop::Failed)
    }

    /// Prints a line that a helper returns as its fault, and stops.
    pub(super) fn try_text<T>(&mut self, result: Result<T, String>) -> Done<T> {
        result.or_else(|text| self.fail(&text))
    }

    /// Carries out one operation; tells of its failure, and stops.
    pub(super) fn call(&mut self, action: &str, task: &Task, command: Command) -> Done<Answer> {
        self.call_for(action, task, command, None)
    }

    /// As [`call`](Self::call), with the table's text for a fault in it.
    pub(super) fn call_for(
        &mut self,
        action: &str,
        task: &Task,
        command: Command,
        source: Option<&Source>,
    ) -> Done<Answer> {
        let failure = match self.dm.call(command) {
            Ok(answer) => {
                self.note_overlap(&answer);
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        self.tell(action, task, &failure, source);
        Err(Stop::Failed)
    }

    /// Notes what is to be told once, at the end: that a device writes where another one does. To
    /// dmsetup that is nothing to speak of.
    fn note_overlap(&mut self, answer: &Answer) {
        let Answer::Status(DevStatus { name, overlap: Some(overlap), .. }) = answer else { return };
        match &mut self.overlaps {
            _ if self.called != Called::Dmsim || self.options.quiet => {}
            Some((_, count)) => *count += 1,
            None => {
                let below = self.dm.behind(&overlap.below_name);
                self.overlaps = Some((ops::overlap_text(name, overlap, below), 1));
            }
        }
    }

    /// Tells of overlaps, if there are any.
    pub(super) fn tell_overlaps(&mut self) {
        if let Some((first, count)) = self.overlaps.take() {
            let more = match count - 1 {
                0 => String::new(),
                1 => "; so does one more device, with another".to_owned(),
                more => format!("; so do {more} more devices, with others"),
            };
            self.complain_plainly(&format!("dmsim: warning: {first}{more}\n"));
        }
    }

    /// Tells of an operation's failure.
    pub(super) fn tell(
        &mut self,
        action: &str,
        task: &Task,
        failure: &Failure,
        source: Option<&Source>,
    ) {
        if self.called != Called::Dmsim {
            let why = failure.errno.text();
            let line = format!("device-mapper: {action} ioctl on {task} failed: {why}\n");
            return self.complain_plainly(&line);
        }
        let shown = match (&task.name, &task.uuid, task.dev) {
            (Some(name), _, _) => mangle::decode(name),
            (None, Some(uuid), _) => mangle::decode(uuid),
            (None, None, Some(dev)) => dev.to_string(),
            (None, None, None) => String::new(),
        };
        let what = format!("{} {shown}", self.verb);
        let why = match (&failure.table, &failure.why) {
            (Some(fault), _) => {
                let behind = too_small(&fault.kernel).and_then(|name| {
                    let behind = self.dm.behind(name)?;
                    Some(format!("  {name} is {behind}\n"))
                });
                let told = table_fault(&what, fault, source) + &behind.unwrap_or_default();
                return self.complain_plainly(&told);
            }
            (None, Some(why)) => lower_first(why.trim_end_matches('.')),
            (None, None) => match (action, failure.errno) {
                // The kernel says the latter of a number that is taken.
                ("create", errno @ (Errno::BUSY | Errno::NXIO)) => self.taken(task, errno),
                (_, Errno::NXIO) => "no such device".to_owned(),
                ("remove", Errno::BUSY) => self.in_use(task),
                (_, errno) => lower_first(errno.text()),
            },
        };
        let still = if self.verb == "resume"
            && self.look(task.id()).is_some_and(|status| status.suspended)
        {
            format!("; `{shown}` is still suspended")
        } else {
            String::new()
        };
        self.complain_plainly(&format!("dmsim: {}: {why}{still}\n", what.trim_end()));
    }

    /// Says what of a new device is there already.
    fn taken(&mut self, task: &Task, errno: Errno) -> String {
        let Task { name, uuid, dev } = task;
        let by_name = name.clone().map(|name| (Id::Name(name), "name"));
        let by_uuid = uuid.clone().map(|uuid| (Id::Uuid(uuid), "uuid"));
        let by_dev = dev.map(|dev| (Id::Dev(dev), "number"));
        for (id, what) in [by_name, by_uuid, by_dev].into_iter().flatten() {
            if let Some(there) = self.look(id) {
                let named = mangle::decode(&there.name);
                return format!(
                    "a device with this {what} is there already: `{named}` ({})",
                    there.dev
                );
            }
        }
        lower_first(errno.text())
    }

    /// Says who has a device open.
    fn in_use(&mut self, task: &Task) -> String {
        let status = self.look(task.id());
        let Some(status) = status else { return lower_first(Errno::BUSY.text()) };
        let way = self.dm.way_to_unmount(&status.name);
        match &self.dm.holders(&status.name)[..] {
            [] => lower_first(Errno::BUSY.text()) + &way,
            holders => format!("in use by {}{way}", holders.join(", ")),
        }
    }

    /// Looks at a device for the sake of a message: nothing where that cannot be.
    fn look(&mut self, id: Id) -> Option<DevStatus> {
        self.dm.call(Command::DevStatus { id, slot: Slot::Live }).ok().map(expect_status)
    }

    /// Writes a name for the kernel; stops where it cannot be one.
    pub(super) fn mangle_name(&mut self, name: &str) -> Done<String> {
        if name.len() > sim_core::control::MAX_NAME {
            return self.fail(&format!("Name \"{name}\" too long."));
        }
        self.refuse_twice(name, What::Name)?;
        let mangled = mangle::mangle(name, What::Name, self.mode);
        mangled.or_else(|text| {
            self.complain(&text);
            self.fail(&format!("Failed to mangle device name \"{name}\"."))
        })
    }

    /// Writes a uuid for the kernel; stops where it cannot be one.
    pub(super) fn mangle_uuid(&mut self, uuid: &str) -> Done<String> {
        self.refuse_twice(uuid, What::Uuid)?;
        let mangled = mangle::mangle(uuid, What::Uuid, self.mode);
        mangled.or_else(|text| {
            self.complain(&text);
            self.fail(&format!("Failed to mangle device uuid \"{uuid}\"."))
        })
    }

    /// Stops where a list of devices could not show what this would be: for names that are new, also
    /// as the kernel has them. (dmsetup takes those, and then lists nothing at all.)
    pub(super) fn refuse_twice(&mut self, text: &str, what: What) -> Done {
        mangle::refuse_twice(text, what, self.mode).or_else(|line| self.fail(&line))
    }

    /// Reads a name of the kernel's; stops where the mangling mode does not allow it.
    pub(super) fn show_name(&mut self, name: &str) -> Done<String> {
        self.try_text(mangle::unmangle(name, What::Name, self.mode))
    }

    /// Reads a uuid of the kernel's.
    pub(super) fn show_uuid(&mut self, uuid: &str) -> Done<String> {
        self.try_text(mangle::unmangle(uuid, What::Uuid, self.mode))
    }

    /// Finds out which device is meant: by the word on the command line, or by `-u`, or by `-j`
    /// and `-m`.
    pub(super) fn task(&mut self, word: Option<&str>) -> Done<Task> {
        if let Some(word) = word {
            return Ok(Task { name: Some(self.resolve(word)?), ..Task::default() });
        }
        if let Some(uuid) = self.options.uuid.clone() {
            return Ok(Task { uuid: Some(self.mangle_uuid(&uuid)?), ..Task::default() });
        }
        match self.options.minor {
            Some(minor) => Ok(Task { dev: Some(self.dev(minor)), ..Task::default() }),
            None => self.fail("No device specified."),
        }
    }

    /// The number that `-j` and a minor make.
    pub(super) fn dev(&self, minor: u32) -> DevNumber {
        let major = self.options.major.filter(|major| *major != 0);
        DevNumber { major: major.unwrap_or(sim_core::DM_MAJOR), minor }
    }

    /// Finds the name that a word stands for: itself, or the path of a device.
    fn resolve(&mut self, word: &str) -> Done<String> {
        let Some((_, last)) = word.rsplit_once('/') else { return self.mangle_name(word) };
        let id = match (word.strip_prefix("/dev/mapper/"), word.strip_prefix("/dev/dm-")) {
            (Some(name), _) => Some(Id::Name(self.mangle_name(name)?)),
            (_, Some(minor)) => minor.parse().ok().map(|minor| Id::Dev(DevNumber::mapped(minor))),
            (None, None) => None,
        };
        let path = std::path::Path::new(&self.dm.base()).join(word);
        let unknown = if path.exists() && id.is_none() { last } else { word };
        match id.and_then(|id| self.look(id)) {
            // A device has no node before it has a disk.
            Some(status) if status.read_ahead.is_some() => Ok(status.name),
            _ => self.fail(&format!("Device {unknown} not found")),
        }
    }

    /// Asks for a device's status. `None` where there is no such device.
    pub(super) fn status(&mut self, task: &Task) -> Done<Option<DevStatus>> {
        let command = Command::DevStatus { id: task.id(), slot: self.slot() };
        match self.dm.call(command) {
            Ok(answer) => Ok(Some(expect_status(answer))),
            Err(failure) if failure.errno == Errno::NXIO => Ok(None),
            Err(failure) => {
                self.tell("info", task, &failure, None);
                Err(Stop::Failed)
            }
        }
    }

    /// As [`status`](Self::status), where the device has to be there.
    pub(super) fn known_status(&mut self, task: &Task) -> Done<DevStatus> {
        match (self.status(task)?, self.called) {
            (Some(status), _) => Ok(status),
            (None, Called::Dmsetup | Called::Dmstats) => self.fail("Device does not exist."),
            (None, Called::Dmsim) => {
                self.tell("info", task, &Errno::NXIO.into(), None);
                Err(Stop::Failed)
            }
        }
    }

    /// Lists the devices, by name, with the names to show. Stops where a name cannot be shown.
    pub(super) fn list(&mut self) -> Done<Vec<(Listed, String)>> {
        let answer = self.call("names", &Task::default(), Command::ListDevices)?;
        let Answer::Devices(devices) = answer else { unreachable!("a list answers a list") };
        let (mut shown, mut bad) = (Vec::with_capacity(devices.len()), None);
        for device in devices {
            match self.show_name(&device.name) {
                Ok(name) => shown.push((device, name)),
                // Each of them is told.
                Err(stop) => bad = Some(stop),
            }
        }
        bad.map_or(Ok(shown), Err)
    }

    /// The table that the command is about.
    pub(super) fn slot(&self) -> Slot {
        if self.options.inactive { Slot::Inactive } else { Slot::Live }
    }

    pub(super) fn held(&self) -> Held {
        if self.options.noflush { Held::NoFlush } else { Held::Flush }
    }

    pub(super) fn access(&self) -> Access {
        if self.options.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// Prints the information block on a device.
    pub(super) fn print_info(&mut self, status: &DevStatus) -> Done {
        let name = self.show_name(&status.name)?;
        let uuid = match &status.uuid {
            Some(uuid) => Some(self.show_uuid(uuid)?),
            None => None,
        };
        let state = if status.suspended { "SUSPENDED" } else { "ACTIVE" };
        let read_only = if status.read_only { " (READ-ONLY)" } else { "" };
        let deferred = if status.deferred_remove { " (DEFERRED REMOVE)" } else { "" };
        let tables = match (status.live_present, status.inactive_present) {
            (true, true) => "LIVE & INACTIVE",
            (true, false) => "LIVE",
            (false, true) => "INACTIVE",
            (false, false) => "None",
        };
        let mut text = format!("Name:              {name}\n");
        text += &format!("State:             {state}{read_only}{deferred}\n");
        if let Some(read_ahead) = status.read_ahead {
            text += &format!("Read Ahead:        {read_ahead}\n");
        }
        text += &format!("Tables present:    {tables}\n");
        text += &format!("Open count:        {}\n", status.open_count);
        text += &format!("Event number:      {}\n", status.event_nr);
        text += &format!("Major, minor:      {}, {}\n", status.dev.major, status.dev.minor);
        text += &format!("Number of targets: {}\n", status.target_count);
        if let Some(uuid) = uuid {
            text += &format!("UUID: {uuid}\n");
        }
        self.print(format_args!("{text}\n"))
    }

    /// With `-v`: prints the information block on a device.
    pub(super) fn print_info_if_verbose(&mut self, task: &Task) -> Done {
        if self.options.verbose == 0 {
            return Ok(());
        }
        let status = self.known_status(task)?;
        self.print_info(&status)
    }
}

pub(super) fn expect_status(answer: Answer) -> DevStatus {
    match answer {
        Answer::Status(status) | Answer::Table(status, _) => status,
        Answer::Done
        | Answer::Version(_)
        | Answer::Devices(_)
        | Answer::Deps(_)
        | Answer::Versions(_)
        | Answer::Text(_)
        | Answer::Events(_)
        | Answer::Faults(_)
        | Answer::Located(_)
        | Answer::Shows(_) => unreachable!("the operation answers with the device's status"),
    }
}

/// Takes the device's name out of the kernel's words for an area that is not on it.
fn too_small(kernel: &str) -> Option<&str> {
    kernel.split_once(" too small for target").map(|(name, _)| name)
}
