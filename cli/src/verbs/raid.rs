//! The verbs on RAID sets.

use std::process::ExitCode;

use daemon::fault::USAGE;
use daemon::{Fault, Instance};
use ops::raid;

use super::ended;
use super::restore::warn_of_record;
use crate::args::raid::{Assemble, Elsewhere, Raid, What};
use crate::client;
use crate::output::{complain, print};
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
            let Assemble { images, name, force, journal, volume, serials } = typed;
            let ask = raid::Assemble {
                images,
                name,
                force,
                journal,
                volume,
                serials,
                ..raid::Assemble::default()
            };
            let set = raid::assemble(&mut client, &ask, &Terminal::watch()?)?;
            warn_of_record(&mut client, &ask.name, &ask.images)?;
            let told: String = set.told.iter().map(|line| format!("{line}\n")).collect();
            print(&format!("{told}{}\n", set.file.display()))
        }
        What::Status(options) => {
            let set = raid::status(&mut client::connect(instance)?, &options.name)?;
            match options.json {
                true => print_json(&set),
                false => print(&show::raid(&set)),
            }
        }
        What::Check(typed) => {
            let mut client = client::connect(instance)?;
            let found = raid::check(&mut client, &typed.name, !typed.no_wait, &Terminal::watch()?)?;
            checked(found, typed.json)
        }
        What::Repair(typed) => {
            let mut client = client::connect(instance)?;
            let (from, waits) = (typed.from.map(Into::into), !typed.no_wait);
            let watch = Terminal::watch()?;
            checked(raid::repair(&mut client, &typed.name, from, waits, &watch)?, typed.json)
        }
        What::Replace(typed) => {
            let mut client = client::connect(instance)?;
            let (force, waits) = (typed.force, !typed.no_wait);
            let (name, leg, image) = (typed.name, typed.leg, typed.image);
            let ask = raid::Replace { name, leg, image, force, waits };
            ended(raid::replace(&mut client, &ask, &Terminal::watch()?))
        }
        What::Grow(typed) => {
            let mut client = client::connect(instance)?;
            let (force, waits) = (typed.force, !typed.no_wait);
            let ask = raid::Grow { name: typed.name, images: typed.images, force, waits };
            let grown = raid::grow(&mut client, &ask, &Terminal::watch()?)?;
            print(&show::grown(&grown, waits))
        }
        What::Fail(typed) => Err(elsewhere("fail", "fail", typed)),
        What::Heal(typed) => Err(elsewhere("heal", "heal", typed)),
        What::Wait(typed) => Err(elsewhere("wait", "wait --sync", typed)),
        What::Remove { name } => {
            let left = raid::remove(&mut client::connect(instance)?, &name)?;
            if !left.is_empty() {
                let left: Vec<String> =
                    left.iter().map(|image| image.display().to_string()).collect();
                let left = left.join(", ");
                complain!(
                    "dmsim: {name}: its images stay attached: {left}: `dmsim detach IMAGE` lets one go"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says where the verb is that somebody has looked for among those of `raid`.
fn elsewhere(typed: &str, verb: &str, rest: Elsewhere) -> Fault {
    let words = [verb.to_owned()].into_iter().chain(rest.words).collect::<Vec<_>>().join(" ");
    let why = format!("is no verb of `raid`, but one of its own: `dmsim {words}`");
    Fault::new(format!("raid {typed}"), why).with_status(USAGE)
}

/// Tells what was found, where somebody has waited for it.
fn checked(found: Option<raid::Checked>, json: bool) -> Result<ExitCode, Fault> {
    let Some(found) = found else { return Ok(ExitCode::SUCCESS) };
    match json {
        true => print_json(&found)?,
        false => print(&show::checked(&found))?,
    };
    let differs = found.differing > 0 && !found.repaired;
    if differs && !json {
        complain!("dmsim: {}", show::repairs(&found));
    }
    Ok(if differs || !found.compared { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
