//! The client's end of the socket.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sim_core::control::{Answer, Command, Failure};

use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::protocol::{
    Hello, Outcome, Reply, Request, VERSION, Welcome, read_message, write_message,
};

/// How long a daemon may take from its lock to its socket, and from its last answer to its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to an instance's daemon.
pub struct Client {
    stream: UnixStream,
    /// The folder of the instance.
    dir: PathBuf,
    /// What the daemon said of itself.
    pub welcome: Welcome,
    warn: fn(&str),
    quiet: bool,
}

impl Client {
    /// Returns the instance as its daemon has it: another environment may have told that where to
    /// keep what survives a reboot.
    pub fn served(&self, instance: &Instance) -> Instance {
        instance.with_state(&self.welcome.state)
    }

    /// Connects to the daemon of an instance; a fault that says how to start one where none runs.
    pub fn connect(instance: &Instance) -> Result<Client, Fault> {
        Client::find(instance)?.ok_or_else(|| no_daemon(instance))
    }

    /// Connects to the daemon of an instance; nothing where none runs.
    pub fn find(instance: &Instance) -> Result<Option<Client>, Fault> {
        let deadline = Instant::now() + PATIENCE;
        let about = instance.socket();
        loop {
            let error = match instance.connect() {
                Ok(stream) => match Client::greet(stream, instance.dir()) {
                    Ok(client) => return client.about(about.display()).map(Some),
                    // It ended between taking the connection and answering.
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let kind = error.kind();
            let absent = [
                io::ErrorKind::NotFound,
                io::ErrorKind::NotADirectory,
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::ConnectionReset,
                io::ErrorKind::BrokenPipe,
                io::ErrorKind::UnexpectedEof,
            ];
            if !absent.contains(&kind) || Instant::now() > deadline {
                return Err(Fault::new(about.display(), error));
            }
            if instance.holder().is_none() {
                return Ok(None);
            }
            // It holds the lock, and has no socket: it starts, or ends, and tells nobody when.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Says hello. The outer error is that of the connection, the inner one the daemon's.
    fn greet(mut stream: UnixStream, dir: &Path) -> io::Result<Result<Client, String>> {
        write_message(&mut stream, &Hello { version: VERSION })?;
        let welcome: Welcome =
            read_message(&mut stream)?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if welcome.version != VERSION {
            return Ok(Err(format!(
                "the daemon (pid {}) speaks version {} of the protocol, this program version {VERSION}: end it by `kill {0}`",
                welcome.pid, welcome.version
            )));
        }
        let (dir, warn) = (dir.to_owned(), |text: &str| tracing::warn!("{text}"));
        Ok(Ok(Client { stream, dir, welcome, warn, quiet: false }))
    }

    /// Takes the turn of commands of this instance that are not to run beside one another, until the file is
    /// dropped, or the process ends; nothing where another one has it.
    pub fn turn(&self) -> Result<Option<File>, Fault> {
        let dir = File::open(&self.dir).about(self.dir.display())?;
        match dir.try_lock() {
            Ok(()) => Ok(Some(dir)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::new(self.dir.display(), error)),
        }
    }

    /// Says who is told where a change was made and could not be recorded, or a stop had trouble;
    /// without it, the log is.
    #[must_use]
    pub fn warn_with(self, warn: fn(&str)) -> Client {
        Client { warn, ..self }
    }

    /// Leaves out what is only [advised](Client::advise).
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Client {
        Client { quiet, ..self }
    }

    /// Tells whoever is warned what was done as asked, and may not have been meant.
    pub fn advise(&self, what: &str) {
        if !self.quiet {
            (self.warn)(&format!("warning: {what}"));
        }
    }

    /// Sends a request, and waits for its outcome.
    pub fn ask(&mut self, request: &Request) -> Result<Outcome, Fault> {
        let what = format!("daemon (pid {})", self.welcome.pid);
        write_message(&mut self.stream, request).about(&what)?;
        let reply: Option<Reply> = read_message(&mut self.stream).about(&what)?;
        let reply = reply.ok_or_else(|| Fault::new(what, "ended the connection"))?;
        if let Some(warning) = reply.warning {
            (self.warn)(&warning);
        }
        Ok(reply.outcome)
    }

    /// Carries out one operation of the control plane.
    pub fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        match self.ask(&Request::Control(command))? {
            Outcome::Control(result) => Ok(result),
            other => Err(unexpected(other)),
        }
    }

    /// Asks for something that has no answer but that it is done.
    pub fn done(&mut self, request: &Request) -> Result<(), Fault> {
        match self.ask(request)? {
            Outcome::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until the daemon's process has ended: until then, it may hold images.
    pub fn wait_for_end(self) -> Result<(), Fault> {
        let pid = i32::try_from(self.welcome.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(process)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            // It is gone already, or out of sight.
            return Ok(());
        };
        drop(self.stream);
        let patience = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut ended, Some(&patience)) {
            Ok(0) => Err(Fault::new("stop", format!("pid {} does not end", self.welcome.pid))),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new("stop", error)),
        }
    }
}

/// Says that no daemon runs, and what to do about it.
pub fn no_daemon(instance: &Instance) -> Fault {
    let restores = match instance.has_record() {
        true => "`dmsim restore` starts one and brings back what is on record, ",
        false => "",
    };
    let why = format!(
        "no daemon runs here: {restores}`dmsim start`, `attach`, `create` and `shell` start one"
    );
    Fault::new(instance.dir().display(), why)
}

/// Makes a fault of an outcome that is none of a request's.
pub fn unexpected(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Failed(why) => {
            let (what, why) = why.split_once(": ").unwrap_or(("daemon", &why));
            Fault::new(what, why)
        }
        other => Fault::new("daemon", format!("unexpected answer {other:?}")),
    }
}
