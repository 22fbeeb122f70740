//! What a target is made with: the words of its table line, devices by their names, and what lies
//! around it.

use std::sync::{Arc, Weak};

use super::error::CtrError;
use super::open::OpenByWord;
use super::routes::FlatMaps;
use super::shared::{OptionalWords, Shared};
use super::words::{Arg, Words, shorten};
use crate::{
    Access, Area, DevNumber, KernelLog, OpenDevice, Routes, Runtime, Sector, Sectors, TargetEvents,
    TargetLog,
};

/// The words of a table line after the type, and what a target is made with besides.
pub struct Args<'a> {
    words: Words<'a>,
    start: Sector,
    devices: &'a mut dyn OpenByWord,
    around: Surroundings<'a>,
    /// The target type.
    name: &'a str,
    routes: Option<Routes>,
}

/// What targets are made with that does not come from their lines.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The device that the table is for.
    pub(crate) number: DevNumber,
    pub(crate) runtime: &'a Arc<dyn Runtime>,
    pub(crate) log: &'a Arc<dyn KernelLog>,
    pub(crate) events: &'a TargetEvents,
    pub(crate) shared: &'a Shared,
    pub(crate) device: &'a Weak<dyn FlatMaps>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(
        words: &'a [&'a str],
        (start, len): (Sector, Sectors),
        devices: &'a mut dyn OpenByWord,
        around: Surroundings<'a>,
        name: &'a str,
    ) -> Args<'a> {
        Args { words: Words::new(words, len), start, devices, around, name, routes: None }
    }

    /// Returns the number of the device that the table is for, as lines in the kernel's log have it.
    pub fn device_number(&self) -> DevNumber {
        self.around.number
    }

    /// Returns where the target begins on its device.
    pub fn target_start(&self) -> Sector {
        self.start
    }

    /// Returns the target's length.
    pub fn target_len(&self) -> Sectors {
        self.words.target_len()
    }

    /// Tells whether the table is read-only.
    pub fn access(&self) -> Access {
        self.devices.access()
    }

    /// Returns what the target asks for time, randomness and tasks.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        self.around.runtime
    }

    /// Returns what the targets of this instance share of type `T`, made when it is first asked
    /// for: what a kernel module would keep in a static variable.
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.around.shared.of()
    }

    /// Returns how the target changes where it sends bios while the device is in use. For one
    /// whose profile says `reroutes`; the same each time.
    pub fn routes(&mut self) -> Routes {
        let device = self.around.device;
        self.routes.get_or_insert_with(|| Routes::of(device.clone())).clone()
    }

    pub(crate) fn take_routes(&mut self) -> Option<Routes> {
        self.routes.take()
    }

    /// Returns where the target counts the events of its device.
    pub fn events(&self) -> TargetEvents {
        self.around.events.clone()
    }

    /// Returns where the target's own lines go in the kernel's log.
    pub fn log(&self) -> TargetLog {
        TargetLog::new(self.around.log.clone(), self.name)
    }

    /// Returns the words alone.
    pub fn words(&self) -> &Words<'a> {
        &self.words
    }

    /// Returns how many words there are.
    pub fn count(&self) -> usize {
        self.words.count()
    }

    /// Returns how many words are left.
    pub fn left(&self) -> usize {
        self.words.left()
    }

    /// Refuses any other number of words than `count`, in the kernel's words.
    pub fn exactly(&self, count: usize, kernel: &str) -> Result<(), CtrError> {
        self.words.exactly(count, kernel)
    }

    /// Refuses fewer words than `count`, in the kernel's words.
    pub fn at_least(&self, count: usize, kernel: &str) -> Result<(), CtrError> {
        self.words.at_least(count, kernel)
    }

    /// Returns the next word.
    pub fn next(&mut self, kernel: &str) -> Result<Arg<'a>, CtrError> {
        self.words.next(kernel)
    }

    /// Returns the next word, which may be left out. The tests of targets take a line for wrong that
    /// is loaded with a word less, unless that word is read here or after
    /// [`optional_from`](Self::optional_from).
    pub fn optional(&mut self) -> Option<Arg<'a>> {
        let index = self.words.count() - self.words.left();
        self.optional_from(index);
        self.words.next("").ok()
    }

    /// Says that the words from `index` on, counted from 0, may be left out, where they are read in
    /// another way.
    pub fn optional_from(&self, index: usize) {
        self.shared::<OptionalWords>().0.lock().insert((self.start, index));
    }

    /// Returns the word at `index`, counted from 0.
    pub fn at(&self, index: usize, kernel: &str) -> Result<Arg<'a>, CtrError> {
        self.words.at(index, kernel)
    }

    /// Returns the words of a group of optional arguments, as [`Words::group`].
    pub fn group(&self, first: usize, max: u32, kernel: &str) -> Result<Vec<Arg<'a>>, CtrError> {
        self.words.group(first, max, kernel)
    }

    /// Opens the device that a word names.
    pub fn device(&mut self, arg: Arg<'_>, kernel: &str) -> Result<Arc<OpenDevice>, CtrError> {
        self.devices.open(arg.text()).map_err(|error| {
            let found = shorten(arg.text());
            CtrError::new(kernel)
                .errno(error.errno())
                .arg(arg.index())
                .detail(format!("device `{found}`: {error}"))
        })
    }

    /// Opens the device that a word names, as an area of `len` sectors from `start` on.
    pub fn area(
        &mut self,
        arg: Arg<'_>,
        start: Sector,
        len: Sectors,
        kernel: &str,
    ) -> Result<Area, CtrError> {
        Ok(Area::new(self.device(arg, kernel)?, start, len))
    }
}
