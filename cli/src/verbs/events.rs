//! `events`: what happens to devices, as it happens.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Instant;

use daemon::client::unexpected;
use daemon::protocol::{Outcome, Request};
use daemon::{About, Client, Fault, Instance, mangle};
use recognise::shown_line;
use serde_json::{Value, json};
use sim_core::control::{Happened, Happenings, What};

use crate::args::events::Events;
use crate::client;
use crate::output::complain;

/// The exit status where the daemon has ended.
pub(crate) const DAEMON_ENDED: u8 = 3;

pub(super) fn run(instance: &Instance, options: &Events) -> Result<ExitCode, Fault> {
    let begin = Instant::now();
    let mut client = client::connect(instance)?;
    let ended = format!("the daemon (pid {}) has ended", client.welcome.pid);
    let mut after = match options.past {
        true => 0,
        false => ask(&mut client, None)?.last,
    };
    let (pages, inbox) = sync_channel(1);
    // It waits for the daemon, while the time may be up; the process ends with it under way.
    std::thread::spawn(move || {
        loop {
            let page = ask(&mut client, Some(after));
            after = page.as_ref().map_or(after, |page| page.last);
            let is_last = page.is_err();
            if pages.send(page).is_err() || is_last {
                return;
            }
        }
    });
    let mut printing = Printing { options, count: 0, missed: 0 };
    loop {
        let page = match options.timeout {
            None => inbox.recv().map_err(RecvTimeoutError::from),
            Some(timeout) => inbox.recv_timeout(timeout.saturating_sub(begin.elapsed())),
        };
        match page {
            Ok(Ok(page)) => {
                if printing.print(&page)? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::new("events", ended).with_status(DAEMON_ENDED));
            }
            Err(RecvTimeoutError::Timeout) => return Ok(printing.timed_out()),
        }
    }
}

fn ask(client: &mut Client, after: Option<u64>) -> Result<Happenings, Fault> {
    match client.ask(&Request::Happened(after))? {
        Outcome::Happened(happenings) => Ok(happenings),
        other => Err(unexpected(other)),
    }
}

struct Printing<'a> {
    options: &'a Events,
    /// Lines that are printed.
    count: u64,
    /// What came before the next line, and is not to be had any more.
    missed: u64,
}

impl Printing<'_> {
    /// Prints what is wanted of a page; tells whether that was all.
    fn print(&mut self, page: &Happenings) -> Result<bool, Fault> {
        self.missed += page.missed;
        let mut stdout = std::io::stdout().lock();
        if page.missed > 0 && !self.options.json {
            complain!("dmsim: events: {} are missed: they were not read in time", page.missed);
        }
        for happened in &page.happened {
            if !self.is_wanted(happened) {
                continue;
            }
            let line = match self.options.json {
                true => as_json(happened, std::mem::take(&mut self.missed)).to_string(),
                false => shown_line(&as_text(happened)).to_string(),
            };
            match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
                // Who reads has read enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
                written => written.about("standard output")?,
            }
            self.count += 1;
            if self.options.count == Some(self.count) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_wanted(&self, happened: &Happened) -> bool {
        let names = &self.options.names;
        let is = |name: &str| names.iter().any(|own| own == name || *own == mangle::decode(name));
        let was = match &happened.what {
            What::Renamed { from } => is(from),
            _ => false,
        };
        names.is_empty() || was || is(&happened.name)
    }

    fn timed_out(&self) -> ExitCode {
        let Some(count) = self.options.count else { return ExitCode::SUCCESS };
        complain!("dmsim: events: the time is up after {} of {count}", self.count);
        ExitCode::FAILURE
    }
}

fn word(what: &What) -> &'static str {
    match what {
        What::Created => "created",
        What::Removed => "removed",
        What::Renamed { .. } => "renamed",
        What::UuidSet => "uuid_set",
        What::TableLoaded => "table_loaded",
        What::TableCleared => "table_cleared",
        What::Suspended => "suspended",
        What::Resumed { .. } => "resumed",
        What::Event => "event",
    }
}

fn as_text(happened: &Happened) -> String {
    let Happened { seq, what, name, dev, event_nr, .. } = happened;
    let more = match what {
        What::Renamed { from } => format!(" from {}", mangle::decode(from)),
        What::Resumed { new_table: true } => " with a new table".to_owned(),
        What::Event => format!(" {event_nr}"),
        _ => String::new(),
    };
    format!("{seq} {dev} {}: {}{more}", mangle::decode(name), word(what))
}

fn as_json(happened: &Happened, missed: u64) -> Value {
    let Happened { seq, what, name, uuid, dev, event_nr } = happened;
    let old_name = match what {
        What::Renamed { from } => Some(mangle::decode(from)),
        _ => None,
    };
    let new_table = match what {
        What::Resumed { new_table } => Some(*new_table),
        _ => None,
    };
    json!({
        "seq": seq,
        "event": word(what),
        "name": mangle::decode(name),
        "uuid": uuid.as_deref().map(mangle::decode),
        "major": dev.major,
        "minor": dev.minor,
        "event_nr": event_nr,
        "old_name": old_name,
        "new_table": new_table,
        "missed_count": missed,
    })
}
