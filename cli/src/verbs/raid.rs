//! The verbs on RAID sets.

use std::process::ExitCode;

use daemon::{Client, Fault, Instance};
use ops::raid;

use super::ended;
use crate::args::raid::{Raid, Scrub, What};
use crate::client;
use crate::output::print;
use crate::show::{self, print_json};
use crate::terminal::Terminal;

pub(super) fn run(instance: &Instance, options: Raid) -> Result<ExitCode, Fault> {
    match options.what {
        What::Create(new) => {
            let mut client = client::connect_or_start(instance)?;
            let file = raid::create(&mut client, &new.into(), &Terminal::watch()?)?;
            print(&format!("{}\n", file.display()))
        }
        What::Assemble(typed) => {
            let mut client = client::connect_or_start(instance)?;
            let ask = raid::Assemble { images: typed.images, name: typed.name };
            let file = raid::assemble(&mut client, &ask, &Terminal::watch()?)?;
            print(&format!("{}\n", file.display()))
        }
        What::Status(options) => {
            let set = raid::status(&mut client::connect(instance)?, &options.name)?;
            match options.json {
                true => print_json(&set),
                false => print(&show::raid(&set)),
            }
        }
        What::Check(options) => scrub(instance, &options, raid::check),
        What::Repair(options) => scrub(instance, &options, raid::repair),
        What::Replace(typed) => {
            let mut client = client::connect(instance)?;
            let (force, waits) = (typed.force, !typed.no_wait);
            let (name, leg, image) = (typed.name, typed.leg, typed.image);
            let ask = raid::Replace { name, leg, image, force, waits };
            ended(raid::replace(&mut client, &ask, &Terminal::watch()?))
        }
        What::Remove { name } => ended(raid::remove(&mut client::connect(instance)?, &name)),
    }
}

/// Compares, or repairs.
fn scrub(
    instance: &Instance,
    options: &Scrub,
    run: impl FnOnce(
        &mut dyn ops::DeviceMapper,
        &str,
        bool,
        &dyn ops::Watch,
    ) -> Result<Option<raid::Checked>, Fault>,
) -> Result<ExitCode, Fault> {
    let mut client: Client = client::connect(instance)?;
    let watch = Terminal::watch()?;
    let found = run(&mut client, &options.name, !options.no_wait, &watch)?;
    let Some(found) = found else { return Ok(ExitCode::SUCCESS) };
    print(&show::checked(&found))?;
    let differs = found.differing > 0 && !found.repaired;
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
