//! Drops what was there before from the record.

use std::collections::HashSet;

use sim_core::DevNumber;

use super::state::Daemon;
use crate::family::{MADE_FOR_RAID, is_part_of};
use crate::fault::Fault;
use crate::mangle;
use crate::protocol::Forgotten;
use crate::record::{ImageRecord, Past, PastDevice, PastImage};

impl Daemon {
    /// Drops what was there before from the record: all of it, or what is called so. With a RAID set goes what
    /// was made for it.
    pub(super) fn forget(&self, asked: &[Forgotten]) -> Result<(), Fault> {
        if asked.is_empty() {
            self.keeper.forget();
            return Ok(());
        }
        let past = self.keeper.past()?;
        // All of them, or none.
        let mut all = Vec::new();
        for one in asked {
            let found = (images(&past, one), devices(&past, &one.word));
            if found.0.is_empty() && found.1.is_empty() {
                let why = "nothing of this name is on record from before: `dmsim restore` says what is, and what is \
                           there already goes by `remove` and `detach`";
                return Err(Fault::new(&one.word, why));
            }
            all.push(found);
        }
        for (mut images, devices) in all {
            images.extend(left_alone(&past, &devices));
            images.into_iter().for_each(|image| self.keeper.image_is_back(image));
            devices.into_iter().for_each(|device| self.keeper.device_is_back(device));
        }
        Ok(())
    }
}

fn images<'a>(past: &'a Past, asked: &Forgotten) -> Vec<&'a PastImage> {
    let is = |image: &ImageRecord| {
        image.name.as_ref() == Some(&asked.word)
            || image.dev.to_string() == asked.word
            || image.path.as_os_str() == asked.word.as_str()
            || asked.path.as_ref() == Some(&image.path)
    };
    past.images.iter().filter(|past| is(&past.image)).collect()
}

/// Lists the devices of a name, and those that were made for a set of that name.
fn devices<'a>(past: &'a Past, word: &str) -> Vec<&'a PastDevice> {
    let is = |past: &&PastDevice| {
        let (own, uuid) = (&past.device.name, past.device.uuid.as_deref());
        own == word || mangle::decode(own) == *word || is_part_of(word, own, uuid)
    };
    past.devices.iter().filter(is).collect()
}

/// Lists the images that nothing else on record uses than the devices of a set, which attached them by itself.
fn left_alone<'a>(past: &'a Past, devices: &[&PastDevice]) -> Vec<&'a PastImage> {
    let is_of_set = |device: &&&PastDevice| {
        device.device.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_FOR_RAID))
    };
    let below = |device: &PastDevice| device.below().collect::<Vec<_>>();
    let own: HashSet<DevNumber> =
        devices.iter().filter(is_of_set).flat_map(|device| below(device)).collect();
    let others = past.devices.iter().filter(|device| !devices.contains(device));
    let others: HashSet<DevNumber> = others.flat_map(below).collect();
    let is_alone = |image: &ImageRecord| {
        image.name.is_none() && own.contains(&image.dev) && !others.contains(&image.dev)
    };
    past.images.iter().filter(|past| is_alone(&past.image)).collect()
}
