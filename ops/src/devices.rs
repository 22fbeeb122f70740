//! Mapped devices, as workflows look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use daemon::Fault;
use daemon::client::unexpected;
use daemon::protocol::{Outcome, User};
use sim_core::control::{Answer, Command, DevStatus, Id, MAX_NAME, Overlap, Report, Slot};
use sim_core::{Access, DevNumber, Errno, KeyText, Sectors, TargetSpec};

use crate::device_mapper::DeviceMapper;
use crate::mount::places;
use daemon::mangle;

/// A mapped device with its live table, keys left out.
pub(crate) struct Device {
    pub(crate) status: DevStatus,
    pub(crate) live: Vec<TargetSpec>,
}

impl Device {
    pub(crate) fn name(&self) -> &str {
        &self.status.name
    }

    /// Returns the only line of the live table, if it is of this type.
    pub(crate) fn only(&self, target_type: &str) -> Option<&TargetSpec> {
        match &self.live[..] {
            [line] if line.target_type == target_type => Some(line),
            _ => None,
        }
    }

    pub(crate) fn size(&self) -> Sectors {
        self.live.iter().fold(Sectors::ZERO, |size, line| size + line.len)
    }

    pub(crate) fn refuse_suspended(&self) -> Result<(), Fault> {
        if self.status.suspended {
            let name = self.name();
            return Err(Fault::new(name, format!("is suspended: `dmsim resume {name}` first")));
        }
        Ok(())
    }

    /// Refuses a device that has no table, or one that waits.
    pub(crate) fn refuse_unready(&self) -> Result<(), Fault> {
        let name = self.name();
        if !self.status.live_present {
            let why = format!("has no table: `dmsim load` and `dmsim resume {name}` first");
            return Err(Fault::new(name, why));
        }
        if self.status.inactive_present {
            let why = format!(
                "has another table loaded: `dmsim resume {name}` swaps it in, `dmsim clear {name}` \
                 drops it"
            );
            return Err(Fault::new(name, why));
        }
        Ok(())
    }

    pub(crate) fn access(&self) -> Access {
        if self.status.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }
}

/// Refuses the name of a device that is to be made below another one, whose table moves there.
pub(crate) fn refuse_name_below(
    dm: &mut dyn DeviceMapper,
    name: &str,
    below: &str,
) -> Result<(), Fault> {
    if below.len() > MAX_NAME {
        let why = format!("its name is too long for a device `{below}`: `dmsim rename` it");
        return Err(Fault::new(name, why));
    }
    match find(dm, below)? {
        Some(_) => Err(name_below_taken(name, below)),
        None => Ok(()),
    }
}

/// Says that there is no name for the device that a table moves to.
pub(crate) fn name_below_taken(name: &str, below: &str) -> Fault {
    Fault::new(name, format!("its table moves to a device `{below}`, and that name is taken"))
}

pub(crate) fn named(name: &str) -> Id {
    Id::Name(name.to_owned())
}

/// Names who has a device open: programs, loop devices and where they are mounted, and tables of
/// other devices.
///
/// # Errors
/// Where the instance cannot be asked.
pub fn holders(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<String>, Fault> {
    let users = dm.users()?;
    let above = match find(dm, name)? {
        Some(device) => above(dm, device.status.dev)?,
        None => Vec::new(),
    };
    Ok(told(&users, name, &above))
}

fn told(users: &[User], name: &str, above: &[String]) -> Vec<String> {
    let users = users.iter().filter(|user| user.device == name).map(ToString::to_string);
    let tables = above.iter().map(|above| format!("the table of `{}`", mangle::decode(above)));
    users.chain(tables).collect()
}

/// Says who has a device open, as the reason of a fault.
pub(crate) fn in_use(dm: &mut dyn DeviceMapper, name: &str) -> Result<Fault, Fault> {
    let who = holders(dm, name)?;
    Ok(Fault::new(name, use_text(&who, &way_to_unmount(dm.mount(), name))))
}

fn use_text(who: &[String], way: &str) -> String {
    let by = if who.is_empty() { String::new() } else { format!(" by {}", who.join(", ")) };
    format!("is in use{by}{way}")
}

/// A device that others have open.
pub(crate) struct Used {
    /// Which it is, and who has it open.
    pub(crate) told: String,
    /// Nobody was found to have it open: whoever it was may be gone by now.
    pub(crate) is_in_passing: bool,
}

/// Says which of some devices, by the kernel's names, others have open, and who: programs, and tables of devices
/// that are none of these.
pub(crate) fn used_by_others(
    dm: &mut dyn DeviceMapper,
    devices: &BTreeSet<&str>,
) -> Result<Vec<Used>, Fault> {
    let users = dm.users()?;
    let all_above = daemon::all_above(list(dm)?, |command| dm.control(command))?;
    let mut used = Vec::new();
    for name in devices {
        let Some(device) = find(dm, name)? else { continue };
        let above = all_above.get(&device.status.dev).map_or(&[][..], Vec::as_slice);
        let is_other = |name: &&String| !devices.contains(name.as_str());
        let others: Vec<String> = above.iter().filter(is_other).cloned().collect();
        // Tables above count as well; who has it open in other ways is what is left.
        if !others.is_empty() || device.status.open_count as usize > above.len() {
            let who = told(&users, name, &others);
            let text = use_text(&who, &way_to_unmount(dm.mount(), name));
            let told = format!("{} {text}", mangle::decode(name));
            used.push(Used { told, is_in_passing: who.is_empty() });
        }
    }
    Ok(used)
}

/// Says how a device that is mounted is unmounted, to go behind what the mount is in the way of; nothing where it
/// is not.
pub fn way_to_unmount(mapper: &Path, name: &str) -> String {
    match ways_to_unmount(mapper).into_iter().find(|(device, _)| device == name) {
        Some((_, way)) => format!(": {way}"),
        None => String::new(),
    }
}

/// Says of each device of an instance that is mounted how it is unmounted, by its name as the kernel has it.
pub fn ways_to_unmount(mapper: &Path) -> BTreeMap<String, String> {
    let mut places_of = BTreeMap::<String, Vec<String>>::new();
    for place in places(mapper) {
        places_of.entry(place.device).or_default().push(place.at.display().to_string());
    }
    let way = |(device, at): (String, Vec<String>)| {
        let shown = mangle::decode(&device);
        let way = format!("`dmsim umount {shown}` unmounts it from {}", at.join(", "));
        (device, way)
    };
    places_of.into_iter().map(way).collect()
}

/// Tells whether a device was made by a workflow as a part of another: a leg of a set or a mirror, or what is
/// below a snapshot's origin.
pub fn is_part(status: &DevStatus) -> bool {
    let made = [
        crate::raid::MADE_BY_US,
        crate::mirror::MADE_BY_US,
        crate::snapshot::MADE_BY_US,
        daemon::family::MADE_FOR_CRASH,
    ];
    let uuid = status.uuid.as_deref().unwrap_or_default();
    made.iter().any(|prefix| uuid.starts_with(prefix))
}

/// Says what lies behind a kernel's name (`sda`, `dm-0`), as a person knows it: an image by its path, a
/// mapped device by its name. Nothing where there is none.
pub fn behind(dm: &mut dyn DeviceMapper, kernel_name: &str) -> Option<String> {
    if let Some(minor) = kernel_name.strip_prefix("dm-") {
        let id = Id::Dev(DevNumber::mapped(minor.parse().ok()?));
        let status = dm.control(Command::DevStatus { id, slot: Slot::Live }).ok()?;
        let Ok(Answer::Status(status)) = status else { return None };
        return Some(format!("the device `{}`", mangle::decode(&status.name)));
    }
    let image = dm.images().ok()?.into_iter().find(|image| image.kernel_name == kernel_name)?;
    Some(format!("the image {}", image.path.display()))
}

/// Says that a device, by the kernel's name, writes where another one does; `below` is what both map
/// onto, as [`behind`] says it.
pub fn overlap_text(name: &str, overlap: &Overlap, below: Option<String>) -> String {
    let Overlap { other, below_name, start, len, .. } = overlap;
    let (name, other) = (mangle::decode(name), mangle::decode(other));
    let below = below.unwrap_or_else(|| below_name.clone());
    let last = start.0.saturating_add(len.0.saturating_sub(1));
    format!("`{name}` and `{other}` both write to {below}, sectors {start} to {last}")
}

/// Lists the devices with a table that maps onto one.
pub(crate) fn above(dm: &mut dyn DeviceMapper, below: DevNumber) -> Result<Vec<String>, Fault> {
    daemon::above(list(dm)?, below, |command| dm.control(command))
}

pub(crate) fn list(dm: &mut dyn DeviceMapper) -> Result<Vec<String>, Fault> {
    match dm.control(Command::ListDevices)? {
        Ok(Answer::Devices(devices)) => Ok(devices.into_iter().map(|device| device.name).collect()),
        other => Err(unexpected(Outcome::Control(other))),
    }
}

/// Asks for a device and one of its texts; nothing where there is no such device.
pub(crate) fn report(
    dm: &mut dyn DeviceMapper,
    id: Id,
    report: Report,
    slot: Slot,
    keys: KeyText,
) -> Result<Option<(DevStatus, Vec<TargetSpec>)>, Fault> {
    let command = Command::TableStatus { id, report, slot, device_names: false, keys };
    match dm.control(command)? {
        Ok(Answer::Table(status, lines)) => Ok(Some((status, lines))),
        Err(failure) if failure.errno == Errno::NXIO && failure.why.is_none() => Ok(None),
        other => Err(unexpected(Outcome::Control(other))),
    }
}

/// What is said of a name that no device has.
pub(crate) const NO_SUCH: &str = "no such device: `dmsim ls` shows those that there are";

/// Finds a device by its name.
pub(crate) fn find(dm: &mut dyn DeviceMapper, name: &str) -> Result<Option<Device>, Fault> {
    by_id(dm, named(name))
}

pub(crate) fn by_id(dm: &mut dyn DeviceMapper, id: Id) -> Result<Option<Device>, Fault> {
    let found = report(dm, id, Report::Table, Slot::Live, KeyText::Zeros)?;
    Ok(found.map(|(status, live)| Device { status, live }))
}

/// Returns every mapped device.
pub(crate) fn devices(dm: &mut dyn DeviceMapper) -> Result<Vec<Device>, Fault> {
    let mut devices = Vec::new();
    for name in list(dm)? {
        devices.extend(find(dm, &name)?);
    }
    Ok(devices)
}

/// The suspension waits for I/O, which would wait for a suspended device below.
pub(crate) fn refuse_suspended_below(
    dm: &mut dyn DeviceMapper,
    device: &Device,
) -> Result<(), Fault> {
    let mut next = vec![device.status.dev];
    while let Some(dev) = next.pop() {
        let status = Command::DevStatus { id: Id::Dev(dev), slot: Slot::Live };
        // What is no mapped device cannot be suspended.
        let Ok(Answer::Status(status)) = dm.control(status)? else { continue };
        if status.suspended {
            let below = status.name;
            let why = format!("`{below}` below it is suspended: `dmsim resume {below}` first");
            return Err(Fault::new(device.name(), why));
        }
        let deps = Command::TableDeps { id: Id::Dev(dev), slot: Slot::Live };
        if let Ok(Answer::Deps(deps)) = dm.control(deps)? {
            next.extend(deps);
        }
    }
    Ok(())
}
