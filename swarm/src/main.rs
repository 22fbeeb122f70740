//! `dmsim-swarm`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    swarm::main(targets::registry())
}
