//! What client and daemon say to each other over the socket.
//!
//! A message is a length (`u32`, little endian) and as many bytes of JSON. The client begins with
//! [`Hello`], the daemon answers [`Welcome`]; then each [`Request`] gets one [`Reply`]. A client
//! that closes the connection takes back what it waits for.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use backing::{Attach, Attached};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sim_core::control::{Answer, Command, Failure, Happenings, Id, Slot};
use sim_core::{DevNumber, TargetSpec, TracedPage};
use zeroize::Zeroizing;

use crate::describe::Description;

/// The version of the messages. Client and daemon must have the same.
pub const VERSION: u32 = 13;

/// The longest message, in bytes: a table of a million lines has some 80 MiB.
pub const MAX_MESSAGE: u32 = 512 << 20;

/// Room for most messages, in bytes.
const ROOM: usize = 64 << 10;

/// The most memory that is taken on the word of a client, in bytes.
const MAX_ROOM: usize = 1 << 20;

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the client.
    pub version: u32,
}

/// The first message of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`] of the daemon.
    pub version: u32,
    /// The daemon's process.
    pub pid: u32,
    /// Where it shows the devices.
    pub mount: PathBuf,
    /// Where it keeps what survives a reboot: the record, the stores of snapshots.
    pub state: PathBuf,
    /// How many images and devices are recorded from before, and wait for a restore.
    pub pending: usize,
    /// What of the record was found damaged when it started.
    pub damage: Option<String>,
}

/// What a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// One operation of the control plane.
    Control(Command),
    /// Makes an image file a backing device.
    Attach(Attach),
    /// The reverse.
    Detach {
        /// A name, a `major:minor` or a path.
        word: String,
        /// The directory that a relative path starts from.
        base: PathBuf,
    },
    /// Looks how long the file of an attached image is by now.
    Resize {
        /// A name, a `major:minor` or a path.
        word: String,
        /// The directory that a relative path starts from.
        base: PathBuf,
    },
    /// Lists the attached images.
    Images,
    /// Lists who has a mapped device's file open.
    Users,
    /// Describes one mapped device, or all of them by name.
    Describe(Option<Id>),
    /// Waits for what happens to devices after the happening with this number, and tells of it; without a
    /// number, tells at once which one was the last. A client that asks too late has missed some: the daemon
    /// keeps the last few thousand, for all clients, and nothing for any of them.
    Happened(Option<u64>),
    /// Begins to trace what passes through a device, for this connection and up to its end.
    Trace {
        /// The device.
        id: Id,
        /// What its tables send below, too.
        deep: bool,
    },
    /// Waits for what passes through the device that is traced, and tells of it. Of what is not asked for in
    /// time the daemon keeps the first few thousand steps, and the count of the others.
    Traced,
    /// Tells what all devices are doing. From the first of these on, each device counts what it is sent, as long as
    /// the connection is there.
    Gauges,
    /// Lists what is recorded from before and lacks its keys.
    Keyless,
    /// Brings back what is recorded from before, with these tables in the place of those that
    /// lack their keys.
    Restore(Vec<Filled>),
    /// Drops the record of what was there before: of all of it, or of what is called so.
    Forget(Vec<Forgotten>),
    /// Says that more changes follow on this connection: they are made durable together, with
    /// [`Request::Commit`], or when the client hangs up. A power cut in the middle leaves those
    /// up to one of them.
    Batch,
    /// Makes durable what was changed since [`Request::Batch`].
    Commit,
    /// Makes the private device-mapper that unmodified programs use, if it is not there yet.
    Private,
    /// Ends the daemon.
    Stop {
        /// Also when devices are open.
        force: bool,
    },
}

/// What is to be dropped from the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// As it was typed: what `restore` calls it; of a RAID set, all that was made for it goes too.
    pub word: String,
    /// The file that the word leads to, where it is a path. The file may be gone.
    pub path: Option<PathBuf>,
}

/// Who has a device open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The device's name.
    pub device: String,
    /// The process.
    pub pid: u32,
    /// Its program; nothing for one that cannot be seen, or has ended.
    pub program: Option<String>,
    /// The loop devices over the device's file, and where they are mounted: where the process that
    /// set one up has ended, it is they who have the file open.
    pub loops: Vec<String>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "{program} (pid {})", self.pid),
            None if !self.loops.is_empty() => f.write_str(&self.loops.join(", ")),
            None => write!(f, "pid {}, which has ended or cannot be seen from here", self.pid),
        }
    }
}

/// A device that is recorded from before, but for its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyless {
    /// The name.
    pub name: String,
    /// The uuid, if it has one.
    pub uuid: Option<String>,
    /// The tables that lack keys: each key is a word that has `?` and its length in bytes.
    pub tables: Vec<(Slot, Vec<TargetSpec>)>,
}

/// What is recorded from before, but for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylessStack {
    /// The devices.
    pub devices: Vec<Keyless>,
    /// The images, of those that are there too.
    pub images: Vec<(DevNumber, PathBuf)>,
    /// The names of all devices that are on record and not back.
    pub names: Vec<String>,
    /// The paths of all images that are on record and not back.
    pub paths: Vec<PathBuf>,
}

/// A table that has its keys again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// The device's name.
    pub name: String,
    /// Which of its tables.
    pub slot: Slot,
    /// The lines.
    pub targets: Vec<TargetSpec>,
}

/// Where the private device-mapper is, for `dmsim shell` to put in the places of the machine's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// What devices are to programs.
    pub shows: Shows,
    /// The directory that has `dev`, `sys-dev-block` and `proc-devices`; without block nodes, `node` in
    /// the place of `dev`.
    pub dir: PathBuf,
    /// Where the devices' files are.
    pub mount: PathBuf,
    /// The rule by which the machine's udev leaves block nodes alone, where one runs.
    pub rule: Option<PathBuf>,
    /// The directory of LVM's settings for it, and where LVM keeps copies of its metadata.
    pub lvm: PathBuf,
}

/// What devices are to programs in a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shows {
    /// Block nodes.
    Nodes,
    /// Files, as an ordinary user can have no block nodes.
    Files,
}

/// What programs keep in /run of devices and their names, in a shell: of this instance, and of no other.
/// (Whoever finds udev's files there would wait for it, which knows nothing of these devices.)
pub const OWN_RUN: [&str; 4] = ["udev", "lvm", "blkid", "cryptsetup"];

/// The most devices that are told of what they are doing.
pub const MAX_GAUGES: usize = 1024;

/// Returns where the bins of [`GaugeCounters::bins`] end, in nanoseconds: from a microsecond to eight seconds.
pub fn latency_bounds_ns() -> impl Iterator<Item = u64> {
    (0..24).map(|power| 1000 << power)
}

/// What devices are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauges {
    /// When, in nanoseconds since the first answer.
    pub at_ns: u64,
    /// The devices by name, [`MAX_GAUGES`] at most.
    pub devices: Vec<Gauge>,
    /// How many more there are.
    pub left_out: usize,
    /// The names of the attached images.
    pub images: Vec<(DevNumber, String)>,
}

/// What a device is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// The name, mangled.
    pub name: String,
    /// The number.
    pub dev: DevNumber,
    /// In sectors.
    pub size: u64,
    /// It is suspended.
    pub suspended: bool,
    /// Targets in the live table.
    pub target_count: usize,
    /// Their status lines; none of a table that has many.
    pub status: Vec<TargetSpec>,
    /// What the live table has open.
    pub below: Vec<DevNumber>,
    /// What was counted; nothing for a device without a size.
    pub counters: Option<GaugeCounters>,
}

/// What a device was sent since it is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeCounters {
    /// Reads that have ended.
    pub read_count: u64,
    /// What they read, in sectors.
    pub read: u64,
    /// What is no read and has ended.
    pub write_count: u64,
    /// In sectors.
    pub written: u64,
    /// Bios under way.
    pub in_flight: u64,
    /// How many bios took less than each of [`latency_bounds_ns`], and no less than the one before; at the end, how
    /// many took longer.
    pub bins: Vec<u64>,
}

/// What became of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What is back, as it is called.
    pub done: Vec<String>,
    /// Which of these are suspended, as they were left.
    pub suspended: Vec<String>,
    /// Which of these were recorded until the daemon ended, and the logs.
    pub recorded: Vec<(String, Option<PathBuf>)>,
    /// What is not, and why. It stays on record.
    pub failed: Vec<(String, String)>,
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// How the request ended.
    pub outcome: Outcome,
    /// What went wrong besides: the change is made, but could not be recorded.
    pub warning: Option<String>,
}

/// How a request ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing to say.
    Done,
    /// What the control plane answered.
    Control(Result<Answer, Failure>),
    /// The image that was attached, or resized.
    Attached(Attached),
    /// The attached images.
    Images(Vec<Attached>),
    /// Who has devices open.
    Users(Vec<User>),
    /// Devices.
    Described(Vec<Description>),
    /// What has happened.
    Happened(Happenings),
    /// What has passed.
    Traced(TracedPage),
    /// What devices are doing.
    Gauges(Gauges),
    /// Devices without keys.
    Keyless(KeylessStack),
    /// What became of a restore.
    Restored(Restored),
    /// The private device-mapper.
    Private(Private),
    /// Why it failed.
    Failed(String),
}

/// Writes one message.
pub fn write_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    // A table may have keys in it, and a buffer that grows leaves copies behind: most messages
    // fit in this one.
    let mut frame = Zeroizing::new(Vec::with_capacity(ROOM));
    frame.extend([0; 4]);
    serde_json::to_writer(&mut *frame, message)?;
    let len = u32::try_from(frame.len() - 4).ok().filter(|len| *len <= MAX_MESSAGE);
    let len = len.ok_or_else(|| invalid(format!("a message of {} bytes", frame.len() - 4)))?;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    to.write_all(&frame)
}

/// Reads one message; nothing where the other side has ended the connection between two.
///
/// Memory is taken for what arrives, not for what the length promises.
pub fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    let mut have = 0;
    while have < len.len() {
        match from.read(&mut len[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let len = u32::from_le_bytes(len);
    if len > MAX_MESSAGE {
        return Err(invalid(format!("a message of {len} bytes, of {MAX_MESSAGE} at most")));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(ROOM.max(len as usize).min(MAX_ROOM)));
    from.take(len.into()).read_to_end(&mut text)?;
    if text.len() < len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| invalid(error.to_string()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let words = ["lin".to_owned(), "a \"quoted\" word, \u{1f4be}".to_owned()];
        let mut wire = Vec::new();
        words.iter().for_each(|word| write_message(&mut wire, word).unwrap());
        let mut wire = &wire[..];
        for word in words {
            assert_eq!(read_message(&mut wire).unwrap(), Some(word));
        }
        assert_eq!(read_message::<String>(&mut wire).unwrap(), None);
    }

    #[test]
    fn half_a_message_and_garbage_are_errors() {
        let mut wire = Vec::new();
        write_message(&mut wire, &Request::Images).unwrap();
        for end in 1..wire.len() {
            let error = read_message::<Request>(&mut &wire[..end]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end} bytes");
        }
        let garbage = [4, 0, 0, 0, b'{', b'{', b'{', b'{'];
        let error = read_message::<Request>(&mut &garbage[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn one_byte_past_the_longest_message_is_refused_unread() {
        let mut wire = (MAX_MESSAGE + 1).to_le_bytes().to_vec();
        wire.push(b'"');
        let error = read_message::<Request>(&mut &wire[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
