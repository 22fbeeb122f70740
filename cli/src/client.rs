//! The daemon as commands reach it: warnings go to standard error, and where none runs that a command
//! needs, it is started.

use daemon::instance::is_in_memory;
use daemon::launch::{Failed, launch, this_program};
use daemon::{Client, Fault, Instance, Options};

use crate::output::complain;

/// Set in a shell: the instance's directory.
pub(crate) const SHELL: &str = "DMSIM_SHELL";

/// Refuses what makes mounts, in a shell: nobody outside would see them.
///
/// # Errors
/// In a shell.
pub(crate) fn refuse_inside() -> Result<(), Fault> {
    match std::env::var_os(SHELL) {
        None => Ok(()),
        Some(_) => {
            let why = "a daemon that is started in `dmsim shell` would mount where nobody outside sees it: \
                       start it outside";
            Err(Fault::new("start", why))
        }
    }
}

/// Connects to the daemon of an instance; a fault that says how to start one where none runs.
pub(crate) fn connect(instance: &Instance) -> Result<Client, Fault> {
    Client::connect(instance).map(told)
}

/// Connects to the daemon of an instance; nothing where none runs.
pub(crate) fn find(instance: &Instance) -> Result<Option<Client>, Fault> {
    Ok(Client::find(instance)?.map(told))
}

/// Connects to the daemon of an instance, and starts it where none runs; what `start` would say of
/// where its record lies is said then.
pub(crate) fn connect_or_start(instance: &Instance) -> Result<Client, Fault> {
    let (client, is_new) = find_or_start(instance)?;
    if is_new {
        say_what_is_in_memory(&client.served(instance));
    }
    Ok(client)
}

/// As [`connect_or_start`], and says nothing. Tells whether it was started.
pub(crate) fn find_or_start(instance: &Instance) -> Result<(Client, bool), Fault> {
    find_or_start_with(instance, &Options::default())
}

/// As [`find_or_start`], with what the daemon is told where it is started.
pub(crate) fn find_or_start_with(
    instance: &Instance,
    options: &Options,
) -> Result<(Client, bool), Fault> {
    if let Some(client) = find(instance)? {
        return Ok((client, false));
    }
    refuse_inside()?;
    match launch(&this_program(), instance, options) {
        Ok(()) => Ok((connect(instance)?, true)),
        // Another command was faster: its daemon does as well.
        Err(Failed::AlreadyRuns(_)) => Ok((connect(instance)?, false)),
        Err(Failed::Fault(fault)) => Err(fault),
    }
}

/// Says what a reboot takes away.
pub(crate) fn say_what_is_in_memory(instance: &Instance) {
    let state = instance.state();
    if instance.is_in_memory() {
        complain!(
            "dmsim: {}: lies in memory: the record and the stores of snapshots in it do not survive \
             a reboot",
            state.display()
        );
        return;
    }
    let [_, old] = instance.cow_folders();
    let has_any = std::fs::read_dir(&old).is_ok_and(|mut entries| entries.next().is_some());
    if has_any && is_in_memory(&old) {
        complain!(
            "dmsim: {}: stores of snapshots that an earlier version took lie in memory, and do not \
             survive a reboot: `dmsim merge` or `dmsim drop` them before one",
            old.display()
        );
    }
}

fn told(client: Client) -> Client {
    client.warn_with(|warning| complain!("dmsim: {warning}"))
}
