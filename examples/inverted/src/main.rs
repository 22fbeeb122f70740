//! The `dmsim` command with one target more.

use std::process::ExitCode;

fn main() -> ExitCode {
    dmsim_cli::main_with(targets::registry().with::<inverted::Inverted>())
}
