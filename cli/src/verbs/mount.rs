//! `mount` and `umount`.

use std::process::ExitCode;

use daemon::{Fault, Instance};

use crate::args::mount::{Mount, Umount};
use crate::client;
use crate::output::print;
use crate::terminal::Terminal;

pub(super) fn mount(instance: &Instance, options: Mount) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let dir = ops::mount::mount(&mut client, &options.ask(), &Terminal::watch()?)?;
    print(&format!("{}\n", dir.display()))
}

pub(super) fn umount(instance: &Instance, options: &Umount) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    ops::mount::unmount(&mut client, &options.word, &Terminal::watch()?)?;
    Ok(ExitCode::SUCCESS)
}
