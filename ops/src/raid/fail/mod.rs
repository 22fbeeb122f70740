//! `dmsim fail` and `dmsim heal` of a set: a leg that fails on purpose, and no more.

mod journal;

use daemon::{Fault, mangle};
use sim_core::{DevNumber, Fails};

use super::advice;
use super::leg::leg as leg_of;
use super::replace::settle;
use super::state::{is_unsettled, look_at, number, set};
use super::wait::until_synced;
use crate::commands::{resume, set_fails, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::refuse_suspended_below;
use crate::mirror::failing;
use crate::turn::turn;
use crate::watch::Watch;
use targets::lines::raid::{LegHealth, Status};

/// Makes the data of a leg fail for its set on purpose.
///
/// # Errors
/// Where there is no such set or leg.
pub fn fail(dm: &mut dyn DeviceMapper, name: &str, leg: &str, fails: Fails) -> Result<(), Fault> {
    let (device, line) = set(dm, name)?;
    let name = device.name();
    let place = leg_of(dm, name, &line, leg)?;
    match number(line.legs[place].data.as_ref()) {
        Some(dev) => set_fails(dm, name, dev, fails),
        None => {
            let status = look_at(dm, name)?.status;
            let help = advice::help(dm, name, &status, place)?;
            Err(Fault::new(name, format!("leg {place} is missing already: {help}")))
        }
    }
}

/// Makes a leg that failed, or all of them, work again, and has it brought up to date. Returns when that
/// has begun, unless it `waits`; says what was done, and what is left, a line each.
///
/// # Errors
/// Where there is no such set or leg, nothing could be done for those that are lost, one fails again, or
/// `watch` interrupts the waiting.
pub fn heal(
    dm: &mut dyn DeviceMapper,
    name: &str,
    leg: Option<&str>,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Vec<String>, Fault> {
    let turn = turn(dm, name, watch)?;
    let (device, line) = set(dm, name)?;
    let name = device.name();
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let before = look_at(dm, name)?.status;
    let healed: Vec<DevNumber> = match leg {
        Some(leg) => {
            let place = leg_of(dm, name, &line, leg)?;
            number(line.legs[place].data.as_ref()).into_iter().collect()
        }
        None => failing(dm, name)?,
    };
    let failed = failing(dm, name)?;
    let mut told = Vec::new();
    for dev in healed {
        set_fails(dm, name, dev, Fails::Nothing)?;
        let place = line.legs.iter().position(|leg| number(leg.data.as_ref()) == Some(dev));
        if let Some(place) = place.filter(|_| failed.contains(&dev))
            && before.legs.get(place) == Some(&LegHealth::InSync)
        {
            told.push(format!("leg {place} does not fail any more"));
        }
    }
    if is_unsettled(&line) {
        // What was left when `replace` or `grow` was cut off. The new table looks for legs as well.
        settle(dm, &device, &line, device.size())?;
        told.push("what was cut off goes on".to_owned());
    } else if !look_at(dm, name)?.status.is_whole() {
        // It looks again which legs can be used.
        suspend(dm, name)?;
        resume(dm, name)?;
    }
    // What is wrong with it is said with what is wrong with legs.
    let journal = match journal::take_up(dm, &device, &line, watch) {
        Ok(done) => {
            told.extend(done);
            None
        }
        Err(fault) => Some(fault.why),
    };
    drop(turn);
    if !waits {
        return tell(dm, name, &before, told, journal);
    }
    let still = failing(dm, name)?;
    let status = look_at(dm, name)?.status;
    let legs = line.legs.iter().zip(&status.legs).enumerate();
    let besides = legs.filter(|(_, (leg, health))| {
        **health == LegHealth::Missing
            || number(leg.data.as_ref()).is_some_and(|dev| still.contains(&dev))
    });
    let besides: Vec<usize> = besides.map(|(leg, _)| leg).collect();
    until_synced(dm, name, &line, &besides, watch)?;
    tell(dm, name, &before, told, journal)
}

/// Says what has become of each leg that was lost, a line each, after what was `told` already, and last what is wrong
/// with the `journal`.
///
/// # Errors
/// Where some are, or the journal has failed, and nothing was done.
fn tell(
    dm: &mut dyn DeviceMapper,
    name: &str,
    before: &Status,
    told: Vec<String>,
    journal: Option<String>,
) -> Result<Vec<String>, Fault> {
    let status = look_at(dm, name)?.status;
    let (mut done, mut left) = (told, Vec::new());
    for (leg, now) in status.legs.iter().enumerate() {
        let was = before.legs.get(leg).unwrap_or(&LegHealth::Missing);
        match (was, now) {
            (LegHealth::InSync, LegHealth::InSync) => {}
            (_, LegHealth::InSync) => done.push(format!("leg {leg} is in sync again")),
            (_, LegHealth::Behind) => done.push(format!(
                "leg {leg} gets what it lacks: `dmsim raid status {name}` shows how far that is"
            )),
            (_, LegHealth::Failed | LegHealth::Missing) => {
                left.push(advice::of_leg(dm, name, &status, leg)?);
            }
        }
    }
    left.extend(journal);
    if done.is_empty() && !left.is_empty() {
        return Err(Fault::new(name, format!("nothing could be healed: {}", left.join("; "))));
    }
    done.extend(left);
    if done.is_empty() {
        done.push("all legs are in sync: there is nothing to heal".to_owned());
    }
    let name = mangle::decode(name);
    Ok(done.into_iter().map(|what| format!("{name}: {what}")).collect())
}
