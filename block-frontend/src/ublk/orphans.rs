//! Disks whose daemon was killed: they wait for another, and not for ever.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::control::{Control, open_device};
use super::format::{DeviceInfo, LIVE, QUIESCED};

/// How long disks whose daemon was killed wait for another, which has to have brought their devices back by
/// then. After that they are taken away, and whoever waits for them has errors.
pub const ORPHANS_LAST: Duration = Duration::from_secs(300);

/// How often is looked whether they still wait.
const LOOK: Duration = Duration::from_secs(1);

/// A disk that a helper knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    id: u32,
    own: u64,
    server: i32,
}

/// How a disk is that was left.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It waits for a server.
    Waits,
    /// Its server is about to end.
    Ends,
    /// Another has it, or nobody any more.
    IsAnothers,
}

impl Left {
    /// Takes note of a disk that is served now.
    pub(crate) fn note(id: u32) -> io::Result<Left> {
        let control = Control::open()?.ok_or(io::ErrorKind::NotFound)?;
        let info = control.information(id)?;
        Ok(Left { id, own: info.own, server: info.server })
    }

    fn state(&self, control: &Control) -> State {
        control.information(self.id).map_or(State::IsAnothers, |info| self.state_by(&info))
    }

    fn state_by(&self, info: &DeviceInfo) -> State {
        match info.state {
            _ if info.own != self.own => State::IsAnothers,
            QUIESCED => State::Waits,
            LIVE if info.server == self.server => State::Ends,
            _ => State::IsAnothers,
        }
    }
}

/// Takes away a disk that waits for a server, unless one is about to take it over.
pub(super) fn take_away(control: &Control, id: u32) -> io::Result<()> {
    // Who has it open is its server.
    let alone = open_device(id)?;
    control.delete(id)?;
    drop(alone);
    Ok(())
}

/// The disks of a daemon that is gone.
#[must_use = "whoever has one open waits for ever, where no other daemon comes"]
#[derive(Debug, Default)]
pub struct Orphans(Vec<Left>);

impl Orphans {
    pub(crate) fn new(left: Vec<Left>) -> Orphans {
        Orphans(left)
    }

    /// Waits until another daemon has all of them, [`ORPHANS_LAST`] at most; then it takes away those that
    /// wait still.
    pub fn wait(self) {
        if !self.0.is_empty() {
            self.wait_for(ORPHANS_LAST);
        }
    }

    fn wait_for(mut self, limit: Duration) {
        let Ok(Some(control)) = Control::open() else { return };
        let until = Instant::now() + limit;
        loop {
            self.0.retain(|left| left.state(&control) != State::IsAnothers);
            if self.0.is_empty() {
                return;
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(LOOK);
        }
        for left in self.0.iter().filter(|left| left.state(&control) == State::Waits) {
            // Another may be at it this very moment.
            let _taken = take_away(&control, left.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_waits_until_another_has_it() {
        let left = Left { id: 3, own: 77, server: 100 };
        let info = |own, state, server| DeviceInfo { own, state, server, ..DeviceInfo::default() };
        for (info, due) in [
            (info(77, QUIESCED, 100), State::Waits),
            // While another takes it over, the driver still has the one before.
            (info(77, LIVE, 100), State::Ends),
            (info(77, LIVE, 200), State::IsAnothers),
            (info(77, 0, -1), State::IsAnothers),
            (info(78, QUIESCED, 100), State::IsAnothers),
            (info(0, LIVE, 100), State::IsAnothers),
        ] {
            assert_eq!(left.state_by(&info), due, "{info:?}");
        }
    }
}
