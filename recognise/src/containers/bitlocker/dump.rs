//! Prints a BitLocker volume's metadata as `cryptsetup bitlkDump` does.

use std::fmt;

use super::{BitLocker, METADATA_BYTES};
use crate::bytes::hex;

impl fmt::Display for BitLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, mode) = self.cipher.split_once('-').unwrap_or((self.cipher, ""));
        writeln!(f, "Info for BITLK{} device", if self.to_go { " To Go" } else { "" })?;
        writeln!(f, "Version:      \t2")?;
        writeln!(f, "GUID:         \t{}", self.guid)?;
        writeln!(f, "Sector size:  \t{} [bytes]", self.sector_size)?;
        writeln!(f, "Volume size:  \t{} [bytes]", self.volume_size)?;
        writeln!(f, "Created:      \t{}", date(self.created))?;
        writeln!(f, "Description:  \t{}", self.description.as_deref().unwrap_or(""))?;
        writeln!(f, "Cipher name:  \t{name}")?;
        writeln!(f, "Cipher mode:  \t{mode}")?;
        writeln!(f, "Cipher key:   \t{} [bits]", self.key_bytes * 8)?;
        writeln!(f, "\nKeyslots:")?;
        for (number, protector) in self.protectors.iter().enumerate() {
            writeln!(f, " {number}: VMK")?;
            if let Some(name) = &protector.name {
                writeln!(f, "\tName:       \t{name}")?;
            }
            writeln!(f, "\tGUID:       \t{}", protector.guid)?;
            writeln!(f, "\tProtection: \t{}", protector.protection)?;
            writeln!(f, "\tSalt:       \t{}", hex(&protector.salt))?;
            if let Some(sealed) = &protector.sealed {
                writeln!(f, "\tKey data size:\t{} [bytes]", sealed.bytes.len())?;
            }
        }
        writeln!(f, " {}: FVEK", self.protectors.len())?;
        writeln!(f, "\tKey data size:\t{} [bytes]", self.volume_key.bytes.len())?;
        writeln!(f, "\nMetadata segments:")?;
        for (number, offset) in self.metadata_offsets.iter().enumerate() {
            writeln!(f, " {number}: FVE metadata area")?;
            writeln!(f, "\tOffset: \t{offset} [bytes]")?;
            writeln!(f, "\tSize:   \t{METADATA_BYTES} [bytes]")?;
        }
        writeln!(f, " 3: Volume header")?;
        writeln!(f, "\tOffset: \t{} [bytes]", self.header_offset)?;
        writeln!(f, "\tSize:   \t{} [bytes]", self.header_size)?;
        writeln!(f, "\tCipher: \t{}", self.cipher)
    }
}

/// Prints a time in seconds since 1970 as a date of the Gregorian calendar.
fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86400, seconds % 86400);
    // Years that begin in March have their leap day at their end: the days before a month follow a
    // line. An era is 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month > 9), (month + 2) % 12 + 1);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_588_695_828, "2020-05-05 16:23:48 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
