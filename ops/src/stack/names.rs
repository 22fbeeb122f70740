//! What devices are called: as numbers in an instance, by names and paths in a file.

use std::path::{Path, PathBuf};

use backing::Attached;
use daemon::Fault;
use daemon::client::unexpected;
use daemon::mangle::{self, Mode, What};
use daemon::protocol::Outcome;
use sim_core::control::{Answer, Command, Listed};
use sim_core::{DevNumber, TargetSpec};

use super::save::ImagesBy;
use super::words::{canonical, is_key, joined, same_key, unescaped};
use crate::device_mapper::DeviceMapper;

/// What is called how, at one moment.
pub(super) struct Names {
    pub(super) images: Vec<Attached>,
    pub(super) devices: Vec<Listed>,
    mount: PathBuf,
}

impl Names {
    pub(super) fn of(dm: &mut dyn DeviceMapper) -> Result<Names, Fault> {
        let images = dm.images()?;
        let devices = match dm.control(Command::ListDevices)? {
            Ok(Answer::Devices(devices)) => devices,
            other => return Err(unexpected(Outcome::Control(other))),
        };
        Ok(Names { images, devices, mount: dm.mount().to_owned() })
    }

    pub(super) fn device(&self, name: &str) -> Option<&Listed> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Returns what a file in a folder calls a device: `/dev/mapper/NAME`, an image's name, its path.
    pub(super) fn word(&self, dev: DevNumber, folder: &Path, images: ImagesBy) -> Option<String> {
        if let Some(device) = self.devices.iter().find(|device| device.dev == dev) {
            return Some(format!("/dev/mapper/{}", as_typed(&device.name)));
        }
        let image = self.images.iter().find(|image| image.number == dev)?;
        match (&image.name, images) {
            (Some(name), ImagesBy::Name) => Some(name.clone()),
            (Some(_) | None, ImagesBy::Name | ImagesBy::Path) => {
                Some(below(&image.path, folder).display().to_string())
            }
        }
    }

    /// Writes the devices of a line as a file in a folder calls them.
    pub(super) fn in_words(
        &self,
        line: &TargetSpec,
        folder: &Path,
        images: ImagesBy,
    ) -> TargetSpec {
        let mut words = unescaped(&line.params);
        for word in words.iter_mut() {
            let named = word.parse().ok().and_then(|dev| self.word(dev, folder, images));
            if let Some(named) = named {
                *word = named;
            }
        }
        TargetSpec { params: joined(&words), ..line.clone() }
    }

    /// Tells whether a word of a file in a folder means a device.
    pub(super) fn means(&self, word: &str, dev: DevNumber, folder: &Path) -> bool {
        if word.parse() == Ok(dev) {
            return true;
        }
        let file = || folder.join(word);
        if let Some(device) = self.devices.iter().find(|device| device.dev == dev) {
            let name = word.strip_prefix("/dev/mapper/").unwrap_or(word);
            return mangled(name) == device.name
                || word == format!("/dev/dm-{}", dev.minor)
                || file() == self.mount.join(&device.name);
        }
        let Some(image) = self.images.iter().find(|image| image.number == dev) else {
            return false;
        };
        image.name.as_deref() == Some(word)
            || file().canonicalize().is_ok_and(|path| path == image.path)
    }

    /// Returns the file that a word means: an image's, or a mapped device's in the mount.
    pub(super) fn file(&self, word: &str, folder: &Path) -> PathBuf {
        let meant = |dev: DevNumber| self.means(word, dev, folder);
        if let Some(device) = self.devices.iter().find(|device| meant(device.dev)) {
            return self.mount.join(&device.name);
        }
        match self.images.iter().find(|image| meant(image.number)) {
            Some(image) => image.path.clone(),
            None => folder.join(word),
        }
    }

    /// Tells whether a line of a file says what a device has; keys, as far as the file says them.
    pub(super) fn same_line(&self, now: &TargetSpec, file: &TargetSpec, folder: &Path) -> bool {
        let is_head = (now.start, now.len) == (file.start, file.len);
        if !is_head || now.target_type != file.target_type {
            return false;
        }
        let (words_now, words) = (canonical(now), canonical(file));
        let mut pairs = words_now.iter().zip(words.iter()).enumerate();
        words_now.len() == words.len()
            && pairs.all(|(index, (now_word, word))| match is_key(now, index) {
                true => same_key(now_word, word),
                false => {
                    let meant = |dev: DevNumber| self.means(word, dev, folder);
                    now_word == word || now_word.parse().is_ok_and(meant)
                }
            })
    }
}

/// Returns a path as one below a folder, where it lies there.
pub(super) fn below(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}

/// Returns a name as people type it; as the kernel has it, where that would not be read back.
pub(super) fn as_typed(name: &str) -> String {
    let typed = mangle::decode(name);
    if mangled(&typed) == name { typed } else { name.to_owned() }
}

/// Returns a typed name as the kernel has it; as it is, where no device can have it.
pub(super) fn mangled(name: &str) -> String {
    mangle::mangle(name, What::Name, Mode::Auto).unwrap_or_else(|_| name.to_owned())
}

/// Writes the words of a line that begin with `/dev/mapper/` as the kernel has the names.
pub(super) fn for_the_kernel(line: &TargetSpec) -> TargetSpec {
    if !line.params.contains("/dev/mapper/") {
        return line.clone();
    }
    let mut words = unescaped(&line.params);
    for word in words.iter_mut() {
        if let Some(name) = word.strip_prefix("/dev/mapper/") {
            *word = format!("/dev/mapper/{}", mangled(name));
        }
    }
    TargetSpec { params: joined(&words), ..line.clone() }
}
