//! `partitions`: the partition table of an image.

use std::process::ExitCode;

use daemon::{Fault, Instance};
use ops::DeviceMapper;
use ops::partitions::{locate, read};

use crate::args::partitions::Partitions;
use crate::client;
use crate::output::{complain, print};
use crate::show::print_json;

/// The exit status where there is no table, as `open` has it where there is no container.
const NONE: u8 = 4;

/// Prints the partition table of a file, of an attached image or of a mapped device.
pub(super) fn run(
    instance: impl FnOnce() -> Result<Instance, Fault>,
    options: &Partitions,
) -> Result<ExitCode, Fault> {
    // A file needs no instance, and none is started. Where one runs, it knows the names.
    let mut client = instance().ok().and_then(|instance| client::find(&instance).ok().flatten());
    let dm = client.as_mut().map(|client| client as &mut dyn DeviceMapper);
    let path = locate(dm, &options.image)?;
    let Some(table) = read(&path, options.sector_size)? else {
        return Err(Fault::new(path.display(), "no partition table found").with_status(NONE));
    };
    for warning in &table.warnings {
        complain!("dmsim: warning: {warning}");
    }
    match options.json {
        true => print_json(&table),
        false => print(&table.to_string()),
    }
}
