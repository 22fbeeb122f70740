//! Runs what blocks on a thread of its own, for those who must not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sim_core::{Errno, Signal};

/// Runs `work` on a thread named `name`, and waits for what comes of it; [`Errno::IO`] where it
/// panics. The thread begins with the first poll, and goes on to its end when the future is
/// dropped.
pub(crate) async fn blocking<T: Send + 'static, E: From<Errno> + Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let done = Arc::new((Mutex::new(None), Signal::default()));
    let ends = done.clone();
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Errno::IO.into()));
        *ends.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        ends.1.notify();
    });
    if let Err(error) = spawned {
        tracing::error!(%error, name, "no thread for what blocks");
        return Err(Errno::AGAIN.into());
    }
    let (result, ended) = &*done;
    ended.until(|| result.lock().unwrap_or_else(PoisonError::into_inner).take()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn what_panics_ends_with_an_error_and_what_ends_with_its_result() {
        assert_eq!(block_on(blocking("five", || Ok::<_, Errno>(5))), Ok(5));
        assert_eq!(
            block_on(blocking("fault", || -> Result<(), Errno> { panic!("planted") })),
            Err(Errno::IO)
        );
    }
}
