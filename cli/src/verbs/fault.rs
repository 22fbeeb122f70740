//! `fault`, `fail` and `heal`.

use std::process::ExitCode;

use daemon::fault::USAGE;
use daemon::{Fault, Instance};
use ops::{faults, mirror, multipath, raid};

use super::ended;
use crate::args::fault::FaultArgs;
use crate::args::mirror::{Fail, Heal};
use crate::client;
use crate::output::print;
use crate::show::{self, print_json};
use crate::terminal::Terminal;

/// Arms faults, or says which are armed.
pub(super) fn fault(instance: &Instance, options: &FaultArgs) -> Result<ExitCode, Fault> {
    // Before anything is asked of anybody: a file that is wrong changes nothing.
    let plan = match &options.plan {
        Some(file) => Some(faults::read(file)?),
        None => options.typed(),
    };
    let arms_only = options.seed.is_some() || options.below.is_some() || options.replace;
    if plan.is_none() && arms_only {
        let why = "expected a kind of fault, or --plan, with --seed, --below and --replace";
        return Err(Fault::new("fault", why).with_status(USAGE));
    }
    let mut client = client::connect(instance)?;
    let Some(mut plan) = plan else {
        let faulty = faults::list(&mut client, &options.name)?;
        return match options.json {
            true => print_json(&show::faults_json(&faulty)),
            false => print(&show::faults(&faulty, options.log)),
        };
    };
    plan.seed = options.seed.or(plan.seed);
    let below = options.below.as_deref();
    let faulty = faults::arm(&mut client, &options.name, below, plan, options.replace)?;
    match options.json {
        true => print_json(&show::faults_json(&faulty)),
        false => print(&show::armed(&faulty)),
    }
}

/// Makes a leg, a log or a path fail.
pub(super) fn fail(instance: &Instance, options: &Fail) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let fail = if raid::is_set(&mut client, &options.name)? {
        raid::fail
    } else if multipath::is_multipath(&mut client, &options.name)? {
        multipath::fail
    } else {
        mirror::fail
    };
    ended(fail(&mut client, &options.name, &options.leg, options.fails()))
}

/// Takes faults away, and brings what has failed up to date again.
pub(super) fn heal(instance: &Instance, options: &Heal) -> Result<ExitCode, Fault> {
    let (mut client, leg) = (client::connect(instance)?, options.leg.as_deref());
    let name = &options.name;
    let mut told = Vec::new();
    if leg.is_none()
        && let Some(line) = faults::heal_own(&mut client, name)?
    {
        // What comes may fail, and this is done.
        print(&format!("{line}\n"))?;
        told.push(line);
    }
    let shown = told.len();
    if multipath::is_multipath(&mut client, name)? {
        told.extend(multipath::heal(&mut client, name, leg)?);
    } else if raid::is_set(&mut client, name)? {
        let watch = Terminal::watch()?;
        told.extend(raid::heal(&mut client, name, leg, !options.no_wait, &watch)?);
    } else if mirror::is_mirror(&mut client, name)? {
        let watch = Terminal::watch()?;
        told.extend(mirror::heal(&mut client, name, leg, !options.no_wait, &watch)?);
    } else {
        told.extend(faults::heal_below(&mut client, name, leg)?);
        if told.is_empty() {
            told.push(format!("{name}: no faults are armed: there is nothing to heal"));
        }
    }
    print(&told[shown..].iter().map(|line| format!("{line}\n")).collect::<String>())
}
