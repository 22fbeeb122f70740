//! A mount and whoever serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sim_core::Runtime;

use crate::dev_fuse::Connection;
use crate::files::Service;
use crate::mount::{self, DeviceId, MountError};
use crate::options::{Busy, Options};

/// A mount that is served. Dropping it unmounts, busy or not.
pub(crate) struct Served {
    pub(crate) dir: PathBuf,
    device: DeviceId,
    pub(crate) connection: Arc<Connection>,
}

impl Served {
    /// Mounts at `dir`, and returns when the mount serves, by as many threads as `options` say.
    pub(crate) fn mount(
        service: impl Service,
        runtime: Arc<dyn Runtime>,
        dir: &Path,
        options: &Options,
    ) -> Result<Served, MountError> {
        let fault = |what| move |source| MountError::Io { dir: dir.to_owned(), what, source };
        let dir = dir.canonicalize().map_err(fault("no such directory"))?;
        let device = mount::attach(&dir, options)?;
        let served = Connection::serve(device, service, runtime, options.threads);
        let connection = served.map_err(fault("cannot serve the mount")).inspect_err(|_| {
            let _ = mount::detach(&dir, Busy::Detach);
        })?;
        let device = DeviceId::of(&dir).map_err(fault("the mount does not answer"))?;
        Ok(Served { dir, device, connection })
    }

    /// Tells whether the mount is where it was made, and served.
    pub(crate) fn is_mounted(&self) -> bool {
        !self.connection.has_ended()
            && DeviceId::of(&self.dir).is_ok_and(|device| device == self.device)
    }

    /// Unmounts. Does nothing where somebody else has.
    pub(crate) fn unmount(&self, busy: Busy) -> Result<(), MountError> {
        if self.is_mounted() {
            mount::detach(&self.dir, busy)?;
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = self.unmount(Busy::Detach) {
            tracing::error!(%error, "a mount is left behind");
        }
    }
}
