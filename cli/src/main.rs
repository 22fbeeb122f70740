//! The `dmsim` command with the target types that come with it.

fn main() -> std::process::ExitCode {
    dmsim_cli::main_with(targets::registry())
}
