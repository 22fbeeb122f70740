//! The dmsetup verbs' way to the daemon.

use std::collections::HashMap;
use std::path::Path;

use daemon::protocol::{Outcome, Request};
use daemon::{Client, Fault, Instance};
use sim_core::control::{Answer, Command, Failure};
use sim_core::{DevNumber, Errno};

use crate::dmsetup::{Called, Dm};
use crate::output::complain;
use crate::{client, output};

/// A control plane in a daemon, to which it connects when it is needed first.
pub(crate) struct Remote {
    instance: Result<Instance, Fault>,
    client: Option<Client>,
    /// The kernel's names of the attached images, once asked for.
    names: Option<HashMap<DevNumber, String>>,
    batch: Batch,
    called: Called,
    /// Why the daemon cannot be reached.
    pub(crate) fault: Option<Fault>,
}

/// Changes that are made durable together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    None,
    /// The daemon is told with the first of them.
    Wanted,
    /// The daemon was told.
    Begun,
}

impl Remote {
    /// A fault of the instance is told when it is needed first: some verbs need none.
    pub(crate) fn new(called: Called, instance: Result<Instance, Fault>) -> Remote {
        Remote { instance, client: None, names: None, batch: Batch::None, called, fault: None }
    }

    /// Connects, and starts the daemon where there is none and the command makes a device.
    fn client(&mut self, starts: bool) -> Result<&mut Client, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let instance = self.instance.as_ref().map_err(Fault::clone)?;
        let client = match self.client.take() {
            Some(client) => client,
            None if starts => match self.called {
                Called::Dmsim => client::connect_or_start(instance)?,
                // It says what dmsetup says.
                Called::Dmsetup | Called::Dmstats => client::find_or_start(instance)?.0,
            },
            None => client::connect(instance)?,
        };
        let client = self.client.insert(client);
        if self.batch == Batch::Wanted {
            client.done(&Request::Batch)?;
            self.batch = Batch::Begun;
        }
        Ok(client)
    }

    fn failure(&mut self, fault: Fault) -> Failure {
        let why = Some(fault.to_string());
        self.fault = Some(fault);
        Failure { errno: Errno::NXIO, table: None, why }
    }
}

impl Dm for Remote {
    fn call(&mut self, command: Command) -> Result<Answer, Failure> {
        let starts = matches!(command, Command::DevCreate { .. });
        let result = self.client(starts).and_then(|client| client.control(command));
        result.unwrap_or_else(|fault| Err(self.failure(fault)))
    }

    fn begin_batch(&mut self) {
        self.batch = Batch::Wanted;
    }

    fn commit_batch(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Batch::None);
        // Where the connection is lost, the daemon has committed.
        if batch == Batch::Begun
            && self.fault.is_none()
            && let Err(fault) = self.client(false).and_then(|client| client.done(&Request::Commit))
        {
            complain!("dmsim: {fault}");
        }
    }

    fn device_name(&mut self, dev: DevNumber) -> Option<String> {
        if self.names.is_none() {
            let Ok(Outcome::Images(images)) =
                self.client(false).and_then(|client| client.ask(&Request::Images))
            else {
                return None;
            };
            let names = images.into_iter().map(|image| (image.number, image.kernel_name));
            self.names = Some(names.collect());
        }
        self.names.as_ref()?.get(&dev).cloned()
    }

    fn behind(&mut self, kernel_name: &str) -> Option<String> {
        self.client(false).ok().and_then(|client| ops::behind(client, kernel_name))
    }

    fn holders(&mut self, name: &str) -> Vec<String> {
        let holders = self.client(false).and_then(|client| ops::holders(client, name));
        holders.unwrap_or_default()
    }

    fn way_to_unmount(&mut self, name: &str) -> String {
        let client = self.client(false);
        client.map(|client| ops::way_to_unmount(&client.welcome.mount, name)).unwrap_or_default()
    }

    fn columns(&self) -> Option<u16> {
        output::columns()
    }

    fn node(&self, name: &str) -> Option<String> {
        // In a shell there is a block node of that name.
        let is_there = Path::new("/dev/mapper").join(name).exists();
        let mount = &self.client.as_ref().filter(|_| !is_there)?.welcome.mount;
        Some(mount.join(name).to_string_lossy().into_owned())
    }

    fn udev_is_running(&self) -> bool {
        Path::new("/run/udev/control").exists()
    }

    fn base(&self) -> String {
        let dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
        dir.to_string_lossy().into_owned()
    }
}
