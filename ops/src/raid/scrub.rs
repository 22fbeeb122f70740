//! `dmsim raid check` and `repair`: copies are compared, or parity with the data, and made the same.

use daemon::fault::USAGE;
use daemon::{Fault, mangle};
use serde::Serialize;
use sim_core::Sectors;
use sim_core::control::Slot;
use targets::lines::raid::{Action, LegHealth, Status};
use targets::raid::layout::Layout;

use super::advice;
use super::level::level;
use super::state::{Line, Look as Seen, layout, look_at, most_copies, redundant};
use crate::commands::message;
use crate::device_mapper::DeviceMapper;
use crate::size::in_bytes;
use crate::watch::{INTERRUPTED, Look, Watch, until_done};

/// What a repair goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first copy: the others become the same.
    Copy,
    /// The parity of the data, which is computed anew.
    Parity,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The set.
    pub name: String,
    /// Its level.
    pub level: &'static str,
    /// It has parity, and no copies.
    #[serde(skip)]
    pub has_parity: bool,
    /// Something was there to be compared with something: two copies at least of some of the data, or parity.
    pub compared: bool,
    /// So many sectors lie in pieces that differ: of 64 KiB or a chunk, for each copy that does; of 4 KiB
    /// of each leg, where parity is wrong.
    #[serde(rename = "differing_bytes", serialize_with = "in_bytes")]
    pub differing: u64,
    /// They are the same now, or parity is right.
    pub repaired: bool,
    /// The legs that are not in sync, which were not compared.
    pub left_out: Vec<usize>,
}

/// Compares the copies of a set, or its parity with the data; returns when that is done, or at once with
/// nothing where nobody waits.
///
/// # Errors
/// Where it is no set with copies or parity, or lacks so many legs that no parity is left to be compared;
/// something else goes on in it, or `watch` interrupts it.
pub fn check(
    dm: &mut dyn DeviceMapper,
    name: &str,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Option<Checked>, Fault> {
    let (device, line) = redundant(dm, name)?;
    device.refuse_suspended()?;
    let scrub = Scrub { name: device.name(), line: &line, size: device.size() };
    if !waits {
        return scrub.begin_alone(dm, "check");
    }
    let status = scrub.go_through(dm, "check", watch)?;
    Ok(Some(scrub.found(&status, false)))
}

/// Makes the copies of a set the same where they differ: as those on the first leg are that has them.
/// Parity that is not that of the data is computed anew.
///
/// # Errors
/// As for [`check`]; where the set has not what it is to go by, or something differs still, too.
pub fn repair(
    dm: &mut dyn DeviceMapper,
    name: &str,
    from: Option<Source>,
    waits: bool,
    watch: &dyn Watch,
) -> Result<Option<Checked>, Fault> {
    let (device, line) = redundant(dm, name)?;
    refuse_source(&line, from)?;
    device.refuse_suspended()?;
    let scrub = Scrub { name: device.name(), line: &line, size: device.size() };
    if !waits {
        return scrub.begin_alone(dm, "repair");
    }
    // What a repair finds it does not tell.
    let before = scrub.go_through(dm, "check", watch)?;
    let found = scrub.found(&before, true);
    if found.differing == 0 {
        return Ok(Some(found));
    }
    scrub.go_through(dm, "repair", watch)?;
    match scrub.go_through(dm, "check", watch)?.mismatches {
        0 => Ok(Some(found)),
        left => {
            let why = format!(
                "{left} sectors differ still: a leg does not keep what it is given, or something else \
                 writes to an image. `dmsim tree` shows who uses them"
            );
            Err(Fault::new(scrub.name, why))
        }
    }
}

/// Refuses to go by what a set does not have.
fn refuse_source(line: &Line, from: Option<Source>) -> Result<(), Fault> {
    let level = level(line.kind);
    let (word, why) = match (from, line.kind.family().parities()) {
        (Some(Source::Copy), 1..) => {
            ("copy", format!("a {level} keeps no copies, but parity: `--from parity`, or nothing"))
        }
        (Some(Source::Parity), 0) => {
            ("parity", format!("a {level} keeps copies, and no parity: `--from copy`, or nothing"))
        }
        (Some(Source::Copy), 0) | (Some(Source::Parity), 1..) | (None, _) => return Ok(()),
    };
    Err(Fault::new(format!("--from {word}"), why).with_status(USAGE))
}

fn left_out(status: &Status) -> Vec<usize> {
    let legs = status.legs.iter().enumerate();
    legs.filter(|(_, health)| **health != LegHealth::InSync).map(|(leg, _)| leg).collect()
}

/// Says why nothing else can begin in a set; nothing where it can.
fn busy(name: &str, status: &Status) -> Option<String> {
    let what = match status.action {
        Action::Idle if status.done == status.total => return None,
        Action::Idle => {
            return Some(format!(
                "is not in sync, and nothing is copied: `dmsim heal {name}` has that go on first"
            ));
        }
        Action::Frozen => {
            return Some(format!(
                "is frozen, and begins nothing: `dmsim suspend {name}` and `dmsim resume {name}` end that"
            ));
        }
        Action::Resync => "a resync",
        Action::Recover => "the rebuild of a leg",
        Action::Check => "a check",
        Action::Repair => "a repair",
        Action::Reshape => "a reshape",
    };
    Some(format!("is busy with {what}: `dmsim raid status {name}` shows how far it is"))
}

/// A set that is gone through.
struct Scrub<'a> {
    name: &'a str,
    line: &'a Line,
    size: Sectors,
}

impl Scrub<'_> {
    fn found(&self, status: &Status, repaired: bool) -> Checked {
        let compared = self.compares(status);
        Checked {
            name: mangle::decode(self.name),
            level: level(self.line.kind),
            has_parity: self.line.kind.family().parities() > 0,
            compared,
            // Where nothing was, the status has what an earlier check found.
            differing: if compared { status.mismatches } else { 0 },
            repaired: repaired && compared,
            left_out: left_out(status),
        }
    }

    /// Tells whether legs in sync have two copies of some of the data. Parity is another matter: see
    /// [`Scrub::refuse_used_up`].
    fn compares(&self, status: &Status) -> bool {
        let lost = left_out(status);
        let device = self.line.lengths(self.size).map(|lengths| lengths.device);
        match device.ok().and_then(|device| layout(self.line, device)) {
            Some(layout @ (Layout::Raid1 { .. } | Layout::Raid10(_))) => {
                most_copies(&layout, |leg| lost.contains(&leg)) > 1
            }
            Some(Layout::Raid0 { .. } | Layout::Parity(_)) | None => true,
        }
    }

    /// Has a set gone through that nobody waits for; where nothing can be compared, says so at once.
    fn begin_alone(&self, dm: &mut dyn DeviceMapper, what: &str) -> Result<Option<Checked>, Fault> {
        let status = self.idle(dm)?.status;
        match self.compares(&status) {
            true => self.begin(dm, what).map(|_| None),
            false => Ok(Some(self.found(&status, false))),
        }
    }

    /// Refuses a set whose parity is all needed for what is lost.
    fn refuse_used_up(&self, dm: &mut dyn DeviceMapper, status: &Status) -> Result<(), Fault> {
        let (parities, lost) = (self.line.kind.family().parities(), left_out(status));
        let Some(leg) = lost.first().filter(|_| parities > 0 && lost.len() >= parities) else {
            return Ok(());
        };
        let legs = match &lost[..] {
            [leg] => format!("leg {leg} is not in sync"),
            legs => {
                let legs: Vec<String> = legs.iter().map(usize::to_string).collect();
                format!("legs {} are not in sync", legs.join(", "))
            }
        };
        let help = advice::of_leg(dm, self.name, status, *leg)?;
        let why = format!("{legs}, and without that no parity is left over to be compared; {help}");
        Err(Fault::new(self.name, why))
    }

    /// Looks at the set, and refuses one that is busy.
    fn idle(&self, dm: &mut dyn DeviceMapper) -> Result<Seen, Fault> {
        let name = self.name;
        let look = look_at(dm, name)?;
        match busy(name, &look.status) {
            None => Ok(look),
            Some(why) => Err(Fault::new(name, why)),
        }
    }

    /// Asks the set to begin; returns the number of the event before.
    fn begin(&self, dm: &mut dyn DeviceMapper, what: &str) -> Result<u32, Fault> {
        let name = self.name;
        let before = self.idle(dm)?;
        self.refuse_used_up(dm, &before.status)?;
        message(dm, name, Slot::Live, what)?;
        Ok(before.event)
    }

    /// Has the set gone through, and waits for the end. A leg that fails meanwhile breaks it off: it begins
    /// anew with those that are left.
    fn go_through(
        &self,
        dm: &mut dyn DeviceMapper,
        what: &str,
        watch: &dyn Watch,
    ) -> Result<Status, Fault> {
        loop {
            let before = self.idle(dm)?.status;
            if !self.compares(&before) {
                return Ok(before);
            }
            let before = before.legs;
            let status = self.go_through_once(dm, what, watch)?;
            if status.legs == before {
                return Ok(status);
            }
            let name = self.name;
            watch.warn(&format!("{name}: its legs have changed, and the {what} begins anew"));
        }
    }

    fn go_through_once(
        &self,
        dm: &mut dyn DeviceMapper,
        what: &str,
        watch: &dyn Watch,
    ) -> Result<Status, Fault> {
        let name = self.name;
        let before = self.begin(dm, what)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_set_is_busy_with_is_said_in_words() {
        for (status, words) in [
            ("AA 8/8 idle", None),
            ("Aa 4/8 idle", Some("is not in sync, and nothing is copied: `dmsim heal r`")),
            ("AA 8/8 frozen", Some("is frozen, and begins nothing: `dmsim suspend r`")),
            ("aa 4/8 resync", Some("is busy with a resync: `dmsim raid status r`")),
            ("Aa 4/8 recover", Some("is busy with the rebuild of a leg: ")),
            ("AA 4/8 check", Some("is busy with a check: ")),
        ] {
            let text = format!("raid1 2 {status} 0 0 -");
            let status = Status::parse(&text).expect("a status");
            let why = busy("r", &status);
            assert_eq!(why.is_some(), words.is_some(), "{text}: {why:?}");
            let why = why.unwrap_or_default();
            assert!(why.starts_with(words.unwrap_or_default()), "{text}: {why}");
        }
    }
}
