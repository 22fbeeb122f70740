//! Attached memory devices.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use backing::{Memory, block_on};
use sim_core::{
    Access, Backing, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Sector, Sectors,
};

use crate::script::Image;

/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// A loop device.
pub(crate) struct Loop {
    memory: Arc<Memory>,
    /// Writes fail. Linux lets a table open such a device for writing, too.
    read_only: bool,
}

impl Loop {
    pub(crate) fn new(image: &Image, content: Option<&[u8]>) -> Loop {
        let Image { minor, sectors, block, read_only, .. } = *image;
        let number = DevNumber { major: LOOP_MAJOR, minor };
        let memory = Memory::new(number, &format!("loop{minor}"), Sectors(sectors), block);
        if let Some(content) = content {
            block_on(memory.submit(Bio::write(Sector::ZERO, content))).unwrap();
        }
        Loop { memory, read_only }
    }
}

impl BlockDevice for Loop {
    fn number(&self) -> DevNumber {
        self.memory.number()
    }
    fn name(&self) -> String {
        self.memory.name()
    }
    fn size(&self) -> Sectors {
        self.memory.size()
    }
    fn limits(&self) -> Limits {
        self.memory.limits()
    }
    fn access(&self) -> Access {
        self.memory.access()
    }
    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        match self.read_only && bio.op().is_write() {
            true => Ok(Err(BlkError::Io)),
            false => self.memory.try_now(bio),
        }
    }
    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        match self.read_only && bio.op().is_write() {
            true => Box::pin(std::future::ready(Err(BlkError::Io))),
            false => self.memory.submit(bio),
        }
    }
    fn open(&self, access: Access) -> Result<(), Errno> {
        self.memory.open(access)
    }
    fn release(&self) {
        self.memory.release();
    }
    fn run_at(&self, at: Sector) -> (sim_core::Allocation, Sectors) {
        self.memory.run_at(at)
    }
}

/// Loop devices, by their minor.
#[derive(Default)]
pub(crate) struct Loops(Mutex<BTreeMap<u32, Arc<Loop>>>);

impl Loops {
    pub(crate) fn get(&self, minor: u32) -> Option<Arc<Loop>> {
        self.0.lock().unwrap().get(&minor).cloned()
    }

    pub(crate) fn add(&self, minor: u32, device: Loop) {
        self.0.lock().unwrap().insert(minor, Arc::new(device));
    }
}

impl Backing for Loops {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let found = (number.major == LOOP_MAJOR).then(|| self.get(number.minor)).flatten();
        found.map(|device| device as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }

    fn by_word<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            let minor = word.strip_prefix("/dev/loop").and_then(|minor| minor.parse().ok());
            match minor.and_then(|minor| self.get(minor)) {
                Some(device) => Ok(device as Arc<dyn BlockDevice>),
                None if Path::new(base).join(word).exists() => Err(Errno::NOTBLK),
                None => Err(Errno::NOENT),
            }
        })
    }
}
