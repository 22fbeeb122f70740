//! Tasks that must come to their end, whoever gives up waiting for it.

use std::sync::Arc;

use sim_core::{Outcome, Runtime};

/// Runs a task of its own to its end, and waits for that: whoever drops this waits no more, and the
/// task goes on.
pub(crate) async fn finish(runtime: &dyn Runtime, task: impl Future<Output = ()> + Send + 'static) {
    let ended = Arc::new(Outcome::new());
    let ends = Ends(ended.clone());
    runtime.spawn_here(Box::pin(async move {
        let _ends = ends;
        task.await;
    }));
    ended.wait().await;
}

/// Says that a task has ended when it is dropped, however that comes about: at its last line, by a
/// panic, or with the runtime. Nobody waits for ever for a task that is gone.
pub(crate) struct Ends(pub(crate) Arc<Outcome<()>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.set(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use testkit::World;

    use super::*;

    #[test]
    fn a_task_goes_on_when_nobody_waits_for_it_any_more() {
        let world = World::new(1, sim_core::Registry::new());
        let (runtime, handle) = (world.sim.runtime(), world.handle());
        let over = Arc::new(AtomicBool::new(false));
        let says = over.clone();
        let mut waits = Box::pin(finish(&*runtime, async move {
            handle.turn().await;
            says.store(true, SeqCst);
        }));
        assert!(futures_util::FutureExt::now_or_never(&mut waits).is_none());
        drop(waits);
        world.sim.run_until_idle().expect("an end");
        assert!(over.load(SeqCst));
    }

    #[test]
    fn who_waits_for_a_task_that_is_dropped_waits_no_more() {
        let ended = Arc::new(Outcome::new());
        let ends = Ends(ended.clone());
        let task = async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        };
        drop(task);
        assert!(ended.has_ended());
    }
}
