//! The place of an image among those that are attached.

use std::sync::Weak;

use sim_core::DevNumber;

/// The entry of an image. It is the last of an image to go: until then its number is taken, and
/// whoever wants the same file waits.
pub(crate) struct Place {
    places: Weak<dyn Places>,
    number: DevNumber,
}

/// Who gives places out.
pub(crate) trait Places: Send + Sync {
    /// Takes a place back: its image is gone.
    fn take_back(&self, number: DevNumber);
}

impl Place {
    pub(crate) fn new(places: Weak<dyn Places>, number: DevNumber) -> Place {
        Place { places, number }
    }

    pub(crate) fn number(&self) -> DevNumber {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.places.upgrade() {
            places.take_back(self.number);
        }
    }
}
