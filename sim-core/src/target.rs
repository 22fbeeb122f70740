//! The plug-in interface: a target says where a bio goes.
//!
//! It mirrors the kernel's `struct target_type`; each item names its counterpart there.

use std::fmt;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    Area, Bio, BlkResult, CtrError, DevNumber, Flags, Held, Limits, Op, Refusal, Sector, Sectors,
    Spots, TableType,
};

/// One line of a table at work.
pub trait Target: Send + Sync {
    /// Reads what the target needs of its devices before the table is complete: the part of the
    /// kernel's `ctr` that waits for I/O. Called once, before anything else.
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Routes one bio, whose sectors are relative to this target (`map`). Returns at once.
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a>;

    /// Writes the target's part of a `status` or `table` line (`status`).
    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result;

    /// Writes what an integrity measurement takes down of it (`STATUSTYPE_IMA`): `name=value`, with commas
    /// between. The core writes the type's name and version before that, and a semicolon behind. Nothing by
    /// default, as of the kernel's simpler targets.
    fn measure(&self, _out: &mut StatusWriter<'_>) -> fmt::Result {
        Ok(())
    }

    /// Calls `each` with every area of a device that the target uses (`iterate_devices`).
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area));

    /// Calls `each` with every area that may be written to by way of the target: two devices in use
    /// that write to one place are told of. Those of [`iterate_devices`](Self::iterate_devices), unless
    /// the target only reads some, or writes to others too.
    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        self.iterate_devices(each);
    }

    /// Says what bios the target takes: the fields that a kernel target sets in its `dm_target`.
    /// Asked once, when the table is built.
    fn profile(&self) -> Profile {
        Profile::default()
    }

    /// Changes the limits that the devices below gave (`io_hints`).
    fn io_hints(&self, _limits: &mut Limits) {}

    /// Says where the run of sectors that begins at `offset` goes, if that is all that happens to
    /// a bio of it; `op` is [`Op::Read`] or [`Op::Write`]. The answer holds for as long as the table
    /// is live, unless the profile says `reroutes` (see [`Routes`](crate::Routes)), and `map` of
    /// such a bio changes nothing in the target: it may be called again for the same bio.
    fn flatten(&self, _op: Op, _offset: Sector) -> Flat<'_> {
        Flat::Opaque
    }

    /// Says where what is written to the run of sectors that begins at `offset` is going to lie:
    /// calls `each` once for each area that gets a copy, with the run's first sector there, and
    /// returns how long the run is. `None` where that is not known before the write, or where it
    /// takes more room than its own. The kernel has no such call; room is reserved by it.
    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        match self.flatten(Op::Write, offset) {
            Flat::Device(area, to, len) => {
                each(area, to);
                Some(len)
            }
            Flat::Zero(_) | Flat::Error(_) | Flat::Opaque => None,
        }
    }

    /// Says where the run of sectors that begins at `offset` lies, as of now, and returns how long the
    /// run is: every place that has it, and what parity of it there is, with a word for each. `None` where
    /// that cannot be said. People ask; nothing is sent there on the word of it. The kernel has no such call.
    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        match self.flatten(Op::Read, offset) {
            Flat::Device(area, to, len) => {
                out.at(area, to, "data");
                Some(len)
            }
            Flat::Zero(len) => {
                out.say("reads give zeros, and writes are dropped");
                Some(len)
            }
            Flat::Error(len) => {
                out.say("every read and write fails");
                Some(len)
            }
            Flat::Opaque => self.stores(offset, &mut |area, to| out.at(area, to, "data")),
        }
    }

    /// Names sectors of the target among which are all that lie at a sector of a device below, as
    /// [`spots`](Self::spots) tells, which is then asked about each. `None` for the core to try every run: right
    /// for a target that has few.
    fn shown_from(&self, _below: DevNumber, _sector: Sector) -> Option<Vec<Sector>> {
        None
    }

    /// Sees the end of a bio that this target remapped, and may change its result (`end_io`).
    /// Called on errors alone where the bio went by the flattened path.
    fn end_io(&self, _end: &End<'_>, result: BlkResult) -> BlkResult {
        result
    }

    /// Takes a message, and answers with text or nothing (`message`); no answer at all from a type
    /// that takes none, which the core refuses with the kernel's words. The answer may wait, but
    /// for no bio while the device is suspended. The words may be keys: they are wiped afterwards.
    fn message<'a>(&'a self, _words: &'a [&'a str]) -> Option<Reply<'a>> {
        None
    }

    /// Gets ready to be asked for a status of the kind [`Info`](StatusKind::Info): commits, say,
    /// what the text is to show. Not called with `--noflush`, nor while the device is suspended;
    /// and never before a [`Table`](StatusKind::Table) text, which is asked for under a lock.
    fn prepare_status(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Does what is put off until nobody writes: somebody who could write has closed the device, and
    /// the close waits for this. Others may still write. The kernel has no such call.
    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Tells which word of a message names a device, if one does: the core puts the device's number
    /// in its place, where it finds the device (`dm_devt_from_path`).
    fn message_device(&self, _words: &[&str]) -> Option<usize> {
        None
    }

    /// Is told that the device is about to be suspended; bios still flow (`presuspend`).
    fn presuspend(&self) {}

    /// As [`presuspend`](Self::presuspend), for a target to which it matters how bios that it holds
    /// are to be treated (`dm_noflush_suspending`). This is what the core calls.
    fn presuspend_with(&self, _held: Held) {
        self.presuspend();
    }

    /// Is told that the suspend was given up (`presuspend_undo`).
    fn presuspend_undo(&self) {}

    /// Ends what the target does in the background; no bio is in flight any more (`postsuspend`).
    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Does what is left to do when the target has been in use and will not be again: its table was
    /// replaced, or its device is removed. The device is suspended, or has another table; those below
    /// are open yet. The part of the kernel's `dtr` that waits for I/O.
    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Gets ready for bios, reading metadata if need be; an error keeps the device suspended, and
    /// who resumed it is told why (`preresume`).
    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Starts what the target does in the background (`resume`).
    fn resume(&self) {}
}

/// A target's answer to a message, which may wait.
pub type Reply<'a> = BoxFuture<'a, Result<Option<String>, Refusal>>;

/// Answers a message on the spot.
pub fn reply<'a>(reply: Result<Option<String>, Refusal>) -> Option<Reply<'a>> {
    Some(Box::pin(std::future::ready(reply)))
}

/// What becomes of a bio.
#[must_use]
pub enum Mapped<'a> {
    /// `DM_MAPIO_REMAPPED`: the core sends the bio on, to this sector of the area.
    Remapped(&'a Area, Sector, Bio<'a>),
    /// The bio has ended here (zero, error, a read served from memory).
    Completed(BlkResult),
    /// `DM_MAPIO_SUBMITTED`: several steps, written as straight-line async code.
    InFlight(BoxFuture<'a, BlkResult>),
}

/// Where a run of sectors goes, when a plain remap is all that happens to it.
#[derive(Clone, Copy, Debug)]
pub enum Flat<'a> {
    /// To `sector` of the area and on, for `len` sectors.
    Device(&'a Area, Sector, Sectors),
    /// Reads give zeros, writes are dropped, for this many sectors.
    Zero(Sectors),
    /// Everything fails, for this many sectors.
    Error(Sectors),
    /// More happens than that.
    Opaque,
}

impl Flat<'_> {
    /// Tells whether both say the same.
    pub(crate) fn is_same(&self, other: &Flat<'_>) -> bool {
        match (self, other) {
            (Flat::Device(area, to, len), Flat::Device(other, place, room)) => {
                std::ptr::eq(*area, *other) && (to, len) == (place, room)
            }
            (Flat::Zero(len), Flat::Zero(room)) | (Flat::Error(len), Flat::Error(room)) => {
                len == room
            }
            (Flat::Opaque, Flat::Opaque) => true,
            _ => false,
        }
    }
}

/// What was discarded reads as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discarded {
    /// Nothing is promised.
    #[default]
    Anything,
    /// Zeros, or what can be made to without undoing the discard.
    Zeros,
    /// Zeros where that is so below: the target has what it reads from there, as it is.
    AsBelow,
}

/// What kind of bios a target takes, and in how many copies: zero of a kind means that the target
/// never sees it. The kernel's fields of the same names in `struct dm_target`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Bios are cut at multiples of this length, counted from the target's start.
    pub max_io_len: Option<Sectors>,
    /// Copies of a flush. Zero: the target's data is not made durable.
    pub num_flush_bios: u32,
    /// Copies of a discard. Zero: it is not supported.
    pub num_discard_bios: u32,
    /// Copies of a secure erase. Zero: it is not supported.
    pub num_secure_erase_bios: u32,
    /// Copies of a write-zeroes. Zero: it is not supported.
    pub num_write_zeroes_bios: u32,
    /// Discards work though the devices below have none.
    pub discards_supported: bool,
    /// What a discard leaves, where more happens here than a remap. Targets that flatten to devices
    /// need not say so: those are asked.
    pub discarded: Discarded,
    /// Flushes do something though the devices below have no cache.
    pub flush_supported: bool,
    /// A flush needs no `map`: the core sends it to each device below, once.
    pub flush_bypasses_map: bool,
    /// Discards too are cut at `max_io_len`.
    pub max_discard_granularity: bool,
    /// The target has an [`end_io`](Target::end_io) that must see every error.
    pub watches_end: bool,
    /// `map` of a read or write that ended in [`Mapped::InFlight`] may be called again for the
    /// same bio, and the first future dropped: nothing counts before it is polled. The core then
    /// maps on the spot, with the caller's buffer. The future is not polled there: where `map`
    /// returns one it is dropped, and the bio comes again as a task. So this is for a `map` that
    /// asks the device itself ([`Submission::now`](crate::Submission::now)) and mostly answers
    /// [`Mapped::Completed`]. Targets that flatten to a device need not say so.
    pub map_may_be_repeated: bool,
    /// What the target makes its table, and so its device, whatever else it maps
    /// (`dm_table_set_type`).
    pub table_type: Option<TableType>,
    /// What [`flatten`](Target::flatten) says may change while the table is live, by way of
    /// [`Routes`](crate::Routes).
    pub reroutes: bool,
}

impl Profile {
    /// The profile of a target that sends every kind of bio on to one area.
    pub const REMAP: Profile = Profile {
        max_io_len: None,
        num_flush_bios: 1,
        num_discard_bios: 1,
        num_secure_erase_bios: 1,
        num_write_zeroes_bios: 1,
        discards_supported: false,
        discarded: Discarded::Anything,
        flush_supported: false,
        flush_bypasses_map: true,
        max_discard_granularity: false,
        watches_end: false,
        map_may_be_repeated: false,
        table_type: None,
        reroutes: false,
    };

    /// The profile of a target without storage: it takes discards itself, and nothing else that
    /// carries no data. Its limits are those of [`Limits::allow_any_discard`].
    pub const NO_STORAGE: Profile = Profile {
        num_flush_bios: 0,
        num_discard_bios: 1,
        num_secure_erase_bios: 0,
        num_write_zeroes_bios: 0,
        discards_supported: true,
        flush_bypasses_map: false,
        ..Profile::REMAP
    };

    /// Returns how many copies of an operation the target is sent.
    pub fn copies(&self, op: Op) -> u32 {
        match op {
            Op::Read | Op::Write => 1,
            Op::Flush => self.num_flush_bios,
            Op::Discard => self.num_discard_bios,
            Op::WriteZeroes => self.num_write_zeroes_bios,
            Op::SecureErase => self.num_secure_erase_bios,
        }
    }
}

/// A remapped bio at its end.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The operation.
    pub op: Op,
    /// The flags.
    pub flags: Flags,
    /// The first sector, relative to the target.
    pub sector: Sector,
    /// The length.
    pub len: Sectors,
    /// The area that the bio was sent to.
    pub area: &'a Area,
}

/// Which of a target's texts is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusKind {
    /// `STATUSTYPE_INFO`: how it is, as in `dmsetup status`.
    Info,
    /// `STATUSTYPE_TABLE`: what it was made from, as in `dmsetup table`.
    Table,
}

/// Whether a text names devices by number or by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceStyle {
    /// `major:minor`, as the kernel prints them.
    #[default]
    Number,
    /// The device's name.
    Name,
}

/// What a text shows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyText {
    /// A zero for each character, as `dmsetup table` prints them.
    #[default]
    Zeros,
    /// The key, in hexadecimal digits (`--showkeys`).
    Plain,
    /// `?` and its length in bytes: such a line cannot be loaded before somebody fills the key in.
    LeftOut,
}

/// Takes a target's text.
pub struct StatusWriter<'a> {
    text: &'a mut String,
    devices: DeviceStyle,
    keys: KeyText,
    left_out_keys: bool,
}

impl<'a> StatusWriter<'a> {
    /// Appends to `text`.
    pub fn new(text: &'a mut String, devices: DeviceStyle) -> StatusWriter<'a> {
        StatusWriter { text, devices, keys: KeyText::Zeros, left_out_keys: false }
    }

    pub(crate) fn with_keys(mut self, keys: KeyText) -> StatusWriter<'a> {
        self.keys = keys;
        self
    }

    /// Tells whether a key was left out.
    pub(crate) fn left_out_keys(&self) -> bool {
        self.left_out_keys
    }

    /// Writes a key, or what is to stand in its place; `-` where it is empty.
    pub fn key(&mut self, key: &[u8]) -> fmt::Result {
        match (self.keys, key) {
            (KeyText::Plain | KeyText::LeftOut, []) => write!(self, "-"),
            (KeyText::Zeros, []) => write!(self, "0"),
            (KeyText::Plain, key) => key.iter().try_for_each(|byte| write!(self, "{byte:02x}")),
            (KeyText::Zeros, key) => key.iter().try_for_each(|_| write!(self, "00")),
            (KeyText::LeftOut, key) => {
                self.left_out_keys = true;
                write!(self, "?{}", key.len())
            }
        }
    }

    /// Returns how devices are to be written.
    pub fn style(&self) -> DeviceStyle {
        self.devices
    }

    /// Tells whether the text is written down, to be loaded again one day, and shown to nobody.
    pub fn is_for_record(&self) -> bool {
        self.keys == KeyText::LeftOut
    }

    /// Writes the device of an area: `major:minor`, unless names were asked for.
    pub fn device(&mut self, area: &Area) -> fmt::Result {
        match self.devices {
            DeviceStyle::Number => write!(self, "{}", area.number()),
            DeviceStyle::Name => write!(self, "{}", area.name()),
        }
    }

    /// Writes formatted text; this is what `write!` calls.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        fmt::Write::write_fmt(self.text, text)
    }
}
