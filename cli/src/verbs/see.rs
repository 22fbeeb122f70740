//! The verbs that show what goes on in a stack.

use std::process::ExitCode;

use daemon::{Fault, Instance};
use ops::see;

use crate::args::see::{GraphArgs, HeatArgs, Where};
use crate::client;
use crate::output::{print, print_as_it_is};
use crate::show::{self, print_json};
use crate::terminal::Terminal;

/// Draws the stack.
pub(super) fn graph(instance: &Instance, options: &GraphArgs) -> Result<ExitCode, Fault> {
    let stack = ops::stack(&mut client::connect(instance)?)?;
    let graph = show::Graph::new(&stack);
    print_as_it_is(&if options.svg { show::svg(&graph) } else { show::dot(&graph) })
}

/// Shows what is read and written where.
pub(super) fn heat(instance: &Instance, options: &HeatArgs) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let watch = Terminal::watch_to_the_end()?;
    let heat = see::heat(&mut client, &options.name, options.areas, options.long, &watch)?;
    match (options.json, options.svg) {
        (true, _) => print_json(&heat),
        (false, true) => print_as_it_is(&show::heat_svg(&heat)),
        (false, false) => print(&show::heat(&heat)),
    }
}

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
