//! Writes to standard output.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use daemon::Fault;
use recognise::shown_text;

/// Says on standard error what is wrong, or odd, as `eprintln` does.
macro_rules! complain {
    ($($words:tt)*) => {
        $crate::output::say(&format!($($words)*))
    };
}
pub(crate) use complain;

/// Writes a line to standard error. What nobody can be told is no fault of what was done.
pub(crate) fn say(line: &str) {
    let _nobody_hears = writeln!(std::io::stderr(), "{}", shown_text(line));
}

/// Writes a text, of which a terminal obeys nothing. A reader that has read enough is no fault.
pub(crate) fn print(text: &str) -> Result<ExitCode, Fault> {
    print_as_it_is(&shown_text(text))
}

/// As [`print`], of what has nothing of that kind, or is for programs.
pub(crate) fn print_as_it_is(text: &str) -> Result<ExitCode, Fault> {
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
