//! What helps a set that lacks a leg. Not every verb helps every set: nobody but mdadm, or the BIOS, gives
//! theirs a new member.

use daemon::Fault;
use targets::lines::md::Line as MdLine;
use targets::lines::raid::{Action, LegHealth, Status};

use super::md::MD;
use super::state::{Line, RAID, has_all, layout, line_of};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find};

/// Who gives a set new legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Dmsim,
    Mdadm,
    Bios,
    /// No leg has metadata that could say how far it is.
    Nobody,
}

/// What is to be known of a set whose table names no metadata.
const NO_METADATA: &str = "its table names no metadata (`-`), so that no leg of it can be rebuilt: copy its data to a \
                           set that `dmsim raid create` makes";

/// Refuses a set whose legs have no metadata.
pub(super) fn refuse_without_metadata(name: &str, line: &Line) -> Result<(), Fault> {
    match line.legs.iter().any(|leg| leg.meta.is_some()) {
        true => Ok(()),
        false => Err(Fault::new(name, NO_METADATA)),
    }
}

fn keeper(device: &Device) -> Keeper {
    if let Some(line) = device.only(RAID) {
        let line = Line::from_text(&line.params, line.len);
        let has_any = line.is_ok_and(|line| refuse_without_metadata(device.name(), &line).is_ok());
        return if has_any { Keeper::Dmsim } else { Keeper::Nobody };
    }
    let Some(line) = device.only(MD) else { return Keeper::Dmsim };
    match MdLine::from_text(&line.params, line.len) {
        Ok(line) if line.volume.is_some() => Keeper::Bios,
        Ok(_) | Err(_) => Keeper::Mdadm,
    }
}

/// Says how a leg of a set is that is not in sync, and what helps it.
pub(super) fn of_leg(
    dm: &mut dyn DeviceMapper,
    name: &str,
    status: &Status,
    leg: usize,
) -> Result<String, Fault> {
    let is = match status.legs.get(leg) {
        Some(LegHealth::InSync) => "is in sync",
        Some(LegHealth::Behind) => "is not in sync",
        Some(LegHealth::Failed) => "has failed",
        Some(LegHealth::Missing) | None => "is missing",
    };
    Ok(format!("leg {leg} {is}: {}", help(dm, name, status, leg)?))
}

/// Says what helps a leg that is not in sync.
pub(super) fn help(
    dm: &mut dyn DeviceMapper,
    name: &str,
    status: &Status,
    leg: usize,
) -> Result<String, Fault> {
    let device = find(dm, name)?;
    let keeper = device.as_ref().map_or(Keeper::Dmsim, keeper);
    let lacks = match &device {
        Some(device) => lacks_data(dm, device, status)?,
        None => false,
    };
    // What an image in the place of a leg would be filled from.
    let instead = match keeper {
        Keeper::Nobody => return Ok(NO_METADATA.to_owned()),
        Keeper::Dmsim if lacks => format!(
            "where that is no help, what it had is lost, as the other legs have not all of it, and no image can \
             take its place: `dmsim raid remove {name}`, and `dmsim raid create` makes a new set for a backup's data"
        ),
        Keeper::Mdadm | Keeper::Bios if lacks => {
            "where that is no help, what it had is lost, as the other members have not all of it"
                .to_owned()
        }
        Keeper::Dmsim => format!("`dmsim raid replace {name} {leg} IMAGE` puts"),
        Keeper::Mdadm => format!(
            "an array of md gets a new member from mdadm alone: `dmsim raid remove {name}`, then \
             `mdadm --add` puts"
        ),
        Keeper::Bios => format!(
            "a set of a BIOS gets a new disk from the BIOS or mdadm alone: `dmsim raid remove {name}`, \
             then `mdadm --add` puts"
        ),
    };
    let own = match keeper {
        Keeper::Dmsim | Keeper::Nobody if !lacks => String::new(),
        Keeper::Dmsim | Keeper::Nobody | Keeper::Mdadm | Keeper::Bios => format!(
            "where its image is there, `dmsim raid remove {name}` and `dmsim raid assemble` with all \
             images; "
        ),
    };
    Ok(match (status.legs.get(leg), status.action) {
        (Some(LegHealth::InSync), _) => "nothing is to be done".to_owned(),
        (Some(LegHealth::Behind), Action::Idle | Action::Frozen) => {
            format!("`dmsim heal {name}` has it filled")
        }
        (Some(LegHealth::Behind), _) => {
            format!("`dmsim wait --sync {name}` waits until it is")
        }
        (Some(LegHealth::Failed), _) if lacks => {
            format!("`dmsim heal {name}` tries again; {instead}")
        }
        (Some(LegHealth::Failed), _) => {
            format!("`dmsim heal {name}` tries again, {instead} another in its place")
        }
        (Some(LegHealth::Missing) | None, _) if lacks => format!("{own}{instead}"),
        (Some(LegHealth::Missing) | None, _) => format!("{own}{instead} one in its place"),
    })
}

/// Tells whether the legs that are there lack some of the data: to put another in the place of one that is lost
/// would be refused for the next that is.
fn lacks_data(dm: &mut dyn DeviceMapper, device: &Device, status: &Status) -> Result<bool, Fault> {
    let Some(line) = line_of(dm, device)? else { return Ok(false) };
    let lengths = line.lengths(device.size()).ok();
    let layout = lengths.and_then(|lengths| layout(&line, lengths.device));
    let is_lost = |leg: usize| {
        matches!(status.legs.get(leg), Some(LegHealth::Failed | LegHealth::Missing) | None)
    };
    Ok(layout.is_some_and(|layout| !has_all(&layout, is_lost)))
}
