//! The `dmsim` command with `target-word` among its targets.

use std::process::ExitCode;

use crate_name::TargetName;

fn main() -> ExitCode {
    dmsim_cli::main_with(targets::registry().with::<TargetName>())
}
