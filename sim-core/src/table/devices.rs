//! The devices that a table has open.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::ctr::open::{OpenByWord, OpenError};
use crate::graph::{Edge, Refused};
use crate::{Access, BlockDevice, BoxFuture, DevNumber, OpenDevice, Refusal};

/// Finds the device that a word of a table line names.
pub(crate) trait FindDevice: Sync {
    /// Returns the device: `ENOENT` for an unknown name, `ENXIO` for an unknown number,
    /// `ENOTBLK` for what is no block device.
    fn find_device(&self, word: &str) -> Lookup<'_>;

    /// Notes that the table maps onto a mapped device, unless it must not. None for a device that
    /// is not mapped.
    fn reserve(&self, below: &dyn BlockDevice) -> Result<Option<Edge>, Refused>;
}

type Device = Result<Arc<dyn BlockDevice>, Refusal>;

/// A device that was looked for.
pub(crate) enum Lookup<'a> {
    /// It is known.
    Now(Device),
    /// It has to be opened first, which may wait.
    Later(BoxFuture<'a, Device>),
}

/// The devices that a table has open: each once, however often it is named.
pub(super) struct Devices<'a> {
    finder: &'a dyn FindDevice,
    access: Access,
    /// What the device's other tables have open: shared where the access is the same.
    shared: HashMap<(DevNumber, Access), Arc<OpenDevice>>,
    by_word: HashMap<String, Arc<OpenDevice>>,
    by_number: HashMap<DevNumber, Arc<OpenDevice>>,
    /// The word that waits for its device.
    waiting: Option<(String, BoxFuture<'a, Device>)>,
    /// What came of the words that waited.
    opened: HashMap<String, Device>,
    /// In the order of their first use.
    pub(super) order: Vec<Arc<OpenDevice>>,
}

impl<'a> Devices<'a> {
    /// `open` is what the device's other tables have open.
    pub(super) fn new(
        finder: &'a dyn FindDevice,
        access: Access,
        open: &[Arc<OpenDevice>],
    ) -> Devices<'a> {
        let mut shared = HashMap::new();
        for open in open {
            shared.entry((open.number(), open.access())).or_insert_with(|| open.clone());
        }
        Devices {
            finder,
            access,
            shared,
            by_word: HashMap::new(),
            by_number: HashMap::new(),
            waiting: None,
            opened: HashMap::new(),
            order: Vec::new(),
        }
    }

    /// Waits for the device that the last [`OpenByWord::open`] left waiting; tells whether it did.
    pub(super) async fn wait(&mut self) -> bool {
        let Some((word, mut device)) = self.waiting.take() else { return false };
        let device = poll_fn(|cx| device.as_mut().poll(cx)).await;
        self.opened.insert(word, device);
        true
    }

    fn find(&mut self, word: &str) -> Result<Arc<dyn BlockDevice>, OpenError> {
        if let Some(device) = self.opened.get(word) {
            return Ok(device.clone()?);
        }
        let mut later = match self.finder.find_device(word) {
            Lookup::Now(device) => return Ok(device?),
            Lookup::Later(later) => later,
        };
        match later.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(device) => Ok(device?),
            Poll::Pending => {
                self.waiting = Some((word.to_owned(), later));
                Err(OpenError::Waits)
            }
        }
    }

    fn open_anew(&self, device: Arc<dyn BlockDevice>) -> Result<OpenDevice, OpenError> {
        let number = device.number();
        let edge = self.finder.reserve(&*device)?;
        let open = OpenDevice::below(device, self.access, edge)?;
        // What goes wrong for one table of the device does so for all.
        let others = [Access::ReadOnly, Access::ReadWrite];
        let other = others.iter().find_map(|access| self.shared.get(&(number, *access)));
        open.set_faults(other.and_then(|other| other.faults()));
        Ok(open)
    }
}

impl OpenByWord for Devices<'_> {
    fn open(&mut self, word: &str) -> Result<Arc<OpenDevice>, OpenError> {
        if let Some(device) = self.by_word.get(word) {
            return Ok(device.clone());
        }
        let device = self.find(word)?;
        let number = device.number();
        let open = match self.by_number.get(&number) {
            Some(open) => open.clone(),
            None => {
                let open = match self.shared.get(&(number, self.access)) {
                    Some(open) => open.clone(),
                    None => Arc::new(self.open_anew(device)?),
                };
                self.by_number.insert(number, open.clone());
                self.order.push(open.clone());
                open
            }
        };
        self.by_word.insert(word.to_owned(), open.clone());
        Ok(open)
    }

    fn access(&self) -> Access {
        self.access
    }
}
