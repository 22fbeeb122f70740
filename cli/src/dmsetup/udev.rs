//! Udev's cookies: which one a command is part of, and whether anybody looks at it.
//!
//! A cookie is a semaphore of the machine, known by 0x0D4D and 16 bits of its own, that libdevmapper
//! raises before it changes a device and udev lowers when it is done with what came of that. Here a
//! device's file is there when the command is answered, so it is lowered at once.

use std::io::{self, ErrorKind};

use backing::Semaphore;

use super::dm::Called;
use super::session::{Done, Session};

/// What the upper half of a cookie's number is.
pub(super) const MAGIC: u32 = 0x0d4d;

/// Whether programs wait for udev, and for what.
#[derive(Debug, Default)]
pub(super) struct Udev {
    /// There is one.
    is_running: bool,
    /// It is to be left out: `DM_DISABLE_UDEV`.
    is_disabled: bool,
    /// The command does not wait for it: `--noudevsync`.
    is_passed_by: bool,
    /// That it is left out was told.
    told: bool,
    /// What changes are part of, by `--udevcookie` or `DM_UDEV_COOKIE`.
    cookie: Option<u32>,
}

impl Udev {
    pub(super) fn new(is_running: bool, cookie: Option<u32>) -> Udev {
        let is_disabled = std::env::var_os("DM_DISABLE_UDEV").is_some();
        Udev { is_running, is_disabled, cookie, ..Udev::default() }
    }
}

/// A cookie that a change is part of, until it is done.
#[must_use]
pub(super) struct Part(Option<(u32, Semaphore)>);

impl Session<'_, '_> {
    /// Reads the environment, and leaves udev out where that is asked for.
    pub(super) fn set_up_udev(&mut self) {
        for _ in 0..self.options.bad_cookies {
            self.complain(BAD);
        }
        if self.options.noudevsync {
            self.pass_udev_by();
        }
        if self.udev.cookie.is_none() {
            let cookie = std::env::var("DM_UDEV_COOKIE").unwrap_or_default();
            self.udev.cookie = match cookie.as_str() {
                "" => None,
                word => number(word).or_else(|| {
                    self.complain(BAD);
                    None
                }),
            };
        }
    }

    /// Does not wait for udev from now on.
    pub(super) fn pass_udev_by(&mut self) {
        self.udev.is_passed_by = true;
        self.waits_for_udev();
    }

    /// Tells whether cookies mean something; and once, that udev is left out.
    pub(super) fn waits_for_udev(&mut self) -> bool {
        let Udev { is_running, is_disabled, is_passed_by, told, .. } = self.udev;
        if is_running && is_disabled && !told {
            self.udev.told = true;
            if self.called != Called::Dmsim {
                self.complain(
                    "Udev is running and DM_DISABLE_UDEV environment variable is set. Bypassing udev, \
                     device-mapper library will manage device nodes in device directory.",
                );
            }
        }
        is_running && !is_disabled && !is_passed_by
    }

    /// The cookie that `--udevcookie` or the environment names.
    pub(super) fn udev_cookie(&self) -> Option<u32> {
        self.udev.cookie
    }

    /// Makes a change part of the cookie that is named; stops where there is none such.
    pub(super) fn begin_part(&mut self) -> Done<Part> {
        let waits = self.waits_for_udev();
        let Some(cookie) = self.udev.cookie.filter(|_| waits) else { return Ok(Part(None)) };
        let semaphore = self.open_cookie(cookie)?;
        match semaphore.raise() {
            Ok(()) => Ok(Part(Some((cookie, semaphore)))),
            Err(error) => {
                let (id, why) = (semaphore.id(), text(&error));
                self.complain(&format!("semid {id}: semop failed for cookie 0x{cookie:x}: {why}"));
                self.fail(&format!("Could not set notification semaphore {}", identified(cookie)))
            }
        }
    }

    /// Ends what [`begin_part`](Self::begin_part) began: whatever udev would do is done.
    pub(super) fn end_part(&mut self, Part(part): Part) {
        if let Some((cookie, semaphore)) = part {
            // Where somebody took the cookie away meanwhile, nobody waits for it any more.
            let _told = self.lower_cookie(cookie, &semaphore);
        }
    }

    /// Finds the semaphore that is a cookie.
    pub(super) fn open_cookie(&mut self, cookie: u32) -> Done<Semaphore> {
        let identified = identified(cookie);
        if cookie >> 16 != MAGIC {
            return self.fail(&format!(
                "Could not continue to access notification semaphore {identified}. Incorrect cookie prefix."
            ));
        }
        Semaphore::open(cookie.cast_signed()).or_else(|error| {
            let line = match error.kind() {
                ErrorKind::NotFound => {
                    format!("Could not find notification semaphore {identified}")
                }
                ErrorKind::PermissionDenied => {
                    format!("No permission to access notificaton semaphore {identified}")
                }
                _ => format!(
                    "Failed to access notification semaphore {identified}: {}",
                    text(&error)
                ),
            };
            self.fail(&line)
        })
    }

    /// Takes one off a cookie's value.
    pub(super) fn lower_cookie(&mut self, cookie: u32, semaphore: &Semaphore) -> Done {
        semaphore.lower().or_else(|error| {
            let why = match error.kind() {
                ErrorKind::WouldBlock => "incorrect semaphore state".to_owned(),
                _ => text(&error),
            };
            let id = semaphore.id();
            self.fail(&format!("semid {id}: semop failed for cookie 0x{cookie:x}: {why}"))
        })
    }
}

pub(super) const BAD: &str = "Incorrect cookie value.";

/// How messages name a cookie's semaphore.
pub(super) fn identified(cookie: u32) -> String {
    format!("identified by cookie value {cookie} (0x{cookie:x})")
}

/// The C library's text for a fault of the machine.
pub(super) fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Reads a cookie's number as `strtoul` does: decimal, hexadecimal after `0x`, octal after `0`. None
/// where it is zero, or no number of 32 bits.
pub(super) fn number(word: &str) -> Option<u32> {
    let blank = |char: char| char == ' ' || ('\t'..='\r').contains(&char);
    let word = word.trim_start_matches(blank);
    let (is_negative, word) = signed(word);
    let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, word.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, Some(_) | None) => (word, 10),
    };
    // A second sign is none of the number.
    let value = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
    let value = if is_negative { value.wrapping_neg() } else { value };
    u32::try_from(value).ok().filter(|value| *value != 0)
}

/// Takes the sign off a number, and tells whether that was a minus.
pub(super) fn signed(word: &str) -> (bool, &str) {
    match word.strip_prefix(['+', '-']) {
        Some(rest) => (word.starts_with('-'), rest),
        None => (false, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoul_reads_them() {
        for (word, expected) in [
            ("0xd4d0001", Some(0x0d4d_0001)),
            ("0X0D4D0001", Some(0x0d4d_0001)),
            (" 0xd4d0001", Some(0x0d4d_0001)),
            ("223154740", Some(0x0d4d_1234)),
            ("010", Some(8)),
            ("+5", Some(5)),
            ("4294967295", Some(u32::MAX)),
            ("-18446744073709551615", Some(1)),
            ("4294967296", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("0", None),
            ("00", None),
            ("0x", None),
            ("", None),
            ("x", None),
            ("0x12x", None),
            ("08", None),
            ("++5", None),
            ("5 ", None),
        ] {
            assert_eq!(number(word), expected, "{word}");
        }
    }
}
