//! Carries out requests.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::channel;

use backing::{AttachError, Attached, Cancel, block_on, block_on_or};
use sim_core::control::{Answer, Command, Failure, Happenings, Id, NewName};
use sim_core::{Errno, Tracing, panic_text};

use super::gauges::Gauging;
use super::settle::settle;
use super::state::{Daemon, Event};
use crate::above;
use crate::describe::describe;
use crate::fault::Fault;
use crate::loops::{Loops, holders_below};
use crate::mangle::decode;
use crate::protocol::{Gauges, Outcome, Reply, Request, User};
use crate::record::{Change, Keeper};

/// One client's requests.
pub(super) struct Session<'a> {
    daemon: &'a Daemon,
    hung_up: &'a Cancel,
    /// What is changed now is made durable later, all of it at once.
    batch: Option<Change<'a>>,
    /// It was told of a device before.
    told: bool,
    tracing: Option<Tracing>,
    gauging: Option<Gauging<'a>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(daemon: &'a Daemon, hung_up: &'a Cancel) -> Session<'a> {
        Session { daemon, hung_up, batch: None, told: false, tracing: None, gauging: None }
    }

    /// Carries out a request; gives it up where it waits and the client hangs up. A panic is an
    /// answer too: the fault of one request is no other's.
    pub(super) fn answer(&mut self, request: Request) -> Reply {
        let kind = match request {
            Request::Control(_) => Kind::Control,
            _ => Kind::Other,
        };
        guarded(kind, || self.perform(request))
    }

    fn perform(&mut self, request: Request) -> Reply {
        let (daemon, hung_up) = (self.daemon, self.hung_up);
        match request {
            Request::Control(command) if command.changes() => {
                self.change(|| Outcome::Control(daemon.control_for_client(command, hung_up)))
            }
            Request::Control(command) => {
                let tells =
                    matches!(command, Command::DevStatus { .. } | Command::TableStatus { .. });
                let mut done = daemon.control(command, hung_up);
                if let (true, Ok(answer)) = (tells, &mut done) {
                    // One that asks of many is told how it was a moment ago.
                    daemon.with_openers(answer, !std::mem::replace(&mut self.told, true));
                }
                reply(Outcome::Control(done))
            }
            Request::Attach(image) => self.change(|| match daemon.images.attach(&image) {
                Ok(attached) => Outcome::Attached(attached),
                Err(error) => failed("attach", error),
            }),
            Request::Detach { word, base } => self.change(|| match daemon.detach(&word, &base) {
                Ok(()) => Outcome::Done,
                Err(error) => daemon.not_detached(error),
            }),
            Request::Resize { word, base } => reply(match daemon.resize(&word, &base) {
                Ok(resized) => Outcome::Attached(resized),
                Err(error) => failed("resize", error),
            }),
            Request::Images => reply(Outcome::Images(daemon.images.list())),
            Request::Users => reply(Outcome::Users(daemon.users())),
            Request::Describe(id) => {
                let described = block_on_or(describe(&daemon.control, id), hung_up);
                reply(match described.unwrap_or(Err(Errno::INTR.into())) {
                    Ok(devices) => Outcome::Described(devices),
                    Err(failure) => failed("info", failure),
                })
            }
            Request::Happened(None) => {
                let last = daemon.control.happened();
                reply(Outcome::Happened(Happenings { last, ..Happenings::default() }))
            }
            Request::Happened(Some(seq)) => {
                let happened = block_on_or(daemon.control.happened_after(seq), hung_up);
                reply(match happened {
                    Some(happened) => Outcome::Happened(happened),
                    // Nobody reads it.
                    None => failed("events", Errno::INTR),
                })
            }
            Request::Trace { id, deep } => {
                // One that was under way is no longer wanted, and may be in the way.
                self.tracing = None;
                reply(match daemon.control.trace(&id, deep) {
                    Ok(tracing) => {
                        self.tracing = Some(tracing);
                        Outcome::Done
                    }
                    Err(failure) => failed("trace", failure),
                })
            }
            Request::Traced => {
                let Some(tracing) = &self.tracing else {
                    return reply(failed("trace", "nothing is traced on this connection"));
                };
                reply(match block_on_or(tracing.next(), hung_up) {
                    Some(page) => Outcome::Traced(page),
                    // Nobody reads it.
                    None => failed("trace", Errno::INTR),
                })
            }
            Request::Gauges => {
                let gauging = self.gauging.get_or_insert_with(|| Gauging::new(&daemon.control));
                let images = daemon.images.list().into_iter();
                let images =
                    images.map(|image| (image.number, image.name.unwrap_or(image.kernel_name)));
                let images = images.collect();
                reply(Outcome::Gauges(Gauges { images, ..gauging.read() }))
            }
            Request::Keyless => reply(match daemon.keyless() {
                Ok(keyless) => Outcome::Keyless(keyless),
                Err(fault) => Outcome::Failed(fault.to_string()),
            }),
            Request::Restore(filled) => self.change(|| match daemon.restore(&filled, hung_up) {
                Ok(restored) => {
                    daemon.show_restored();
                    Outcome::Restored(restored)
                }
                Err(fault) => Outcome::Failed(fault.to_string()),
            }),
            Request::Forget(names) => self.change(|| match daemon.forget(&names) {
                Ok(()) => Outcome::Done,
                Err(fault) => Outcome::Failed(fault.to_string()),
            }),
            Request::Private => reply(match daemon.private() {
                Ok(private) => Outcome::Private(private),
                Err(fault) => Outcome::Failed(fault.to_string()),
            }),
            Request::Batch => {
                self.batch.get_or_insert_with(|| daemon.keeper.change());
                reply(Outcome::Done)
            }
            Request::Commit => {
                // A change that changes nothing else.
                let batch = self.batch.take();
                let reply = self.change(|| Outcome::Done);
                drop(batch);
                reply
            }
            Request::Stop { force } => daemon.ask_to_stop(force),
        }
    }

    /// Makes a change and writes it down, before the client is told of it, unless more changes
    /// are to follow. What fails may have changed something too.
    fn change(&self, make: impl FnOnce() -> Outcome) -> Reply {
        let Daemon { keeper, control, .. } = self.daemon;
        let commit = || block_on(control.commit());
        let (outcome, warning) = recorded(keeper, self.batch.is_some(), commit, make);
        Reply { outcome, warning }
    }
}

/// Makes a change and has it written down by `commit`, unless it is one of a batch. Returns the warning
/// that it is not on record, where it is not.
pub(super) fn recorded<T>(
    keeper: &Keeper,
    is_of_batch: bool,
    commit: impl FnOnce() -> Result<(), String>,
    make: impl FnOnce() -> T,
) -> (T, Option<String>) {
    let _change = keeper.change();
    let made = make();
    let committed = match is_of_batch {
        true => {
            keeper.end_command();
            Ok(())
        }
        false => commit(),
    };
    let warning = committed.err();
    (made, warning.map(|why| format!("{why}: the change is made, and lost when the daemon ends")))
}

/// What an answer to a request looks like.
#[derive(Clone, Copy)]
enum Kind {
    Control,
    Other,
}

/// Makes an answer of a panic. What that leaves half done is behind locks that whoever takes them
/// next gets along with: the control plane's commands undo what they drop.
fn guarded(kind: Kind, perform: impl FnOnce() -> Reply) -> Reply {
    catch_unwind(AssertUnwindSafe(perform)).unwrap_or_else(|panic| {
        let why = panic_text(&panic);
        tracing::error!(why, "a request panicked");
        let why = format!("a fault in dmsim: {why}");
        reply(match kind {
            Kind::Control => {
                Outcome::Control(Err(Failure { errno: Errno::IO, table: None, why: Some(why) }))
            }
            Kind::Other => failed("request", why),
        })
    })
}

/// Says what a command changes of faults: nothing of them is on record, and a daemon that ends takes them along, but
/// its log stays.
fn faults_line(command: &Command) -> Option<String> {
    let Command::SetFaults { id, below, plan, .. } = command else { return None };
    let place = below.map(|below| format!(" below, at {below}")).unwrap_or_default();
    Some(match plan {
        Some(plan) => format!("faults are armed for {id:?}{place}: {} rules", plan.rules.len()),
        None => format!("faults are taken away from {id:?}{place}"),
    })
}

impl Daemon {
    /// As [`control`](Self::control), for a client on the socket. It renames no node by itself, as libdevmapper
    /// does after the ioctl, so an old name has no use any more.
    fn control_for_client(&self, command: Command, hung_up: &Cancel) -> Result<Answer, Failure> {
        let renamed = match &command {
            Command::DevRename { id, new: NewName::Name(_) } => self.control.device(id).ok(),
            _ => None,
        };
        let done = self.control(command, hung_up);
        if let (Some(device), Some(open), Ok(_)) = (renamed, self.shell.get(), &done) {
            open.forget_old_names(device.minor());
        }
        done
    }

    pub(super) fn control(&self, command: Command, hung_up: &Cancel) -> Result<Answer, Failure> {
        let touched = self.before(&command, hung_up);
        if let Command::DevResume { .. } = command {
            // By what lies below, as it is when the table comes to use.
            self.images.follow_host_devices();
        }
        settle(&self.control, &command);
        let faults = faults_line(&command);
        let sets_faults = matches!(command, Command::SetFails { .. } | Command::SetFaults { .. });
        let changes = command.changes() || sets_faults;
        let done = block_on_or(self.control.perform(command), hung_up);
        if let Some(touched) = touched {
            self.after(touched, done.as_ref().and_then(|done| done.as_ref().ok()));
        }
        if let (Some(line), Some(Ok(Answer::Faults(plans)))) = (faults, &done)
            && !plans.is_empty()
        {
            tracing::info!("{line}");
        }
        if changes {
            self.frontend.settled();
        }
        done.unwrap_or(Err(Errno::INTR.into()))
    }

    /// Detaches by name or number, else by path.
    fn detach(&self, word: &str, base: &Path) -> Result<(), AttachError> {
        by_word(word, base, |word| self.images.detach(word))
    }

    /// Resizes by name or number, else by path.
    fn resize(&self, word: &str, base: &Path) -> Result<Attached, AttachError> {
        let path = base.join(word);
        if path.starts_with(&self.mount) || self.control.find_shown(word).is_some() {
            let why = "is a mapped device, whose size is its table's: `dmsim load` and `dmsim resume` \
                       give it another";
            return Err(AttachError::OnDmsim { path: word.into(), why: why.to_owned() });
        }
        by_word(word, base, |word| self.images.resize(word))
    }

    /// Lists who has the devices' files or block nodes open.
    pub(super) fn users(&self) -> Vec<User> {
        let mut users = self.users_of_files();
        users.extend(self.shell.get().iter().flat_map(|open| self.users_of_nodes(open)));
        users
    }

    /// Lists who has the devices' files open.
    pub(super) fn users_of_files(&self) -> Vec<User> {
        let users = self.frontend.users().into_iter();
        let (all_loops, holders) = (OnceCell::new(), OnceCell::new());
        let user = |user: fuse_frontend::User| {
            let file = self.mount.join(&user.device);
            let pid = process(user.pid);
            let own = program(pid);
            let loops = match own {
                Some(_) => Vec::new(),
                None => all_loops.get_or_init(Loops::find).over(&file),
            };
            let heir = || {
                let pid = *holders.get_or_init(|| holders_below(&self.mount)).get(&file)?;
                Some((pid, program(pid)?))
            };
            let (pid, program) = match own.is_none() && loops.is_empty() {
                true => heir().map_or((pid, None), |(heir, program)| (heir, Some(program))),
                false => (pid, own),
            };
            User { device: user.device, pid, program, loops }
        };
        let open = self.shell.get();
        let is_ours = |user: &User| {
            let device = self.control.device(&Id::Name(user.device.clone()));
            let minor = device.ok().map(|device| device.minor());
            open.as_ref().is_some_and(|open| open.shows(user, minor))
        };
        let mut users: Vec<User> = users.map(user).filter(|user| !is_ours(user)).collect();
        // Two loop devices over one file name both, and need to be told once.
        users.dedup_by(|next, user| !next.loops.is_empty() && next.loops == user.loops);
        users
    }

    /// Says why an image cannot go: for one in use, whose tables have it open.
    fn not_detached(&self, error: AttachError) -> Outcome {
        if let AttachError::InUse { name, number, .. } = &error {
            let names = self.control.shown().into_iter().map(|shown| shown.name);
            let ask = |command| Ok::<_, Infallible>(block_on(self.control.perform(command)));
            let Ok(above) = above(names, *number, ask);
            if !above.is_empty() {
                let above: Vec<String> = above.iter().map(|name| decode(name)).collect();
                let tables = above.join("`, `");
                let why = format!("{name} ({number}): in use by the table of `{tables}`");
                return failed("detach", why);
            }
        }
        failed("detach", error)
    }

    fn ask_to_stop(&self, force: bool) -> Reply {
        let (answer, stopped) = channel();
        // The main thread is gone only when the process is about to be.
        let sent = self.events.send(Event::Stop { force, answer });
        match sent.ok().and_then(|()| stopped.recv().ok()) {
            None => reply(Outcome::Done),
            Some(Ok(trouble)) => {
                Reply { outcome: Outcome::Done, warning: trouble.map(|fault| fault.to_string()) }
            }
            Some(Err(fault)) => reply(Outcome::Failed(fault.to_string())),
        }
    }
}

/// Does something to the image that a word names: by name or number, else by path.
fn by_word<T>(
    word: &str,
    base: &Path,
    act: impl Fn(&str) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    match act(word) {
        Err(unknown @ AttachError::Unknown { .. }) => {
            let path = base.join(word).canonicalize().map_err(|_| unknown)?;
            act(&path.display().to_string())
        }
        result => result,
    }
}

fn reply(outcome: Outcome) -> Reply {
    Reply { outcome, warning: None }
}

fn failed(what: &str, why: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(Fault::new(what, why).to_string())
}

/// Returns the process of a thread: FUSE tells the thread that opened a file.
fn process(thread: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    process.and_then(|pid| pid.trim().parse().ok()).unwrap_or(thread)
}

/// Names what a process runs. One that opened the device from another process namespace, or has
/// ended and left the open file to another, has no name here.
fn program(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_answer_that_its_request_expects() {
        let control = guarded(Kind::Control, || panic!("planted {}", 1)).outcome;
        let Outcome::Control(Err(failure)) = control else { panic!("{control:?}") };
        assert_eq!(failure.errno, Errno::IO);
        assert_eq!(failure.to_string(), "a fault in dmsim: planted 1");
        let other = guarded(Kind::Other, || panic!("planted")).outcome;
        assert!(
            matches!(other, Outcome::Failed(why) if why == "request: a fault in dmsim: planted")
        );
    }
}
