//! Writes to standard output.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use daemon::Fault;

/// Writes a text. A reader that has read enough is no fault.
pub(crate) fn print(text: &str) -> Result<ExitCode, Fault> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::new("standard output", error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Returns how many columns the terminal has that standard output is; nothing where it is none.
pub(crate) fn columns() -> Option<u16> {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| size.ws_col)
}
