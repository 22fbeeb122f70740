//! A mount of one's own, whose files show states of a recording.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backing::{Pool, block_on};
use crash::{Disk, Recording, State};
use daemon::{About, Fault};
use fuse_frontend::{Frontend, Options, clean_dead_mount};
use rustix::process::{Pid, test_kill_process};
use sim_core::control::{Backing, Command};
use sim_core::{
    Access, BlockDevice, BoxFuture, Control, DevNumber, Errno, Held, LOOP_MAJOR, NoLog, TargetSpec,
};
use tempfile::{NamedTempFile, TempDir};

use crate::commands::one;
use crate::devices::named;

/// What the folders are called in which states are shown, before the number of the process.
const FOLDER: &str = "dmsim-crash-";

/// A mount whose files show states, one for each of several who look at them at the same time.
pub struct Stage {
    disks: Vec<Arc<Disk>>,
    // In this order: it is unmounted, then the folder goes.
    _frontend: Frontend,
    dir: TempDir,
}

/// The disks that the tables of the files map.
struct Disks(Vec<Arc<Disk>>);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.iter().find(|disk| disk.number() == number);
        disk.map(|disk| disk.clone() as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }

    fn by_word<'a>(
        &'a self,
        _word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(std::future::ready(Err(Errno::NOENT)))
    }
}

impl Stage {
    /// Mounts so many files, which show what there was before the recording.
    ///
    /// # Errors
    /// Where there can be no mount, which says why.
    pub fn new(recording: &Arc<Recording>, files: usize) -> Result<Stage, Fault> {
        clean_up(&std::env::temp_dir());
        let dir =
            tempfile::Builder::new().prefix(&prefix()).tempdir().about("a folder for states")?;
        let number = |file: u32| DevNumber { major: LOOP_MAJOR, minor: file };
        let disks: Vec<_> =
            (0..files as u32).map(|file| Disk::new(number(file), recording.clone())).collect();
        let pool = Pool::new(1);
        let backing = Arc::new(Disks(disks.clone()));
        let control = Control::new(targets::registry(), backing, pool.clone(), Arc::new(NoLog));
        for file in 0..files {
            let line = one(recording.size(), "linear", &format!("7:{file} 0"));
            set_up(&control, &name(file), line)
                .map_err(|failure| Fault::new(name(file), failure))?;
        }
        let threads = files.max(2);
        let options = Options { threads, ..Options::default() };
        let frontend = Frontend::mount(control, pool, dir.path(), &options);
        let frontend = frontend.map_err(|error| Fault::new("a mount for states", error))?;
        Ok(Stage { disks, _frontend: frontend, dir })
    }

    /// Has a file show a state; what was written to it goes. Returns its path.
    pub fn show(&self, file: usize, state: &State) -> PathBuf {
        self.disks[file].show(state.clone());
        self.dir.path().join(name(file))
    }
}

/// Makes a temporary file. Of a process that is killed, the next one that shows states takes it away.
///
/// # Errors
/// Where there can be none.
pub fn scratch() -> Result<NamedTempFile, Fault> {
    tempfile::Builder::new().prefix(&prefix()).tempfile().about("a temporary file")
}

fn prefix() -> String {
    format!("{FOLDER}{}-", std::process::id())
}

fn name(file: usize) -> String {
    format!("state{file}")
}

fn set_up(
    control: &Control,
    name: &str,
    targets: Vec<TargetSpec>,
) -> Result<(), sim_core::control::Failure> {
    let create = Command::DevCreate { name: name.to_owned(), uuid: None, minor: None };
    let load = Command::TableLoad {
        id: named(name),
        access: Access::ReadWrite,
        targets,
        base: String::new(),
    };
    let resume = Command::DevResume { id: named(name), held: Held::Flush };
    for command in [create, load, resume] {
        block_on(control.execute(command))?;
    }
    Ok(())
}

/// Takes away what processes have left that were killed.
fn clean_up(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.split('-').next());
        let pid = pid.and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        let is_left = pid.is_some_and(|pid| {
            test_kill_process(pid).is_err_and(|error| error == rustix::io::Errno::SRCH)
        });
        if !is_left {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _stays = std::fs::remove_file(entry.path());
        } else if matches!(clean_dead_mount(&entry.path()), Ok(true)) {
            let _stays = std::fs::remove_dir(entry.path());
        }
    }
}
