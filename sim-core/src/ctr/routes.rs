//! How a target changes where it sends bios while the device is in use.

use std::sync::{Arc, Weak};

use crate::{BoxFuture, Gate, Pass};

/// The ways that a target's bios take: its own remaps, and the flattened maps of its device and of
/// all devices above. From [`Args::routes`](crate::Args::routes).
///
/// To change where a range goes, a target
/// 1. withdraws it: [`flatten`](crate::Target::flatten) of the range says
///    [`Opaque`](crate::Flat::Opaque), and `map` of it waits, or goes by another way;
/// 2. awaits [`drained`](Self::drained): no bio is on its way by the old route any more;
/// 3. moves or copies what it has to;
/// 4. publishes: `flatten` and `map` say the new place.
///
/// Nothing is folded anew, so it costs the range, however long the table is. The profile says
/// `reroutes`: such a target is asked for each bio.
#[derive(Clone)]
pub struct Routes {
    device: Weak<dyn FlatMaps>,
    gate: Arc<Gate>,
}

impl Routes {
    pub(crate) fn of(device: Weak<dyn FlatMaps>) -> Routes {
        Routes { device, gate: Arc::default() }
    }

    /// Waits until every bio has ended that was remapped before the call, by `map` or by what
    /// `flatten` said, or that the target has counted itself. Other bios that the target has in
    /// flight are not waited for, so one of them may wait for the change.
    pub async fn drained(&self) {
        self.gate.turned_over().await;
        if let Some(device) = self.device.upgrade() {
            device.maps_turned_over().await;
        }
    }

    /// Counts a bio that the target sends on by itself, before it looks where to.
    pub fn enter(&self) -> Pass<'_> {
        self.gate.try_enter().expect("the gate of a target's routes is never closed")
    }
}

/// The flattened maps that pass through a device.
pub(crate) trait FlatMaps: Send + Sync {
    /// Waits until every bio has ended that goes by one of them, while others go on.
    fn maps_turned_over(&self) -> BoxFuture<'_, ()>;
}
