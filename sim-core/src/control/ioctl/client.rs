//! The other direction: commands as a program writes them, and answers as it reads them.

use std::fmt;

use zeroize::Zeroizing;

use super::flags::{
    BUFFER_FULL, DATA_OUT, DEFERRED_REMOVE, IMA_MEASUREMENT, NOFLUSH, PERSISTENT_DEV,
    QUERY_INACTIVE_TABLE, READONLY, SECURE_DATA, STATUS_TABLE, SUSPEND, UUID,
};
use super::header::{Header, pack, put_text, text_at, u32_at, u64_at, unpack, until_nul};
use super::kind::Kind;
use super::lists::{HAS_UUID, NAME_IN_LIST, NAME_IN_VERSIONS, START, align};
use super::specs::{SPEC_LEN, TYPE_AT};
use super::{FIELDS_LEN, MAX_DATA_SIZE};
use crate::control::{
    Answer, Command, DevStatus, Id, Listed, MAX_NAME, MAX_UUID, NewName, Report, Slot,
    TargetVersion, WhenOpen,
};
use crate::{DM_MAJOR, DevNumber, Errno, Held, Params, Sector, Sectors, TargetSpec};

/// A call to be made.
pub struct Prepared {
    /// The ioctl's code.
    pub code: u32,
    /// The buffer to make it with. Holds keys where the command does.
    pub buffer: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Prepared {
    /// Leaves the bytes out, which may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}, {} bytes", self.code, self.buffer.len())
    }
}

/// What a program learns from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the header says of the device, where the command is about one.
    pub status: DevStatus,
    /// The answer; none where the buffer was too small for it: to be asked again with a larger one.
    pub answer: Option<Answer>,
}

/// Writes a command as a call with a buffer of at least `size` bytes: room for the answer. What
/// the interface has no words for, how device names are printed and where paths start, is left out.
///
/// # Errors
/// - `EOPNOTSUPP`: the interface has no such command.
/// - `ENAMETOOLONG`: a name, a uuid or the name of a target type that is too long.
/// - `EINVAL`: a NUL in a text, or an empty one where that would mean another call.
/// - `EFBIG`: more than [`MAX_DATA_SIZE`].
pub fn write(command: &Command, size: usize) -> Result<Prepared, Errno> {
    let mut call = Draft::default();
    let kind = call.put(command)?;
    let payload = call.payload.len();
    let size = size.max(FIELDS_LEN).max(if payload == 0 { 0 } else { START + payload });
    if size > MAX_DATA_SIZE as usize {
        return Err(Errno::FBIG);
    }
    // The oldest, as the kernel takes every one up to its own.
    call.header.version = [4, 0, 0];
    call.header.data_start = START as u32;
    call.header.data_size = u32::try_from(size).expect("compared above");
    let mut buffer = Zeroizing::new(vec![0; size]);
    call.header.write(&mut buffer);
    if payload > 0 {
        buffer[START..START + payload].copy_from_slice(&call.payload);
    }
    Ok(Prepared { code: kind.code(), buffer })
}

/// A call as far as it is made.
#[derive(Default)]
struct Draft {
    header: Header,
    payload: Zeroizing<Vec<u8>>,
}

impl Draft {
    fn put(&mut self, command: &Command) -> Result<Kind, Errno> {
        Ok(match command {
            Command::Version => Kind::Version,
            Command::RemoveAll { open } => {
                self.header.set(DEFERRED_REMOVE, *open == WhenOpen::Defer);
                Kind::RemoveAll
            }
            Command::ListDevices => {
                self.header.set(UUID, true);
                Kind::ListDevices
            }
            Command::DevCreate { name, uuid, minor } => {
                self.name(name)?;
                uuid.iter().try_for_each(|uuid| self.uuid(uuid))?;
                if let Some(minor) = minor {
                    self.header.set(PERSISTENT_DEV, true);
                    self.header.dev = pack(DevNumber { major: DM_MAJOR, minor: *minor });
                }
                Kind::DevCreate
            }
            Command::DevRemove { id, open } => {
                self.header.set(DEFERRED_REMOVE, *open == WhenOpen::Defer);
                self.id(id, Kind::DevRemove)?
            }
            Command::DevRename { id, new } => {
                let (NewName::Name(text) | NewName::Uuid(text)) = new;
                self.header.set(UUID, matches!(new, NewName::Uuid(_)));
                self.text(text)?;
                self.id(id, Kind::DevRename)?
            }
            Command::DevSuspend { id, held } => {
                self.header.set(SUSPEND, true);
                self.header.set(NOFLUSH, *held == Held::NoFlush);
                self.id(id, Kind::DevSuspend)?
            }
            Command::DevResume { id, held } => {
                self.header.set(NOFLUSH, *held == Held::NoFlush);
                self.id(id, Kind::DevSuspend)?
            }
            Command::DevStatus { id, slot } => {
                self.slot(*slot);
                self.id(id, Kind::DevStatus)?
            }
            Command::DevWait { id, event_nr } => {
                self.header.event_nr = *event_nr;
                self.id(id, Kind::DevWait)?
            }
            Command::TableLoad { id, access, targets, base: _ } => {
                self.header.set(READONLY, access.is_read_only());
                self.header.set(SECURE_DATA, true);
                self.targets(targets)?;
                self.id(id, Kind::TableLoad)?
            }
            Command::TableClear { id } => self.id(id, Kind::TableClear)?,
            Command::TableDeps { id, slot } => {
                self.slot(*slot);
                self.id(id, Kind::TableDeps)?
            }
            Command::TableStatus { id, report, slot, device_names: _, keys: _ } => {
                self.slot(*slot);
                self.header.set(STATUS_TABLE, *report == Report::Table);
                self.header.set(NOFLUSH, *report == Report::StatusNoFlush);
                self.header.set(IMA_MEASUREMENT, *report == Report::Measure);
                self.header.set(SECURE_DATA, *report == Report::Table);
                self.id(id, Kind::TableStatus)?
            }
            Command::ListVersions => Kind::ListVersions,
            Command::TargetMsg { id, sector, message, slot: Slot::Live } => {
                self.header.set(SECURE_DATA, true);
                self.payload.reserve(8 + message.len() + 1);
                self.payload.extend(sector.0.to_ne_bytes());
                self.text(message)?;
                self.id(id, Kind::TargetMsg)?
            }
            Command::SetGeometry { id, geometry } => {
                self.text(geometry)?;
                self.id(id, Kind::SetGeometry)?
            }
            Command::ArmPoll => Kind::ArmPoll,
            Command::GetTargetVersion { name } => {
                self.name(name)?;
                Kind::GetTargetVersion
            }
            Command::TargetMsg { slot: Slot::Inactive, .. }
            | Command::SetReadAhead { .. }
            | Command::SetFails { .. }
            | Command::SetFaults { .. }
            | Command::Faults { .. }
            | Command::Locate { .. }
            | Command::Shows { .. }
            | Command::SetNode { .. } => return Err(Errno::OPNOTSUPP),
        })
    }

    fn name(&mut self, name: &str) -> Result<(), Errno> {
        check_text(name, MAX_NAME)?;
        put_text(&mut self.header.name, name);
        Ok(())
    }

    fn uuid(&mut self, uuid: &str) -> Result<(), Errno> {
        check_text(uuid, MAX_UUID)?;
        put_text(&mut self.header.uuid, uuid);
        Ok(())
    }

    fn id(&mut self, id: &Id, kind: Kind) -> Result<Kind, Errno> {
        match id {
            Id::Name(name) => self.name(name)?,
            Id::Uuid(uuid) => self.uuid(uuid)?,
            Id::Dev(DevNumber { major: 0, minor: 0 }) => return Err(Errno::INVAL),
            Id::Dev(dev) => self.header.dev = pack(*dev),
        }
        Ok(kind)
    }

    fn slot(&mut self, slot: Slot) {
        self.header.set(QUERY_INACTIVE_TABLE, slot == Slot::Inactive);
    }

    fn text(&mut self, text: &str) -> Result<(), Errno> {
        if text.contains('\0') {
            return Err(Errno::INVAL);
        }
        self.payload.extend(text.as_bytes());
        self.payload.push(0);
        Ok(())
    }

    fn targets(&mut self, targets: &[TargetSpec]) -> Result<(), Errno> {
        let len = |target: &TargetSpec| align(SPEC_LEN + target.params.len() + 1);
        // Keys would stay behind where the vector grew.
        self.payload.reserve(targets.iter().map(len).sum());
        self.header.target_count = u32::try_from(targets.len()).map_err(|_| Errno::FBIG)?;
        for (index, target) in targets.iter().enumerate() {
            let is_last = index + 1 == targets.len();
            let next = if is_last { 0 } else { len(target) };
            let next = u32::try_from(next).map_err(|_| Errno::FBIG)?;
            check_text(&target.target_type, SPEC_LEN - TYPE_AT - 1)?;
            let mut target_type = [0; SPEC_LEN - TYPE_AT];
            put_text(&mut target_type, &target.target_type);
            let start = self.payload.len();
            self.payload.extend(target.start.0.to_ne_bytes());
            self.payload.extend(target.len.0.to_ne_bytes());
            self.payload.extend(0_u32.to_ne_bytes());
            self.payload.extend(next.to_ne_bytes());
            self.payload.extend(target_type);
            self.text(&target.params)?;
            self.payload.resize(start + len(target), 0);
        }
        Ok(())
    }
}

fn check_text(text: &str, longest: usize) -> Result<(), Errno> {
    match text.len() {
        len if len > longest => Err(Errno::NAMETOOLONG),
        0 => Err(Errno::INVAL),
        _ if text.contains('\0') => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// Reads the answer to a call that succeeded, from the buffer that it was made with.
///
/// # Errors
/// - `EPROTO`: it is no answer: a list that leads out of the buffer or goes backwards, a text
///   without an end. Texts that are not UTF-8 are read as well as can be.
/// - `EOPNOTSUPP`: the interface has no such command.
pub fn read(command: &Command, buffer: &[u8]) -> Result<Reading, Errno> {
    if matches!(command, Command::Version) {
        let word = |at| u32_at(buffer, at).ok_or(Errno::PROTO);
        let answer = Some(Answer::Version([word(0)?, word(4)?, word(8)?]));
        return Ok(Reading { status: Header::default().status(), answer });
    }
    let header = Header::read(buffer).ok_or(Errno::PROTO)?;
    let status = header.status();
    // Of these nothing is written but the version: the flags are the caller's own.
    let is_silent = matches!(command, Command::RemoveAll { .. } | Command::SetGeometry { .. });
    if header.has(BUFFER_FULL) && !is_silent {
        return Ok(Reading { status, answer: None });
    }
    let used = (header.data_size as usize).min(buffer.len());
    // Without a payload the answer ends with the header's fields.
    let payload = buffer[..used].get(START..).filter(|_| header.data_start as usize == START);
    let answer = match command {
        Command::ListDevices => Answer::Devices(devices(payload.unwrap_or_default())?),
        Command::ListVersions | Command::GetTargetVersion { .. } => {
            Answer::Versions(versions(payload.unwrap_or_default())?)
        }
        Command::TableDeps { .. } => Answer::Deps(deps(payload.unwrap_or_default())?),
        Command::TableStatus { .. } | Command::DevWait { .. } => {
            let count = payload.map_or(0, |_| header.target_count);
            Answer::Table(status.clone(), targets(payload.unwrap_or_default(), count)?)
        }
        Command::TargetMsg { .. } => {
            let text = header.has(DATA_OUT).then(|| text(payload.unwrap_or_default(), 0));
            Answer::Text(text.transpose()?)
        }
        Command::RemoveAll { .. } | Command::DevRemove { .. } => Answer::Done,
        Command::ArmPoll => Answer::Events(header.event_nr),
        Command::DevCreate { .. }
        | Command::DevRename { .. }
        | Command::DevSuspend { .. }
        | Command::DevResume { .. }
        | Command::DevStatus { .. }
        | Command::TableLoad { .. }
        | Command::TableClear { .. }
        | Command::SetGeometry { .. } => Answer::Status(status.clone()),
        Command::Version => unreachable!("answered above"),
        Command::SetReadAhead { .. }
        | Command::SetFails { .. }
        | Command::SetFaults { .. }
        | Command::Faults { .. }
        | Command::Locate { .. }
        | Command::Shows { .. }
        | Command::SetNode { .. } => {
            return Err(Errno::OPNOTSUPP);
        }
    };
    Ok(Reading { status, answer: Some(answer) })
}

fn text(bytes: &[u8], at: usize) -> Result<String, Errno> {
    let text = text_at(bytes, at).ok_or(Errno::PROTO)?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    u32_at(bytes, at).ok_or(Errno::PROTO)
}

fn long(bytes: &[u8], at: usize) -> Result<u64, Errno> {
    u64_at(bytes, at).ok_or(Errno::PROTO)
}

/// Walks along a chain whose links say how far the next is. `each` reads one, and says how long it
/// is at least: none begins before that, so the walk ends, and reads nothing twice.
fn follow<T>(
    bytes: &[u8],
    next_at: usize,
    mut each: impl FnMut(usize) -> Result<(T, usize), Errno>,
) -> Result<Vec<T>, Errno> {
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let (item, len) = each(at)?;
        all.push(item);
        match word(bytes, at + next_at)? as usize {
            0 => return Ok(all),
            next if next < len => return Err(Errno::PROTO),
            next => at += next,
        }
    }
}

fn devices(bytes: &[u8]) -> Result<Vec<Listed>, Errno> {
    if bytes.is_empty() || long(bytes, 0)? == 0 {
        return Ok(Vec::new());
    }
    follow(bytes, 8, |at| {
        let name = text(bytes, at + NAME_IN_LIST)?;
        let len = text_at(bytes, at + NAME_IN_LIST).ok_or(Errno::PROTO)?.len();
        let behind = align(at + NAME_IN_LIST + len + 1);
        let taken = behind + 8 - at;
        let has_uuid = word(bytes, behind + 4)? as usize & HAS_UUID != 0;
        let uuid = has_uuid.then(|| text(bytes, behind + 8)).transpose()?;
        let dev = unpack(long(bytes, at)?);
        Ok((Listed { name, uuid, dev, event_nr: word(bytes, behind)? }, taken))
    })
}

fn versions(bytes: &[u8]) -> Result<Vec<TargetVersion>, Errno> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    follow(bytes, 0, |at| {
        let number = |place| word(bytes, at + place);
        let version = [number(4)?, number(8)?, number(12)?];
        let len = text_at(bytes, at + NAME_IN_VERSIONS).ok_or(Errno::PROTO)?.len();
        let name = text(bytes, at + NAME_IN_VERSIONS)?;
        Ok((TargetVersion { name, version }, NAME_IN_VERSIONS + len + 1))
    })
}

fn deps(bytes: &[u8]) -> Result<Vec<DevNumber>, Errno> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let count = word(bytes, 0)? as usize;
    let devs = bytes.get(8..).ok_or(Errno::PROTO)?.chunks_exact(8);
    if devs.len() < count {
        return Err(Errno::PROTO);
    }
    devs.take(count).map(|dev| Ok(unpack(long(dev, 0)?))).collect()
}

fn targets(bytes: &[u8], count: u32) -> Result<Vec<TargetSpec>, Errno> {
    let (mut all, mut at) = (Vec::new(), 0);
    for _ in 0..count {
        let target_type = bytes.get(at + TYPE_AT..at + SPEC_LEN).ok_or(Errno::PROTO)?;
        let params = text_at(bytes, at + SPEC_LEN).ok_or(Errno::PROTO)?;
        all.push(TargetSpec {
            start: Sector(long(bytes, at)?),
            len: Sectors(long(bytes, at + 8)?),
            target_type: String::from_utf8_lossy(until_nul(target_type)).into_owned(),
            params: match String::from_utf8_lossy(params) {
                std::borrow::Cow::Borrowed(text) => Params::from(text),
                std::borrow::Cow::Owned(text) => Params::from(text),
            },
        });
        // From the first, not from this one.
        let next = word(bytes, at + 20)? as usize;
        if next < at + SPEC_LEN + params.len() + 1 {
            return Err(Errno::PROTO);
        }
        at = next;
    }
    Ok(all)
}
