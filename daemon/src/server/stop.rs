//! Ends what there is: nothing is lost, and nothing hangs.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use backing::{Cancel, block_on_or};
use fuse_frontend::Busy;
use sim_core::control::{Command, Id};
use sim_core::{BlockDevice, Held};

use super::state::Daemon;
use crate::fault::{Fault, causes};
use crate::mangle::decode;
use crate::protocol::User;

/// How long I/O that runs may take to end.
const TIME: Duration = Duration::from_secs(10);

/// How long a close may be on its way after `close` has returned.
const CLOSE_TIME: Duration = Duration::from_millis(500);

impl Daemon {
    /// Unmounts, lets running I/O end, and flushes. Where that cannot be, says why, and all goes
    /// on as it was. With `force`, nothing stands in the way; what went wrong is returned.
    pub(super) fn stop(&self, force: bool) -> Result<Option<Fault>, Fault> {
        let mut trouble = None;
        if !force {
            self.refuse_users()?;
        }
        let private = self.take_private(force)?;
        let put_back = |fault| {
            private.iter().for_each(|open| self.place_all(open));
            fault
        };
        if !force {
            self.refuse_users().map_err(put_back)?;
            self.flush().map_err(|Fault { what, why, status }| {
                let why = format!("{why}; `dmsim stop --force` stops all the same");
                put_back(Fault { what, why, status })
            })?;
        }
        // From here on the devices go, and stay on record for a restore.
        self.keeper.close();
        if force {
            self.fail_held();
        }
        let busy = if force { Busy::Detach } else { Busy::Refuse };
        match self.frontend.unmount(busy) {
            Err(error) if !force => {
                self.keeper.reopen();
                return Err(put_back(Fault::new("stop", causes(&error))));
            }
            Err(error) => trouble = Some(Fault::new("stop", causes(&error))),
            Ok(()) => {}
        }
        self.end_private();
        // No new I/O comes in now.
        trouble = trouble.or(self.quiesce().err());
        self.end_logs();
        trouble = trouble.or(self.flush().err());
        if let Some(fault) = &trouble {
            tracing::error!(%fault, "while stopping");
        }
        Ok(trouble)
    }

    /// Names who has devices open, if they do not close them right now.
    fn refuse_users(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + CLOSE_TIME;
        loop {
            // Who has nodes open is found when they are taken.
            let users = self.users_of_files();
            if users.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(open_by(&users));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets whoever waits for a suspended device have an error.
    fn fail_held(&self) {
        for shown in self.control.shown() {
            shown.device.fail_held();
        }
    }

    /// Suspends every device, from the top down: running I/O ends, and targets write down what
    /// they keep.
    fn quiesce(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + TIME;
        let mut result = Ok(());
        for device in self.control.top_down() {
            let id = Id::Dev(device.number());
            let shown = self.control.find_minor(device.minor());
            let name = shown.map_or_else(|| device.name(), |shown| shown.name);
            let suspend = self.control.perform(Command::DevSuspend { id, held: Held::Flush });
            let suspended =
                match within(deadline.saturating_duration_since(Instant::now()), suspend) {
                    Some(Ok(_)) => Ok(()),
                    Some(Err(failure)) => Err(Fault::new(name, failure)),
                    None => Err(Fault::new(name, "I/O is still running after 10 s")),
                };
            result = result.and(suspended);
        }
        result
    }

    fn flush(&self) -> Result<(), Fault> {
        self.images.flush_all().map_err(|failed| Fault::new(failed.path.display(), failed.why()))
    }
}

/// Runs a future until it ends or the time is up.
fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let cancel = Cancel::new();
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        let cancel_late = cancel.clone();
        scope.spawn(move || {
            if end.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                cancel_late.cancel();
            }
        });
        let output = block_on_or(future, &cancel);
        drop(ended);
        output
    })
}

fn open_by(users: &[User]) -> Fault {
    let who =
        users.iter().map(|user| format!("device `{}` is in use by {user}", decode(&user.device)));
    let who: Vec<String> = who.collect();
    Fault::new("stop", format!("{}; `stop --force` stops all the same", who.join(", ")))
}
