//! Interrupts: a request that waits is given up when its caller is about to be killed.
//!
//! When a thread that waits for an answer gets a signal, the kernel sends an interrupt with the
//! identity of its request, once, and then waits for the answer whatever comes. A read of a
//! regular file is broken off by no signal that a program handles, so the request goes on unless
//! the thread is about to be killed; that may come later than the interrupt, so it is looked at
//! again until the request has ended.
//!
//! An interrupt may come before its request is known to wait, and after it has been answered. It
//! is answered with EAGAIN in both cases, after a while: the kernel sends it again in the one, and
//! knows nothing of it any more in the other.

use std::sync::Arc;
use std::time::Duration;

use sim_core::Errno;

use super::connection::Connection;
use super::reply;
use super::waiting::Ends;
use crate::wire::INTERRUPT_BIT;

/// How long an interrupt is kept whose request is not known.
const UNKNOWN: Duration = Duration::from_millis(10);

/// How often the caller of an interrupted request is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// SIGKILL in a set of signals as the kernel prints it. Any other that ends a process with no
/// handler becomes one for each of its threads.
const KILL: u64 = 1 << (9 - 1);

impl Connection {
    /// Follows up an interrupt, in a task of its own.
    pub(super) fn interrupt(self: &Arc<Connection>, unique: u64) {
        let connection = self.clone();
        self.runtime.spawn(Box::pin(async move { connection.follow_up(unique).await }));
    }

    async fn follow_up(&self, unique: u64) {
        if self.waiting.find(unique).is_none() {
            self.runtime.sleep(UNKNOWN).await;
            if self.waiting.find(unique).is_none() {
                return self.send_again(unique);
            }
        }
        while let Some(caller) = self.waiting.find(unique) {
            if caller.ends == Ends::Signalled || is_being_killed(caller.pid) {
                caller.interruption.set();
            }
            self.runtime.sleep(LOOK).await;
        }
    }

    /// Has the kernel send an interrupt again, if its request has no answer yet.
    fn send_again(&self, unique: u64) {
        // It is known where the request came from, which nobody remembers.
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| reply::refuse(lane, unique | INTERRUPT_BIT, Errno::AGAIN).is_ok());
    }
}

/// Tells whether a thread is about to be killed. One that cannot be seen from here is not, as far
/// as anybody knows.
pub(crate) fn is_being_killed(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has_kill_pending(&status)
}

fn has_kill_pending(status: &str) -> bool {
    let pending = |line: &str| {
        let set = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    };
    status.lines().filter_map(pending).any(|set| set & KILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_killed_by_sigkill_alone() {
        let status = |own: u64, shared: u64| {
            format!(
                "Name:\ta\nSigQ:\t1/2\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t0100\n"
            )
        };
        assert!(has_kill_pending(&status(0x100, 0)));
        assert!(has_kill_pending(&status(0, 0x4100)));
        assert!(!has_kill_pending(&status(0x4000, 0x2)));
        assert!(!has_kill_pending(""));
        assert!(!is_being_killed(std::process::id()) && !is_being_killed(0));
    }
}
