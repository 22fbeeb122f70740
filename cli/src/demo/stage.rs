//! Where the demonstration takes place, and how all of it goes away again.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backing::Attach;
use daemon::client::unexpected;
use daemon::launch::{Failed, launch, this_program};
use daemon::protocol::{Outcome, Request};
use daemon::{About, Client, Fault, Instance, Options};
use sim_core::control::{Command, Id};
use sim_core::{Access, Held, parse_table};

use super::tools::find;
use crate::client;
use crate::output::complain;

/// A directory with an instance and all its files.
pub(super) struct Stage {
    dir: PathBuf,
    instance: Instance,
    /// What has to be undone, besides the directory.
    open: Mutex<Open>,
}

struct Open {
    mounted: bool,
    /// The directory and the daemon are to go.
    ends: bool,
}

impl Stage {
    /// Makes the directory.
    pub(super) fn make(dir: Option<&Path>) -> Result<Stage, Fault> {
        let dir = match dir {
            Some(dir) => {
                let dir = std::path::absolute(dir).about(dir.display())?;
                // Made by us, or not ours to remove.
                DirBuilder::new().mode(0o700).create(&dir).about(dir.display())?;
                dir
            }
            None => {
                let dir = tempfile::Builder::new().prefix("dmsim-demo.").tempdir();
                dir.about(std::env::temp_dir().display())?.keep()
            }
        };
        let instance = Instance::find(Some(&dir.join("instance")))?;
        let open = Mutex::new(Open { mounted: false, ends: true });
        Ok(Stage { dir, instance, open })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns the file that shows a device.
    pub(super) fn device(&self, name: &str) -> PathBuf {
        self.instance.mapper().join(name)
    }

    pub(super) fn make_dir(&self, name: &str) -> Result<PathBuf, Fault> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).about(dir.display())?;
        Ok(dir)
    }

    /// Starts the daemon.
    pub(super) fn start(&self) -> Result<Option<String>, Fault> {
        launch(&this_program(), &self.instance, &Options::default()).map_err(
            |failed| match failed {
                Failed::AlreadyRuns(fault) | Failed::Fault(fault) => fault,
            },
        )?;
        Ok(Some(format!("pid {}", self.client()?.welcome.pid)))
    }

    pub(super) fn client(&self) -> Result<Client, Fault> {
        client::connect(&self.instance)
    }

    /// Makes an image and attaches it.
    pub(super) fn attach(
        &self,
        file: &str,
        name: &str,
        size: u64,
    ) -> Result<Option<String>, Fault> {
        let ask = Attach {
            name: Some(name.to_owned()),
            create: Some(size),
            ..Attach::as_it_is(&self.dir.join(file))
        };
        match self.client()?.ask(&Request::Attach(ask))? {
            Outcome::Attached(image) => Ok(Some(format!("{}, sparse", image.number))),
            other => Err(unexpected(other)),
        }
    }

    /// Makes a device with a table.
    pub(super) fn create(&self, name: &str, table: &str) -> Result<(), Fault> {
        let mut client = self.client()?;
        let create = Command::DevCreate { name: name.to_owned(), uuid: None, minor: None };
        client.control(create)?.about(name)?;
        let id = || Id::Name(name.to_owned());
        let lines = parse_table(table).about(name)?;
        let load = Command::TableLoad {
            id: id(),
            access: Access::ReadWrite,
            targets: lines.into_iter().map(|(_, spec)| spec).collect(),
            base: self.dir.display().to_string(),
        };
        client.control(load)?.about(name)?;
        client.control(Command::DevResume { id: id(), held: Held::Flush })?.about(name)?;
        Ok(())
    }

    /// Runs a command of this program on the instance, as one would type it.
    pub(super) fn run(&self, words: &[&str]) -> Result<Option<String>, Fault> {
        let program = std::env::current_exe().about("this program")?;
        let mut command = std::process::Command::new(program);
        command.env("DMSIM_DIR", self.instance.dir()).stdin(Stdio::null());
        command.current_dir(&self.dir);
        // Progress goes there, where it is a terminal.
        command.stderr(Stdio::inherit());
        let output = command.args(words).output().about(words.join(" "))?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        match output.status.success() {
            true => Ok(Some(said).filter(|said| !said.is_empty())),
            false => Err(Fault::new(words.join(" "), format!("{}\n{said}", output.status))),
        }
    }

    /// Tells whether this user may mount at all.
    pub(super) fn can_mount(&self) -> bool {
        rustix::process::geteuid().is_root() && find("mount").is_some() && find("umount").is_some()
    }

    /// Mounts a file through a loop device, and returns where.
    pub(super) fn mount(&self, file: &Path) -> Result<PathBuf, Fault> {
        let dir = self.make_dir("mnt")?;
        let mount = find("mount").ok_or("not installed").about("mount")?;
        let mut open = self.open();
        mount.run(["-o".as_ref(), "loop".as_ref(), file.as_os_str(), dir.as_os_str()])?;
        open.mounted = true;
        Ok(dir)
    }

    /// Unmounts it, which makes it durable and lets the loop device go.
    pub(super) fn unmount(&self) -> Result<(), Fault> {
        self.unmount_locked(&mut self.open())
    }

    fn unmount_locked(&self, open: &mut Open) -> Result<(), Fault> {
        if open.mounted {
            let umount = find("umount").ok_or("not installed").about("umount")?;
            umount.run([self.dir.join("mnt").as_os_str()])?;
            open.mounted = false;
        }
        Ok(())
    }

    /// Leaves everything as it is, and says how to go on.
    pub(super) fn keep(&self) -> String {
        self.open().ends = false;
        let (instance, dir) = (self.instance.dir().display(), self.dir.display());
        format!(
            "It is left running. To look around, and to end it:\n  \
             export DMSIM_DIR={instance}\n  dmsim tree; dmsim table; dmsim info\n  \
             dmsim stop; rm -r {dir}\n"
        )
    }

    /// Unmounts, ends the daemon and removes the directory, unless it is kept.
    pub(super) fn clean(&self) -> Result<(), Fault> {
        let mut open = self.open();
        if !std::mem::replace(&mut open.ends, false) {
            return Ok(());
        }
        let unmounted = self.unmount_locked(&mut open);
        if let Some(mut client) = client::find(&self.instance)? {
            // The kernel lets a loop device go a moment after the unmount.
            let ask = |client: &mut Client, force| match client.ask(&Request::Stop { force })? {
                Outcome::Done => Ok(()),
                other => Err(unexpected(other)),
            };
            ask(&mut client, false).or_else(|_| ask(&mut client, true))?;
            client.wait_for_end()?;
        }
        unmounted?;
        std::fs::remove_dir_all(&self.dir).about(self.dir.display())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(fault) = self.clean() {
            complain!("dmsim: demo: something is left in {}: {fault}", self.dir.display());
        }
    }
}

/// Leaves nothing behind when the user has seen enough, either.
pub(super) fn clean_on_signals(stage: &Arc<Stage>) -> Result<(), Fault> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).about("signals")?;
    let stage = Arc::downgrade(stage);
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            if let Some(stage) = stage.upgrade()
                && let Err(fault) = stage.clean()
            {
                complain!("dmsim: demo: something is left in {}: {fault}", stage.dir().display());
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
