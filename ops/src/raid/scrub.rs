//! `dmsim raid check` and `repair`: copies are compared, and made the same.

use daemon::{Fault, mangle};
use sim_core::control::Slot;
use targets::lines::raid::{Action, LegHealth, Status};

use super::state::{look_at, with_copies};
use crate::commands::message;
use crate::device_mapper::DeviceMapper;
use crate::watch::{INTERRUPTED, Look, Watch, until_done};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The set.
    pub name: String,
    /// So many sectors lie in pieces that differ, of 64 KiB or a chunk, for each copy that does.
    pub differing: u64,
    /// They are the same now.
    pub repaired: bool,
    /// The legs that are not in sync, which were not compared.
    pub left_out: Vec<usize>,
}

/// Compares the copies of a set; returns when that is done, or at once with nothing where nobody
/// waits.
///
/// # Errors
/// Where it is no set with copies, something else goes on in it, or `watch` interrupts it.
pub fn check(
    dm: &mut dyn DeviceMapper,
    name: &str,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Option<Checked>, Fault> {
    let (device, _) = with_copies(dm, name)?;
    device.refuse_suspended()?;
    let name = device.name();
    if !waits {
        return begin(dm, name, "check").map(|_| None);
    }
    let status = go_through(dm, name, "check", watch)?;
    Ok(Some(Checked {
        name: mangle::decode(name),
        differing: status.mismatches,
        repaired: false,
        left_out: left_out(&status),
    }))
}

/// Makes the copies of a set the same where they differ: as those on the first leg are that has them.
///
/// # Errors
/// As for [`check`]; where copies differ still, too.
pub fn repair(
    dm: &mut dyn DeviceMapper,
    name: &str,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Option<Checked>, Fault> {
    let (device, _) = with_copies(dm, name)?;
    device.refuse_suspended()?;
    let name = device.name();
    if !waits {
        return begin(dm, name, "repair").map(|_| None);
    }
    // What a repair finds it does not tell.
    let before = go_through(dm, name, "check", watch)?;
    let left_out = left_out(&before);
    let found = Checked {
        name: mangle::decode(name),
        differing: before.mismatches,
        repaired: true,
        left_out,
    };
    if found.differing == 0 {
        return Ok(Some(found));
    }
    go_through(dm, name, "repair", watch)?;
    match go_through(dm, name, "check", watch)?.mismatches {
        0 => Ok(Some(found)),
        left => Err(Fault::new(name, format!("{left} sectors differ still"))),
    }
}

fn left_out(status: &Status) -> Vec<usize> {
    let legs = status.legs.iter().enumerate();
    legs.filter(|(_, health)| **health != LegHealth::InSync).map(|(leg, _)| leg).collect()
}

/// Asks a set to begin; returns the number of the event before.
fn begin(dm: &mut dyn DeviceMapper, name: &str, what: &str) -> Result<u32, Fault> {
    let before = look_at(dm, name)?;
    let status = before.status;
    if status.action != Action::Idle || status.done != status.total {
        let why = "is busy: something is copied or compared already, as `dmsim raid status` shows";
        return Err(Fault::new(name, why));
    }
    message(dm, name, Slot::Live, what)?;
    Ok(before.event)
}

/// Has a set gone through, and waits for the end. A leg that fails meanwhile breaks it off: it begins
/// anew with those that are left.
fn go_through(
    dm: &mut dyn DeviceMapper,
    name: &str,
    what: &str,
    watch: &dyn Watch,
) -> Result<Status, Fault> {
    loop {
        let before = look_at(dm, name)?.status.legs;
        let status = go_through_once(dm, name, what, watch)?;
        if status.legs == before {
            return Ok(status);
        }
        watch.warn(&format!("{name}: its legs have changed, and the {what} begins anew"));
    }
}

fn go_through_once(
    dm: &mut dyn DeviceMapper,
    name: &str,
    what: &str,
    watch: &dyn Watch,
) -> Result<Status, Fault> {
    let before = begin(dm, name, what)?;
    let mut last = None;
    let ended = until_done(&format!("{what} of {name}"), watch, || {
        let look = look_at(dm, name)?;
        if look.suspended {
            return Err(Fault::new(name, format!("was suspended, which has ended the {what}")));
        }
        // The end is an event; a status alone may be from before the beginning.
        let is_over = look.event != before && look.status.action == Action::Idle;
        let (done, total) = (look.status.done, look.status.total);
        let left = match look.status.action {
            Action::Idle => total,
            _ => total.saturating_sub(done),
        };
        last = Some(look.status);
        Ok(if is_over { Look::Done } else { Look::Left(left) })
    });
    match ended {
        Ok(()) => last.ok_or_else(|| Fault::new(name, "has no status")),
        Err(fault) if fault.status == INTERRUPTED => {
            // The kernel does it, and answers with an error all the same.
            let _ = message(dm, name, Slot::Live, "idle");
            Err(Fault { why: format!("{}; the {what} is broken off", fault.why), ..fault })
        }
        Err(fault) => Err(fault),
    }
}
