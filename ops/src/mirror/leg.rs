//! Legs: found by what they are called, and images that are to be one, checked.

use daemon::Fault;
use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Id, Slot};
use targets::lines::{DeviceWord, Place};

use super::state::{Line, log_dev};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, by_id};
use crate::parts::{New, number_of, size_of};
use crate::size::print_size;

/// What a word means of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The leg in this place.
    Leg(usize),
    Log,
}

/// Finds the leg that a word means.
pub(super) fn leg(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<usize, Fault> {
    match part(dm, name, line, word)? {
        Part::Leg(leg) => Ok(leg),
        Part::Log => Err(Fault::new(name, format!("`{word}` is its log, and no leg"))),
    }
}

/// Finds the leg, or the log, that a word means.
pub(super) fn part(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    word: &str,
) -> Result<Part, Fault> {
    if let Some(place) = word.parse().ok().filter(|place| *place < line.legs.len()) {
        return Ok(Part::Leg(place));
    }
    let log = log_dev(line);
    if word == "log" {
        return log.map(|_| Part::Log).ok_or_else(|| Fault::new(name, "its log is in memory"));
    }
    let dev = number_of(dm, word)?;
    let legs =
        line.legs.iter().enumerate().filter(|(_, leg)| dev.is_some() && leg.device.number() == dev);
    match legs.map(|(place, _)| place).collect::<Vec<_>>()[..] {
        [leg] => Ok(Part::Leg(leg)),
        [] if dev.is_some() && log == dev => Ok(Part::Log),
        [] => {
            let legs: Vec<String> = (0..).zip(&line.legs).map(text).collect();
            let legs = legs.join(", ");
            Err(Fault::new(name, format!("has no leg `{word}`; its legs are {legs}")))
        }
        [one, other, ..] => Err(Fault::new(
            name,
            format!("`{word}` is more than one leg: name it by its place, {one} or {other}"),
        )),
    }
}

fn text((place, leg): (usize, &Place<DeviceWord>)) -> String {
    format!("{place} ({})", leg.device)
}

/// Refuses a leg that does not fit a device.
pub(super) fn check_fits(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    new: &New,
    about: &str,
) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(about, why));
    let (size, block) = match size_of(dm, new)? {
        Some(found) => found,
        None => {
            let size = print_size(device.size().bytes());
            return refuse(format!(
                "no such file: `dmsim attach {about} --create SIZE` makes one, \
                                   of {size} at least"
            ));
        }
    };
    let name = device.name();
    if size < device.size() {
        let (has, needs) = (print_size(size.bytes()), print_size(device.size().bytes()));
        return refuse(format!("is too small: it has {has}, and `{name}` {needs}"));
    }
    let own = dm.describe()?.into_iter().find(|described| described.name == name);
    match own.map(|own| own.limits.logical_block_size) {
        Some(own) if own != block => refuse(format!(
            "has sectors of {block} bytes, and `{name}` of {own}: `dmsim attach {about} \
             --sector-size {own}` first, if that is what it is to have"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Tells whether a device encrypts, or one that it maps onto.
pub(super) fn encrypts(dm: &mut dyn DeviceMapper, dev: DevNumber) -> Result<bool, Fault> {
    let mut next = vec![dev];
    while let Some(dev) = next.pop() {
        let Some(device) = by_id(dm, Id::Dev(dev))? else { continue };
        if device.live.iter().any(|line| line.target_type == "crypt") {
            return Ok(true);
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = dm.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(false)
}
