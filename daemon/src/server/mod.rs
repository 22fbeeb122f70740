//! The daemon: one process for each instance, which holds its devices and shows them.

mod clients;
mod connection;
mod counted;
mod forget;
mod gauges;
mod guard;
mod kmsg;
mod recordings;
mod request;
mod restore;
mod settle;
mod shell;
mod state;
mod stop;
#[cfg(test)]
mod tests;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use backing::{Images, Pool};
use fuse_frontend::Frontend;
use rustix::fs::Mode;
use sim_core::control::{Backing, Recorder};
use sim_core::{Access, Control, Registry};

use crate::fault::{About, Fault, causes};
use crate::folders::{let_others_pass, make_private_dir};
use crate::instance::Instance;
use crate::options::Options;
use crate::record::Keeper;
use counted::Count;
use guard::Guard;
pub use guard::guard;
use kmsg::Kmsg;
use shell::Shell;
use state::{Daemon, Event, spawn};

/// Runs the daemon of an instance until it is stopped; calls `ready` when the mount serves.
pub fn run(
    instance: &Instance,
    registry: Registry,
    options: &Options,
    ready: impl FnOnce(),
) -> Result<(), Fault> {
    // Nothing that is made here is for others; the modes of devices' files are set one by one.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    instance.make_dirs()?;
    let mount = match &options.mount {
        Some(mount) => std::path::absolute(mount).about(mount.display())?,
        None => instance.mapper(),
    };
    let lock = instance.lock(&mount)?;
    for dead in lock.left_behind.iter().chain([&mount]) {
        // What is no dead mount is left alone; a mount that stays shows when ours is made.
        if let Err(error) = fuse_frontend::clean_dead_mount(dead) {
            tracing::warn!(mount = %dead.display(), error = causes(&error), "a dead mount stays");
        }
    }
    shell::clean(&instance.private());
    crate::process::keep_out_of_core_dumps();
    crate::process::allow_most_files();
    let before = (instance.state() != instance.dir()).then(|| instance.dir());
    let (keeper, damage) = Keeper::open(instance.state(), before)?;
    if instance.is_in_memory() {
        tracing::warn!(dir = %instance.state().display(), "lies in memory: a reboot takes it away");
    }
    if let Some(fault) = &damage {
        tracing::error!(%fault, "the record");
    }
    make_private_dir(&mount)?;
    if options.allow_other && mount.starts_with(instance.dir()) {
        let_others_pass(instance.dir())?;
    }
    let listener = instance.listen().about(instance.socket().display())?;
    let (events, inbox) = channel();
    let damage = damage.map(|fault| fault.to_string());
    let daemon = start(instance, registry, options, mount, (keeper, damage), events.clone())?;
    let _guard = guarded(options, &daemon.mount);
    daemon.take_up_nodes();
    watch_signals(events)?;
    accept(&daemon, listener)?;
    ready();
    tracing::info!(dir = %instance.dir().display(), mount = %daemon.mount.display(), "serving");
    daemon.until_stopped(&inbox, || {
        let _ = std::fs::remove_file(instance.socket());
        let _ = lock.clear();
    });
    tracing::info!("stopped");
    Ok(())
}

/// Starts the guard of the mount, if there is a program for it. Without one it goes on all the same.
fn guarded(options: &Options, mount: &std::path::Path) -> Option<Guard> {
    let program = options.guard.as_ref()?;
    let started = match backing::mount_number(mount) {
        Some(number) => Guard::start(program, mount, &number),
        None => Err(Fault::new("guard", "the mount is in no table")),
    };
    started.inspect_err(|fault| tracing::warn!(%fault, "nobody guards the mount")).ok()
}

/// Makes the devices' home and mounts it.
fn start(
    instance: &Instance,
    registry: Registry,
    options: &Options,
    mount: PathBuf,
    (keeper, damage): (Keeper, Option<String>),
    events: Sender<Event>,
) -> Result<Arc<Daemon>, Fault> {
    let pool = Pool::new(0);
    let images = Images::new();
    let kmsg = Arc::new(Kmsg::open(&instance.kmsg())?);
    let backing: Arc<dyn Backing> = images.clone();
    let control = Control::new(registry, backing, pool.clone(), kmsg.clone());
    let frontend = fuse_frontend::Options {
        allow_other: options.allow_other,
        cache: options.cache,
        read_only: options.read_only,
        ..fuse_frontend::Options::default()
    };
    let frontend = Frontend::mount(control.clone(), pool, &mount, &frontend);
    let frontend = Arc::new(frontend.map_err(|error| Fault::new("mount", causes(&error)))?);
    images.shown_in(&mount);
    images.kept_in(&[instance.dir().to_owned(), instance.state().to_owned()]);
    let shows = frontend.clone();
    control.watch(move |changed| shows.changed(changed));
    let keeper = record(keeper, &control, &images)?;
    Ok(Arc::new_cyclic(|me| Daemon {
        me: me.clone(),
        mount,
        state: instance.state().to_owned(),
        control,
        images,
        frontend,
        access: if options.read_only { Access::ReadOnly } else { Access::ReadWrite },
        kmsg,
        shell: Shell::default(),
        private_dir: instance.private(),
        program: options.guard.clone(),
        keeper,
        damage,
        clients: Arc::default(),
        replying: Count::default(),
        events,
    }))
}

/// Shows the record every change, and starts the thread that writes it.
fn record(
    keeper: Keeper,
    control: &Arc<Control>,
    images: &Arc<Images>,
) -> Result<Arc<Keeper>, Fault> {
    let keeper = Arc::new(keeper);
    let (of_images, writes) = (keeper.clone(), keeper.clone());
    images.watch(move |change| of_images.note_image(change));
    control.record_with(keeper.clone() as Arc<dyn Recorder>);
    spawn("recorder", move || writes.run())?;
    Ok(keeper)
}

/// Makes an event of each signal that asks to end.
fn watch_signals(events: Sender<Event>) -> Result<(), Fault> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).about("signals")?;
    spawn("signals", move || {
        for _ in signals.forever() {
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })
}

/// Serves each connection in threads of its own.
fn accept(daemon: &Arc<Daemon>, listener: UnixListener) -> Result<(), Fault> {
    let daemon = daemon.clone();
    spawn("accept", move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => connection::serve(&daemon, stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection is lost");
                    // Out of file descriptors, most likely: until one is free, it fails at once.
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            }
        }
    })
}

impl Daemon {
    /// Waits for whoever asks to end, and ends what there is. `leave` removes the last traces.
    fn until_stopped(&self, inbox: &Receiver<Event>, leave: impl FnOnce()) {
        let mut refused = false;
        loop {
            match inbox.recv().expect("the daemon itself holds a sender") {
                // The second signal means it.
                Event::Signal => match self.stop(refused) {
                    Ok(_) => return leave(),
                    Err(fault) => {
                        tracing::error!(%fault, "not stopped; the next signal forces it");
                        refused = true;
                    }
                },
                Event::Stop { force, answer } => match self.stop(force) {
                    Ok(trouble) => {
                        leave();
                        // A client that has gone meanwhile has its wish all the same.
                        let _ = answer.send(Ok(trouble));
                        return connection::let_replies_out(self);
                    }
                    Err(fault) => {
                        let _ = answer.send(Err(fault));
                    }
                },
            }
        }
    }
}
