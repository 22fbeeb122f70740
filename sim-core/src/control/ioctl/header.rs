//! `struct dm_ioctl`: the 312 bytes that every call begins with.

use super::flags::{
    ACTIVE_PRESENT, DEFERRED_REMOVE, INACTIVE_PRESENT, INTERNAL_SUSPEND, QUERY_INACTIVE_TABLE,
    READONLY, SUSPEND,
};
use crate::DevNumber;
use crate::control::{DevStatus, Slot};

/// The length of the structure, and the place of what follows it in an answer.
pub const HEADER_LEN: usize = 312;

/// How much of it has a meaning: 7 bytes behind the uuid belong to nobody. No call can be
/// shorter, and an answer without a payload has this length.
pub const FIELDS_LEN: usize = 305;

/// The length of the version, which comes first.
pub(super) const VERSION_LEN: usize = 12;

pub(super) const NAME_LEN: usize = 128;
pub(super) const UUID_LEN: usize = 129;
const NAME_AT: usize = 48;
const UUID_AT: usize = NAME_AT + NAME_LEN;

/// The fields of `struct dm_ioctl`, as `linux/dm-ioctl.h` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the interface: the caller's in a call, the kernel's in an answer.
    pub version: [u32; 3],
    /// Bytes in the caller's buffer in all; in an answer, those that were written.
    pub data_size: u32,
    /// Where the payload begins, in bytes from the start of the header.
    pub data_start: u32,
    /// Targets in the payload of a load, or in the table that was asked for.
    pub target_count: u32,
    /// How many users have the device open.
    pub open_count: i32,
    /// `DM_*_FLAG`.
    pub flags: u32,
    /// The event number; in some calls udev's cookie.
    pub event_nr: u32,
    /// Nothing.
    pub padding: u32,
    /// The device's number, packed; 0 for none.
    pub dev: u64,
    /// The name, up to a NUL; what is behind the NUL has no meaning.
    pub name: [u8; NAME_LEN],
    /// The uuid, likewise.
    pub uuid: [u8; UUID_LEN],
}

impl Default for Header {
    fn default() -> Header {
        Header {
            version: [0; 3],
            data_size: 0,
            data_start: 0,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; NAME_LEN],
            uuid: [0; UUID_LEN],
        }
    }
}

impl Header {
    /// Reads the first [`FIELDS_LEN`] bytes; nothing where there are fewer.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..FIELDS_LEN)?;
        let word = |at| u32_at(bytes, at);
        Some(Header {
            version: [word(0)?, word(4)?, word(8)?],
            data_size: word(12)?,
            data_start: word(16)?,
            target_count: word(20)?,
            open_count: word(24)?.cast_signed(),
            flags: word(28)?,
            event_nr: word(32)?,
            padding: word(36)?,
            dev: u64_at(bytes, 40)?,
            name: bytes[NAME_AT..UUID_AT].try_into().ok()?,
            uuid: bytes[UUID_AT..].try_into().ok()?,
        })
    }

    /// Writes the fields over the first [`FIELDS_LEN`] bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn write(&self, bytes: &mut [u8]) {
        let [major, minor, patch] = self.version;
        let words = [major, minor, patch, self.data_size, self.data_start, self.target_count]
            .into_iter()
            .chain([self.open_count.cast_unsigned(), self.flags, self.event_nr, self.padding]);
        for (word, place) in words.zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[40..NAME_AT].copy_from_slice(&self.dev.to_ne_bytes());
        bytes[NAME_AT..UUID_AT].copy_from_slice(&self.name);
        bytes[UUID_AT..FIELDS_LEN].copy_from_slice(&self.uuid);
    }

    /// Returns the name's bytes.
    pub fn name(&self) -> &[u8] {
        until_nul(&self.name)
    }

    /// Returns the uuid's bytes.
    pub fn uuid(&self) -> &[u8] {
        until_nul(&self.uuid)
    }

    /// Which table's targets are counted, and reported.
    pub(super) fn slot(&self) -> Slot {
        match self.has(QUERY_INACTIVE_TABLE) {
            true => Slot::Inactive,
            false => Slot::Live,
        }
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u32, on: bool) {
        match on {
            true => self.flags |= flag,
            false => self.flags &= !flag,
        }
    }

    /// Puts in what the kernel does when it has found the device.
    pub(super) fn set_found(&mut self, status: &DevStatus) {
        put_text(&mut self.name, &status.name);
        put_text(&mut self.uuid, status.uuid.as_deref().unwrap_or_default());
        self.set(INACTIVE_PRESENT, status.inactive_present);
    }

    /// Puts in how a device is. A removal that is put off stays said where the caller said so.
    pub(super) fn set_status(&mut self, status: &DevStatus) {
        let has_table = match self.slot() {
            Slot::Live => status.live_present,
            Slot::Inactive => status.inactive_present,
        };
        self.set(SUSPEND, status.suspended);
        self.set(READONLY, has_table && status.read_only);
        self.set(ACTIVE_PRESENT, status.live_present);
        self.set(INTERNAL_SUSPEND, false);
        self.flags |= if status.deferred_remove { DEFERRED_REMOVE } else { 0 };
        self.dev = pack(status.dev);
        self.open_count = i32::try_from(status.open_count).unwrap_or(i32::MAX);
        self.event_nr = status.event_nr;
        let count = if has_table { status.target_count } else { 0 };
        self.target_count = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Takes out how a device is: the reverse of the two above.
    pub(super) fn status(&self) -> DevStatus {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        DevStatus {
            name: text(self.name()),
            uuid: Some(text(self.uuid())).filter(|uuid| !uuid.is_empty()),
            dev: unpack(self.dev),
            open_count: self.open_count.max(0).cast_unsigned(),
            event_nr: self.event_nr,
            target_count: self.target_count as usize,
            suspended: self.has(SUSPEND),
            read_only: self.has(READONLY),
            live_present: self.has(ACTIVE_PRESENT),
            inactive_present: self.has(INACTIVE_PRESENT),
            deferred_remove: self.has(DEFERRED_REMOVE),
            read_ahead: None,
            overlap: None,
            fault_rules: 0,
        }
    }
}

/// Packs a device's number as the kernel's `huge_encode_dev` does.
pub(super) fn pack(dev: DevNumber) -> u64 {
    dev.packed().into()
}

/// Takes a number apart again. The upper half has no meaning.
pub(super) fn unpack(dev: u64) -> DevNumber {
    DevNumber::unpacked((dev & u64::from(u32::MAX)) as u32)
}

/// Writes a text and its NUL over the start of a field, cut off where it does not fit. What is
/// behind the NUL stays.
pub(super) fn put_text(field: &mut [u8], text: &str) {
    let len = text.len().min(field.len() - 1);
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
    field[len] = 0;
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|byte| *byte == 0);
    &bytes[..len.unwrap_or(bytes.len())]
}

/// Returns the bytes before the first NUL from `at` on; nothing where there is none.
pub(super) fn text_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|byte| *byte == 0)?;
    Some(&rest[..len])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_kernel_has_them() {
        let bytes: Vec<u8> = (0..HEADER_LEN).map(|at| at as u8).collect();
        let header = Header::read(&bytes).expect("long enough");
        assert_eq!(header.data_size, u32::from_ne_bytes([12, 13, 14, 15]));
        assert_eq!(header.flags, u32::from_ne_bytes([28, 29, 30, 31]));
        assert_eq!(header.dev, u64::from_ne_bytes([40, 41, 42, 43, 44, 45, 46, 47]));
        assert_eq!((header.name[0], header.uuid[0], header.uuid[128]), (48, 176, 48));
        let mut again = vec![0; HEADER_LEN];
        header.write(&mut again);
        assert_eq!(again[..FIELDS_LEN], bytes[..FIELDS_LEN]);
        assert_eq!(again[FIELDS_LEN..], [0; 7]);
        assert_eq!(Header::read(&bytes[..FIELDS_LEN - 1]), None);
    }

    #[test]
    fn numbers_are_packed_as_the_kernel_packs_them() {
        let number = |major, minor| DevNumber { major, minor };
        for (dev, packed) in [
            (number(253, 0), 0xfd00),
            (number(253, 300), 0x10_fd2c),
            (number(4095, 0xf_ffff), 0xffff_ffff),
            (number(0, 0xf_ffff), 0xfff0_00ff),
        ] {
            assert_eq!(pack(dev), packed);
            assert_eq!(unpack(packed), dev);
            assert_eq!(unpack(packed | 0xdead_beef << 32), dev);
        }
    }
}
