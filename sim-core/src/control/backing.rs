//! Where devices that are not mapped come from.

use std::sync::Arc;

use crate::{BlockDevice, BoxFuture, DevNumber, Errno};

/// Where devices that are not mapped come from: attached images.
pub trait Backing: Send + Sync {
    /// Finds a device by its number; [`Errno::NXIO`] where there is none.
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno>;

    /// Finds a device by the name or the path that a table line has. A relative path starts from
    /// `base`. [`Errno::NOENT`] where there is none, [`Errno::NOTBLK`] for what is no device.
    ///
    /// Waits as long as opening takes; nothing but the load of the table waits with it. One that
    /// is given up leaves nothing behind.
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>>;
}
