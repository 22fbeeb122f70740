//! The payloads of answers, written as the kernel does: into the buffer that the call came in, so
//! that what is between them is what the caller had there.

use super::header::{HEADER_LEN, NAME_LEN, pack, put_text, until_nul};
use super::specs::{ALIGN, SPEC_LEN, TYPE_AT};
use crate::control::{Listed, TargetVersion};
use crate::{DevNumber, TargetSpec};

/// Where a payload begins.
pub(super) const START: usize = HEADER_LEN;

/// A buffer of a caller's, of which the beginning may be at hand alone.
pub(super) struct Buffer<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// How long it is with the caller.
    pub(super) size: usize,
}

/// How a payload was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The length of the answer with the header; none where there is nothing but the header.
    pub(super) end: Option<usize>,
    /// Not all of it had room.
    pub(super) full: bool,
}

impl Written {
    const FULL: Written = Written { end: None, full: true };

    fn whole(end: usize) -> Written {
        Written { end: Some(end), full: false }
    }
}

impl Buffer<'_> {
    /// The room for a payload.
    fn room(&self) -> usize {
        self.size.saturating_sub(START)
    }

    /// Gets as much of the buffer as an answer takes, before anything is written that is to be
    /// wiped later.
    fn extend(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        let end = at + bytes.len();
        self.bytes[at..end].copy_from_slice(bytes);
        end
    }

    fn put_u32(&mut self, at: usize, word: usize) -> usize {
        let word = u32::try_from(word).expect("offsets are below 2^30");
        self.put(at, &word.to_ne_bytes())
    }

    fn put_text(&mut self, at: usize, text: &str) -> usize {
        let end = self.put(at, text.as_bytes());
        self.put(end, &[0])
    }

    /// `DM_LIST_DEVICES`: a chain of `struct dm_name_list`, each with its event number behind the
    /// name, and the uuid where that was asked for.
    pub(super) fn devices<'b>(
        &mut self,
        devices: impl Iterator<Item = &'b Listed> + Clone,
        uuids: bool,
    ) -> Written {
        let uuid_of = |device: &'b Listed| device.uuid.as_deref().filter(|_| uuids);
        let len = |device: &'b Listed| {
            let uuid = uuid_of(device).map_or(0, |uuid| align(uuid.len() + 1));
            align(NAME_IN_LIST + device.name.len() + 1) + 8 + uuid
        };
        let needed: usize = devices.clone().map(len).sum();
        // Where there is none, the kernel says so in a number that it never copies out.
        if self.room() < needed.max(8) {
            return Written::FULL;
        }
        self.extend(START + needed);
        let (mut at, mut last) = (START, None);
        for device in devices {
            if let Some(last) = last {
                self.put_u32(last + 8, at - last);
            }
            self.put(at, &pack(device.dev).to_ne_bytes());
            self.put_u32(at + 8, 0);
            let end = align(self.put_text(at + NAME_IN_LIST, &device.name));
            let flag = match (uuids, uuid_of(device)) {
                (false, _) => 0,
                (true, Some(_)) => HAS_UUID,
                (true, None) => HAS_NO_UUID,
            };
            self.put(end, &device.event_nr.to_ne_bytes());
            let mut end = self.put_u32(end + 4, flag);
            if let Some(uuid) = uuid_of(device) {
                end = align(self.put_text(end, uuid));
            }
            (at, last) = (end, Some(at));
        }
        Written::whole(START + needed)
    }

    /// `DM_LIST_VERSIONS`: a chain of `struct dm_target_versions`. The kernel reckons with more room
    /// than they take.
    pub(super) fn versions(&mut self, versions: &[TargetVersion]) -> Written {
        let len = |version: &TargetVersion| NAME_IN_VERSIONS + version.name.len() + 1 + ALIGN - 1;
        let needed: usize = versions.iter().map(len).sum();
        if self.room() < needed {
            return Written::FULL;
        }
        self.extend(START + needed);
        let (mut at, mut last) = (START, None);
        for version in versions {
            if let Some(last) = last {
                self.put_u32(last, at - last);
            }
            let mut end = self.put_u32(at, 0);
            for number in version.version {
                end = self.put(end, &number.to_ne_bytes());
            }
            last = Some(at);
            at = align(self.put_text(end, &version.name));
        }
        Written::whole(START + needed)
    }

    /// `DM_TABLE_DEPS`: `struct dm_target_deps`.
    pub(super) fn deps(&mut self, deps: &[DevNumber]) -> Written {
        let needed = 8 + 8 * deps.len();
        if self.room() < needed {
            return Written::FULL;
        }
        self.extend(START + needed);
        self.put_u32(START, deps.len());
        let mut at = START + 8;
        for dev in deps {
            at = self.put(at, &pack(*dev).to_ne_bytes());
        }
        Written::whole(at)
    }

    /// `DM_TABLE_STATUS`: a chain of `struct dm_target_spec`, each with its text. Here `next` counts
    /// from the first. As many as have room are written.
    pub(super) fn targets(&mut self, targets: &[TargetSpec]) -> Written {
        let (room, mut at, mut end) = (self.room(), 0, None);
        let len = |target: &TargetSpec| align(SPEC_LEN + target.params.len() + 1);
        self.extend(START + room.min(targets.iter().map(len).sum()));
        for target in targets {
            let left = room - at;
            let len = SPEC_LEN + target.params.len() + 1;
            // A text that ends with the room is taken for one that was cut off.
            if left <= SPEC_LEN || left <= len {
                return Written { end, full: true };
            }
            let start = START + at;
            self.put(start, &target.start.0.to_ne_bytes());
            self.put(start + 8, &target.len.0.to_ne_bytes());
            self.put_u32(start + 16, 0);
            let mut name = [0; TYPE_LEN];
            put_text(&mut name, &target.target_type);
            self.put(start + TYPE_AT, &name);
            end = Some(self.put_text(start + SPEC_LEN, &target.params));
            at = align(at + len);
            if at > room {
                return Written { end, full: true };
            }
            self.put_u32(start + 20, at);
        }
        Written { end, full: false }
    }

    /// `DM_TARGET_MSG`: a text.
    pub(super) fn text(&mut self, text: &str) -> Written {
        // What is behind a NUL would not be seen.
        let text = until_nul(text.as_bytes());
        let end = START + text.len() + 1;
        if text.len() + 1 >= self.room() {
            return Written::FULL;
        }
        self.extend(end);
        let end_of_text = self.put(START, text);
        Written::whole(self.put(end_of_text, &[0]))
    }
}

/// Where the name is in `struct dm_name_list`.
pub(super) const NAME_IN_LIST: usize = 12;

/// `DM_NAME_LIST_FLAG_HAS_UUID`.
pub(super) const HAS_UUID: usize = 1;

/// `DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID`.
const HAS_NO_UUID: usize = 2;

/// Where the name is in `struct dm_target_versions`.
pub(super) const NAME_IN_VERSIONS: usize = 16;

/// The length of the name of a target type in a target spec, with its NUL.
const TYPE_LEN: usize = SPEC_LEN - TYPE_AT;

pub(super) fn align(at: usize) -> usize {
    at.next_multiple_of(ALIGN)
}

/// Tells whether a list is to have a device: its name and its uuid begin as the caller says, who may
/// leave both empty.
pub(super) fn is_wanted(device: &Listed, name: &[u8], uuid: &[u8]) -> bool {
    // Without a NUL it is longer than any name.
    debug_assert!(name.len() <= NAME_LEN);
    let device_uuid = device.uuid.as_deref().unwrap_or_default();
    device.name.as_bytes().starts_with(name) && device_uuid.as_bytes().starts_with(uuid)
}
