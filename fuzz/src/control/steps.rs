//! What the fuzz bytes stand for: a few names, uuids and tables, and every operation on them.

use sim_core::control::{Command, Id, NewName, Report, Slot, WhenOpen};
use sim_core::{Access, DevNumber, Held, KeyText, Sector};

use super::model::TABLES;
use crate::bytes::Bytes;
use crate::disks::lines;

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Step {
    /// An operation; where it loads a table, its place in [`TABLES`].
    Run(Command, usize),
    /// Somebody opens a device.
    Open(Id),
    /// Whoever opened one last closes it.
    Release,
}

const NAMES: [&str; 3] = ["x", "y", "z"];

/// Names and uuids that are refused, at least for one of the two.
const ODD: [&str; 5] = ["", "control", "..", "x/y", LONG];

/// 128 bytes: one too many for a name.
const LONG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Step {
    /// Takes the next step from the bytes; nothing at their end.
    pub(super) fn next(bytes: &mut Bytes<'_>) -> Option<Step> {
        let run = |command| Some(Step::Run(command, 0));
        match bytes.next()? % 20 {
            0 | 1 => run(create(bytes)),
            2 => run(Command::DevRemove { id: id(bytes), open: when_open(bytes) }),
            3..=6 => {
                let table = bytes.below(TABLES.len());
                let (id, access) = (id(bytes), bytes.pick(&[Access::ReadWrite, Access::ReadOnly]));
                let (targets, base) = (lines(TABLES[table].text), "/".to_owned());
                Some(Step::Run(Command::TableLoad { id, access, targets, base }, table))
            }
            7..=9 => run(Command::DevResume { id: id(bytes), held: held(bytes) }),
            10 => run(Command::DevSuspend { id: id(bytes), held: held(bytes) }),
            11 => run(Command::TableClear { id: id(bytes) }),
            12 => run(Command::DevRename { id: id(bytes), new: new_name(bytes) }),
            13 => run(message(bytes)),
            14 => run(Command::DevStatus { id: id(bytes), slot: slot(bytes) }),
            15 => run(Command::TableStatus {
                id: id(bytes),
                report: bytes.pick(&[Report::Status, Report::Table, Report::Measure]),
                slot: slot(bytes),
                device_names: false,
                keys: KeyText::Zeros,
            }),
            16 => {
                let geometry = bytes.pick(&["1 1 1 0", "1 1 1 2", "65536 1 1 0", "x", ""]);
                run(Command::SetGeometry { id: id(bytes), geometry: geometry.to_owned() })
            }
            17 => Some(Step::Open(id(bytes))),
            18 => Some(Step::Release),
            _ => run(rare(bytes)),
        }
    }
}

fn create(bytes: &mut Bytes<'_>) -> Command {
    let uuid = bytes.pick(&[None, Some("u"), Some("v"), Some("")]);
    let minor = bytes.pick(&[None, None, None, Some(0), Some(2), Some(1 << 20)]);
    Command::DevCreate { name: name(bytes), uuid: uuid.map(str::to_owned), minor }
}

/// Operations that few sequences need.
fn rare(bytes: &mut Bytes<'_>) -> Command {
    match bytes.below(4) {
        0 => Command::RemoveAll { open: when_open(bytes) },
        // No run counts as many events: it need not wait.
        1 => Command::DevWait { id: id(bytes), event_nr: 1 << 20 },
        2 => Command::TableDeps { id: id(bytes), slot: slot(bytes) },
        _ => Command::Version,
    }
}

fn message(bytes: &mut Bytes<'_>) -> Command {
    const WORDS: [&str; 6] =
        ["@cancel_deferred_remove", "", " ", "hello", "@nonsense", "@cancel_deferred_remove now"];
    let (sector, message) = (bytes.pick(&[Sector(0), Sector(9), Sector(99)]), bytes.pick(&WORDS));
    Command::TargetMsg { id: id(bytes), sector, message: message.into(), slot: Slot::Live }
}

fn new_name(bytes: &mut Bytes<'_>) -> NewName {
    match bytes.below(3) {
        0 => NewName::Uuid(bytes.pick(&["u", "v", ""]).to_owned()),
        _ => NewName::Name(name(bytes)),
    }
}

fn name(bytes: &mut Bytes<'_>) -> String {
    match bytes.byte() {
        byte @ 0..250 => NAMES[usize::from(byte) % NAMES.len()].to_owned(),
        byte => ODD[usize::from(byte) % ODD.len()].to_owned(),
    }
}

fn id(bytes: &mut Bytes<'_>) -> Id {
    match bytes.below(8) {
        0 => Id::Uuid(bytes.pick(&["u", "v"]).to_owned()),
        1 => Id::Dev(DevNumber::mapped(bytes.below(4) as u32)),
        2 => Id::Dev(DevNumber { major: 7, minor: 0 }),
        _ => Id::Name(name(bytes)),
    }
}

fn when_open(bytes: &mut Bytes<'_>) -> WhenOpen {
    bytes.pick(&[WhenOpen::Refuse, WhenOpen::Defer])
}

fn held(bytes: &mut Bytes<'_>) -> Held {
    bytes.pick(&[Held::Flush, Held::NoFlush])
}

fn slot(bytes: &mut Bytes<'_>) -> Slot {
    bytes.pick(&[Slot::Live, Slot::Inactive])
}
