//! The daemon as commands reach it: warnings go to standard error, and where none runs that a command
//! needs, it is started.

use daemon::launch::{Failed, launch, this_program};
use daemon::{Client, Fault, Instance, Options};

/// Connects to the daemon of an instance; a fault that says how to start one where none runs.
pub(crate) fn connect(instance: &Instance) -> Result<Client, Fault> {
    Client::connect(instance).map(told)
}

/// Connects to the daemon of an instance; nothing where none runs.
pub(crate) fn find(instance: &Instance) -> Result<Option<Client>, Fault> {
    Ok(Client::find(instance)?.map(told))
}

/// Connects to the daemon of an instance, and starts it where none runs.
pub(crate) fn connect_or_start(instance: &Instance) -> Result<Client, Fault> {
    if let Some(client) = find(instance)? {
        return Ok(client);
    }
    match launch(&this_program(), instance, &Options::default()) {
        // Another command was faster: its daemon does as well.
        Ok(()) | Err(Failed::AlreadyRuns(_)) => connect(instance),
        Err(Failed::Fault(fault)) => Err(fault),
    }
}

fn told(client: Client) -> Client {
    client.warn_with(|warning| eprintln!("dmsim: {warning}"))
}
