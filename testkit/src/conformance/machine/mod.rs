//! Parts under the executor of production: threads, the clock on the wall, and an order that no seed
//! chooses.

mod disk;
mod speed;
mod threads;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backing::Pool;
use sim_core::control::{Answer, Command, Control, Failure};
use sim_core::{
    Access, BoxFuture, DevNumber, Errno, Half, Held, MappedDevice, NoLog, Panic, Registry, Runtime,
    panic_text, parse_table,
};
use zeroize::Zeroizing;

pub(super) use speed::speed;
pub(super) use threads::threads;

use super::ground::Ground;
use super::suite::Suite;
use crate::world::Disks;
use crate::{DISK_MAJOR, id};
use disk::Busy;

/// How many threads run tasks: more than most machines of a CI have processors, so that they are
/// stopped in the middle too.
const THREADS: usize = 4;

/// How long a bio or a command may take. Less than the watchdog waits, which knows nothing of bios.
const PATIENCE: Duration = Duration::from_secs(30);

/// Disks in memory, and a control plane over them.
struct Machine {
    runtime: Arc<Noting>,
    control: Arc<Control>,
    disks: Vec<Arc<Busy>>,
}

impl Machine {
    fn new(registry: Registry, ground: &Ground, waits: bool) -> Machine {
        let runtime = Arc::new(Noting { pool: Pool::new(THREADS), panics: Mutex::default() });
        let disks: Vec<Arc<Busy>> = (0..)
            .zip(ground.disks())
            .map(|(minor, (size, content))| {
                let number = DevNumber { major: DISK_MAJOR, minor };
                Busy::new(number, size, ground.block(), content, waits.then(|| runtime.clone()))
            })
            .collect();
        let backing = Arc::new(Disks::new(disks.clone()));
        let control = Control::new(registry, backing, runtime.clone(), Arc::new(NoLog));
        Machine { runtime, control, disks }
    }

    /// Runs a task on the threads; what it is, for the message when it never ends.
    fn run<T: Send + 'static>(
        &self,
        what: &str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let (done, ended) = channel();
        self.runtime.spawn(Box::pin(async move {
            // Whoever has lost patience does not listen any more.
            let _unheard = done.send(task.await);
        }));
        ended.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                format!("{what} never ends: it was waited for {PATIENCE:?}")
            }
            RecvTimeoutError::Disconnected => format!("{what} panicked"),
        })
    }

    fn execute(&self, command: Command) -> Result<Answer, String> {
        let (control, what) = (self.control.clone(), format!("{command:?}"));
        let text = |failure: Failure| format!("{what}: {failure}");
        self.run(&what, async move { control.execute(command).await })?.map_err(text)
    }

    /// Makes a device from the text of a table, and brings it into use.
    fn set_up(&self, minor: u32, table: &str) -> Result<Arc<MappedDevice>, String> {
        let name = format!("d{minor}");
        self.execute(Command::DevCreate { name, uuid: None, minor: Some(minor) })?;
        self.execute(load(minor, table)?)?;
        self.execute(Command::DevResume { id: id(minor), held: Held::Flush })?;
        self.control.device(&id(minor)).map_err(|failure| failure.to_string())
    }

    /// Fails where something has panicked, with what it said.
    fn verdict(&self) -> Result<(), String> {
        let panics = self.runtime.panics.lock().unwrap_or_else(PoisonError::into_inner);
        match &panics[..] {
            [] => Ok(()),
            all => Err(format!("panicked: {}", all.join("; "))),
        }
    }
}

fn load(minor: u32, table: &str) -> Result<Command, String> {
    let lines = parse_table(table).map_err(|error| error.to_string())?;
    let targets = lines.into_iter().map(|(_, spec)| spec).collect();
    let (access, base) = (Access::ReadWrite, String::new());
    Ok(Command::TableLoad { id: id(minor), access, targets, base })
}

impl Suite {
    /// Sets the device under test up on a machine of its own.
    fn machine(
        &self,
        ground: &Ground,
        waits: bool,
    ) -> Result<(Machine, Arc<MappedDevice>), String> {
        let machine = Machine::new(self.registry.clone(), ground, waits);
        let device = machine.set_up(0, &self.table)?;
        Ok((machine, device))
    }
}

/// The threads of production, which note what has panicked.
struct Noting {
    pool: Arc<Pool>,
    panics: Mutex<Vec<String>>,
}

impl Runtime for Noting {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.pool.spawn(task);
    }

    fn spawn_here(&self, task: BoxFuture<'static, ()>) {
        self.pool.spawn_here(task);
    }

    fn join(&self, one: Half<'_>, other: Half<'_>) {
        self.pool.join(one, other);
    }

    fn key(&self, kind: &str, description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
        self.pool.key(kind, description)
    }

    fn now(&self) -> Duration {
        self.pool.now()
    }

    fn coarse_now(&self) -> Duration {
        self.pool.coarse_now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.pool.sleep(time)
    }

    fn random(&self) -> u64 {
        self.pool.random()
    }

    fn processors(&self) -> u32 {
        self.pool.processors()
    }

    fn processor(&self) -> u32 {
        self.pool.processor()
    }

    fn caught(&self, place: &str, panic: Panic) {
        let text = format!("{} ({place})", panic_text(&panic));
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}
