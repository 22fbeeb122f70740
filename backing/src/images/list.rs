//! The list of images, and the ways to find one in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use sim_core::{DevNumber, FreeNumbers, LOOP_MAJOR, MAX_MINORS};

use crate::image::Image;
use crate::image::opening::Identity;

/// The minor numbers below this are kept for images that are named for them, `/dev/loop0` and so on:
/// one without such a name never has what another one will be attached as.
pub(super) const NAMED_LOOPS: u32 = 4096;

/// Tells whether a number is among those that are given out where nobody asks for one.
fn is_given_out(number: DevNumber) -> bool {
    number.major == LOOP_MAJOR && number.minor >= NAMED_LOOPS
}

/// Images by number, name and file. Finding one costs the same however many there are.
pub(super) struct List {
    entries: BTreeMap<DevNumber, Entry>,
    names: HashMap<String, DevNumber>,
    files: HashMap<Identity, BTreeSet<DevNumber>>,
    /// Those that are given out where nobody asks for one.
    loops: FreeNumbers,
}

pub(super) struct Entry {
    name: Option<String>,
    /// The file; none as long as it is not known which one it will be.
    file: Option<Identity>,
    state: State,
}

enum State {
    /// The file is being opened.
    Coming,
    Here {
        image: Weak<Image>,
        /// Keeps what the user attached; what a table attached is kept by its users alone.
        kept: Option<Arc<Image>>,
    },
    /// Detached; someone has not let go of it yet.
    Going(Weak<Image>),
}

impl Default for List {
    fn default() -> List {
        let loops = FreeNumbers::new(NAMED_LOOPS..MAX_MINORS);
        List { entries: BTreeMap::new(), names: HashMap::new(), files: HashMap::new(), loops }
    }
}

impl Entry {
    pub(super) fn image(&self) -> Option<Arc<Image>> {
        match &self.state {
            State::Coming => None,
            State::Here { image, .. } | State::Going(image) => image.upgrade(),
        }
    }

    /// Tells whether it will not stay as it is: whoever wants what it has waits.
    fn is_changing(&self) -> bool {
        match &self.state {
            State::Coming | State::Going(_) => true,
            State::Here { image, .. } => image.strong_count() == 0,
        }
    }

    pub(super) fn is_coming(&self) -> bool {
        matches!(self.state, State::Coming)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl List {
    pub(super) fn get(&self, number: DevNumber) -> Option<&Entry> {
        self.entries.get(&number)
    }

    pub(super) fn number_of(&self, name: &str) -> Option<DevNumber> {
        self.names.get(name).copied()
    }

    /// Lists the entries of a file: several where all of them are read-only.
    pub(super) fn holders(&self, file: Identity) -> impl Iterator<Item = (DevNumber, &Entry)> {
        let numbers = self.files.get(&file).into_iter().flatten();
        numbers.map(|number| (*number, &self.entries[number]))
    }

    /// Returns every image, by number.
    pub(super) fn all(&self) -> Vec<Arc<Image>> {
        self.entries.values().filter_map(Entry::image).collect()
    }

    /// Returns the lowest free `7:N` that no name is likely to want, and that nobody else has.
    pub(super) fn free_loop(&self, is_others: impl Fn(DevNumber) -> bool) -> Option<DevNumber> {
        let mut free = self.loops.free().map(|minor| DevNumber { major: LOOP_MAJOR, minor });
        free.find(|number| !is_others(*number))
    }

    /// Tells whether an entry that has any of these comes or goes.
    pub(super) fn is_changing(
        &self,
        file: Option<Identity>,
        name: Option<&str>,
        number: Option<DevNumber>,
    ) -> bool {
        let named = name.and_then(|name| self.number_of(name));
        let mut numbered = named.into_iter().chain(number).filter_map(|number| self.get(number));
        numbered.any(Entry::is_changing)
            || file.is_some_and(|file| self.holders(file).any(|(_, entry)| entry.is_changing()))
    }

    /// Takes a free number for an image whose file is about to be opened.
    pub(super) fn reserve(
        &mut self,
        number: DevNumber,
        name: Option<&str>,
        file: Option<Identity>,
    ) {
        if number.major == LOOP_MAJOR {
            self.loops.take(number.minor);
        }
        self.names.extend(name.map(|name| (name.to_owned(), number)));
        let entry = Entry { name: name.map(str::to_owned), file: None, state: State::Coming };
        self.entries.insert(number, entry);
        self.set_file(number, file);
    }

    /// Puts an image in the place that was reserved for it.
    pub(super) fn arrive(
        &mut self,
        number: DevNumber,
        file: Identity,
        image: &Arc<Image>,
        kept: Option<Arc<Image>>,
    ) {
        self.set_file(number, Some(file));
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = State::Here { image: Arc::downgrade(image), kept };
        }
    }

    /// Lets go of an image that the user detached, and returns what kept it.
    pub(super) fn detach(&mut self, number: DevNumber) -> Option<Arc<Image>> {
        let entry = self.entries.get_mut(&number)?;
        let image = entry.image().map(|image| Arc::downgrade(&image)).unwrap_or_default();
        match std::mem::replace(&mut entry.state, State::Going(image)) {
            State::Here { kept, .. } => kept,
            State::Coming | State::Going(_) => None,
        }
    }

    /// Takes an entry out, and tells whether an image was there until now: attached, and not
    /// detached.
    pub(super) fn remove(&mut self, number: DevNumber) -> bool {
        self.set_file(number, None);
        let Some(entry) = self.entries.remove(&number) else { return false };
        entry.name.map(|name| self.names.remove(&name));
        if is_given_out(number) {
            self.loops.give_back(number.minor);
        }
        matches!(entry.state, State::Here { .. })
    }

    fn set_file(&mut self, number: DevNumber, file: Option<Identity>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let before = std::mem::replace(&mut entry.file, file);
        if let Some(before) = before
            && let Some(numbers) = self.files.get_mut(&before)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.files.remove(&before);
            }
        }
        if let Some(file) = file {
            self.files.entry(file).or_default().insert(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_the_machine_has_is_passed_over() {
        let number = |minor| DevNumber { major: LOOP_MAJOR, minor };
        let mut list = List::default();
        assert_eq!(list.free_loop(|_| false), Some(number(NAMED_LOOPS)));
        assert_eq!(list.free_loop(|other| other.minor < 5000), Some(number(5000)));
        list.reserve(number(5000), None, None);
        assert_eq!(list.free_loop(|other| other.minor < 5000), Some(number(5001)));
        assert_eq!(list.free_loop(|_| true), None);
    }
}
