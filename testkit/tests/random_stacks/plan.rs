//! What a case consists of: raw numbers, which the rig reads as choices among what is possible
//! when their turn comes. So every shrunk case is a case.

use proptest::collection::vec;
use proptest::prelude::*;

/// The devices of a case: two in each of four layers, each above those of lower layers.
pub(crate) const DEVICES: u32 = 8;

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The seed of the executor.
    pub(crate) schedule: u64,
    /// A bit for each device: it is not flattened.
    pub(crate) unfolded: u8,
    /// Two bits for each disk: how fast it is.
    pub(crate) speeds: u8,
    /// The first table of each device.
    pub(crate) tables: Vec<Vec<LineSeed>>,
    /// What happens.
    pub(crate) steps: Vec<Action>,
}

/// A line of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineSeed {
    pub(crate) kind: u8,
    pub(crate) len: u8,
    pub(crate) below: u8,
    pub(crate) start: u8,
    pub(crate) chunk: u8,
    pub(crate) legs: u8,
}

/// A bio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoSeed {
    pub(crate) device: u8,
    pub(crate) kind: u8,
    pub(crate) sector: u8,
    pub(crate) len: u8,
    pub(crate) flag: u8,
}

/// A device that is suspended and resumed while a wave of bios is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cycle {
    pub(crate) device: u8,
    pub(crate) noflush: bool,
    /// Reload with a table that maps the same, a line of it cut in two.
    pub(crate) split: Option<u8>,
    /// Turns between suspend and resume.
    pub(crate) turns: u8,
}

/// A device that is suspended before a wave of bios, and resumed after it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) device: u8,
    pub(crate) noflush: bool,
    /// Reload with another table of the same size: what waited must be mapped by it.
    pub(crate) table: Option<Vec<LineSeed>>,
}

/// A step of a case. The first number is the device, where there is one.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Wave(Vec<IoSeed>),
    Race(Vec<IoSeed>, Vec<Cycle>),
    Queue(Vec<IoSeed>, Vec<Hold>),
    Flush(u8),
    /// Reads the whole device in pieces of so many sectors.
    Pieces(u8, u8),
    Load(u8, Vec<LineSeed>),
    Clear(u8),
    Suspend(u8, bool),
    Resume(u8),
    Rename(u8, u8),
    Open(u8),
    Close(u8),
    Remove(u8, bool),
    Create(u8, Vec<LineSeed>),
    /// Sectors of a disk fail from now on.
    Fault(u8, u8, u8),
    Heal,
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let tables = vec(table(), DEVICES as usize);
    (any::<u64>(), any::<u8>(), any::<u8>(), tables, vec(action(), 1..24)).prop_map(
        |(schedule, unfolded, speeds, tables, steps)| {
            // Most cases flatten everything: one bit set in four.
            let unfolded = unfolded & speeds.rotate_left(3);
            Case { schedule, unfolded, speeds, tables, steps }
        },
    )
}

fn table() -> impl Strategy<Value = Vec<LineSeed>> {
    vec(line(), 1..5)
}

fn line() -> impl Strategy<Value = LineSeed> {
    let numbers = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    numbers.prop_map(|(kind, len, below, start, chunk, legs)| LineSeed {
        kind,
        len,
        below,
        start,
        chunk,
        legs,
    })
}

fn ios() -> impl Strategy<Value = Vec<IoSeed>> {
    let numbers = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    let io = numbers.prop_map(|(device, kind, sector, len, flag)| IoSeed {
        device,
        kind,
        sector,
        len,
        flag,
    });
    vec(io, 1..12)
}

fn cycle() -> impl Strategy<Value = Cycle> {
    (any::<u8>(), any::<bool>(), any::<Option<u8>>(), 0..4u8)
        .prop_map(|(device, noflush, split, turns)| Cycle { device, noflush, split, turns })
}

fn hold() -> impl Strategy<Value = Hold> {
    (any::<u8>(), any::<bool>(), proptest::option::of(table()))
        .prop_map(|(device, noflush, table)| Hold { device, noflush, table })
}

fn action() -> impl Strategy<Value = Action> {
    let device = any::<u8>;
    prop_oneof![
        6 => ios().prop_map(Action::Wave),
        6 => (ios(), vec(cycle(), 1..4)).prop_map(|(ios, cycles)| Action::Race(ios, cycles)),
        6 => (ios(), vec(hold(), 1..3)).prop_map(|(ios, holds)| Action::Queue(ios, holds)),
        2 => device().prop_map(Action::Flush),
        1 => (device(), any::<u8>()).prop_map(|(at, cut)| Action::Pieces(at, cut)),
        3 => (device(), table()).prop_map(|(at, table)| Action::Load(at, table)),
        1 => device().prop_map(Action::Clear),
        2 => (device(), any::<bool>()).prop_map(|(at, noflush)| Action::Suspend(at, noflush)),
        4 => device().prop_map(Action::Resume),
        1 => (device(), any::<u8>()).prop_map(|(at, name)| Action::Rename(at, name)),
        1 => device().prop_map(Action::Open),
        1 => device().prop_map(Action::Close),
        2 => (device(), any::<bool>()).prop_map(|(at, defer)| Action::Remove(at, defer)),
        2 => (device(), table()).prop_map(|(at, table)| Action::Create(at, table)),
        1 => (any::<u8>(), any::<u8>(), 1..4u8).prop_map(|(d, s, len)| Action::Fault(d, s, len)),
        1 => Just(Action::Heal),
    ]
}
