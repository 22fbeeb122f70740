//! `message`, `wait` and `setgeometry`: what is handed to a device as it stands.

use sim_core::Sector;
use sim_core::control::{Answer, Command, Slot};

use crate::dmsetup::session::{Done, Session};

/// `message DEVICE SECTOR WORDS...`.
pub(super) fn message(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let (device, words) = split_device(session, words);
    let task = session.task(device)?;
    let (sector, words) = words.split_first().expect("the verb has two words at least");
    let Ok(sector) = sector.trim_start().parse::<u64>() else {
        return session.fail("Invalid sector.");
    };
    if words.is_empty() {
        session.complain("No message supplied.");
    }
    let (sector, message) = (Sector(sector), words.join(" "));
    let command =
        Command::TargetMsg { id: task.id(), sector, message: message.into(), slot: Slot::Live };
    match session.call("message", &task, command)? {
        Answer::Text(Some(text)) if text.ends_with('\n') => session.print(text),
        Answer::Text(Some(text)) if !text.is_empty() => session.print(format_args!("{text}\n")),
        _ => Ok(()),
    }
}

/// `wait DEVICE [EVENT]`: until the event number is another than this.
pub(super) fn wait(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let (device, words) = match session.options.names_a_device() && words.len() < 2 {
        true => (None, words),
        false => (words.first().map(String::as_str), words.get(1..).unwrap_or_default()),
    };
    let task = session.task(device)?;
    let event_nr = words.first().map_or(0, |word| event_number(word));
    session.call("waitevent", &task, Command::DevWait { id: task.id(), event_nr })?;
    session.print_info_if_verbose(&task)
}

/// `setgeometry DEVICE CYLINDERS HEADS SECTORS START`.
pub(super) fn set_geometry(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    // There are five words, also where an option names the device.
    let (device, numbers) = split_device(session, words);
    let task = session.task(device)?;
    let command = Command::SetGeometry { id: task.id(), geometry: numbers[..4].join(" ") };
    session.call("setgeometry", &task, command).map(drop)
}

/// The first word is the device, where no option names one.
fn split_device<'w>(
    session: &Session<'_, '_>,
    words: &'w [String],
) -> (Option<&'w str>, &'w [String]) {
    match (session.options.names_a_device(), words) {
        (false, [device, rest @ ..]) => (Some(device), rest),
        (true, words) | (false, words @ []) => (None, words),
    }
}

/// Reads an event number as the 32 bits that the ioctl has room for.
fn event_number(word: &str) -> u32 {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let wide = word[..digits].parse::<u64>().unwrap_or(if digits == 0 { 0 } else { u64::MAX });
    u32::try_from(wide & u64::from(u32::MAX)).expect("32 bits are left")
}
