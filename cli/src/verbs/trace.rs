//! `trace`: the bios of a device, as they pass.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use daemon::client::unexpected;
use daemon::protocol::{Outcome, Request};
use daemon::{About, Client, Fault, Instance};
use ops::{Watch, see};
use sim_core::TracedPage;

use super::events::DAEMON_ENDED;
use crate::args::see::TraceArgs;
use crate::client;
use crate::output::complain;
use crate::show::{TraceSum, trace_json, trace_line};
use crate::terminal::Terminal;

/// How often it is looked whether a signal has come.
const PERIOD: Duration = Duration::from_millis(50);

/// Why a trace ends.
enum Over {
    /// As it was asked to.
    AsAsked,
    /// The device is gone.
    Removed,
    DaemonEnded,
}

pub(super) fn run(instance: &Instance, options: &TraceArgs) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let id = see::in_use(&mut client, &options.name)?;
    let watch = Terminal::watch()?;
    client.done(&Request::Trace { id, deep: options.deep })?;
    if !options.quiet {
        complain!("dmsim: {}: traced from now on", options.name);
    }
    let pid = client.welcome.pid;
    let begin = Instant::now();
    let (pages, inbox) = sync_channel(1);
    // It waits for the daemon, while the time may be up; the process ends with it under way.
    std::thread::spawn(move || {
        loop {
            let page = ask(&mut client);
            let is_last = page.as_ref().map_or(true, |page| page.is_over);
            if pages.send(page).is_err() || is_last {
                return;
            }
        }
    });
    let mut printing =
        Printing { options, pid, count: 0, seq: 0, told: 0, sum: TraceSum::default() };
    let over = loop {
        let left = options.long.map(|long| long.saturating_sub(begin.elapsed()));
        if watch.is_interrupted() || left.is_some_and(|left| left.is_zero()) {
            break Over::AsAsked;
        }
        match inbox.recv_timeout(left.map_or(PERIOD, |left| left.min(PERIOD))) {
            Ok(Ok(page)) => {
                if printing.print(&page)? {
                    break Over::AsAsked;
                }
                if page.is_over {
                    break Over::Removed;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => break Over::DaemonEnded,
        }
    };
    // Those after the last line have no line that tells of them.
    printing.tell_dropped(printing.sum.dropped.saturating_sub(printing.told));
    if !options.quiet {
        complain!("{}", printing.sum.text().trim_end());
    }
    match over {
        Over::AsAsked => Ok(ExitCode::SUCCESS),
        Over::Removed => Err(Fault::new(&options.name, "was removed while it was traced")),
        Over::DaemonEnded => {
            let why = format!("the daemon (pid {pid}) has ended");
            Err(Fault::new("trace", why).with_status(DAEMON_ENDED))
        }
    }
}

fn ask(client: &mut Client) -> Result<TracedPage, Fault> {
    match client.ask(&Request::Traced)? {
        Outcome::Traced(page) => Ok(page),
        other => Err(unexpected(other)),
    }
}

struct Printing<'a> {
    options: &'a TraceArgs,
    /// The daemon's process.
    pid: u32,
    /// Lines that are printed.
    count: u64,
    /// The number of the last step.
    seq: u64,
    /// Steps that are told to be left out.
    told: u64,
    sum: TraceSum,
}

impl Printing<'_> {
    fn tell_dropped(&mut self, dropped: u64) {
        if dropped > 0 {
            self.told += dropped;
            complain!("dmsim: trace: {dropped} steps were not read in time, and are left out");
        }
    }

    /// Prints a page; tells whether that was all.
    fn print(&mut self, page: &TracedPage) -> Result<bool, Fault> {
        self.sum.dropped = page.dropped;
        let mut text = String::new();
        let left = self.options.count.map_or(u64::MAX, |count| count - self.count);
        let steps = page.steps.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
        for step in steps {
            self.sum.add(step);
            self.count += 1;
            let dropped = step.seq - self.seq - 1;
            self.seq = step.seq;
            self.tell_dropped(dropped);
            text += &match self.options.json {
                true => trace_json(step, dropped).to_string(),
                false => trace_line(step, self.pid),
            };
            text.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // Who reads has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
            written => written.about("standard output")?,
        }
        Ok(self.options.count == Some(self.count))
    }
}
