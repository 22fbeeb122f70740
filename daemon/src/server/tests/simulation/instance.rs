//! A daemon's life on a machine in memory: what outlives it, and what does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use backing::{Attach, Cancel, Images};
use futures_util::future::{Either, select};
use sim_core::control::{Backing, Noted, Record, Recorder};
use sim_core::{
    Access, Bio, BlockDevice, BoxFuture, Control, DevNumber, Errno, NoLog, Sector, Sectors,
};
use testkit::{Sim, SimDisk, Speed, send};

use super::Bug;
use super::plan::Action;
use crate::record::simulated::Simulated;
use crate::record::{ImageRecord, Keeper};
use crate::server::request::recorded;
use crate::server::restore::Builder;

/// How many disks and image files a machine has, and what their numbers begin with.
pub(super) const DISK: usize = 3;
pub(super) const FIRST_DISK: u32 = 100;
pub(super) const IMAGES: usize = 3;
pub(super) const FIRST_IMAGE: u32 = 200;

/// How much of the record no longer counts when it is written anew: early, so that it often is.
const MARGIN: u64 = 400;

/// What outlives a daemon: its folder, disks and image files.
pub(super) struct Machine {
    pub(super) folder: Simulated,
    images: Arc<tempfile::TempDir>,
}

/// What is there, or on record: images by number, devices by minor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stack {
    images: Vec<ImageRecord>,
    devices: Vec<Record>,
}

/// When a command is cut off.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    Never,
    /// After so many turns of the executor.
    After(u32),
}

/// A daemon, as far as it is no socket and no mount.
pub(super) struct Instance {
    seed: u64,
    bug: Bug,
    sim: Sim,
    disks: Vec<Arc<SimDisk>>,
    images: Arc<Images>,
    control: Arc<Control>,
    keeper: Arc<Keeper>,
    folder: PathBuf,
    /// Changes that are not written down before the batch is over.
    batch: bool,
}

impl Machine {
    pub(super) fn new() -> Machine {
        let images = tempfile::tempdir().expect("a folder");
        for image in 0..IMAGES {
            std::fs::write(images.path().join(format!("i{image}")), [0; 64 << 10]).expect("a file");
        }
        Machine { folder: Simulated::default(), images: Arc::new(images) }
    }

    /// Returns the path of the image files, which is another each time.
    pub(super) fn images(&self) -> String {
        self.images.path().display().to_string()
    }

    /// Returns the same with a folder of its own; the files are the same.
    pub(super) fn copy(&self) -> Machine {
        Machine { folder: self.folder.copy(), images: self.images.clone() }
    }

    /// Lists what a power cut may leave.
    pub(super) fn after_a_cut(&self) -> Vec<Machine> {
        let left = self.folder.after_a_cut().into_iter();
        left.map(|folder| Machine { folder, images: self.images.clone() }).collect()
    }
}

impl Stack {
    fn sorted(mut self) -> Stack {
        self.images.sort_by_key(|image| image.dev);
        self.devices.sort_by_key(|device| device.minor);
        self
    }
}

impl Instance {
    pub(super) fn start(machine: &Machine, seed: u64, bug: Bug) -> Instance {
        let sim = Sim::new(seed);
        let minors = (FIRST_DISK..).take(DISK);
        let disks: Vec<_> =
            minors.map(|minor| SimDisk::new(sim.handle(), minor, Sectors(64))).collect();
        let images = Images::new();
        let backing = Arc::new(Both { disks: disks.clone(), images: images.clone() });
        let keeper = Arc::new(machine.folder.record(MARGIN));
        let control = Control::new(targets::registry(), backing, sim.runtime(), Arc::new(NoLog));
        let notes = keeper.clone();
        images.watch(move |change| notes.note_image(change));
        let names = Mutex::default();
        control.record_with(match bug {
            Bug::RenamesTwice | Bug::ForgetsRemovals => {
                Arc::new(Faulty { keeper: keeper.clone(), bug, names }) as Arc<dyn Recorder>
            }
            Bug::None | Bug::AnswersEarly | Bug::BuildsBackwards => keeper.clone(),
        });
        let folder = machine.images.path().to_owned();
        Instance { seed, bug, sim, disks, images, control, keeper, folder, batch: false }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn is_in_batch(&self) -> bool {
        self.batch
    }

    pub(super) fn there(&self) -> Stack {
        let images = self.images.list().iter().map(ImageRecord::from).collect();
        Stack { images, devices: self.control.records() }.sorted()
    }

    pub(super) fn pending(&self) -> usize {
        self.keeper.pending()
    }

    /// Returns what is on record from before.
    pub(super) fn past(&self) -> Stack {
        let past = self.keeper.past().expect("it is read from memory");
        let images = past.images.into_iter().map(|past| past.image).collect();
        let devices = past.devices.into_iter().map(|past| past.device).collect();
        Stack { images, devices }.sorted()
    }

    /// Restores all that is past, as the daemon does, and has that written down. Nothing waits
    /// meanwhile: what a restore does with a device is a command like any other.
    pub(super) fn restore(&mut self) -> Result<(), String> {
        self.disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let (restored, warning) = recorded(
            &self.keeper,
            false,
            || self.commit(),
            || {
                let (keeper, images, control) = (&*self.keeper, &*self.images, &*self.control);
                let mut past = keeper.past().expect("it is read from memory");
                if self.bug == Bug::BuildsBackwards {
                    past.devices.reverse();
                }
                Builder { keeper, images, control }.build(&past, &[], &Cancel::new())
            },
        );
        self.write();
        self.disks.iter().for_each(|disk| disk.set_speed(Speed::Waits));
        if !restored.failed.is_empty() {
            return Err(format!("could not be restored: {:?}", restored.failed));
        }
        warning.map_or(Ok(()), Err)
    }

    /// Does what a client asks for, and returns whether it was told that it is on record.
    pub(super) fn take(&mut self, action: &Action, cut: Cut) -> Result<(), String> {
        match action {
            Action::Batch => {
                self.batch = true;
                return Ok(());
            }
            Action::Commit => self.batch = false,
            Action::Control(_) | Action::Attach(_) | Action::Detach(_) | Action::Write(_) => {}
        }
        let (made, warning) = recorded(
            &self.keeper,
            self.batch,
            || if matches!(cut, Cut::After(_)) { Ok(()) } else { self.commit() },
            || self.make(action, cut),
        );
        if made && matches!(cut, Cut::Never) {
            // What no command waits for.
            self.write();
        }
        warning.map_or(Ok(()), Err)
    }

    /// Carries out an action, and tells whether it came to its end.
    fn make(&self, action: &Action, cut: Cut) -> bool {
        match action {
            Action::Batch | Action::Commit => true,
            // Refused or done: both are fine.
            Action::Attach(image) => {
                let _ = self.images.attach(&self.attach(*image));
                true
            }
            Action::Detach(image) => {
                let _ = self.images.detach(&format!("7:{}", FIRST_IMAGE + *image as u32));
                true
            }
            Action::Control(command) => {
                let done = self.control.perform(command.clone());
                self.wait(async { drop(done.await) }, cut)
            }
            Action::Write(minor) => {
                let id = sim_core::control::Id::Dev(DevNumber::mapped(*minor));
                let Ok(device) = self.control.device(&id) else { return true };
                // It goes on behind the commands that come; where the device is suspended, it waits.
                self.sim.start("a write", async move {
                    send(device, Bio::write(Sector(3), &[7; 512])).await
                });
                true
            }
        }
    }

    fn attach(&self, image: usize) -> Attach {
        Attach {
            path: self.folder.join(format!("i{image}")),
            name: None,
            number: Some(DevNumber { major: 7, minor: FIRST_IMAGE + image as u32 }),
            access: Access::ReadWrite,
            sector_size: 512,
            create: None,
            preallocate: false,
            host_device: false,
        }
    }

    /// Waits for a command, or drops it in the middle. One that waits for a device that somebody has
    /// suspended is given up, as one whose client hangs up.
    fn wait(&self, command: impl Future<Output = ()>, cut: Cut) -> bool {
        let turns = match cut {
            Cut::Never => 2000,
            Cut::After(turns) => turns,
        };
        let handle = self.sim.handle();
        let hangs_up = async {
            for _ in 0..turns {
                handle.turn().await;
            }
        };
        let ended = self.sim.try_block_on(async {
            matches!(select(pin!(command), pin!(hangs_up)).await, Either::Left(_))
        });
        ended.expect("turns come to their end")
    }

    /// Waits until what was noted is durable; the thread that writes it is this one.
    fn commit(&self) -> Result<(), String> {
        let mut commit = pin!(self.control.commit());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match commit.as_mut().poll(&mut cx) {
                Poll::Ready(result) => return result,
                Poll::Pending if self.bug == Bug::AnswersEarly => return Ok(()),
                Poll::Pending => self.keeper.write(),
            }
        }
    }

    /// Writes what nobody waits for.
    fn write(&self) {
        if self.keeper.is_asked() && self.bug != Bug::AnswersEarly {
            self.keeper.write();
        }
    }
}

/// The disks of the machine, and its images.
struct Both {
    disks: Vec<Arc<SimDisk>>,
    images: Arc<Images>,
}

impl Backing for Both {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        match self.disks.iter().find(|disk| disk.number() == number) {
            Some(disk) => Ok(disk.clone()),
            None => self.images.by_number(number),
        }
    }

    fn by_word<'a>(
        &'a self,
        _word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(std::future::ready(Err(Errno::NOENT)))
    }
}

/// A recorder with a bug.
struct Faulty {
    keeper: Arc<Keeper>,
    bug: Bug,
    /// What devices were called when they were noted last.
    names: Mutex<BTreeMap<u32, String>>,
}

impl Recorder for Faulty {
    fn note(&self, minor: u32, device: Option<Noted<'_>>) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match device {
            None if self.bug == Bug::ForgetsRemovals => {}
            None => self.keeper.note(minor, None),
            Some(noted) => {
                let before = names.insert(minor, noted.name.to_owned());
                let renamed = before.filter(|before| before != noted.name);
                if let Some(name) = renamed.filter(|_| self.bug == Bug::RenamesTwice) {
                    let twice = Noted {
                        name: &name,
                        uuid: None,
                        live: None,
                        inactive: None,
                        suspended: false,
                        read_ahead: None,
                        node: noted.node,
                    };
                    self.keeper.note(minor + 50, Some(twice));
                }
                self.keeper.note(minor, Some(noted));
            }
        }
    }

    fn commit(&self) -> BoxFuture<'_, Result<(), String>> {
        self.keeper.commit()
    }
}
