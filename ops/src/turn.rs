//! Workflows that change sets of an instance, open images or mount take turns: one that looks while another is
//! half done would take the other's devices for left over, and its own way back would take them away.

use std::time::{Duration, Instant};

use daemon::Fault;

use crate::device_mapper::{DeviceMapper, Turn};
use crate::watch::{Watch, go_on};

/// How often it is looked whether another one is done.
const PERIOD: Duration = Duration::from_millis(20);

/// How long nothing is said.
const SOON: Duration = Duration::from_secs(1);

/// Waits until no other workflow has the turn, and keeps others from it until the turn is dropped.
pub(crate) fn turn(
    dm: &mut dyn DeviceMapper,
    about: &str,
    watch: &dyn Watch,
) -> Result<Turn, Fault> {
    once_free(about, watch, || dm.turn())
}

/// Waits until something can be had that another command has.
pub(crate) fn once_free<T>(
    about: &str,
    watch: &dyn Watch,
    mut take: impl FnMut() -> Result<Option<T>, Fault>,
) -> Result<T, Fault> {
    let began = Instant::now();
    let mut is_silent = true;
    loop {
        if let Some(taken) = take()? {
            return Ok(taken);
        }
        go_on(about, watch)?;
        if is_silent && began.elapsed() > SOON {
            watch.warn(&format!(
                "{about}: waits for another command that changes what this one does"
            ));
            is_silent = false;
        }
        std::thread::sleep(PERIOD);
    }
}
