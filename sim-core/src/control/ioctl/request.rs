//! A call as a command, and what came of the command as a reply.

use std::fmt;

use zeroize::Zeroizing;

use super::flags::{
    BUFFER_FULL, DATA_OUT, DEFERRED_REMOVE, IMA_MEASUREMENT, INACTIVE_PRESENT, NOFLUSH,
    PERSISTENT_DEV, READONLY, SECURE_DATA, SKIP_BDGET, STATUS_TABLE, SUSPEND, TAKEN_OUT, UUID,
};
use super::header::{FIELDS_LEN, Header, NAME_LEN, UUID_LEN, text_at, u64_at, unpack};
use super::kind::Kind;
use super::lists::{Buffer, START, Written, is_wanted};
use super::reply::{Reply, version};
use super::specs::{self, Broken};
use super::{Call, HEADER_LEN};
use crate::control::{
    Answer, Command, DevStatus, INTERFACE_VERSION, Id, NewName, Report, Slot, WhenOpen,
};
use crate::{Access, Errno, Held, KeyText, Params, Sector};

/// When a command that asks for more is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the call's own.
    Before,
    /// After the call's own, if that succeeds.
    After,
}

/// A call that was read: what is to be carried out, and what its reply is made from.
pub struct Request {
    kind: Kind,
    header: Header,
    /// The caller's buffer from its start, as far as it was handed over. May hold keys.
    bytes: Zeroizing<Vec<u8>>,
    /// How long it is with the caller.
    size: usize,
    wipes: bool,
    command: Command,
    also: Option<(When, Command)>,
    /// What is wrong with the payload, where the kernel looks for the device first.
    fault: Option<Reply>,
}

impl fmt::Debug for Request {
    /// Leaves the bytes out, which may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { size, wipes, command, also, fault, .. } = self;
        write!(f, "{command:?}, also {also:?}, fault {fault:?}, {size} bytes, wipes {wipes}")
    }
}

/// What a call's payload comes to.
struct Asked {
    command: Command,
    also: Option<(When, Command)>,
    fault: Option<Reply>,
}

impl From<Command> for Asked {
    fn from(command: Command) -> Asked {
        Asked { command, also: None, fault: None }
    }
}

impl Call {
    /// Reads the call from the start of the caller's buffer, which is to be as long as
    /// [`reads`](Self::reads) says. The header is what it was when it was looked at, whatever the
    /// caller has made of it since. Where there is more of it, answers keep what the caller had
    /// between their parts, as the kernel's do; else zeros are there. What the buffer holds is
    /// wiped when the request or its reply is dropped.
    ///
    /// # Errors
    /// - `EINVAL`: no name for a new device, a name and a uuid both, a payload that is out of bounds
    ///   or has no end.
    /// - `ENXIO`: no device can be meant.
    /// - `EFAULT`: too few bytes.
    pub fn decode(self, mut bytes: Zeroizing<Vec<u8>>) -> Result<Request, Reply> {
        let wanted = self.reads();
        let Call { kind, mut header } = self;
        let size = match kind {
            Kind::Version => bytes.len(),
            _ if kind.is_header_alone() => FIELDS_LEN,
            _ => header.data_size as usize,
        };
        if bytes.len() < wanted {
            return Err(Reply::bad_address());
        }
        bytes.truncate(size);
        let wipes = kind != Kind::Version && header.has(SECURE_DATA);
        header.flags &= !TAKEN_OUT;
        header.version = INTERFACE_VERSION;
        let asked = check(kind, &mut header).and_then(|()| ask(kind, &header, &bytes));
        let Asked { command, also, fault } =
            asked.map_err(|refusal| if wipes { wiped(refusal, size) } else { refusal })?;
        Ok(Request { kind, header, bytes, size, wipes, command, also, fault })
    }
}

/// A failure of a call whose buffer is wiped: the version goes too.
fn wiped(refusal: Reply, size: usize) -> Reply {
    Reply { wiped: size, bytes: Zeroizing::default(), ..refusal }
}

fn invalid(why: &str) -> Reply {
    Reply::refused(Errno::INVAL).log(why)
}

/// Checks what the kernel checks of every call, and ends its texts.
fn check(kind: Kind, header: &mut Header) -> Result<(), Reply> {
    match kind {
        Kind::Version | Kind::RemoveAll | Kind::ListDevices | Kind::ListVersions => return Ok(()),
        Kind::DevCreate if header.name[0] == 0 => {
            return Err(invalid("name not supplied when creating device"));
        }
        Kind::DevCreate => {}
        _ if header.name[0] != 0 && header.uuid[0] != 0 => {
            let nr = kind.nr();
            return Err(invalid(&format!("only supply one of name or uuid, cmd({nr})")));
        }
        _ => {}
    }
    header.name[NAME_LEN - 1] = 0;
    header.uuid[UUID_LEN - 1] = 0;
    Ok(())
}

/// Finds out which device is meant.
fn id(header: &Header) -> Result<Id, Reply> {
    let absent = || Reply::refused(Errno::NXIO);
    let text = |bytes| str::from_utf8(bytes).map(str::to_owned).map_err(|_| absent());
    let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (name, uuid, dev) = (header.name(), header.uuid(), header.dev);
    match (uuid.is_empty(), name.is_empty(), dev) {
        (false, true, 0) => Ok(Id::Uuid(text(uuid)?)),
        (false, _, _) => {
            let (uuid, name) = (lossy(uuid), lossy(name));
            let why = format!("Invalid ioctl structure: uuid {uuid}, name {name}, dev {dev:x}");
            Err(absent().log(why))
        }
        (true, false, 0) => Ok(Id::Name(text(name)?)),
        (true, false, _) => {
            let name = lossy(name);
            Err(absent().log(format!("Invalid ioctl structure: name {name}, dev {dev:x}")))
        }
        (true, true, 0) => Err(absent()),
        (true, true, _) => Ok(Id::Dev(unpack(dev))),
    }
}

/// Makes the command.
fn ask(kind: Kind, header: &Header, bytes: &[u8]) -> Result<Asked, Reply> {
    let slot = header.slot();
    let open = if header.has(DEFERRED_REMOVE) { WhenOpen::Defer } else { WhenOpen::Refuse };
    let held = if header.has(NOFLUSH) { Held::NoFlush } else { Held::Flush };
    let status = |id: &Id, slot| Command::DevStatus { id: id.clone(), slot };
    // The answers of these tell of the live table by themselves.
    let of_live = |id: &Id, command| {
        let also = (slot == Slot::Inactive).then(|| (When::After, status(id, slot)));
        Asked { command, also, fault: None }
    };
    Ok(match kind {
        Kind::Version => Command::Version.into(),
        Kind::RemoveAll => Command::RemoveAll { open }.into(),
        Kind::ListDevices => Command::ListDevices.into(),
        Kind::ListVersions => Command::ListVersions.into(),
        Kind::ArmPoll => Command::ArmPoll.into(),
        Kind::GetTargetVersion => {
            let name = str::from_utf8(header.name());
            let name = name.map_err(|_| Reply::refused(Errno::INVAL))?.to_owned();
            Command::GetTargetVersion { name }.into()
        }
        Kind::DevCreate => {
            let text = |bytes| {
                let text = str::from_utf8(bytes).map(str::to_owned);
                text.map_err(|_| invalid("device name or uuid is not UTF-8"))
            };
            let (name, uuid) = (text(header.name())?, text(header.uuid())?);
            let uuid = Some(uuid).filter(|uuid| !uuid.is_empty());
            let minor = header.has(PERSISTENT_DEV).then(|| unpack(header.dev).minor);
            of_live(&Id::Name(name.clone()), Command::DevCreate { name, uuid, minor })
        }
        Kind::DevRename => rename(header, bytes)?,
        Kind::DevRemove => {
            let id = id(header)?;
            // Afterwards there is nothing left to ask.
            let also = Some((When::Before, status(&id, Slot::Live)));
            Asked { also, ..Command::DevRemove { id, open }.into() }
        }
        Kind::DevSuspend => {
            let id = id(header)?;
            let command = match header.has(SUSPEND) {
                true => Command::DevSuspend { id: id.clone(), held },
                false => Command::DevResume { id: id.clone(), held },
            };
            of_live(&id, command)
        }
        Kind::DevStatus => status(&id(header)?, slot).into(),
        Kind::TableClear => {
            let id = id(header)?;
            of_live(&id, Command::TableClear { id: id.clone() })
        }
        Kind::TableDeps => {
            let id = id(header)?;
            let also = Some((When::Before, status(&id, slot)));
            Asked { also, ..Command::TableDeps { id, slot }.into() }
        }
        Kind::TableStatus => {
            let id = id(header)?;
            table(id, report(header), slot).into()
        }
        Kind::DevWait => {
            let id = id(header)?;
            let command = Command::DevWait { id: id.clone(), event_nr: header.event_nr };
            match report(header) {
                Report::Status if slot == Slot::Live => command.into(),
                report => {
                    Asked { also: Some((When::After, table(id, report, slot))), ..command.into() }
                }
            }
        }
        Kind::TableLoad => load(header, bytes)?,
        Kind::TargetMsg => message(header, bytes)?,
        Kind::SetGeometry => {
            let id = id(header)?;
            let text = payload(header, bytes, 0).and_then(|text| str::from_utf8(text).ok());
            match text {
                Some(geometry) => Command::SetGeometry { id, geometry: geometry.to_owned() }.into(),
                None => late(id, invalid("Invalid geometry supplied.")),
            }
        }
    })
}

/// What is wrong, to be said when the device was found.
fn late(id: Id, fault: Reply) -> Asked {
    let command = Command::DevStatus { id, slot: Slot::Live };
    Asked { command, also: None, fault: Some(fault) }
}

/// Which text is asked for.
fn report(header: &Header) -> Report {
    match (header.has(STATUS_TABLE), header.has(IMA_MEASUREMENT), header.has(NOFLUSH)) {
        (true, _, _) => Report::Table,
        (false, true, _) => Report::Measure,
        (false, false, true) => Report::StatusNoFlush,
        (false, false, false) => Report::Status,
    }
}

fn table(id: Id, report: Report, slot: Slot) -> Command {
    // It is the caller who hides keys.
    Command::TableStatus { id, report, slot, device_names: false, keys: KeyText::Plain }
}

/// Returns the text in the payload, `skip` bytes from its start; nothing where it is not within the
/// payload.
fn payload<'a>(header: &Header, bytes: &'a [u8], skip: usize) -> Option<&'a [u8]> {
    let start = header.data_start as usize;
    // The 7 bytes behind the fields count for payload here.
    (start >= FIELDS_LEN).then(|| text_at(bytes, start.checked_add(skip)?))?
}

fn rename(header: &Header, bytes: &[u8]) -> Result<Asked, Reply> {
    let why = "Invalid new mapped device name or uuid string supplied.";
    let new = payload(header, bytes, 0).and_then(|text| str::from_utf8(text).ok());
    let new = new.ok_or_else(|| invalid(why))?.to_owned();
    // The kernel looks at the name alone, whatever else is there.
    let Ok(name) = str::from_utf8(header.name()) else {
        let name = String::from_utf8_lossy(header.name());
        let why = format!("Unable to rename non-existent device, {name} to {new}");
        return Err(Reply::refused(Errno::NXIO).log(why));
    };
    let id = Id::Name(name.to_owned());
    let (new, then) = match header.has(UUID) {
        true => (NewName::Uuid(new), id.clone()),
        false => (NewName::Name(new.clone()), Id::Name(new)),
    };
    let also = (header.slot() == Slot::Inactive)
        .then(|| (When::After, Command::DevStatus { id: then, slot: Slot::Inactive }));
    Ok(Asked { also, ..Command::DevRename { id, new }.into() })
}

fn load(header: &Header, bytes: &[u8]) -> Result<Asked, Reply> {
    let id = id(header)?;
    let access = if header.has(READONLY) { Access::ReadOnly } else { Access::ReadWrite };
    let targets = match specs::read(bytes, header.target_count, header.data_start) {
        Ok(targets) => targets,
        Err(Broken::TooMany) => return Ok(late(id, Reply::refused(Errno::OVERFLOW))),
        Err(Broken::Invalid(lines)) => {
            let refusal = Reply::refused(Errno::INVAL);
            return Ok(late(id, lines.iter().fold(refusal, Reply::log)));
        }
    };
    let also = (header.slot() == Slot::Inactive)
        .then(|| (When::After, Command::DevStatus { id: id.clone(), slot: Slot::Inactive }));
    let command = Command::TableLoad { id, access, targets, base: "/".to_owned() };
    Ok(Asked { also, ..command.into() })
}

fn message(header: &Header, bytes: &[u8]) -> Result<Asked, Reply> {
    let id = id(header)?;
    let text = payload(header, bytes, 8).and_then(|text| str::from_utf8(text).ok());
    let Some(text) = text else {
        return Ok(late(id, invalid("Invalid target message parameters.")));
    };
    let sector = u64_at(bytes, header.data_start as usize).expect("the text is behind it");
    let also = Some((When::After, Command::DevStatus { id: id.clone(), slot: header.slot() }));
    let message = Params::from(text);
    let command = Command::TargetMsg { id, sector: Sector(sector), message, slot: Slot::Live };
    Ok(Asked { also, ..command.into() })
}

impl Request {
    /// What is to be carried out.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// A command whose answer the reply needs besides, and when to carry it out.
    pub fn also(&self) -> Option<&(When, Command)> {
        self.also.as_ref()
    }

    /// Tells whether the caller asks how a device is, or its targets, or what is below it, and how often
    /// it is open: libdevmapper says where it does not want to know.
    pub fn wants_open_count(&self) -> bool {
        matches!(self.kind, Kind::DevStatus | Kind::TableStatus | Kind::TableDeps)
            && !self.header.has(SKIP_BDGET)
    }

    /// Sets the directory that relative paths of a table start from: that of the caller. `/` where
    /// it is not set.
    pub fn set_base(&mut self, directory: &str) {
        if let Command::TableLoad { base, .. } = &mut self.command {
            directory.clone_into(base);
        }
    }

    /// Makes the reply from what the [command](Self::command) came to, and from the answer to the
    /// [other one](Self::also), if there was one. Where that one failed, the answer's fields are
    /// those of the call.
    ///
    /// # Panics
    /// When the answer is not one to this command.
    pub fn reply(self, result: Result<Answer, Errno>, also: Option<Answer>) -> Reply {
        let (size, wipes) = (self.size, self.wipes);
        let reply = match (result, self.fault) {
            (Err(errno), _) => Reply::refused(errno),
            (Ok(_), Some(fault)) => fault,
            (Ok(answer), None) => {
                let parts = Parts { kind: self.kind, header: self.header, size };
                let bytes = parts.succeed(self.bytes, answer, also, wipes);
                let wiped = if wipes { size } else { 0 };
                return Reply { result: Ok(()), log: Vec::new(), wiped, bytes };
            }
        };
        if wipes { wiped(reply, size) } else { reply }
    }
}

/// What an answer is written into.
struct Parts {
    kind: Kind,
    header: Header,
    size: usize,
}

impl Parts {
    fn succeed(
        self,
        mut bytes: Zeroizing<Vec<u8>>,
        answer: Answer,
        also: Option<Answer>,
        wipes: bool,
    ) -> Zeroizing<Vec<u8>> {
        let Parts { kind, mut header, size } = self;
        match kind {
            Kind::Version => return version(),
            // Of these the kernel copies nothing out.
            Kind::RemoveAll | Kind::SetGeometry if wipes => return Zeroizing::default(),
            Kind::RemoveAll | Kind::SetGeometry => return version(),
            _ => {}
        }
        // A table that was asked for besides is the one to show.
        let (answer, also) = match (answer, also) {
            (Answer::Table(..), Some(table @ Answer::Table(..))) => (table, None),
            other => other,
        };
        let status = match (&also, &answer) {
            (Some(Answer::Status(status)), _)
            | (_, Answer::Status(status) | Answer::Table(status, _)) => Some(status),
            _ => None,
        };
        set_status(kind, &mut header, status);
        let has_table = match header.slot() {
            Slot::Live => status.is_some_and(|status| status.live_present),
            Slot::Inactive => status.is_some_and(|status| status.inactive_present),
        };
        let mut buffer = Buffer { bytes: &mut bytes, size };
        let written = match (kind, &answer) {
            (Kind::ListDevices, Answer::Devices(devices)) => {
                let (name, uuid) = (header.name(), header.uuid());
                let wanted = devices.iter().filter(|device| is_wanted(device, name, uuid));
                Some(buffer.devices(wanted, header.has(UUID)))
            }
            (Kind::ListVersions | Kind::GetTargetVersion, Answer::Versions(versions)) => {
                Some(buffer.versions(versions))
            }
            (Kind::TableDeps, Answer::Deps(deps)) => has_table.then(|| buffer.deps(deps)),
            (Kind::TableStatus | Kind::DevWait, Answer::Table(_, targets)) => {
                header.target_count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
                has_table.then(|| buffer.targets(targets))
            }
            (Kind::TargetMsg, Answer::Text(text)) => {
                let text = text.as_ref();
                header.set(DATA_OUT, text.is_some());
                // The kernel makes room for one in any case.
                let silent = Written { end: None, full: false };
                Some(text.map_or(silent, |text| buffer.text(text)))
            }
            (Kind::DevRemove, Answer::Done)
            | (Kind::ArmPoll, Answer::Events(_))
            | (
                Kind::DevCreate
                | Kind::DevRename
                | Kind::DevSuspend
                | Kind::DevStatus
                | Kind::TableLoad
                | Kind::TableClear,
                Answer::Status(_),
            ) => None,
            (kind, answer) => panic!("{answer:?} is no answer to {kind:?}"),
        };
        let mut end = FIELDS_LEN;
        if let Some(written) = written {
            header.data_start = size.min(START) as u32;
            header.set(BUFFER_FULL, written.full);
            end = written.end.unwrap_or(FIELDS_LEN);
        }
        header.data_size = u32::try_from(end).expect("at most what the caller gave");
        header.write(&mut bytes);
        bytes.truncate(end);
        bytes
    }
}

/// Puts into the header what the kernel does of the device.
fn set_status(kind: Kind, header: &mut Header, status: Option<&DevStatus>) {
    let Some(status) = status else { return };
    match kind {
        Kind::DevCreate => {
            header.set(INACTIVE_PRESENT, false);
            header.set_status(status);
        }
        // The name stays the old one, and the uuid is not told.
        Kind::DevRename => header.set_status(status),
        Kind::DevRemove => {
            header.set_found(status);
            // One that is open goes later.
            header.set(DEFERRED_REMOVE, header.has(DEFERRED_REMOVE) && status.open_count > 0);
        }
        _ => {
            header.set_found(status);
            header.set_status(status);
        }
    }
}

const _: () = assert!(START == HEADER_LEN && HEADER_LEN.is_multiple_of(8));
