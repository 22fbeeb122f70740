//! What is above what: `holders` and `slaves`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sim_core::DevNumber;

use super::{Facts, HIDDEN, State, Tree};

impl Tree {
    /// Writes the links of a device, of what is and was below it, and of what is above it.
    pub(super) fn tie(
        &self,
        state: &State,
        facts: &Facts,
        was_below: &[DevNumber],
    ) -> io::Result<()> {
        let is_there = state.devices.contains_key(&facts.minor);
        let above = state.devices.values().filter(|device| device.below.contains(&facts.dev));
        for device in above.chain(is_there.then_some(facts)) {
            let slaves = Path::new(HIDDEN).join(device.kernel_name()).join("slaves");
            // From `dm-N/slaves`.
            let of = |dev: &DevNumber| {
                let (name, path) = self.folder_of(state, *dev)?;
                Some((name, Path::new("../..").join(path)))
            };
            state.place.links(&slaves, &device.below.iter().filter_map(of).collect())?;
        }
        let below: BTreeSet<_> = facts.below.iter().chain(was_below).collect();
        for dev in below {
            let is_above = is_there && facts.below.contains(dev);
            self.write_holders(state, *dev, Some((&facts.kernel_name(), is_above)))?;
        }
        if is_there {
            self.write_holders(state, facts.dev, None)?;
        }
        Ok(())
    }

    /// Writes what is above a device: all of it, or whether the one that is named is.
    pub(super) fn write_holders(
        &self,
        state: &State,
        dev: DevNumber,
        changed: Option<(&str, bool)>,
    ) -> io::Result<()> {
        let Some((name, path)) = self.folder_of(state, dev) else { return Ok(()) };
        let up: PathBuf = path.components().map(|_| "..").chain([".."]).collect();
        let folder = Path::new(HIDDEN).join(&path);
        let above = || state.devices.values().filter(|device| device.below.contains(&dev));
        let (is_ours, is_shadowed) = (
            state.devices.values().any(|device| device.dev == dev),
            above().next().is_some() && state.place.has_folder(&folder.join("holders")),
        );
        if let Some((holder, is_above)) = changed
            && (is_ours || is_shadowed)
        {
            let link = folder.join("holders").join(holder);
            return match is_above {
                true => state.place.link(&link, &up.join(holder)),
                false => state.place.remove(&link),
            };
        }
        let names: Vec<_> = above().map(Facts::kernel_name).collect();
        let mut holders: BTreeMap<_, _> =
            names.iter().map(|name| (name.clone(), up.join(name))).collect();
        if is_ours {
            return state.place.links(&folder.join("holders"), &holders);
        }
        let Some(device) = state.host.device(dev) else { return Ok(()) };
        let number = Path::new("sys-dev-block").join(dev.to_string());
        let by_name = Path::new("sys-block").join(&name);
        if names.is_empty() {
            state.place.link(&number, &device.by_number)?;
            if let Some(target) = &device.by_name {
                state.place.link(&by_name, target)?;
            }
            return state.place.remove(&folder);
        }
        // Those that the host knows of, another partition's or array's.
        for entry in fs::read_dir(device.real.join("holders")).into_iter().flatten() {
            let entry = entry?;
            if let (Ok(path), Ok(name)) =
                (entry.path().canonicalize(), entry.file_name().into_string())
            {
                holders.entry(name).or_insert(path);
            }
        }
        state.place.folder(&folder)?;
        for entry in fs::read_dir(&device.real)? {
            let entry = entry?;
            if entry.file_name() != "holders" {
                state.place.link(&folder.join(entry.file_name()), &entry.path())?;
            }
        }
        state.place.links(&folder.join("holders"), &holders)?;
        let leads = self.dir.join(&folder);
        state.place.link(&number, &leads)?;
        if device.by_name.is_some() {
            state.place.link(&by_name, &leads)?;
        }
        Ok(())
    }

    /// Finds a device's name, and where its folder or shadow is or would be, from where they all lie.
    ///
    /// That of a partition has the name of the disk above its own, as programs find the disk so.
    fn folder_of(&self, state: &State, dev: DevNumber) -> Option<(String, PathBuf)> {
        if let Some(device) = state.devices.values().find(|device| device.dev == dev) {
            let name = device.kernel_name();
            return Some((name.clone(), name.into()));
        }
        let device = state.host.device(dev)?;
        let name = device.real.file_name()?.to_str()?.to_owned();
        let path = match device.real.join("partition").exists() {
            true => Path::new("partitions").join(device.real.parent()?.file_name()?).join(&name),
            false => PathBuf::from(&name),
        };
        Some((name, path))
    }
}
