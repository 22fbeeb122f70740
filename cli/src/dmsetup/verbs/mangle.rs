//! `mangle`: gives devices the names that this mangling mode would have given them.

use sim_core::control::{Answer, Command, Listed, NewName};

use super::rename::carry_out;
use crate::dmsetup::Called;
use crate::dmsetup::session::{Done, Session, Stop, Task};
use daemon::mangle::{self as form, Mode, What};

/// `mangle [DEVICE...]`.
pub(super) fn mangle(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    // Names that cannot be shown are what this verb is for: they are taken as they are.
    let answer = session.call("names", &Task::default(), Command::ListDevices)?;
    let Answer::Devices(devices) = answer else { unreachable!("a list answers a list") };
    if words.is_empty() && !session.options.names_a_device() {
        if devices.is_empty() {
            session.print("No devices found\n")?;
        }
        let mut result = Ok(());
        for device in &devices {
            match mangle_one(session, device) {
                Err(stop @ Stop::Output(_)) => return Err(stop),
                Err(stop) => result = Err(stop),
                Ok(()) => (),
            }
        }
        return result;
    }
    if words.is_empty() {
        let task = session.task(None)?;
        let status = match session.called {
            Called::Dmsim => session.known_status(&task)?,
            // Nothing is said of a device that is not there.
            Called::Dmsetup | Called::Dmstats => session.status(&task)?.ok_or(Stop::Failed)?,
        };
        let device = devices.iter().find(|device| device.dev == status.dev);
        return device.map_or(Err(Stop::Failed), |device| mangle_one(session, device));
    }
    words.iter().try_for_each(|word| {
        let mangled = form::mangle(word, What::Name, session.mode());
        let named = |name: &str| devices.iter().find(|device| device.name == name);
        let found = named(word).or_else(|| named(mangled.as_deref().ok()?));
        found.map_or(Err(Stop::Failed), |device| mangle_one(session, device))
    })
}

fn mangle_one(session: &mut Session<'_, '_>, device: &Listed) -> Done {
    let name = &device.name;
    let mode = session.mode();
    if mode == Mode::Auto && form::is_mangled_twice(name) {
        return session.fail(&format!(
            "The name \"{name}\" seems to be mangled more than once. Manual intervention required to rename the device."
        ));
    }
    let right = |text: &str, what: What| match mode {
        Mode::None => Ok(form::decode(text)),
        Mode::Auto | Mode::Hex => form::mangle(&form::decode(text), what, Mode::Hex),
    };
    let new = right(name, What::Name);
    let new = session.try_text(new)?;
    if let Some(uuid) = &device.uuid
        && right(uuid, What::Uuid).as_ref() != Ok(uuid)
    {
        session.complain(&format!("{name}: {uuid}: UUID in incorrect form. "));
        let why = "Unable to change device UUID. The device must be deactivated first.";
        return session.fail(why);
    }
    if new == *name {
        let (uuid, what) = match &device.uuid {
            Some(uuid) => (uuid.as_str(), "name and UUID"),
            None => ("[no UUID]", "name"),
        };
        return session.print(format_args!("{name}: {uuid}: {what} already in correct form\n"));
    }
    session.print(format_args!("{name}: renaming to {new}\n"))?;
    let task = Task::named(name);
    carry_out(session, &task, NewName::Name(new))
}
