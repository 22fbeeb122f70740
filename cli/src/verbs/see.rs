//! The verbs that show what goes on in a stack.

use std::process::ExitCode;

use daemon::{Fault, Instance};
use ops::see;

use crate::args::see::Where;
use crate::client;
use crate::output::print;
use crate::show::{self, print_json};

/// Tells where a sector lies, or what lies there.
pub(super) fn places(instance: &Instance, options: &Where) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let place = match options.image {
        true => see::shown(&mut client, &options.name, options.sector)?,
        false => see::located(&mut client, &options.name, options.sector)?,
    };
    match options.json {
        true => print_json(&place),
        false => print(&show::places(&place, show::Branches::of_locale())),
    }
}
