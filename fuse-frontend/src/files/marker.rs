//! `NAME.mark`: beside the file of a device that `log-writes` logs, one whose writes are marks in its log.
//!
//! It is found by its name, and not listed. Who opens it is no user of the device.

use sim_core::control::{Command, Id, Shown};
use sim_core::{Access, BlockDevice, Control, Errno, Params, Sector, StatusKind, Table, TextStyle};

use super::answers::{Attributes, Opened, Pages};
use super::operation::{Operation, SetAttributes};
use super::reply::{Replies, answer};
use super::service::Files;

/// The longest mark that fits into a log of any device, in bytes: a sector, but for the numbers before it and a zero.
pub const MAX_MARK: usize = 479;

/// What comes behind the name of the device.
const ENDING: &str = ".mark";

/// What an inode or a handle has besides that of the device.
const MARKER: u64 = 1 << 62;

/// Makes a message to the target of a mark.
///
/// # Errors
/// Why the text can be none.
pub fn mark_message(text: &str) -> Result<String, String> {
    let why = match text.len() {
        0 => "expected a text, found nothing".to_owned(),
        1..=MAX_MARK if text.contains('\0') => "expected a text, found a byte of zero".to_owned(),
        1..=MAX_MARK => {
            let words = text.chars().flat_map(|c| {
                let is_escaped = c == '\\' || c.is_whitespace();
                is_escaped.then_some('\\').into_iter().chain([c])
            });
            return Ok(format!("mark {}", words.collect::<String>()));
        }
        len => format!("expected {MAX_MARK} bytes at most, found {len}"),
    };
    Err(why)
}

/// Finds the device whose marker has this name.
pub(super) fn find(control: &Control, name: &str) -> Option<Shown> {
    let shown = control.find_shown(name.strip_suffix(ENDING)?)?;
    let table = shown.device.live()?;
    status(&table).map(|_| shown)
}

/// Returns the inode of the device that an inode is the marker of.
pub(super) fn device_of(inode: u64) -> Option<u64> {
    (inode & MARKER != 0).then_some(inode & !MARKER)
}

/// What `stat` tells of a device's marker.
pub(super) fn attributes(device: Attributes) -> Attributes {
    let Attributes { inode, mode, .. } = device;
    Attributes { inode: inode | MARKER, size: 0, mode: mode & 0o222, ..device }
}

/// Returns the status of a table that logs what is written, and does nothing else.
fn status(table: &Table) -> Option<String> {
    if table.count() != 1 {
        return None;
    }
    let (lines, _) = table.status(StatusKind::Info, TextStyle::default()).ok()?;
    let line = lines.first().filter(|line| line.target_type == "log-writes")?;
    Some(line.params.to_string())
}

impl Files {
    /// Carries out a request of a marker; `device` is the inode of its device.
    pub(super) fn serve_marker(&self, device: u64, operation: Operation<'_>, reply: impl Replies) {
        let shown = match self.nodes.device(device) {
            Ok(shown) => shown,
            // Whoever has it open may close it.
            Err(_) if matches!(operation, Operation::Close { .. } | Operation::Release { .. }) => {
                return reply.ok(&());
            }
            Err(errno) => return reply.error(errno),
        };
        let own = || attributes(self.attributes_of(&shown));
        match operation {
            Operation::Attributes => reply.ok(&own()),
            // It has no end that could be moved, and is its device's owner's.
            Operation::SetAttributes(SetAttributes {
                mode: None, uid: None, gid: None, ..
            }) => {
                reply.ok(&own());
            }
            Operation::SetAttributes(_) | Operation::Rearrange => reply.error(Errno::PERM),
            Operation::Open { access: Access::ReadOnly } => reply.error(Errno::ACCES),
            Operation::Open { access: Access::ReadWrite } => {
                reply.ok(&Opened { handle: MARKER | device, pages: Pages::Direct });
            }
            Operation::Read { .. } => answer::<[u8]>(reply, Ok(Vec::new())),
            Operation::Write { data, .. } => self.mark(&shown, data, reply),
            Operation::Flush { .. } | Operation::Close { .. } | Operation::Release { .. } => {
                reply.ok(&());
            }
            Operation::Allocate { .. } => reply.error(Errno::OPNOTSUPP),
            Operation::Seek { .. } => reply.error(Errno::INVAL),
            Operation::Ioctl(_) => reply.error(Errno::NOTTY),
            Operation::Poll { .. } => reply.error(Errno::NOSYS),
            Operation::ReadLink => reply.error(Errno::INVAL),
            Operation::LookUp { .. }
            | Operation::OpenDirectory
            | Operation::ReleaseDirectory
            | Operation::List { .. }
            | Operation::FlushDirectory => reply.error(Errno::NOTDIR),
            Operation::Statistics => reply.ok(&self.statistics()),
        }
    }

    /// Puts what a program has written into the log, and answers when it is there: all that ended before comes before it.
    fn mark(&self, shown: &Shown, data: &[u8], reply: impl Replies) {
        let text = std::str::from_utf8(data.strip_suffix(b"\n").unwrap_or(data));
        let message = text.ok().and_then(|text| mark_message(text).ok());
        let Some(message) = message else { return reply.error(Errno::INVAL) };
        let (device, len) = (shown.device.clone(), data.len() as u32);
        let mark = Command::TargetMsg {
            id: Id::Dev(device.number()),
            sector: Sector::ZERO,
            message: Params::from(message),
            slot: sim_core::control::Slot::Live,
        };
        let control = self.nodes.control.clone();
        self.nodes.tasks.start(async move {
            let marked = control.perform(mark).await.map_err(|failure| failure.errno);
            let status = device.live().and_then(|table| status(&table)).unwrap_or_default();
            match marked {
                Ok(_) if status.contains("logging_disabled") => reply.error(Errno::NOSPC),
                Ok(_) => reply.ok(&len),
                Err(errno) => reply.error(errno),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_word_of_a_message() {
        for (text, message) in [
            ("one", "mark one"),
            ("one two", r"mark one\ two"),
            ("a\nb\tc", "mark a\\\nb\\\tc"),
            (r"c:\x", r"mark c:\\x"),
            ("é/ü", "mark é/ü"),
        ] {
            assert_eq!(mark_message(text).as_deref(), Ok(message));
            assert_eq!(sim_core::split_words(message), ["mark", text]);
        }
        assert!(mark_message("").is_err() && mark_message("a\0").is_err());
        let longest = "x".repeat(MAX_MARK);
        assert!(mark_message(&longest).is_ok() && mark_message(&(longest + "x")).is_err());
    }
}
