//! `dmsim test-plugin FILE --table TABLE`: the conformance suite on target types of a library.
//!
//! Each part runs in a process of its own, as a library's code may end the one that it is in: then
//! the parts after it are run all the same, and which one it was is told.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use daemon::launch::this_program;
use daemon::{About, Fault};
use sim_core::Registry;
use testkit::conformance::{FailedCase, Part, Suite};

use crate::args::TestPlugin;
use crate::output::print;

/// How many cases of a part are run. Each callback costs a thread: a case takes longer than that of
/// a target in Rust.
const CASES: u64 = 20;

/// Runs the parts.
pub(crate) fn run(ask: &TestPlugin, registry: Registry) -> Result<ExitCode, Fault> {
    let about = || format!("test-plugin {}", ask.file.display());
    let known = |name: &String| {
        let found = Part::ALL.into_iter().find(|part| part.name() == name);
        let names: Vec<&str> = Part::ALL.iter().map(|part| part.name()).collect();
        let expected = names.join(", ");
        found.ok_or_else(|| format!("expected a part ({expected}), found `{name}`"))
    };
    let except = ask.except.iter().map(known).collect::<Result<Vec<Part>, _>>().about(about())?;
    let asked = ask.part.as_ref().map(known).transpose().about(about())?;
    if let (Some(part), true) = (asked, ask.here) {
        return here(ask, part, &except, registry);
    }
    let parts = Part::ALL.into_iter().filter(|part| asked.is_none_or(|asked| asked == *part));
    let (mut failed, mut count) = (Vec::new(), 0);
    for part in parts.filter(|part| !except.contains(part)) {
        count += 1;
        if !apart(ask, part)? {
            failed.push(part.name());
        }
    }
    if failed.is_empty() {
        let hold =
            if count == 1 { "1 part holds".to_owned() } else { format!("{count} parts hold") };
        return print(&format!("{hold}\n"));
    }
    print(&format!("of {count} parts, {} failed: {}\n", failed.len(), failed.join(", ")))?;
    Ok(ExitCode::FAILURE)
}

/// Runs a part in a process of its own, and tells whether it holds.
fn apart(ask: &TestPlugin, part: Part) -> Result<bool, Fault> {
    let mut command = Command::new(this_program());
    command.arg0("dmsim").arg("test-plugin").arg(&ask.file).args(["--table", &ask.table]);
    command.args(["--part", part.name(), "--here"]);
    command.args(ask.except.iter().flat_map(|part| ["--except", part]));
    for (name, number) in [("--seed", ask.seed), ("--search", ask.search)] {
        command.args(number.iter().flat_map(|number| [name.to_owned(), number.to_string()]));
    }
    let status = command.status().about("test-plugin")?;
    if let Some(signal) = status.signal() {
        let library = ask.file.display();
        print(&format!("{}: {library} has ended the process by signal {signal}\n", part.name()))?;
    }
    Ok(status.success())
}

/// Runs a part in this process.
fn here(
    ask: &TestPlugin,
    part: Part,
    except: &[Part],
    mut registry: Registry,
) -> Result<ExitCode, Fault> {
    sdk::load_in_turn(&ask.file, &mut registry).map_err(|error| Fault::new("plugin", error))?;
    let suite = except.iter().fold(Suite::new(registry, &ask.table), |suite, part| {
        suite.except(part.name(), "left out on the command line")
    });
    let started = Instant::now();
    let (from, most) = match (ask.seed, ask.search) {
        (Some(seed), _) => (seed, 1),
        (None, Some(_)) => (0, u64::MAX),
        (None, None) => (0, CASES),
    };
    let until = started + Duration::from_secs(ask.search.unwrap_or(u64::from(u32::MAX)));
    let mut count = 0;
    while count < most && (count == 0 || Instant::now() < until) {
        let seed = from + count;
        count += 1;
        if let Some(FailedCase { why, .. }) = suite.find(part, seed..seed + 1) {
            let (file, table, name) = (ask.file.display(), &ask.table, part.name());
            let except: String = except.iter().map(|p| format!(" --except {}", p.name())).collect();
            print(&format!(
                "{name}: {why}\nafter {count} cases in {:.1?}; to repeat:\ndmsim test-plugin {file} \
                 --table '{table}'{except} --part {name} --seed {seed}\n",
                started.elapsed()
            ))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    print(&format!("{}: {count} cases in {:.1?}\n", part.name(), started.elapsed()))
}
