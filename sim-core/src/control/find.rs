//! Finds the device that a word of a table line names.

use std::sync::Arc;

use super::Control;
use super::graph::Graph;
use crate::{BlockDevice, DM_MAJOR, DevNumber, Errno, FindDevice};

/// Looks up devices for the table of one mapped device.
pub(super) struct Finder<'a> {
    pub(super) control: &'a Control,
    /// The device that the table is for: it cannot be its own target.
    pub(super) minor: u32,
    /// The directory that relative paths start from.
    pub(super) base: &'a str,
}

impl FindDevice for Finder<'_> {
    /// Tries, in this order: `major:minor`; an attached image's name; a mapped device's name,
    /// with `/dev/mapper/` or without; `/dev/dm-N`; the path of an image.
    fn find_device(&self, word: &str) -> Result<Arc<dyn BlockDevice>, Errno> {
        if let Ok(number) = word.parse::<DevNumber>() {
            return match number.major {
                DM_MAJOR => self.mapped(number.minor),
                _ => self.control.backing.by_number(number),
            };
        }
        if let Some(minor) = word.strip_prefix("/dev/dm-").and_then(|n| n.parse().ok()) {
            return self.mapped(minor).map_err(|errno| match errno {
                Errno::NXIO => Errno::NOENT,
                other => other,
            });
        }
        let name = word.strip_prefix("/dev/mapper/").unwrap_or(word);
        // A device that waits to be removed has lost its node, but not its number.
        if let Some(shown) = self.control.find_shown(name) {
            return self.mapped(shown.device.minor());
        }
        self.control.backing.by_word(word, self.base)
    }
}

impl Finder<'_> {
    fn mapped(&self, minor: u32) -> Result<Arc<dyn BlockDevice>, Errno> {
        let cells = self.control.cells();
        let cell = cells.get(&minor).filter(|cell| cell.has_disk).ok_or(Errno::NXIO)?;
        if minor == self.minor {
            return Err(Errno::INVAL);
        }
        if Graph::of(&cells).reaches(minor, self.minor) {
            return Err(Errno::LOOP);
        }
        Ok(cell.device.clone())
    }
}
