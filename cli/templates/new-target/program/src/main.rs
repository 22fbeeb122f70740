//! The `dmsim` command with `target-word` among its targets.

use std::process::ExitCode;

use sim_core::Registry;

use crate_name::TargetName;

fn main() -> ExitCode {
    dmsim_cli::main_with(registry())
}

/// The target types of this program: add yours here.
fn registry() -> Registry {
    targets::registry().with::<TargetName>()
}
