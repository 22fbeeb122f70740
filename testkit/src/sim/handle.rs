//! What tasks and devices wait for: a turn, and time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sim_core::{Errno, Half, Panic, Runtime};
use zeroize::Zeroizing;

use super::core::Core;

/// How many processors the simulated machine has.
const PROCESSORS: u32 = 4;

/// A handle on a [`Sim`](crate::Sim): the [`Runtime`] of targets, and what simulated devices wait
/// with.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
}

impl Handle {
    pub(crate) fn new(core: Arc<Core>) -> Handle {
        Handle { core }
    }

    /// Waits for a turn: ends when the executor picks it among all that could happen next. What
    /// a pending I/O of a simulated device waits with.
    pub fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        Turn { core: self.core.clone(), key: None }
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        self.core.state().note(line);
    }
}

impl Handle {
    /// Puts a key into the key ring of the simulation.
    pub fn add_key(&self, kind: &str, description: &str, payload: &[u8]) {
        let name = (kind.to_owned(), description.to_owned());
        self.core.state().keys.insert(name, payload.to_vec());
    }
}

impl Runtime for Handle {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        Core::spawn(&self.core, "background".to_owned(), task);
    }

    /// Runs the halves in the order that the seed has: nothing in them waits, so no other task
    /// can come between.
    fn join(&self, one: Half<'_>, other: Half<'_>) {
        if self.random() & 1 == 0 {
            one();
            other();
        } else {
            other();
            one();
        }
    }

    fn key(&self, kind: &str, description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let name = (kind.to_owned(), description.to_owned());
        let payload = self.core.state().keys.get(&name).cloned();
        payload.map(Zeroizing::new).ok_or(Errno::NOKEY)
    }

    fn now(&self) -> Duration {
        self.core.state().now
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let until = self.now().saturating_add(time);
        Box::pin(Sleep { core: self.core.clone(), until, key: None })
    }

    fn random(&self) -> u64 {
        self.core.state().rng.number()
    }

    fn processors(&self) -> u32 {
        PROCESSORS
    }

    /// Returns another processor each time: what runs may have been moved.
    fn processor(&self) -> u32 {
        (self.random() % u64::from(PROCESSORS)) as u32
    }

    fn caught(&self, place: &str, panic: Panic) {
        self.core.caught(place, panic);
    }
}

struct Turn {
    core: Arc<Core>,
    key: Option<u64>,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core.clone();
        let mut state = core.state();
        let Some(own) = self.key else {
            let key = state.new_id();
            self.key = Some(key);
            state.pending.push((key, cx.waker().clone()));
            return Poll::Pending;
        };
        match state.pending.iter_mut().find(|(key, _)| *key == own) {
            Some((_, waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(own) = self.key {
            self.core.state().pending.retain(|(key, _)| *key != own);
        }
    }
}

struct Sleep {
    core: Arc<Core>,
    until: Duration,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core.clone();
        let mut state = core.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| state.new_id());
        state.timers.insert((self.until, key), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.core.state().timers.remove(&(self.until, key));
        }
    }
}
