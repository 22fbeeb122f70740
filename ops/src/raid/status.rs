//! `dmsim raid status`: how a set is, leg by leg.

use std::path::PathBuf;
use std::time::Duration;

use backing::Lost;
use daemon::{Failing, Fault, mangle};
use serde::Serialize;
use sim_core::{DevNumber, Fails, Sectors};
use targets::lines::raid::{Action, Family, JournalHealth, Leg as LineLeg, LegHealth, Status};
use targets::raid::layout::{Format, Raid10};

use super::advice::refuse_without_metadata;
use super::leg::file_and_loss;
use super::leg::marked::{has_resync, marked};
use super::level::level;
use super::state::{
    Line, has_all, is_unsettled, layout, look_at, may_lose, number, refuse_md, set,
};
use crate::device_mapper::DeviceMapper;
use crate::size::{in_bytes, in_bytes_if_known};

/// How long a set is looked at to see how fast something goes.
const GLANCE: Duration = Duration::from_millis(300);

/// How a set is; lengths are in sectors, as JSON in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// One of [`LEVELS`](super::LEVELS).
    pub level: &'static str,
    /// The kernel's name of the type, as the table has it.
    pub raid_type: &'static str,
    /// Of a raid10: near, far or offset.
    pub format: Option<&'static str>,
    /// Of a raid10, and of a raid1 all of its legs.
    pub copies: Option<usize>,
    /// How many legs' worth of each stripe is parity.
    pub parities: usize,
    /// How large it is.
    #[serde(rename = "size_bytes", serialize_with = "in_bytes")]
    pub size: u64,
    /// How large it is when its data has moved onto more legs; nothing where none moves.
    #[serde(rename = "becomes_bytes", serialize_with = "in_bytes_if_known")]
    pub becomes: Option<u64>,
    /// How much is on a leg before the next one has its turn; 0 for a raid1.
    #[serde(rename = "chunk_size_bytes", serialize_with = "in_bytes")]
    pub chunk_size: u64,
    /// What a bit of the bitmap stands for; 0 for a raid0, which has none.
    #[serde(rename = "region_size_bytes", serialize_with = "in_bytes")]
    pub region_size: u64,
    /// `in sync`, `resyncing`, `rebuilding`, `reshaping`, `degraded`, `journal failed`, `broken`, `suspended`: the
    /// worst of it.
    pub health: &'static str,
    /// How many legs more may fail, whichever they are. None until all are in sync for the first time.
    pub may_lose: usize,
    /// `raid replace` can put others in the places of its legs.
    #[serde(skip)]
    pub replaceable: bool,
    /// Its legs, in the order of the table.
    pub legs: Vec<Leg>,
    /// The device of its journal, where it has one.
    pub journal: Option<Journal>,
    /// What goes on, if anything does.
    pub action: Option<Going>,
    /// `replace` or `grow` was cut off before its last table was in use: `heal` puts that in.
    pub unsettled: bool,
    /// What the last check found; 0 where something else came after it, or there was none: a status does not
    /// tell the one from the other.
    #[serde(rename = "differing_bytes", serialize_with = "in_bytes")]
    pub differing: u64,
    /// How much of what it synchronizes is marked in the bitmap: it is being written, was a moment ago,
    /// or was while a leg was not there. Nothing without a bitmap that can be read.
    #[serde(rename = "marked_bytes", serialize_with = "in_bytes_if_known")]
    pub marked: Option<u64>,
}

/// A leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Its place, from 0.
    pub leg: usize,
    /// How it is.
    pub state: LegState,
    /// The number of its data's device.
    pub major: Option<u32>,
    /// The other half of it.
    pub minor: Option<u32>,
    /// Where its bytes lie.
    pub file: Option<PathBuf>,
    /// Why that path leads to the image's file no more, if so.
    #[serde(rename = "file_lost")]
    pub lost: Option<Lost>,
    /// What of it fails on purpose, if anything does: perhaps nobody has noticed yet.
    pub fails: Option<Fails>,
    /// It is read only where no other has the data, and a raid1 may write it later than others.
    pub write_mostly: bool,
}

/// The journal of a set with parity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// How it is used.
    pub state: JournalState,
    /// The number of its device.
    pub major: Option<u32>,
    /// The other half of it.
    pub minor: Option<u32>,
    /// Where its bytes lie.
    pub file: Option<PathBuf>,
    /// Why that path leads to the image's file no more, if so.
    #[serde(rename = "file_lost")]
    pub lost: Option<Lost>,
}

/// How a journal is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalState {
    /// A write ends when the legs have it.
    WriteThrough,
    /// A write ends when the journal has it.
    WriteBack,
    /// It has failed, and is not used.
    Failed,
}

/// How a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    /// It has what the set has.
    InSync,
    /// It was never synchronized with the others, and is being.
    Resyncing,
    /// What it lacks is written to it.
    Rebuilding,
    /// Data moves to another place on it.
    Reshaping,
    /// It has failed, and is not used.
    Failed,
    /// There is none.
    Missing,
}

/// What goes on in the background.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Going {
    /// The kernel's word for it, but that a resync which goes on where it was cut off is one.
    pub what: &'static str,
    /// How far it is.
    #[serde(rename = "done_bytes", serialize_with = "in_bytes")]
    pub done: u64,
    /// How far it goes.
    #[serde(rename = "total_bytes", serialize_with = "in_bytes")]
    pub total: u64,
    /// The same as a part of a hundred.
    pub percent: f64,
    /// When it will be over, if it goes on as it does now.
    pub seconds_left: Option<u64>,
}

/// Looks at a set; where something goes on, long enough to see how fast.
///
/// # Errors
/// Where it is no set.
pub fn status(dm: &mut dyn DeviceMapper, name: &str) -> Result<Set, Fault> {
    let (device, mut line) = set(dm, name)?;
    let name = device.name();
    let size = device.size();
    let mut look = look_at(dm, name)?;
    let mut speed = None;
    if is_going(&look.status) {
        let (before, action) = (look.status.done, look.status.action);
        std::thread::sleep(GLANCE);
        look = look_at(dm, name)?;
        if look.status.action == action {
            speed = look.status.done.checked_sub(before).filter(|more| *more > 0);
        }
    }
    let mut status = look.status;
    // A line may leave legs out that the set has, at its end: as with the kernel, it starts without them.
    if status.devices > line.legs.len() {
        let none = LineLeg { meta: None, data: None };
        line.legs.resize(status.devices, none);
        status.legs.resize(status.devices, LegHealth::Missing);
    }
    let resyncs = match status.action {
        Action::Resync => true,
        Action::Repair => has_resync(dm, &line, &status).unwrap_or(false),
        _ => false,
    };
    let going = is_going(&status).then(|| Going {
        what: if resyncs { Action::Resync.word() } else { status.action.word() },
        ..going(&line, size, &status, speed)
    });
    let moves = matches!(status.action, Action::Reshape);
    // The table has the length that it is to have.
    let described = dm.describe()?.into_iter().find(|described| described.name == name);
    let (shown, failing) =
        described.map_or((size, Vec::new()), |own| (Sectors(own.size), own.failing));
    let shown = if moves { shown } else { size };
    let mut legs = Vec::new();
    for (place, (leg, health)) in line.legs.iter().zip(&status.legs).enumerate() {
        let dev = number(leg.data.as_ref());
        let state = match health {
            LegHealth::InSync if resyncs => LegState::Resyncing,
            LegHealth::InSync => LegState::InSync,
            LegHealth::Behind if resyncs => LegState::Resyncing,
            LegHealth::Behind if moves => LegState::Reshaping,
            LegHealth::Behind => LegState::Rebuilding,
            LegHealth::Failed => LegState::Failed,
            LegHealth::Missing => LegState::Missing,
        };
        let (file, lost) = file_and_loss(dm, dev)?;
        legs.push(Leg {
            leg: place,
            state,
            major: dev.map(|dev: DevNumber| dev.major),
            minor: dev.map(|dev| dev.minor),
            file,
            lost,
            fails: dev.and_then(|dev| Failing::of(&failing, dev)),
            write_mostly: line.params.write_mostly.contains(&place),
        });
    }
    let journal = journal(dm, &line, &status)?;
    let family = line.kind.family();
    let is_gone = |leg: usize| matches!(status.legs[leg], LegHealth::Failed | LegHealth::Missing);
    // While data moves, all that are there have their part of it.
    let is_lost = |leg: usize| match moves {
        true => is_gone(leg),
        false => status.legs[leg] != LegHealth::InSync,
    };
    let lengths = line.lengths(size).ok();
    let places = lengths.and_then(|lengths| layout(&line, lengths.device));
    let is_broken = places.is_some_and(|layout| !has_all(&layout, is_gone));
    let may_lose = match resyncs {
        true => 0,
        false => places.map_or(0, |layout| may_lose(&layout, is_lost)),
    };
    let marked = match family {
        Family::Raid0 => None,
        _ => marked(dm, &line, &status),
    };
    let raid10 = Raid10::parse(line.layout_word()).filter(|_| family == Family::Raid10);
    Ok(Set {
        name: mangle::decode(name),
        level: level(line.kind),
        raid_type: line.kind.name(),
        format: raid10.map(|(format, ..)| match format {
            Format::Near => "near",
            Format::Far => "far",
            Format::Offset => "offset",
        }),
        copies: match family {
            Family::Raid1 => Some(line.legs.len()),
            _ => raid10.map(|(_, copies, _)| copies),
        },
        parities: family.parities(),
        size: shown.0,
        becomes: (shown != size).then_some(size.0),
        chunk_size: line.chunk.0,
        region_size: match family {
            Family::Raid0 => 0,
            _ => line.region_size(size).0,
        },
        health: match is_broken && !look.suspended {
            true => "broken",
            false => health(&status, &legs, look.suspended),
        },
        may_lose,
        replaceable: family != Family::Raid0
            && refuse_md(&device).is_ok()
            && refuse_without_metadata(name, &line).is_ok(),
        legs,
        journal,
        action: going,
        unsettled: is_unsettled(&line),
        differing: status.mismatches,
        marked: marked.map(|marked| marked.0),
    })
}

fn journal(
    dm: &mut dyn DeviceMapper,
    line: &Line,
    status: &Status,
) -> Result<Option<Journal>, Fault> {
    let state = match status.journal {
        JournalHealth::Missing => return Ok(None),
        JournalHealth::WriteThrough => JournalState::WriteThrough,
        JournalHealth::WriteBack => JournalState::WriteBack,
        JournalHealth::Failed => JournalState::Failed,
    };
    let dev = number(line.params.journal_dev.as_ref());
    let (major, minor) = (dev.map(|dev| dev.major), dev.map(|dev| dev.minor));
    let (file, lost) = file_and_loss(dm, dev)?;
    Ok(Some(Journal { state, major, minor, file, lost }))
}

fn is_going(status: &Status) -> bool {
    !matches!(status.action, Action::Idle | Action::Frozen)
}

fn going(line: &Line, size: Sectors, status: &Status, speed: Option<u64>) -> Going {
    // A recovery goes through the legs, whatever the status has for their length.
    let total = match (status.action, line.lengths(size)) {
        (Action::Recover, Ok(lengths)) => lengths.device.0,
        _ => status.total,
    };
    let done = status.done.min(total);
    let left = (total - done) as f64 * GLANCE.as_secs_f64();
    Going {
        what: status.action.word(),
        done,
        total,
        percent: if total == 0 { 100.0 } else { done as f64 * 100.0 / total as f64 },
        seconds_left: speed.map(|speed| (left / speed as f64).ceil() as u64),
    }
}

fn health(status: &Status, legs: &[Leg], suspended: bool) -> &'static str {
    let any = |state: LegState| legs.iter().any(|leg| leg.state == state);
    match () {
        () if suspended => "suspended",
        // Nothing can be written.
        () if status.journal == JournalHealth::Failed => "journal failed",
        () if any(LegState::Failed) || any(LegState::Missing) => "degraded",
        () if status.action == Action::Reshape => "reshaping",
        () if any(LegState::Rebuilding) => "rebuilding",
        () if any(LegState::Resyncing) || status.done != status.total && !is_check(status) => {
            "resyncing"
        }
        () => "in sync",
    }
}

fn is_check(status: &Status) -> bool {
    matches!(status.action, Action::Check | Action::Repair)
}
