//! What a set tells of itself: its status line.

use std::fmt;

use super::kind::Kind;

/// A status line of `raid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The type, after the layout that the set has: `raid10` for near copies.
    pub kind: Kind,
    /// How many legs the set has; another number than that of `legs` while they become more.
    pub devices: usize,
    /// The state of each leg.
    pub legs: Vec<LegHealth>,
    /// How far the action has got; all of it where nothing is to be done. In sectors: see
    /// `Layout::resync_len`.
    pub done: u64,
    /// How far it goes.
    pub total: u64,
    /// What goes on.
    pub action: Action,
    /// Sectors of regions that the last `check` found different; 0 where something else came
    /// after it.
    pub mismatches: u64,
    /// Where the data begins on each leg.
    pub data_offset: u64,
    /// The state of the journal's device.
    pub journal: JournalHealth,
}

/// The state of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LegHealth {
    /// Alive, and in sync (`A`).
    InSync,
    /// Alive, and not in sync (`a`).
    Behind,
    /// Failed (`D`).
    Failed,
    /// Missing (`-`).
    Missing,
}

/// What goes on in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Idle,
    /// Nothing, and nothing begins: until a resume.
    Frozen,
    /// The copies of a set that is not clean are made the same.
    Resync,
    /// Legs are rebuilt.
    Recover,
    /// Differences are counted.
    Check,
    /// Differences are counted, and mended.
    Repair,
    /// The set changes its shape.
    Reshape,
}

/// The state of a journal's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JournalHealth {
    /// There is none (`-`).
    Missing,
    /// Alive, writes go through it (`A`).
    WriteThrough,
    /// Alive, writes end in it (`a`).
    WriteBack,
    /// Failed (`D`).
    Failed,
}

impl LegHealth {
    const ALL: [LegHealth; 4] =
        [LegHealth::InSync, LegHealth::Behind, LegHealth::Failed, LegHealth::Missing];

    fn letter(self) -> char {
        match self {
            LegHealth::InSync => 'A',
            LegHealth::Behind => 'a',
            LegHealth::Failed => 'D',
            LegHealth::Missing => '-',
        }
    }
}

impl Action {
    const ALL: [Action; 7] = [
        Action::Idle,
        Action::Frozen,
        Action::Resync,
        Action::Recover,
        Action::Check,
        Action::Repair,
        Action::Reshape,
    ];

    /// Returns the kernel's word, which the messages have too.
    pub fn word(self) -> &'static str {
        match self {
            Action::Idle => "idle",
            Action::Frozen => "frozen",
            Action::Resync => "resync",
            Action::Recover => "recover",
            Action::Check => "check",
            Action::Repair => "repair",
            Action::Reshape => "reshape",
        }
    }
}

impl JournalHealth {
    const ALL: [JournalHealth; 4] = [
        JournalHealth::Missing,
        JournalHealth::WriteThrough,
        JournalHealth::WriteBack,
        JournalHealth::Failed,
    ];

    fn letter(self) -> char {
        match self {
            JournalHealth::Missing => '-',
            JournalHealth::WriteThrough => 'A',
            JournalHealth::WriteBack => 'a',
            JournalHealth::Failed => 'D',
        }
    }
}

impl Status {
    /// Writes it as a measurement has it.
    pub(crate) fn measured(&self) -> String {
        let (kind, legs, action) = (self.kind.name(), self.legs.len(), self.action.word());
        let mut text = format!("raid_type={kind},raid_disks={legs},raid_state={action}");
        for (nr, leg) in self.legs.iter().enumerate() {
            text += &format!(",raid_device_{nr}_status={}", leg.letter());
        }
        text
    }

    /// Reads the text; none where it is no such status.
    pub fn parse(text: &str) -> Option<Status> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [kind, devices, legs, ratio, action, mismatches, data_offset, journal] = words[..]
        else {
            return None;
        };
        let leg = |c| LegHealth::ALL.into_iter().find(|health| health.letter() == c);
        let (done, total) = ratio.split_once('/')?;
        let is_journal = |health: &JournalHealth| journal.chars().eq([health.letter()]);
        Some(Status {
            kind: Kind::named(kind)?,
            devices: devices.parse().ok()?,
            legs: legs.chars().map(leg).collect::<Option<_>>()?,
            done: done.parse().ok()?,
            total: total.parse().ok()?,
            action: Action::ALL.into_iter().find(|known| known.word() == action)?,
            mismatches: mismatches.parse().ok()?,
            data_offset: data_offset.parse().ok()?,
            journal: JournalHealth::ALL.into_iter().find(is_journal)?,
        })
    }

    /// Tells whether every leg is there and in sync, and nothing is left to be done.
    pub fn is_whole(&self) -> bool {
        self.done == self.total && self.legs.iter().all(|leg| *leg == LegHealth::InSync)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.kind, self.devices)?;
        self.legs.iter().try_for_each(|leg| write!(f, "{}", leg.letter()))?;
        write!(f, " {}/{} {}", self.done, self.total, self.action.word())?;
        write!(f, " {} {} {}", self.mismatches, self.data_offset, self.journal.letter())
    }
}
