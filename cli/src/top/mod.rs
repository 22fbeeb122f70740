//! `top`: what all devices are doing, as it changes.

mod plain;
mod sample;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use daemon::client::unexpected;
use daemon::protocol::{Gauges, Outcome, Request};
use daemon::{About, Client, Fault, Instance};
use ops::Watch;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use view::Sort;

use crate::args::see::TopArgs;
use crate::client;
use crate::output::{print, print_as_it_is};
use crate::terminal::Terminal;
use crate::verbs::DAEMON_ENDED;
use sample::Sample;
use screen::Colours;
use view::{Key, View};

/// How often it is looked whether a signal has come.
const PERIOD: Duration = Duration::from_millis(50);

/// What is said of a daemon that takes longer.
const NO_ANSWER: &str = "the daemon does not answer";
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at all devices.
pub(crate) fn run(instance: &Instance, options: &TopArgs) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    // The second signal must not end the process with the terminal as it is.
    let watch = Terminal::watch_to_the_end()?;
    let is_shown = io::stdout().is_terminal() && io::stdin().is_terminal();
    if options.json || options.once || options.count.is_some() || !is_shown {
        return plain(&mut client, options, &watch);
    }
    show(client, options, &watch)
}

/// Prints tables or JSON, one an interval.
fn plain(client: &mut Client, options: &TopArgs, watch: &Terminal) -> Result<ExitCode, Fault> {
    let mut before = ask(client)?;
    let mut view = View::new(options.sort);
    for nr in 0..options.count.unwrap_or(1) {
        let begun = Instant::now();
        while begun.elapsed() < options.interval {
            if watch.is_interrupted() {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(PERIOD.min(options.interval.saturating_sub(begun.elapsed())));
        }
        let now = ask(client)?;
        let sample = Sample::between(Some(&before), &now);
        before = now;
        if options.json {
            print_as_it_is(&format!("{}\n", plain::as_json(&sample)))?;
            continue;
        }
        view.take(sample);
        let table = plain::table(&view);
        print(&if nr == 0 { table } else { format!("\n{table}") })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(client: &mut Client) -> Result<Gauges, Fault> {
    match client.ask(&Request::Gauges)? {
        Outcome::Gauges(gauges) => Ok(gauges),
        other => Err(unexpected(other)),
    }
}

/// What comes while it is shown.
enum News {
    Answer(Result<Gauges, Fault>),
    Event(io::Result<Event>),
}

/// Asks the daemon, and reads the terminal, beside the screen. A daemon that does not answer leaves the keys
/// alive; and where the terminal is gone, whoever reads it may not come back.
struct Asking {
    questions: SyncSender<()>,
    news: Receiver<News>,
    asked: Option<Instant>,
}

impl Asking {
    fn begin(mut client: Client) -> Asking {
        let (questions, asked) = sync_channel(1);
        let (tell, news) = channel();
        let answer = tell.clone();
        std::thread::spawn(move || {
            while let Ok(()) = asked.recv() {
                if answer.send(News::Answer(ask(&mut client))).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            loop {
                let event = event::read();
                let is_last = event.is_err();
                if tell.send(News::Event(event)).is_err() || is_last {
                    return;
                }
            }
        });
        Asking { questions, news, asked: None }
    }

    /// Asks, unless an answer is awaited.
    fn ask(&mut self) {
        if self.asked.is_none() && self.questions.try_send(()).is_ok() {
            self.asked = Some(Instant::now());
        }
    }
}

/// Tells whether the terminal is gone: its window was closed, or the connection to it has ended.
fn is_hung_up() -> bool {
    let stdin = io::stdin();
    let mut looked_at = [PollFd::new(&stdin, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let found = poll(&mut looked_at, Some(&now));
    found.is_ok() && looked_at[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Puts the terminal back, whatever happens.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // One that is gone has nothing to be put back, and nobody to be told.
        let _best_effort = ratatui::try_restore();
    }
}

fn show(client: Client, options: &TopArgs, watch: &Terminal) -> Result<ExitCode, Fault> {
    let pid = client.welcome.pid;
    let asking = Asking::begin(client);
    // A panic puts the terminal back before it is told.
    let mut terminal = ratatui::try_init().about("terminal")?;
    let restore = Restore;
    let shown = follow(&mut terminal, asking, options, watch);
    drop(restore);
    match shown? {
        None => Ok(ExitCode::SUCCESS),
        Some(fault) => {
            let why = format!("the daemon (pid {pid}) has ended, or cannot be asked: {fault}");
            Err(Fault::new("top", why).with_status(DAEMON_ENDED))
        }
    }
}

/// Shows what devices do, until it is told to end; returns why the daemon cannot be asked, where it cannot.
fn follow(
    terminal: &mut DefaultTerminal,
    mut asking: Asking,
    options: &TopArgs,
    watch: &Terminal,
) -> Result<Option<Fault>, Fault> {
    let colours = match std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        true => Colours::No,
        false => Colours::Yes,
    };
    let (mut view, mut before) = (View::new(options.sort), None::<Gauges>);
    let mut due = Instant::now();
    loop {
        if due <= Instant::now() {
            asking.ask();
            // The first comparison comes soon.
            let interval = if before.is_none() {
                options.interval.min(PATIENCE / 10)
            } else {
                options.interval
            };
            due = Instant::now() + interval;
        }
        if watch.is_interrupted() || is_hung_up() {
            return Ok(None);
        }
        terminal.draw(|frame| screen::draw(frame, &view, colours)).about("terminal")?;
        let patience = PERIOD.min(due.saturating_duration_since(Instant::now()));
        match asking.news.recv_timeout(patience) {
            Ok(News::Answer(Ok(now))) => {
                asking.asked = None;
                view.notice.take_if(|notice| notice == NO_ANSWER);
                view.take(Sample::between(before.as_ref(), &now));
                before = Some(now);
            }
            Ok(News::Answer(Err(fault))) => return Ok(Some(fault)),
            Ok(News::Event(event)) => match key(&event.about("terminal")?) {
                Some(Pressed::End) => return Ok(None),
                Some(Pressed::Key(key)) if !view.press(key) => return Ok(None),
                Some(Pressed::Key(_)) | None => {}
            },
            Err(RecvTimeoutError::Timeout) => {
                if asking.asked.is_some_and(|asked| asked.elapsed() > PATIENCE) {
                    view.notice = Some(NO_ANSWER.to_owned());
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Some(Fault::new("daemon", "is not asked any more")));
            }
        }
    }
}

enum Pressed {
    End,
    Key(Key),
}

fn key(event: &Event) -> Option<Pressed> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
        return None;
    };
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Pressed::End,
        KeyCode::Up | KeyCode::Char('k') => Pressed::Key(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Pressed::Key(Key::Down),
        KeyCode::Enter | KeyCode::Right => Pressed::Key(Key::In),
        KeyCode::Backspace | KeyCode::Esc | KeyCode::Left => Pressed::Key(Key::Out),
        KeyCode::Char(letter) => Pressed::Key(Key::Letter(*letter)),
        _ => return None,
    })
}
