//! A control plane in this process, whose operations can be made to fail one by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backing::{Attach, Attached, Images, Pool, block_on};
use daemon::describe::describe;
use daemon::protocol::User;
use daemon::{About, Description, Fault};
use sim_core::control::{Answer, Backing, Command, Failure, Record};
use sim_core::{Access, Control, Errno, NoLog, Sectors};
use tempfile::TempDir;

use crate::commands::{load, one, resume};
use crate::device_mapper::{DeviceMapper, Turn};

/// When a command is made to fail, of those that are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fails {
    Never,
    /// In the place of this one.
    At(usize),
    /// In the place of this one and of all that follow, as if nobody sent them any more.
    From(usize),
    /// After this one has done its work.
    After(usize),
}

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    control: Arc<Control>,
    images: Arc<Images>,
    pub(crate) fails: Fails,
    pub(crate) calls: usize,
}

impl DeviceMapper for Bench {
    fn control(&mut self, command: Command) -> Result<Result<Answer, Failure>, Fault> {
        // Questions do not count: they are asked on the way back too.
        let sets = |message: &str| message.starts_with("resync_rate ");
        let counts = match &command {
            Command::TargetMsg { message, .. } => sets(message),
            _ => false,
        } || matches!(
            command,
            Command::DevCreate { .. }
                | Command::DevRemove { .. }
                | Command::DevSuspend { .. }
                | Command::DevResume { .. }
                | Command::TableLoad { .. }
        );
        self.calls += usize::from(counts);
        let failed = || Ok(Err(Failure::from(Errno::IO)));
        let is_late = matches!(self.fails, Fails::From(first) if first <= self.calls);
        let is_change = counts || matches!(command, Command::TableClear { .. });
        if (is_change && is_late) || (counts && self.fails == Fails::At(self.calls)) {
            return failed();
        }
        let result = block_on(self.control.execute(command));
        if counts && self.fails == Fails::After(self.calls) {
            return failed();
        }
        Ok(result)
    }

    fn images(&mut self) -> Result<Vec<Attached>, Fault> {
        Ok(self.images.list())
    }

    fn describe(&mut self) -> Result<Vec<Description>, Fault> {
        Ok(block_on(describe(&self.control, None)).expect("devices"))
    }

    fn attach(&mut self, image: Attach) -> Result<Attached, Fault> {
        self.images.attach(&image).about("attach")
    }

    fn detach(&mut self, image: &str) -> Result<(), Fault> {
        self.images.detach(image).about("detach")
    }

    fn resize(&mut self, image: &str) -> Result<(), Fault> {
        self.images.resize(image).map(drop).about("resize")
    }

    fn users(&mut self) -> Result<Vec<User>, Fault> {
        Ok(Vec::new())
    }

    fn mount(&self) -> &Path {
        Path::new("/nowhere/mapper")
    }

    fn turn(&self) -> Result<Option<Turn>, Fault> {
        Ok(Some(Turn(None)))
    }

    fn advise(&self, what: &str) {
        panic!("no arrangement of a workflow's own is warned of: {what}");
    }
}

pub(crate) const SIZE: Sectors = Sectors(2048);

impl Bench {
    /// A device over a file.
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let image = dir.path().join("disk");
        std::fs::write(&image, vec![7; SIZE.bytes() as usize]).expect("room for it");
        let images = Images::new();
        let backing: Arc<dyn Backing> = images.clone();
        let control = Control::new(targets::registry(), backing, Pool::new(1), Arc::new(NoLog));
        let mut bench = Bench { dir, control, images, fails: Fails::Never, calls: 0 };
        bench.device("base", &format!("{} 0", image.display()));
        bench
    }

    /// Makes a file in the bench's folder, full of one byte.
    pub(crate) fn file(&self, name: &str, byte: u8, sectors: Sectors) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, vec![byte; sectors.bytes() as usize]).expect("room for it");
        path
    }

    pub(crate) fn device(&mut self, name: &str, params: &str) {
        let command = Command::DevCreate { name: name.to_owned(), uuid: None, minor: None };
        self.control(command).expect("no fault").expect("a device");
        load(self, name, Access::ReadWrite, one(SIZE, "linear", params)).expect("a table");
        resume(self, name).expect("a table");
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.control.records()
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("disk")).expect("an image")
    }
}
