//! The swarm with `target-word` among its targets: every third layer of its stacks is one.

use std::process::ExitCode;

use crate_name::TargetName;

fn main() -> ExitCode {
    swarm::main(targets::registry().with::<TargetName>())
}
