//! What the benchmarks share: a control plane over images, in process.

#![deny(unsafe_code)]

pub mod ciphers;
mod counted;
#[allow(unsafe_code)]
mod isal;
pub mod load;
pub mod parities;

use std::path::Path;
use std::sync::Arc;

use backing::{Attach, Images, Pool, block_on};
use sim_core::control::{Answer, Command, DevStatus, Id, Report, Slot, WhenOpen};
use sim_core::{
    Access, Backing, BlockDevice, Control, Held, KeyText, MappedDevice, NoLog, Sector, TargetSpec,
    parse_table,
};

use counted::CountedImages;
pub use counted::{Commits, Counts, Kind};

/// A control plane over images.
pub struct Instance {
    /// The control plane.
    pub control: Arc<Control>,
    images: Arc<Images>,
    /// What tables find by a name.
    found: Arc<dyn Backing>,
}

impl Instance {
    /// Makes one without devices.
    pub fn new() -> Instance {
        Instance::with_threads(1)
    }

    /// As [`new`](Self::new), with so many threads for what may be shared.
    pub fn with_threads(threads: usize) -> Instance {
        let images = Images::new();
        Instance::over(images.clone(), images, Pool::new(threads))
    }

    /// As [`with_threads`](Self::with_threads), over images of this kind.
    pub fn counted(threads: usize, kind: Kind) -> Instance {
        let (images, pool) = (Images::new(), Pool::new(threads));
        let counted = Arc::new(CountedImages::new(images.clone(), pool.clone(), kind));
        Instance::over(images, counted, pool)
    }

    fn over(images: Arc<Images>, found: Arc<dyn Backing>, pool: Arc<Pool>) -> Instance {
        let control = Control::new(targets::registry(), found.clone(), pool, Arc::new(NoLog));
        Instance { control, images, found }
    }

    /// Makes an image of `bytes` and attaches it under `name`. Its room is allocated: a sparse
    /// image on tmpfs is not mapped.
    pub fn image(&self, path: &Path, name: &str, bytes: u64) -> Arc<dyn BlockDevice> {
        let attach = Attach {
            path: path.to_owned(),
            name: Some(name.to_owned()),
            number: None,
            access: Access::ReadWrite,
            sector_size: 512,
            create: Some(bytes),
            preallocate: true,
            host_device: false,
        };
        self.images.attach(&attach).expect("a new image is attached");
        block_on(self.found.by_word(name, "/")).expect("it is attached")
    }

    /// Makes a device from a table's text.
    pub fn create(&self, name: &str, table: &str) -> Arc<MappedDevice> {
        let targets = parse_table(table).expect("a table").into_iter().map(|(_, spec)| spec);
        self.create_from(name, targets.collect())
    }

    /// Makes a device from a table's lines.
    pub fn create_from(&self, name: &str, targets: Vec<TargetSpec>) -> Arc<MappedDevice> {
        let id = Id::Name(name.to_owned());
        self.call(Command::DevCreate { name: name.to_owned(), uuid: None, minor: None });
        self.load(name, targets);
        self.call(Command::DevResume { id: id.clone(), held: Held::Flush });
        self.control.device(&id).expect("it was made")
    }

    /// Loads a table into the inactive slot.
    pub fn load(&self, name: &str, targets: Vec<TargetSpec>) {
        let (id, base) = (Id::Name(name.to_owned()), "/".to_owned());
        self.call(Command::TableLoad { id, access: Access::ReadWrite, targets, base });
    }

    /// Removes a device.
    pub fn remove(&self, name: &str) {
        let id = Id::Name(name.to_owned());
        self.call(Command::DevRemove { id, open: WhenOpen::Refuse });
    }

    /// Waits until the status of a device of one target is as wanted, looking at it after each of
    /// the device's events.
    pub fn wait(&self, name: &str, wanted: impl Fn(&str) -> bool) {
        let id = Id::Name(name.to_owned());
        loop {
            // The number first: an event between the two is not missed.
            let status = Command::DevStatus { id: id.clone(), slot: Slot::Live };
            let Answer::Status(DevStatus { event_nr, .. }) = self.call(status) else {
                unreachable!("it answers with a status");
            };
            if wanted(&self.status(name)) {
                return;
            }
            self.call(Command::DevWait { id: id.clone(), event_nr });
        }
    }

    /// Sends a message to the first target of a device.
    pub fn message(&self, name: &str, text: &str) {
        let (id, message, slot) = (Id::Name(name.to_owned()), text.into(), Slot::Live);
        self.call(Command::TargetMsg { id, sector: Sector::ZERO, message, slot });
    }

    fn status(&self, name: &str) -> String {
        let status = Command::TableStatus {
            id: Id::Name(name.to_owned()),
            report: Report::Status,
            slot: Slot::Live,
            device_names: false,
            keys: KeyText::Zeros,
        };
        match self.call(status) {
            Answer::Table(_, targets) => targets[0].params.to_string(),
            _ => unreachable!("it answers with a table"),
        }
    }

    fn call(&self, command: Command) -> Answer {
        block_on(self.control.execute(command)).expect("a benchmark's operations succeed")
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}
