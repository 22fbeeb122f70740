//! The verbs about udev's cookies: `udevcreatecookie` and `udevreleasecookie`, `udevflags`,
//! `udevcomplete` and `udevcomplete_all`, `udevcookies`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use backing::{ListedSemaphore, Semaphore, local_time};
use serde_json::json;

use crate::dmsetup::session::{Done, Session, Stop};
use crate::dmsetup::udev::{BAD, MAGIC, identified, number, signed, text};

/// The names of the flags in a cookie's upper half that are device-mapper's own, from the lowest on.
const FLAGS: [&str; 7] = [
    "DISABLE_DM_RULES",
    "DISABLE_SUBSYSTEM_RULES",
    "DISABLE_DISK_RULES",
    "DISABLE_OTHER_RULES",
    "LOW_PRIORITY",
    "DISABLE_LIBRARY_FALLBACK",
    "PRIMARY_SOURCE",
];

/// `udevcreatecookie`: prints a new cookie; nothing where no udev runs, as then nobody waits.
pub(super) fn create_cookie(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    if !session.waits_for_udev() {
        return Ok(());
    }
    let mut first = [0; 2];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut first));
    if random.is_err() {
        return session.fail("Failed to open /dev/urandom to create random cookie value");
    }
    // Every number is tried, from one on that nobody knows.
    let first = u16::from_ne_bytes(first);
    for at in 0..=u16::MAX {
        let base = first.wrapping_add(at);
        if base == 0 {
            continue;
        }
        let cookie = MAGIC << 16 | u32::from(base);
        match Semaphore::create(cookie.cast_signed(), 1) {
            Ok(_) => return session.print(format_args!("0x{cookie:08X}\n")),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
            Err(error) => {
                let line = match error.kind() {
                    ErrorKind::OutOfMemory => {
                        "Not enough memory to create notification semaphore".to_owned()
                    }
                    ErrorKind::StorageFull => {
                        "Limit for the maximum number of semaphores reached. You can check and set the \
                         limits in /proc/sys/kernel/sem."
                            .to_owned()
                    }
                    _ => format!("Failed to create notification semaphore: {}", text(&error)),
                };
                return session.fail(&line);
            }
        }
    }
    session.fail("Every cookie is taken: `dmsetup udevcookies` lists them")
}

/// `udevreleasecookie [COOKIE]`: waits for all that is part of a cookie, and takes it away.
pub(super) fn release_cookie(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let cookie = match words.first() {
        Some(word) => Some(cookie(session, word)?),
        None => session.udev_cookie(),
    };
    let Some(cookie) = cookie else { return session.fail("No udev transaction cookie given.") };
    if !session.waits_for_udev() {
        return Ok(());
    }
    let semaphore = session.open_cookie(cookie)?;
    if let Err(stop) = session.lower_cookie(cookie, &semaphore) {
        session.complain(&format!(
            "Failed to set a proper state for notification semaphore {} to initialize waiting for \
             incoming notifications.",
            identified(cookie)
        ));
        remove(session, cookie, &semaphore)?;
        return Err(stop);
    }
    if let Err(error) = semaphore.wait_for_zero() {
        if error.raw_os_error() == Some(EIDRM) {
            // Somebody else has ended the waiting.
            return Ok(());
        }
        let (identified, why) = (identified(cookie), text(&error));
        session.complain(&format!(
            "Could not set wait state for notification semaphore {identified}: {why}"
        ));
        remove(session, cookie, &semaphore)?;
        return Err(Stop::Failed);
    }
    remove(session, cookie, &semaphore)
}

/// What a wait for a semaphore ends with that is taken away.
const EIDRM: i32 = 43;

/// `udevflags COOKIE`: prints what the upper half of a cookie says to udev's rules.
pub(super) fn flags(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let flags = cookie(session, &words[0])? >> 16;
    for bit in (0..16).filter(|bit| flags & 1 << bit != 0) {
        match (FLAGS.get(bit), bit.checked_sub(8)) {
            (Some(name), _) => session.print(format_args!("DM_UDEV_{name}_FLAG='1'\n"))?,
            (None, None) => session.print(format_args!("DM_UDEV_FLAG{bit}='1'\n"))?,
            (None, Some(bit)) => {
                session.print(format_args!("DM_SUBSYSTEM_UDEV_FLAG{bit}='1'\n"))?
            }
        }
    }
    Ok(())
}

/// `udevcomplete COOKIE`: what udev's rules say when they are done with one change.
pub(super) fn complete(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let cookie = cookie(session, &words[0])?;
    session.print(format_args!("DM_COOKIE_COMPLETED=0x{:<10}\n", format!("{cookie:x}")))?;
    let base = cookie & 0xffff;
    // Without a number of its own it is flags for the rules alone, and nobody waits.
    if base == 0 || !session.waits_for_udev() {
        return Ok(());
    }
    let cookie = MAGIC << 16 | base;
    let semaphore = session.open_cookie(cookie)?;
    session.lower_cookie(cookie, &semaphore).or_else(|_| {
        session.fail(&format!(
            "Could not signal waiting process using notification semaphore {}",
            identified(cookie)
        ))
    })
}

/// `udevcomplete_all [MINUTES]`: takes away all cookies, or those that nobody has touched for so long.
pub(super) fn complete_all(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let minutes = match words.first() {
        None => 0,
        Some(word) => match minutes(word) {
            Some(minutes) => minutes,
            None => return session.fail("Failed to read age_in_minutes parameter."),
        },
    };
    let prefixed = format!("prefixed by {MAGIC} (0x{MAGIC:x})");
    if !session.options.yes {
        let older = match minutes.cast_signed() {
            0 => String::new(),
            minutes => format!("older than {minutes} minutes "),
        };
        session.complain(&format!(
            "WARNING: This operation will destroy all semaphores {older}with keys that have a prefix \
             {MAGIC} (0x{MAGIC:x})."
        ));
        if !is_confirmed(session)? {
            return session.print(format_args!("Semaphores with keys {prefixed} NOT destroyed.\n"));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age_s = i64::from(minutes.wrapping_mul(60));
    let now_s = i64::try_from(now).unwrap_or(i64::MAX);
    let (mut destroyed, mut skipped) = (0, 0);
    for cookie in cookies(session)? {
        let is_young = |moment_s: i64| moment_s.saturating_add(age_s) > now_s;
        if is_young(cookie.changed_s) || is_young(cookie.used_s) {
            skipped += 1;
            continue;
        }
        match Semaphore::with_id(cookie.id).remove() {
            Ok(()) => destroyed += 1,
            Err(_) => session.complain(&format!(
                "Could not cleanup notification semaphore with semid {} and cookie value {} (0x{:x}).",
                cookie.id, cookie.key, cookie.key
            )),
        }
    }
    session.print(format_args!(
        "{destroyed} semaphores with keys {prefixed} destroyed. {skipped} skipped.\n"
    ))
}

/// `udevcookies`: lists the cookies of the machine.
pub(super) fn list(session: &mut Session<'_, '_>, _words: &[String]) -> Done {
    let cookies = cookies(session)?;
    let mut rows = Vec::new();
    for cookie in cookies {
        match Semaphore::with_id(cookie.id).value() {
            Ok(value) => rows.push((cookie, value)),
            // To another user's the machine shows no more than that it is there.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => (),
            Err(error) => session.complain(&format!(
                "semid {}: sem_ctl failed for cookie 0x{:x}: {}",
                cookie.id,
                cookie.key,
                text(&error)
            )),
        }
    }
    if session.options.json {
        let row = |(cookie, value): &(ListedSemaphore, i32)| {
            json!({ "cookie": format!("0x{:x}", cookie.key), "semid": cookie.id, "value": value,
                    "used_s": cookie.used_s, "changed_s": cookie.changed_s })
        };
        return session.print_json(&rows.iter().map(row).collect());
    }
    session
        .print("Cookie       Semid      Value      Last semop time           Last change time\n")?;
    rows.into_iter().try_for_each(|(cookie, value)| {
        let ListedSemaphore { key, id, used_s, changed_s } = cookie;
        let moment = |seconds| local_time(seconds).unwrap_or_else(|| "unknown".to_owned());
        let (used, changed, key) = (moment(used_s), moment(changed_s), format!("{key:x}"));
        session.print(format_args!("0x{key:<10} {id:<10} {value:<10} {used}  {changed}\n"))
    })
}

fn cookies(session: &mut Session<'_, '_>) -> Done<Vec<ListedSemaphore>> {
    let listed = Semaphore::list()
        .or_else(|error| session.fail(&format!("sem_ctl: SEM_INFO failed: {}", text(&error))))?;
    let is_cookie = |listed: &ListedSemaphore| listed.key.cast_unsigned() >> 16 == MAGIC;
    Ok(listed.into_iter().filter(is_cookie).collect())
}

fn remove(session: &mut Session<'_, '_>, cookie: u32, semaphore: &Semaphore) -> Done {
    semaphore.remove().or_else(|error| {
        let (identified, why) = (identified(cookie), text(&error));
        session.fail(&format!("Could not cleanup notification semaphore {identified}: {why}"))
    })
}

fn cookie(session: &mut Session<'_, '_>, word: &str) -> Done<u32> {
    match number(word) {
        Some(cookie) => Ok(cookie),
        None => session.fail(BAD),
    }
}

/// Reads a count as `scanf` does: what comes after the digits is not looked at, and one below zero
/// is one of 32 bits from the end.
fn minutes(word: &str) -> Option<u32> {
    let (is_negative, digits) = signed(word.trim_ascii_start());
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return None;
    }
    let value = digits[..len].parse::<u64>().map_or(u32::MAX, |wide| {
        u32::try_from(wide & u64::from(u32::MAX)).expect("32 bits are left")
    });
    Some(if is_negative { value.wrapping_neg() } else { value })
}

/// Asks until a line has a `y` or an `n`; the last of these counts, and no line is a no.
fn is_confirmed(session: &mut Session<'_, '_>) -> Done<bool> {
    let mut answer = None;
    let mut is_new = true;
    let is_ended = loop {
        if std::mem::take(&mut is_new) {
            session.print("Do you really want to continue? [y/n]: ")?;
            session.flush()?;
        }
        let mut byte = [0];
        if !matches!(session.stdin().read(&mut byte), Ok(1)) {
            answer = Some(false);
            break false;
        }
        match byte[0].to_ascii_lowercase() {
            b'y' => answer = Some(true),
            b'n' => answer = Some(false),
            b'\n' if answer.is_some() => break true,
            b'\n' => is_new = true,
            _ => (),
        }
    };
    if !is_ended {
        session.print("\n")?;
    }
    Ok(answer == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_read_as_scanf_reads_them() {
        for (word, expected) in [
            ("5", Some(5)),
            (" +5", Some(5)),
            ("1x", Some(1)),
            ("-1", Some(u32::MAX)),
            ("4294967297", Some(1)),
            ("99999999999999999999", Some(u32::MAX)),
            ("x", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(minutes(word), expected, "{word}");
        }
    }
}
